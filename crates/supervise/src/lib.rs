//! Supervised child processes beside a server; knows nothing of caches.
//!
//! # Theory of operation
//!
//! `discover` turns the configured locations into a list of plugin files and a list of what was passed
//! over and why. Each plugin then has one task (`plugin`), which owns its `lifecycle::Lifecycle`: a pure
//! machine that turns events into actions. The task feeds it with commands, process events and the passing of
//! time, and performs its actions through an `os::Spawner`.
//!
//! The only real spawner talks to a **guardian**: this same binary, started again as a small single-threaded
//! process. It alone forks, so the server with its large memory never does. For each run it forks a
//! **warden**, a child subreaper between it and the plugin: whatever the plugin starts stays below, double
//! forks and new sessions included. The guardian holds one end of a socket whose other end only the server
//! has. When that reports end of file, it ends all that is below it; when the guardian dies, wardens end
//! their runs and the server the rest.
//!
//! Files of plugins are read by one reader per location, away from the thread that supervises.
//!
//! What comes from a plugin, by whichever channel, is read by its task in short turns with rests between
//! (`pace`), so that all plugins together have but a part of the thread. Lines are cut, counted, rate-limited
//! and escaped on their way to the log.
//!
//! # Rooms
//!
//! From below; none of them uses one that stands after it. Beside them stand what callers give and get
//! (`config`, `error`), and small things that all use: shown text, locks, files that cannot hold a
//! reader up, one GET.
//!
//! | folder | owns | must not know |
//! |---|---|---|
//! | `output` | what plugins print, and the bounds for whatever comes from one: lines, rates, turns | how a plugin runs |
//! | `manifest` | what a plugin can ask for, and how that is read | whether it can be had |
//! | `lifecycle` | what follows from what, as a pure machine | clocks, processes |
//! | `os` | processes, and the files shared with them: the guardian, control groups, the private directory | why |
//! | `discover` | which files are plugins, and what each is run with | what becomes of them |
//! | `metrics` | what plugins offer to scrapes, and what they use | what a metric means |
//! | `contract` | what a plugin is told: variables, files, the configuration in its forms, events | how it is started |
//! | `health` | how a run tells, or is asked, whether it is ready and alive | what follows |
//! | `control` | the control channel | what the host answers |
//! | `plugin` | one plugin: its task, its starts, what is remembered of it | other plugins |
//! | `supervisor` | all of them: found, started in order, followed, asked about, stopped | how one runs |
//!
//! # Invariants
//!
//! 1. A run is over when its last process is gone; no new run starts before.
//! 2. Nothing a plugin prints, and no way of dying, costs the server more than the limits named in this
//!    crate.
//! 3. No process started here outlives the server.

// Tests count small things and may cast them.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_lossless,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

#[cfg(not(target_os = "linux"))]
compile_error!("plugin supervision relies on Linux: subreapers, process descriptors, parent-death signals");

mod config;
mod contract;
mod control;
mod discover;
mod error;
mod health;
mod http;
mod lifecycle;
mod lock;
mod manifest;
mod metrics;
mod os;
mod output;
mod plugin;
mod regular;
mod supervisor;
mod text;

pub use config::SupervisorConfig;
pub use control::{Alert, ControlCounts, ControlHost};
pub use discover::{
    Discovery, Host, Interpreters, Role, SkipReason, Skipped, WritableByOthers, choose_interpreter, discover,
};
pub use error::SuperviseError;
pub use lifecycle::{FailCause, Next, Phase};
pub use manifest::{
    CgroupLimits, Confinement, Cron, CronError, DefaultsError, EffectiveManifest, IoClass, Limits,
    MANIFEST_SUFFIX, Manifest, ManifestError, Misfit, Outcome, Policy, Readiness, Restart, Schema,
    StopSignal, Watchdog, WatchdogAction, manifest_schema,
};
pub use metrics::{MetricLineCounts, Usage};
pub use os::{
    CgroupStatus, GuardianCommand, Process, descendants, has_mark, process_table, run_guardian_if_asked,
};
pub use output::{LineCounts, LogLine, OutputLimits, Severity, Stream};
pub use plugin::RunRecord;
pub use supervisor::{PluginStatus, ReloadReport, StopReport, Supervisor};
pub use text::moment;
