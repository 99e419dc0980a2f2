//! What can be seen of a supervised plugin from outside.

use serde::Serialize;

use crate::control::{Alert, ControlCounts};
use crate::lifecycle::Phase;
use crate::manifest::Outcome;
use crate::metrics::MetricLineCounts;
use crate::os::CgroupStatus;
use crate::output::LineCounts;
use crate::plugin::RunRecord;

/// One plugin at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PluginStatus {
    /// Its name in the control interface: the file's stem, or more of the path where that is taken.
    pub name: String,
    /// Its path as the log shows it.
    pub path: String,
    /// Where it is in its life.
    #[serde(flatten)]
    pub phase: Phase,
    /// Since when it is in that state.
    pub since: Option<String>,
    /// When its program was started, while it runs.
    pub started: Option<String>,
    /// How long it has run, in milliseconds.
    pub uptime_ms: Option<u64>,
    /// Its latest runs that are over, oldest first.
    pub runs: Vec<RunRecord>,
    /// Id of its first process, while that runs.
    pub pid: Option<u32>,
    /// The program that runs it, once chosen.
    pub interpreter: Option<String>,
    /// Programs started so far.
    pub starts: u64,
    /// How the latest ended run ended.
    pub last_exit: Option<Outcome>,
    /// What kept the latest start from succeeding, or why it is not started again.
    pub last_error: Option<String>,
    /// What it last said about itself, through `NOTIFY_SOCKET`.
    pub status_text: Option<String>,
    /// Whether processes are left although the first one has ended.
    pub lingering: bool,
    /// What its control group amounts to, if its manifest asks for limits.
    pub cgroup: Option<CgroupStatus>,
    /// What is not as it should be, and does not keep it from running.
    pub notices: Vec<String>,
    /// Runs that had to be ended with SIGKILL.
    pub kills: u64,
    /// Milliseconds until the next step of a stop or a restart.
    pub due_in_ms: Option<u64>,
    /// What it has printed.
    pub lines: LineCounts,
    /// What it has written to its metrics descriptor.
    pub metric_lines: MetricLineCounts,
    /// The latest alert that its latest run raised.
    pub alert: Option<Alert>,
    /// What has passed through its control channel.
    pub control: ControlCounts,
}

/// How stopping all plugins went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StopReport {
    /// Plugins that were running and have ended.
    pub stopped: Vec<String>,
    /// Those of them that needed SIGKILL.
    pub killed: Vec<String>,
    /// Plugins that still had processes when the time was up; the guardian goes on killing them.
    pub remaining: Vec<String>,
}
