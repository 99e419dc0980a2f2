//! The manifest as written: its keys and the kinds of their values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::confinement::{CgroupLimits, IoClass, Limits};
use super::cron::Cron;
use super::model::WatchdogAction;
use super::policy::{Restart, StopSignal};
use super::schema::Schema;
use crate::output::Severity;

/// The manifest as written. Times carry their unit in the name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Keys {
    pub(super) description: Option<String>,
    pub(super) enabled: Option<bool>,
    pub(super) after: Option<Vec<String>>,
    pub(super) restart: Option<Restart>,
    pub(super) restart_delay_ms: Option<u64>,
    pub(super) restart_delay_max_ms: Option<u64>,
    pub(super) restart_stable_after_s: Option<u64>,
    pub(super) start_limit_burst: Option<u32>,
    pub(super) start_limit_interval_s: Option<u64>,
    pub(super) interval_s: Option<u64>,
    pub(super) cron: Option<Cron>,
    pub(super) run_timeout_s: Option<u64>,
    pub(super) ready: Option<ReadyKind>,
    pub(super) ready_log: Option<String>,
    pub(super) ready_address: Option<String>,
    pub(super) ready_file: Option<PathBuf>,
    pub(super) ready_timeout_s: Option<u64>,
    pub(super) watchdog: Option<WatchdogKind>,
    pub(super) watchdog_s: Option<u64>,
    pub(super) watchdog_address: Option<String>,
    pub(super) watchdog_action: Option<WatchdogAction>,
    pub(super) stop_signal: Option<StopSignal>,
    pub(super) stop_timeout_s: Option<u64>,
    pub(super) dump_signal: Option<StopSignal>,
    pub(super) dump_timeout_s: Option<u64>,
    pub(super) success_codes: Option<Vec<i32>>,
    pub(super) stderr_level: Option<Severity>,
    pub(super) lines_per_second: Option<u32>,
    pub(super) lines_burst: Option<u32>,
    pub(super) line_max_bytes: Option<usize>,
    pub(super) events: Option<Vec<String>>,
    pub(super) metrics: Option<bool>,
    pub(super) metrics_fd: Option<bool>,
    pub(super) metrics_url: Option<String>,
    pub(super) control: Option<bool>,
    pub(super) hooks: Option<Vec<String>>,
    pub(super) secrets: Option<bool>,
    pub(super) restart_on_config: Option<bool>,
    pub(super) inherit: Option<Vec<String>>,
    pub(super) inherit_secrets: Option<Vec<String>>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) config: Option<Schema>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) umask: Option<u32>,
    pub(super) nice: Option<i32>,
    pub(super) io_class: Option<IoClass>,
    pub(super) io_priority: Option<u8>,
    pub(super) no_new_privs: Option<bool>,
    pub(super) read_paths: Option<Vec<PathBuf>>,
    pub(super) write_paths: Option<Vec<PathBuf>>,
    pub(super) limits: Limits,
    pub(super) cgroup: CgroupLimits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ReadyKind {
    Immediate,
    FirstLine,
    Log,
    Notify,
    Socket,
    Http,
    File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WatchdogKind {
    Notify,
    Output,
    Socket,
    Http,
}
