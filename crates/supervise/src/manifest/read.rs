//! The optional file beside a plugin, `<file>.plugin.toml`: how it is kept running, in systemd's vocabulary.
//!
//! Owns names, units, defaults and the explanation of mistakes. A plugin whose manifest is wrong is not
//! started: its author asked for something that it would not get.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::confinement::Confinement;
use super::policy::Policy;
use super::schema::Schema;
use crate::discover::MANIFEST_SUFFIX;
use crate::output::OutputLimits;
use crate::regular;
use crate::text::escaped;

use super::keys::Keys;

/// Bytes of a manifest that are read.
const MANIFEST_MAX_BYTES: u64 = 256 * 1024;

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

/// A mistake in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}line {line}: {message}{}", file.as_deref().map(|f| format!("{f}: ")).unwrap_or_default(),
    hint.as_deref().map(|h| format!("\nhint: {h}")).unwrap_or_default())]
pub struct ManifestError {
    /// The manifest, as shown.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

/// A mistake in the defaults for all plugins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefaultsError {
    /// The text is no object, or a key or the kind of its value is unknown.
    #[error("{0}")]
    Key(String),
    /// A value that the key does not take.
    #[error("`{key}` {message}\nhint: {hint}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it.
        message: String,
        /// What would be right.
        hint: String,
    },
    /// A key that says something about one plugin only.
    #[error("`{0}` cannot hold for all plugins\nhint: write it into the manifest of the plugin it is for")]
    OnePlugin(&'static str),
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
    /// Defaults for all plugins, from a JSON object with the keys of a manifest; what it leaves out is as in
    /// `self`.
    pub fn with_defaults(self, keys: &serde_json::Value) -> Result<Self, DefaultsError> {
        // A list would be taken for the keys in their order.
        if !keys.is_object() {
            return Err(DefaultsError::Key("no object of manifest keys".to_owned()));
        }
        let keys: Keys =
            serde_json::from_value(keys.clone()).map_err(|e| DefaultsError::Key(e.to_string()))?;
        keys.check().map_err(|(key, message, hint)| DefaultsError::Value {
            key: key.to_owned(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        })?;
        if let Some((kind, hint)) = keys.unknown_event(self.known_events) {
            let message = format!("asks for `{}`, and no event is of that kind", escaped(kind));
            return Err(DefaultsError::Value { key: "events".to_owned(), message, hint });
        }
        if let Some(key) = keys.of_one_plugin() {
            return Err(DefaultsError::OnePlugin(key));
        }
        Ok(keys.apply(&self))
    }

    /// Where the manifest of `plugin` would be.
    #[must_use]
    pub fn path_for(plugin: &Path) -> PathBuf {
        let mut name = plugin.as_os_str().to_owned();
        name.push(MANIFEST_SUFFIX);
        name.into()
    }

    /// Reads the manifest of `plugin`, or returns `bare` where there is none.
    pub fn load(plugin: &Path, bare: &Self) -> Result<Self, ManifestError> {
        let path = Self::path_for(plugin);
        let read = match regular::read_head(&path, MANIFEST_MAX_BYTES + 1) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(bare.clone()),
            read => read,
        };
        let in_file = |error: ManifestError| ManifestError { file: Some(crate::text::shown(&path)), ..error };
        let broken = |message| in_file(ManifestError { file: None, line: 1, message, hint: None });
        let bytes = read.map_err(|e| broken(e.to_string()))?;
        if bytes.len() as u64 > MANIFEST_MAX_BYTES {
            return Err(broken(format!("longer than {MANIFEST_MAX_BYTES} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| broken("not UTF-8 text".to_owned()))?;
        Self::parse(&text, bare).map_err(in_file)
    }

    /// Reads a manifest; what it leaves out is as in `bare`.
    pub fn parse(text: &str, bare: &Self) -> Result<Self, ManifestError> {
        let keys: Keys = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| line_at(text, span.start));
            ManifestError { file: None, line, message: e.message().replace('\n', " "), hint: None }
        })?;
        let mistake = |key: &str, message: &str, hint: &str| ManifestError {
            file: None,
            line: line_of(text, key),
            message: format!("`{key}` {message}"),
            hint: Some(hint.to_owned()),
        };
        keys.check().map_err(|(key, message, hint)| mistake(key, message, hint))?;
        if let Some((kind, hint)) = keys.unknown_event(bare.known_events) {
            return Err(mistake(
                "events",
                &format!("asks for `{}`, and no event is of that kind", escaped(kind)),
                &hint,
            ));
        }
        if let Some((hook, hint)) = keys.unknown_hook(bare.known_hooks) {
            return Err(mistake(
                "hooks",
                &format!("asks for `{}`, and there is no such hook", escaped(hook)),
                &hint,
            ));
        }
        if let Some((key, message, hint)) = keys.config.as_ref().and_then(Schema::contradiction) {
            return Err(mistake(&key, &message, &hint));
        }
        Ok(keys.apply(bare))
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1
}

fn line_of(text: &str, key: &str) -> usize {
    let sets = |line: &str| {
        let line = line.trim();
        let as_table = line.strip_prefix("[config.").is_some_and(|rest| rest.trim_end_matches(']') == key);
        as_table || line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().position(sets).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests;
