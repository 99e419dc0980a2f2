//! `/plugins`: the runtime plugins (`docs/reference/plugins-http.md`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Word;

/// `GET /plugins`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginList {
    /// The plugins.
    pub plugins: Vec<Plugin>,
    /// What was found and is not run.
    pub skipped: Vec<Skipped>,
}

/// One plugin, as lists and commands answer it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// Where it is in its life.
    pub state: Word,
    /// Why it failed, if it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Word>,
    /// Whether SIGKILL has been sent, while it stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub killed: Option<bool>,
    /// Since when it is in that state.
    pub since: Option<String>,
    /// When its program was started, while it runs.
    pub started: Option<String>,
    /// How long it has run.
    pub uptime_ms: Option<u64>,
    /// Its latest runs that are over, oldest first.
    pub runs: Vec<Run>,
    /// Id of its first process, while that runs.
    pub pid: Option<u32>,
    /// The program that runs it, once chosen.
    pub interpreter: Option<String>,
    /// Programs started so far.
    pub starts: u64,
    /// How the latest ended run ended.
    pub last_exit: Option<Exit>,
    /// What kept the latest start from succeeding, or why it is not started again.
    pub last_error: Option<String>,
    /// What it last said about itself, through `NOTIFY_SOCKET`.
    pub status_text: Option<String>,
    /// Whether processes are left although the first one has ended.
    pub lingering: bool,
    /// What its control group amounts to, if its manifest asks for limits.
    pub cgroup: Option<Cgroup>,
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
    /// How the latest ended run ended: the code, or the negated signal.
    pub last_exit_code: Option<i32>,
    /// What it uses.
    pub resources: Option<Resources>,
    /// Where it is found.
    pub url: String,
}

/// `GET /plugins/{name}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginDetails {
    /// As in the list.
    #[serde(flatten)]
    pub plugin: Plugin,
    /// The manifest that holds, in the words of the manifest file, or the mistake in it.
    pub manifest: Value,
    /// The environment of its process, without secrets; for callers on the server's machine.
    pub environment: Option<Map<String, Value>>,
}

/// One run that is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Its number among the starts of this plugin.
    pub number: u64,
    /// When it was started.
    pub started: String,
    /// When its first process had ended.
    pub ended: String,
    /// How long it ran.
    pub ran_ms: u64,
    /// The exit code, or the negated signal; nothing where no program could be started.
    pub exit_code: Option<i32>,
    /// Why it ended.
    pub why: String,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "number", rename_all = "snake_case")]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Its end was not seen.
    Lost,
}

/// What a control group amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cgroup {
    /// The group's folder, if there is one.
    pub path: Option<String>,
    /// The limits that hold.
    pub in_force: CgroupLimits,
    /// Why others do not.
    pub notices: Vec<String>,
}

/// Limits of a control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CgroupLimits {
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Processor time, in hundredths of one processor.
    pub cpu_percent: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of the disks' time beside other groups, 1 to 10000.
    pub io_weight: Option<u32>,
}

/// What a plugin has printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LineCounts {
    /// Lines on standard output.
    pub stdout: u64,
    /// Lines on standard error.
    pub stderr: u64,
    /// Lines that the supervisor added.
    pub lifecycle: u64,
    /// Lines that were cut.
    pub truncated: u64,
    /// Lines that were counted and not logged.
    pub suppressed: u64,
    /// Bytes on both streams.
    pub bytes: u64,
}

/// What a plugin has written to its metrics descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricLineCounts {
    /// Lines taken.
    pub taken: u64,
    /// Lines left out.
    pub dropped: u64,
}

/// Something a plugin wants an operator to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Alert {
    /// How serious it is.
    pub severity: Word,
    /// What it is.
    pub text: String,
}

/// What has passed through a control channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlCounts {
    /// Requests that were understood.
    pub requests: u64,
    /// Lines that were no request.
    pub malformed: u64,
    /// Requests refused because there were too many.
    pub refused: u64,
    /// Alerts raised.
    pub alerts: u64,
    /// Events sent.
    pub events: u64,
    /// Events lost because the plugin read too slowly.
    pub lost_events: u64,
}

/// What a plugin's processes use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Seconds of processor time.
    pub cpu_s: f64,
    /// Bytes of memory; shared pages count for each process.
    pub resident_bytes: u64,
    /// Processes.
    pub processes: u64,
}

/// A file that is not run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Skipped {
    /// Why, in a word.
    pub reason: Word,
    /// What belongs to that word.
    #[serde(flatten)]
    pub particulars: Map<String, Value>,
    /// The file.
    pub path: String,
    /// Why, for people.
    pub text: String,
}

/// `GET /plugins/{name}/logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogPage {
    /// The plugin.
    pub name: String,
    /// What it has printed so far.
    pub counts: LineCounts,
    /// The latest lines.
    pub lines: Vec<LogLine>,
}

/// One line of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLine {
    /// When it came.
    pub time: String,
    /// Its number among all lines of this plugin, from 1; gaps are suppressed lines.
    pub sequence: u64,
    /// Where it came from.
    pub stream: Stream,
    /// How serious it is.
    pub severity: Word,
    /// The text.
    pub text: String,
}

/// Where a line came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// Said by the supervisor: what became of the plugin.
    Lifecycle,
}

/// `GET /plugins/audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditTrail {
    /// Commands since the server started.
    pub total: u64,
    /// The latest of them, oldest first.
    pub entries: Vec<AuditEntry>,
}

/// One finished command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditEntry {
    /// Its number among all commands of this server, from 1.
    pub sequence: u64,
    /// When it was finished.
    pub time: String,
    /// Who asked: a user's number, the address and what the program calls itself; the name of a signal; or
    /// `file change`.
    pub caller: String,
    /// What was asked for: `start`, `stop`, `restart`, `enable`, `disable`, `reload`.
    pub action: Word,
    /// For which plugin; nothing for a `reload` of all.
    pub plugin: Option<String>,
    /// Whether it was carried out.
    pub done: bool,
    /// The state it led to, or why it was not carried out.
    pub outcome: String,
}

/// The answer to `POST /plugins/reload`: names of plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reloaded {
    /// New files, now started.
    pub added: Vec<String>,
    /// Files or manifests that changed; running ones were restarted.
    pub changed: Vec<String>,
    /// Files that are gone; their plugins were stopped.
    pub removed: Vec<String>,
}
