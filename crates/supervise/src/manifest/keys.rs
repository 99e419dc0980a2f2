//! The manifest as written: its keys, the relations between them, and their effect.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::confinement::{CgroupLimits, Confinement, IoClass, Limits};
use super::cron::Cron;
use super::model::{Manifest, Readiness, Watchdog, WatchdogAction};
use super::policy::{Policy, Restart, StopSignal};
use super::schema::Schema;
use crate::output::{LineRate, OutputLimits, Severity};

/// Longest time of any kind, in seconds: ten years.
const TIME_MAX_S: u64 = 10 * 365 * 24 * 3600;
/// Bytes of the text that lines are searched for, on the thread that supervises.
const READY_LOG_MAX_BYTES: usize = 256;

/// The manifest as written. Times carry their unit in the name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Keys {
    description: Option<String>,
    enabled: Option<bool>,
    after: Option<Vec<String>>,
    restart: Option<Restart>,
    restart_delay_ms: Option<u64>,
    restart_delay_max_ms: Option<u64>,
    restart_stable_after_s: Option<u64>,
    start_limit_burst: Option<u32>,
    start_limit_interval_s: Option<u64>,
    interval_s: Option<u64>,
    cron: Option<Cron>,
    run_timeout_s: Option<u64>,
    ready: Option<ReadyKind>,
    ready_log: Option<String>,
    ready_address: Option<String>,
    ready_file: Option<PathBuf>,
    ready_timeout_s: Option<u64>,
    watchdog: Option<WatchdogKind>,
    watchdog_s: Option<u64>,
    watchdog_address: Option<String>,
    watchdog_action: Option<WatchdogAction>,
    stop_signal: Option<StopSignal>,
    stop_timeout_s: Option<u64>,
    dump_signal: Option<StopSignal>,
    dump_timeout_s: Option<u64>,
    success_codes: Option<Vec<i32>>,
    stderr_level: Option<Severity>,
    lines_per_second: Option<u32>,
    lines_burst: Option<u32>,
    line_max_bytes: Option<usize>,
    events: Option<Vec<String>>,
    metrics: Option<bool>,
    metrics_fd: Option<bool>,
    metrics_url: Option<String>,
    control: Option<bool>,
    hooks: Option<Vec<String>>,
    secrets: Option<bool>,
    restart_on_config: Option<bool>,
    inherit: Option<Vec<String>>,
    inherit_secrets: Option<Vec<String>>,
    environment: BTreeMap<String, String>,
    pub(super) config: Option<Schema>,
    user: Option<String>,
    group: Option<String>,
    umask: Option<u32>,
    nice: Option<i32>,
    io_class: Option<IoClass>,
    io_priority: Option<u8>,
    no_new_privs: Option<bool>,
    read_paths: Option<Vec<PathBuf>>,
    write_paths: Option<Vec<PathBuf>>,
    limits: Limits,
    cgroup: CgroupLimits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReadyKind {
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
enum WatchdogKind {
    Notify,
    Output,
    Socket,
    Http,
}

/// A key, what is wrong with it, and what would be right.
pub(super) type Mistake = (&'static str, &'static str, &'static str);

impl Keys {
    /// Relations between keys, which the format itself cannot express.
    pub(super) fn check(&self) -> Result<(), Mistake> {
        let ready = self.ready.unwrap_or(ReadyKind::Immediate);
        if ready == ReadyKind::Log && self.ready_log.as_deref().is_none_or(str::is_empty) {
            return Err(("ready", "is `log` without a text to wait for", "set `ready_log = \"listening\"`"));
        }
        if (ready == ReadyKind::File) != self.ready_file.is_some() {
            let key = if self.ready_file.is_some() { "ready_file" } else { "ready" };
            return Err((key, "needs the other half", "set both `ready = \"file\"` and `ready_file`"));
        }
        let probes = matches!(ready, ReadyKind::Socket | ReadyKind::Http);
        if probes && self.ready_address.is_none() {
            return Err(("ready", "probes no address", "set `ready_address`"));
        }
        let http = self.ready_address.as_deref().is_some_and(|a| a.starts_with("http://"));
        if ready == ReadyKind::Http && !http {
            return Err((
                "ready_address",
                "is no `http://` address",
                "write `http://127.0.0.1:8000/healthz`",
            ));
        }
        if self.watchdog.is_some() != self.watchdog_s.is_some() {
            let key = if self.watchdog.is_some() { "watchdog" } else { "watchdog_s" };
            return Err((key, "needs the other half", "set both `watchdog` and `watchdog_s`"));
        }
        let probes = matches!(self.watchdog, Some(WatchdogKind::Socket | WatchdogKind::Http));
        if probes != self.watchdog_address.is_some() {
            let key = if probes { "watchdog" } else { "watchdog_address" };
            return Err((
                key,
                "needs the other half",
                "an address goes with `socket` and `http`, and only with those",
            ));
        }
        let http = self.watchdog_address.as_deref().is_some_and(|a| a.starts_with("http://"));
        if self.watchdog == Some(WatchdogKind::Http) && !http {
            return Err((
                "watchdog_address",
                "is no `http://` address",
                "write `http://127.0.0.1:8000/healthz`",
            ));
        }
        for (key, value) in [
            ("watchdog_s", self.watchdog_s),
            ("interval_s", self.interval_s),
            ("run_timeout_s", self.run_timeout_s),
        ] {
            if value == Some(0) {
                return Err((key, "is zero", "leave it out to switch it off"));
            }
        }
        self.check_times()?;
        if let (Some(delay), Some(max)) = (self.restart_delay_ms, self.restart_delay_max_ms)
            && delay > max
        {
            return Err(("restart_delay_ms", "exceeds `restart_delay_max_ms`", "raise the maximum"));
        }
        if self.interval_s.is_some() && self.cron.is_some() {
            return Err(("cron", "stands beside `interval_s`", "leave one of them out"));
        }
        if (self.interval_s.is_some() || self.cron.is_some()) && self.restart == Some(Restart::Always) {
            return Err((
                "restart",
                "is `always` for a plugin with `interval_s` or `cron`",
                "leave one of them out",
            ));
        }
        if self
            .metrics_url
            .as_ref()
            .is_some_and(|url| !url.starts_with("http://") || url.contains(char::is_whitespace))
        {
            return Err(("metrics_url", "is no `http://` address", "write `http://127.0.0.1:9100/metrics`"));
        }
        if self.hooks.as_ref().is_some_and(|hooks| !hooks.is_empty()) && self.control != Some(true) {
            return Err(("hooks", "has no channel for hints", "set `control = true`"));
        }
        if self.start_limit_burst == Some(0) {
            return Err(("start_limit_burst", "is zero, so it would never start", "use 1 or more"));
        }
        if self.ready_log.as_ref().is_some_and(|text| text.len() > READY_LOG_MAX_BYTES) {
            return Err(("ready_log", "is longer than 256 bytes", "a part of the line is enough"));
        }
        if self.line_max_bytes.is_some_and(|bytes| !(64..=1 << 20).contains(&bytes)) {
            return Err(("line_max_bytes", "is out of range", "use 64 to 1048576"));
        }
        if self.cgroup.memory_bytes == Some(0)
            || self.cgroup.cpu_percent == Some(0)
            || self.cgroup.pids == Some(0)
        {
            return Err((
                "cgroup",
                "has a limit of zero, with which nothing can run",
                "leave it out to switch it off",
            ));
        }
        if self.umask.is_some_and(|mask| mask > 0o777) {
            return Err(("umask", "has bits beyond permissions", "write it in octal: `umask = 0o077`"));
        }
        if self.io_priority.is_some_and(|priority| priority > 7) {
            return Err(("io_priority", "is out of range", "use 0 (first) to 7"));
        }
        if self.cgroup.io_weight.is_some_and(|weight| !(1..=10_000).contains(&weight)) {
            return Err(("cgroup", "has an `io_weight` out of range", "use 1 to 10000; 100 is usual"));
        }
        if self.nice.is_some_and(|nice| !(-20..=19).contains(&nice)) {
            return Err(("nice", "is out of range", "use -20 to 19"));
        }
        if self
            .environment
            .iter()
            .any(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'))
        {
            return Err((
                "environment",
                "has a name or value that no variable can have",
                "no `=` in names, no NUL",
            ));
        }
        Ok(())
    }

    /// The first event asked for that never comes, and what there is instead.
    pub(super) fn unknown_event(&self, known: &[&str]) -> Option<(&str, String)> {
        let is_known = |kind: &str| known.is_empty() || kind == "*" || known.contains(&kind);
        let unknown = self.events.iter().flatten().find(|kind| !is_known(kind))?;
        Some((unknown, format!("there are {}, and `*` for all", known.join(", "))))
    }

    fn check_times(&self) -> Result<(), Mistake> {
        let too_long = |unit: u64| move |value: Option<u64>| value.is_some_and(|v| v / unit > TIME_MAX_S);
        let (seconds, milliseconds) = (too_long(1), too_long(1000));
        let times = [
            ("restart_delay_ms", milliseconds(self.restart_delay_ms)),
            ("restart_delay_max_ms", milliseconds(self.restart_delay_max_ms)),
            ("restart_stable_after_s", seconds(self.restart_stable_after_s)),
            ("start_limit_interval_s", seconds(self.start_limit_interval_s)),
            ("interval_s", seconds(self.interval_s)),
            ("run_timeout_s", seconds(self.run_timeout_s)),
            ("ready_timeout_s", seconds(self.ready_timeout_s)),
            ("watchdog_s", seconds(self.watchdog_s)),
            ("stop_timeout_s", seconds(self.stop_timeout_s)),
            ("dump_timeout_s", seconds(self.dump_timeout_s)),
        ];
        match times.into_iter().find(|(_, too_long)| *too_long) {
            Some((key, _)) => Err((key, "is longer than ten years", "use 315360000 seconds or less")),
            None => Ok(()),
        }
    }

    /// The first hook asked for that does not exist, and what there is instead.
    pub(super) fn unknown_hook(&self, known: &[&str]) -> Option<(&str, String)> {
        let unknown =
            self.hooks.iter().flatten().find(|hook| !known.is_empty() && !known.contains(&hook.as_str()))?;
        Some((unknown, format!("there are {}", known.join(", "))))
    }

    /// The first key that says something about one plugin only, so that no default can be made of it.
    pub(super) fn of_one_plugin(&self) -> Option<&'static str> {
        let given = [
            ("description", self.description.is_some()),
            ("after", self.after.is_some()),
            ("interval_s", self.interval_s.is_some()),
            ("cron", self.cron.is_some()),
            ("ready", self.ready.is_some()),
            ("ready_log", self.ready_log.is_some()),
            ("ready_address", self.ready_address.is_some()),
            ("ready_file", self.ready_file.is_some()),
            ("watchdog_address", self.watchdog_address.is_some()),
            ("config", self.config.is_some()),
            ("hooks", self.hooks.is_some()),
            ("metrics_url", self.metrics_url.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(key, _)| key)
    }

    /// What a plugin gets whose manifest this is; what it leaves out is as in `bare`.
    pub(super) fn apply(self, bare: &Manifest) -> Manifest {
        let address = self.ready_address.unwrap_or_default();
        let readiness = match self.ready {
            None => bare.readiness.clone(),
            Some(ReadyKind::Immediate) => Readiness::Immediate,
            Some(ReadyKind::FirstLine) => Readiness::FirstLine,
            Some(ReadyKind::Log) => Readiness::Log(self.ready_log.unwrap_or_default()),
            Some(ReadyKind::Notify) => Readiness::Notify,
            Some(ReadyKind::Socket) => Readiness::Socket(address),
            Some(ReadyKind::Http) => Readiness::Http(address),
            Some(ReadyKind::File) => Readiness::File(self.ready_file.unwrap_or_default()),
        };
        let seconds = |value: Option<u64>, default: Duration| value.map_or(default, Duration::from_secs);
        let millis = |value: Option<u64>, default: Duration| value.map_or(default, Duration::from_millis);
        let old = bare.policy.clone();
        let delay = millis(self.restart_delay_ms, old.delay);
        let is_scheduled = self.interval_s.is_some() || self.cron.is_some();
        let restart = match old.restart {
            // The schedule says when it runs again, whatever holds for plugins without one.
            Restart::Always if is_scheduled => Restart::OnFailure,
            restart => restart,
        };
        let policy = Policy {
            restart: self.restart.unwrap_or(restart),
            delay,
            delay_max: millis(self.restart_delay_max_ms, old.delay_max).max(delay),
            stable_after: seconds(self.restart_stable_after_s, old.stable_after),
            start_limit_burst: self.start_limit_burst.unwrap_or(old.start_limit_burst),
            start_limit_interval: seconds(self.start_limit_interval_s, old.start_limit_interval),
            cron: self.cron.or(old.cron),
            interval: self.interval_s.map(Duration::from_secs).or(old.interval),
            run_timeout: self.run_timeout_s.map(Duration::from_secs).or(old.run_timeout),
            awaits_ready: readiness != Readiness::Immediate,
            ready_timeout: self.ready_timeout_s.map(Duration::from_secs).or(old.ready_timeout),
            stop_timeout: seconds(self.stop_timeout_s, old.stop_timeout),
            stop_signal: self.stop_signal.unwrap_or(old.stop_signal),
            dump_signal: self.dump_signal.or(old.dump_signal),
            dump_timeout: seconds(self.dump_timeout_s, old.dump_timeout),
            success_codes: self.success_codes.unwrap_or(old.success_codes),
        };
        let watched_address = self.watchdog_address.unwrap_or_default();
        let watchdog = match (self.watchdog, self.watchdog_s.map(Duration::from_secs)) {
            (Some(WatchdogKind::Socket), Some(limit)) => Watchdog::Socket(limit, watched_address),
            (Some(WatchdogKind::Http), Some(limit)) => Watchdog::Http(limit, watched_address),
            (Some(WatchdogKind::Notify), Some(limit)) => Watchdog::Notify(limit),
            (Some(WatchdogKind::Output), Some(limit)) => Watchdog::Output(limit),
            _ => bare.watchdog.clone(),
        };
        let rate = bare.output.rate;
        let output = OutputLimits {
            line_max_bytes: self.line_max_bytes.unwrap_or(bare.output.line_max_bytes),
            rate: LineRate {
                per_second: self.lines_per_second.unwrap_or(rate.per_second),
                burst: self.lines_burst.unwrap_or(rate.burst),
            },
            stderr_severity: self.stderr_level.unwrap_or(bare.output.stderr_severity),
        };
        let around = bare.confinement.clone();
        let confinement = Confinement {
            user: self.user.or(around.user),
            group: self.group.or(around.group),
            umask: self.umask.or(around.umask),
            nice: self.nice.or(around.nice),
            io_class: self.io_class.or(around.io_class),
            io_priority: self.io_priority.or(around.io_priority),
            no_new_privs: self.no_new_privs.unwrap_or(around.no_new_privs),
            read_paths: self.read_paths.or(around.read_paths),
            write_paths: self.write_paths.or(around.write_paths),
            limits: self.limits.or(around.limits),
            cgroup: self.cgroup.or(around.cgroup),
            cgroup_procs: None,
        };
        let mut environment = bare.environment.clone();
        environment.extend(self.environment);
        Manifest {
            description: self.description,
            enabled: self.enabled.unwrap_or(bare.enabled),
            after: self.after.unwrap_or_default(),
            policy,
            readiness,
            watchdog,
            watchdog_action: self.watchdog_action.unwrap_or(bare.watchdog_action),
            output,
            confinement,
            events: self.events.unwrap_or_else(|| bare.events.clone()),
            hooks: self.hooks.unwrap_or_default(),
            known_hooks: bare.known_hooks,
            known_events: bare.known_events,
            metrics: self.metrics.unwrap_or(bare.metrics),
            metrics_url: self.metrics_url,
            metrics_fd: self.metrics_fd.unwrap_or(bare.metrics_fd),
            control: self.control.unwrap_or(bare.control),
            secrets: self.secrets.unwrap_or(bare.secrets),
            restart_on_config: self.restart_on_config.unwrap_or(bare.restart_on_config),
            inherit: self.inherit.or_else(|| bare.inherit.clone()),
            inherit_secrets: self.inherit_secrets.unwrap_or_else(|| bare.inherit_secrets.clone()),
            environment,
            config: self.config,
        }
    }
}
