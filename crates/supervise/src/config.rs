//! What a supervisor needs to know.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Zoned;

use crate::control::ControlHost;
use crate::discover::{Host, Interpreters, WritableByOthers};
use crate::manifest::Manifest;
use crate::os::GuardianCommand;
use larder_telemetry::events::EventLog;

/// Time for plugins to end that service managers grant a whole server, as a rule.
const STOP_BUDGET: Duration = Duration::from_secs(30);

/// Everything given to [`crate::Supervisor::start`].
#[derive(Clone, Debug)]
pub struct SupervisorConfig {
    /// Files and directories, in order.
    pub locations: Vec<PathBuf>,
    /// The process plugins run beside.
    pub host: Host,
    /// Workers in the cluster.
    pub worker_count: u32,
    /// The configuration text, as plugins receive it.
    pub config: String,
    /// The extra configuration text; `None` leaves its variable out.
    pub extra_config: Option<String>,
    /// Whether secret-looking values of both texts are masked for plugins whose manifest does not say
    /// `secrets = true`.
    pub redact_secrets: bool,
    /// The environment plugins inherit.
    pub environment: Vec<(OsString, OsString)>,
    /// Programs for scripts without a usable `#!` line.
    pub interpreters: Interpreters,
    /// What a plugin without a manifest gets, and every other where its manifest is silent.
    pub defaults: Manifest,
    /// Where the private directory is made.
    pub runtime_dir: PathBuf,
    /// Whether this process has no children besides the guardian, which makes the clean-up after a dead
    /// guardian complete.
    pub sole_parent: bool,
    /// The events that plugins can ask for.
    pub events: EventLog,
    /// Who answers plugins' questions on their control channels; without one `status` is not offered.
    pub control: Option<Arc<dyn ControlHost>>,
    /// A control group (version 2) that is this process's to divide; `None` looks for one.
    pub cgroup_root: Option<PathBuf>,
    /// Tells plugins with calendar times the local time, given the time since the supervisor's start.
    pub local_time: fn(Duration) -> Zoned,
    /// What follows when others could change what is run.
    pub writable_by_others: WritableByOthers,
    /// The most time that a stop of all plugins waits for them.
    pub stop_budget: Duration,
    /// How to start the guardian.
    pub guardian: GuardianCommand,
}

impl SupervisorConfig {
    /// For a server without roles: worker 0 of 1, this process's environment, this binary as guardian.
    pub fn new(locations: Vec<PathBuf>, config: impl Into<String>) -> Self {
        Self {
            locations,
            host: Host { role: None, worker_id: 0 },
            worker_count: 1,
            config: config.into(),
            extra_config: None,
            redact_secrets: false,
            environment: std::env::vars_os().collect(),
            interpreters: Interpreters::default(),
            defaults: Manifest::default(),
            runtime_dir: std::env::var_os("XDG_RUNTIME_DIR")
                .map(PathBuf::from)
                .filter(|dir| dir.is_dir())
                .unwrap_or_else(std::env::temp_dir),
            sole_parent: false,
            events: EventLog::default(),
            control: None,
            cgroup_root: None,
            local_time: |_| Zoned::now(),
            writable_by_others: WritableByOthers::default(),
            stop_budget: STOP_BUDGET,
            guardian: GuardianCommand::this_binary(),
        }
    }
}
