//! What the supervisor says of plugins, in the API's types.

use std::collections::HashMap;

use larder_admin_api::plugins::{
    Alert, Cgroup, CgroupLimits, ControlCounts, Exit, LineCounts, LogLine, MetricLineCounts, Plugin,
    PluginDetails, PluginList, Reloaded, Resources, Run, Skipped, Stream,
};
use larder_admin_api::{Word, path};
use larder_supervise::{
    self as supervise, EffectiveManifest, FailCause, Outcome, Phase, PluginStatus, ReloadReport, Severity,
    Usage,
};
use serde_json::Value;

use super::environment::environment;
use super::manifest_view;

/// Names under `/plugins/` that are routes of their own; a plugin with such a name is reached by its path.
const RESERVED: [&str; 3] = ["audit", "reload", "schema"];

/// All plugins and what was passed over.
pub(super) fn list(
    all: &[PluginStatus],
    usage: &HashMap<String, Usage>,
    skipped: &[supervise::Skipped],
) -> PluginList {
    PluginList {
        plugins: all.iter().map(|status| plugin(status, usage.get(&status.name))).collect(),
        skipped: skipped.iter().map(skip).collect(),
    }
}

/// One plugin: its status, where to find it, and what it uses.
pub(super) fn plugin(status: &PluginStatus, usage: Option<&Usage>) -> Plugin {
    let status = status.clone();
    Plugin {
        url: url(&status),
        state: state(status.phase).into(),
        cause: match status.phase {
            Phase::Failed { cause } => Some(cause_word(cause).into()),
            _ => None,
        },
        killed: match status.phase {
            Phase::Stopping { killed, .. } => Some(killed),
            _ => None,
        },
        name: status.name,
        path: status.path,
        since: status.since,
        started: status.started,
        uptime_ms: status.uptime_ms,
        runs: status.runs.into_iter().map(run).collect(),
        pid: status.pid,
        interpreter: status.interpreter,
        starts: status.starts,
        last_exit: status.last_exit.map(exit),
        last_error: status.last_error,
        status_text: status.status_text,
        lingering: status.lingering,
        cgroup: status.cgroup.map(cgroup),
        notices: status.notices,
        kills: status.kills,
        due_in_ms: status.due_in_ms,
        lines: line_counts(status.lines),
        metric_lines: MetricLineCounts {
            taken: status.metric_lines.taken,
            dropped: status.metric_lines.dropped,
        },
        alert: status
            .alert
            .map(|alert| Alert { severity: severity(alert.severity).into(), text: alert.text }),
        control: control_counts(status.control),
        last_exit_code: status.last_exit.map(Outcome::code),
        resources: usage.map(|usage| Resources {
            cpu_s: usage.cpu_s,
            resident_bytes: usage.resident_bytes,
            processes: usage.processes,
        }),
    }
}

/// The same with the effective manifest, and for callers on this machine the environment of its process.
/// Blocks.
pub(super) fn details(
    plugin: Plugin,
    manifest: Option<&EffectiveManifest>,
    with_environment: bool,
) -> PluginDetails {
    let environment = plugin.pid.filter(|_| with_environment).and_then(environment);
    PluginDetails { plugin, manifest: manifest.map_or(Value::Null, manifest_view::view), environment }
}

/// The state's name.
pub(crate) fn state(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Launching { .. } => "launching",
        Phase::Starting { .. } => "starting",
        Phase::Ready { .. } => "ready",
        Phase::Degraded { .. } => "degraded",
        Phase::Stopping { .. } => "stopping",
        Phase::Backoff { .. } => "backoff",
        Phase::Scheduled { .. } => "scheduled",
        Phase::Exited => "exited",
        Phase::Failed { .. } => "failed",
        Phase::Stopped => "stopped",
        Phase::Disabled => "disabled",
    }
}

fn cause_word(cause: FailCause) -> &'static str {
    match cause {
        FailCause::Launch => "launch",
        FailCause::Config => "config",
        FailCause::Exit => "exit",
        FailCause::CrashLoop => "crash_loop",
        FailCause::NotReady => "not_ready",
        FailCause::Hung => "hung",
        FailCause::Timeout => "timeout",
        FailCause::Unsupervised => "unsupervised",
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Debug => "debug",
        Severity::Info => "info",
        Severity::Warn => "warn",
        Severity::Error => "error",
    }
}

fn run(run: supervise::RunRecord) -> Run {
    let supervise::RunRecord { number, started, ended, ran_ms, exit_code, why } = run;
    Run { number, started, ended, ran_ms, exit_code, why }
}

fn exit(outcome: Outcome) -> Exit {
    match outcome {
        Outcome::Code(code) => Exit::Code(code),
        Outcome::Signal(signal) => Exit::Signal(signal),
        Outcome::Lost => Exit::Lost,
    }
}

fn cgroup(status: supervise::CgroupStatus) -> Cgroup {
    let supervise::CgroupLimits { memory_bytes, cpu_percent, pids, io_weight } = status.in_force;
    let in_force = CgroupLimits { memory_bytes, cpu_percent, pids, io_weight };
    Cgroup { path: status.path, in_force, notices: status.notices }
}

/// What was printed.
pub(super) fn line_counts(counts: supervise::LineCounts) -> LineCounts {
    let supervise::LineCounts { stdout, stderr, lifecycle, truncated, suppressed, bytes } = counts;
    LineCounts { stdout, stderr, lifecycle, truncated, suppressed, bytes }
}

fn control_counts(counts: supervise::ControlCounts) -> ControlCounts {
    let supervise::ControlCounts { requests, malformed, refused, alerts, events, lost_events } = counts;
    ControlCounts { requests, malformed, refused, alerts, events, lost_events }
}

/// One line.
pub(super) fn line(line: &supervise::LogLine) -> LogLine {
    LogLine {
        time: line.time.clone(),
        sequence: line.sequence,
        stream: match line.stream {
            supervise::Stream::Stdout => Stream::Stdout,
            supervise::Stream::Stderr => Stream::Stderr,
            supervise::Stream::Lifecycle => Stream::Lifecycle,
        },
        severity: severity(line.severity).into(),
        text: line.text.clone(),
    }
}

/// What a rescan changed.
pub(super) fn reloaded(report: ReloadReport) -> Reloaded {
    let ReloadReport { added, changed, removed } = report;
    Reloaded { added, changed, removed }
}

fn skip(skipped: &supervise::Skipped) -> Skipped {
    // The reason and what belongs to it, as the supervisor names them.
    let mut particulars = match serde_json::to_value(&skipped.reason) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let reason = match particulars.shift_remove("reason") {
        Some(Value::String(word)) => word.into(),
        _ => Word::default(),
    };
    Skipped { reason, particulars, path: skipped.path.clone(), text: skipped.reason.to_string() }
}

fn url(status: &PluginStatus) -> String {
    let known_as = if RESERVED.contains(&status.name.as_str()) { &status.path } else { &status.name };
    format!("{}/{}", path::PLUGINS, path::segment(known_as))
}
