//! Supervised child processes beside a server; knows nothing of caches.
//!
//! # Theory of operation
//!
//! [`discovery`] turns the configured locations into a list of plugin files and a list of what was passed
//! over and why. Each plugin then has one task (`plugin`), which owns its [`lifecycle::Lifecycle`]: a pure
//! machine that turns events into actions. The task feeds it with commands, process events and the passing of
//! time, and performs its actions through a [`spawner::Spawner`].
//!
//! The only real spawner talks to a **guardian**: this same binary, started again as a small single-threaded
//! process. It alone forks, so the server with its large memory never does. For each run it forks a
//! **warden**, a child subreaper between it and the plugin: whatever the plugin starts stays below, double
//! forks and new sessions included. The guardian holds one end of a socket whose other end only the server
//! has. When that reports end of file, it ends all that is below it; when the guardian dies, wardens end
//! their runs and the server the rest.
//!
//! Files of plugins are read by one reader per [`location`], away from the thread that supervises.
//!
//! What comes from a plugin, by whichever channel, is read by its task in short turns with rests between
//! (`pace`), so that all plugins together have but a part of the thread. Lines are cut, counted, rate-limited
//! and escaped on their way to the log.
//!
//! # Invariants
//!
//! 1. A run is over when its last process is gone; no new run starts before.
//! 2. Nothing a plugin prints, and no way of dying, costs the server more than the limits named in this
//!    crate.
//! 3. No process started here outlives the server.

#[cfg(not(target_os = "linux"))]
compile_error!("plugin supervision relies on Linux: subreapers, process descriptors, parent-death signals");

pub mod cgroup;
pub mod clock;
pub mod confinement;
pub mod cron;
pub mod discovery;
pub mod eligibility;
pub mod environment;
pub mod exposition;
pub mod interpreter;
pub mod lifecycle;
pub mod manifest;
pub mod os;
pub mod policy;
pub mod redaction;
pub mod schema;
pub mod shebang;
pub mod spawner;

mod alarm;
mod collect;
mod commands;
mod config;
mod control;
mod error;
mod event_log;
mod feed;
mod history;
mod ignore;
mod journal;
mod launch;
mod line;
mod location;
mod metric_lines;
mod notify;
mod output;
mod pace;
mod plugin;
mod probe;
mod rate;
mod regular;
mod removal;
mod roster;
mod scraper;
mod scratch;
mod senses;
mod severity;
mod start_order;
mod status;
mod supervisor;
mod telling;
mod text;
mod trust;
mod turns;
mod usage;

pub use cgroup::{CgroupLimits, CgroupStatus};
pub use clock::{Clock, SystemClock};
pub use config::SupervisorConfig;
pub use control::{API_VERSION, Alert, ControlCounts, ControlHost};
pub use cron::{Cron, CronError};
pub use discovery::{SkipReason, Skipped};
pub use eligibility::{Host, Role};
pub use error::SuperviseError;
pub use event_log::{EventLine, EventLog, EventPage, Listening};
pub use history::{RunRecord, moment};
pub use interpreter::Interpreters;
pub use journal::{LineCounts, LogLine, Stream};
pub use manifest::{
    DefaultsError, EffectiveManifest, Manifest, ManifestError, Readiness, Watchdog, WatchdogAction,
    manifest_schema,
};
pub use metric_lines::MetricLineCounts;
pub use os::{GuardianCommand, run_guardian_if_asked};
pub use output::OutputLimits;
pub use policy::{Policy, Restart, StopSignal};
pub use rate::LineRate;
pub use roster::ReloadReport;
pub use schema::{Misfit, Schema};
pub use severity::Severity;
pub use status::{PluginStatus, StopReport};
pub use supervisor::Supervisor;
pub use trust::WritableByOthers;
pub use usage::Usage;
