//! What the keys of a manifest come to, over what holds without them.

use std::time::Duration;

use super::confinement::Confinement;
use super::keys::{Keys, ReadyKind, WatchdogKind};
use super::model::{Manifest, Readiness, Watchdog};
use super::policy::{Policy, Restart};
use crate::output::OutputLimits;
use larder_telemetry::LineRate;

impl Keys {
    /// What a plugin gets whose manifest this is; what it leaves out is as in `bare`.
    pub(super) fn apply(self, bare: &Manifest) -> Manifest {
        let readiness = self.readiness().unwrap_or_else(|| bare.readiness.clone());
        let mut environment = bare.environment.clone();
        environment.extend(self.environment.clone());
        Manifest {
            policy: self.policy(&bare.policy, readiness != Readiness::Immediate),
            readiness,
            watchdog: self.watchdog().unwrap_or_else(|| bare.watchdog.clone()),
            output: self.output(bare.output),
            confinement: self.confinement(bare.confinement.clone()),
            environment,
            description: self.description,
            enabled: self.enabled.unwrap_or(bare.enabled),
            after: self.after.unwrap_or_default(),
            watchdog_action: self.watchdog_action.unwrap_or(bare.watchdog_action),
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
            config: self.config,
        }
    }

    fn readiness(&self) -> Option<Readiness> {
        let address = || self.ready_address.clone().unwrap_or_default();
        Some(match self.ready? {
            ReadyKind::Immediate => Readiness::Immediate,
            ReadyKind::FirstLine => Readiness::FirstLine,
            ReadyKind::Log => Readiness::Log(self.ready_log.clone().unwrap_or_default()),
            ReadyKind::Notify => Readiness::Notify,
            ReadyKind::Socket => Readiness::Socket(address()),
            ReadyKind::Http => Readiness::Http(address()),
            ReadyKind::File => Readiness::File(self.ready_file.clone().unwrap_or_default()),
        })
    }

    fn watchdog(&self) -> Option<Watchdog> {
        let address = || self.watchdog_address.clone().unwrap_or_default();
        let limit = Duration::from_secs(self.watchdog_s?);
        Some(match self.watchdog? {
            WatchdogKind::Notify => Watchdog::Notify(limit),
            WatchdogKind::Output => Watchdog::Output(limit),
            WatchdogKind::Socket => Watchdog::Socket(limit, address()),
            WatchdogKind::Http => Watchdog::Http(limit, address()),
        })
    }

    fn policy(&self, bare: &Policy, awaits_ready: bool) -> Policy {
        let seconds = |value: Option<u64>| value.map(Duration::from_secs);
        let millis = |value: Option<u64>| value.map(Duration::from_millis);
        let delay = millis(self.restart_delay_ms).unwrap_or(bare.delay);
        let is_scheduled = self.interval_s.is_some() || self.cron.is_some();
        let restart = match bare.restart {
            // The schedule says when it runs again, whatever holds for plugins without one.
            Restart::Always if is_scheduled => Restart::OnFailure,
            restart => restart,
        };
        Policy {
            restart: self.restart.unwrap_or(restart),
            delay,
            delay_max: millis(self.restart_delay_max_ms).unwrap_or(bare.delay_max).max(delay),
            stable_after: seconds(self.restart_stable_after_s).unwrap_or(bare.stable_after),
            start_limit_burst: self.start_limit_burst.unwrap_or(bare.start_limit_burst),
            start_limit_interval: seconds(self.start_limit_interval_s).unwrap_or(bare.start_limit_interval),
            cron: self.cron.clone().or_else(|| bare.cron.clone()),
            interval: seconds(self.interval_s).or(bare.interval),
            run_timeout: seconds(self.run_timeout_s).or(bare.run_timeout),
            awaits_ready,
            ready_timeout: seconds(self.ready_timeout_s).or(bare.ready_timeout),
            stop_timeout: seconds(self.stop_timeout_s).unwrap_or(bare.stop_timeout),
            stop_signal: self.stop_signal.unwrap_or(bare.stop_signal),
            dump_signal: self.dump_signal.or(bare.dump_signal),
            dump_timeout: seconds(self.dump_timeout_s).unwrap_or(bare.dump_timeout),
            success_codes: self.success_codes.clone().unwrap_or_else(|| bare.success_codes.clone()),
        }
    }

    fn output(&self, bare: OutputLimits) -> OutputLimits {
        OutputLimits {
            line_max_bytes: self.line_max_bytes.unwrap_or(bare.line_max_bytes),
            rate: LineRate {
                per_second: self.lines_per_second.unwrap_or(bare.rate.per_second),
                burst: self.lines_burst.unwrap_or(bare.rate.burst),
            },
            stderr_severity: self.stderr_level.unwrap_or(bare.stderr_severity),
        }
    }

    fn confinement(&self, bare: Confinement) -> Confinement {
        Confinement {
            user: self.user.clone().or(bare.user),
            group: self.group.clone().or(bare.group),
            umask: self.umask.or(bare.umask),
            nice: self.nice.or(bare.nice),
            io_class: self.io_class.or(bare.io_class),
            io_priority: self.io_priority.or(bare.io_priority),
            no_new_privs: self.no_new_privs.unwrap_or(bare.no_new_privs),
            read_paths: self.read_paths.clone().or(bare.read_paths),
            write_paths: self.write_paths.clone().or(bare.write_paths),
            limits: self.limits.clone().or(bare.limits),
            cgroup: self.cgroup.or(bare.cgroup),
            cgroup_procs: None,
        }
    }
}
