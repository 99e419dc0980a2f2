//! What a manifest comes to: every key with its meaning, read or by default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::confinement::Confinement;
use super::error::ManifestError;
use super::policy::Policy;
use super::schema::Schema;
use crate::output::OutputLimits;

/// Name endings of the optional manifest beside a plugin file.
pub const MANIFEST_SUFFIX: &str = ".plugin.toml";

/// What a plugin's manifest, or the lack of one, asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// What the plugin is for, in its author's words.
    pub description: Option<String>,
    /// Whether the plugin is started without being asked.
    pub enabled: bool,
    /// Plugins that are ready, or have ended, before this one starts.
    pub after: Vec<String>,
    /// How it is kept running.
    pub policy: Policy,
    /// How it says that it is ready.
    pub readiness: Readiness,
    /// How it shows that it is alive.
    pub watchdog: Watchdog,
    /// What follows when it does not.
    pub watchdog_action: WatchdogAction,
    /// How much of its output is logged.
    pub output: OutputLimits,
    /// What it may use.
    pub confinement: Confinement,
    /// Kinds of events it gets on standard input; `*` is all.
    pub events: Vec<String>,
    /// Points at which it gives hints, over its control channel.
    pub hooks: Vec<String>,
    /// The hooks that there are, which is the host's to say; any where it says none.
    pub known_hooks: &'static [&'static str],
    /// The kinds that there are, which is the host's to say; any where it says none.
    pub known_events: &'static [&'static str],
    /// Whether it leaves metrics in a folder of its own.
    pub metrics: bool,
    /// Whether it can write metrics to a descriptor.
    pub metrics_fd: bool,
    /// Where it serves metrics of its own, as an `http://` address.
    pub metrics_url: Option<String>,
    /// Whether it has a control channel; its events then come through that.
    pub control: bool,
    /// Whether it sees secrets in the configuration that are masked for others.
    pub secrets: bool,
    /// Whether it is restarted when the configuration of the server changes.
    pub restart_on_config: bool,
    /// Names of inherited variables it gets; `None` is all.
    pub inherit: Option<Vec<String>>,
    /// Names of inherited variables it gets although they look like secrets; `*` is all.
    pub inherit_secrets: Vec<String>,
    /// Variables set on top.
    pub environment: BTreeMap<String, String>,
    /// Rules for the plugin's own keys in the extra configuration; without any, they are not looked at.
    pub config: Option<Schema>,
}

/// How a plugin says that it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readiness {
    /// It is ready once it runs.
    Immediate,
    /// With its first line of output.
    FirstLine,
    /// With a line that contains this text; `*` stands for anything.
    Log(String),
    /// With `READY=1` on `NOTIFY_SOCKET`.
    Notify,
    /// When something accepts connections at this TCP address or socket path.
    Socket(String),
    /// When a GET of this `http://` address answers with a status of 200 to 299.
    Http(String),
    /// When this file is there, and is not the one that was there before.
    File(PathBuf),
}

/// How a plugin shows that it is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Watchdog {
    /// Nothing is expected.
    Off,
    /// `WATCHDOG=1` on `NOTIFY_SOCKET` at least this often.
    Notify(Duration),
    /// Output at least this often.
    Output(Duration),
    /// Connections accepted at this TCP address or socket path, tried at least this often.
    Socket(Duration, String),
    /// A GET of this `http://` address answered with a status of 200 to 299, tried at least this often.
    Http(Duration, String),
}

impl Watchdog {
    /// The longest time without a sign.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Notify(limit) | Self::Output(limit) | Self::Socket(limit, _) | Self::Http(limit, _) => {
                Some(*limit)
            }
        }
    }
}

/// What follows when a plugin gives no sign of life in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchdogAction {
    /// The run is ended as failed.
    #[default]
    End,
    /// It counts as degraded until the next sign, and an alert is raised.
    Alert,
    /// It counts as degraded until the next sign; the log says so, and again after each further such time.
    Log,
}

/// What a plugin would be started with.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveManifest {
    /// The manifest beside the plugin, where there is one.
    pub file: Option<PathBuf>,
    /// The manifest over the defaults, or the mistake that keeps the plugin from being started.
    pub manifest: Result<Manifest, ManifestError>,
}

impl Default for Manifest {
    /// The bare contract (spec/runtime-plugins.md 7): what a plugin without a manifest gets.
    fn default() -> Self {
        Self {
            description: None,
            enabled: true,
            after: Vec::new(),
            policy: Policy::default(),
            readiness: Readiness::Immediate,
            watchdog: Watchdog::Off,
            watchdog_action: WatchdogAction::End,
            output: OutputLimits::default(),
            confinement: Confinement::default(),
            events: Vec::new(),
            hooks: Vec::new(),
            known_hooks: &[],
            known_events: &[],
            metrics: false,
            metrics_fd: false,
            metrics_url: None,
            control: false,
            secrets: false,
            restart_on_config: false,
            inherit: None,
            inherit_secrets: Vec::new(),
            environment: BTreeMap::new(),
            config: None,
        }
    }
}

impl Manifest {
    /// Where the manifest of `plugin` would be.
    #[must_use]
    pub fn path_for(plugin: &Path) -> PathBuf {
        let mut name = plugin.as_os_str().to_owned();
        name.push(MANIFEST_SUFFIX);
        name.into()
    }
}
