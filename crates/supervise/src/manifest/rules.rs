//! What the keys of a manifest have to be to each other, which the format itself cannot express.

use super::keys::{Keys, ReadyKind, WatchdogKind};
use super::policy::Restart;

/// Longest time of any kind, in seconds: ten years.
const TIME_MAX_S: u64 = 10 * 365 * 24 * 3600;
/// Bytes of the text that lines are searched for, on the thread that supervises.
const READY_LOG_MAX_BYTES: usize = 256;

/// A key, what is wrong with it, and what would be right.
pub(super) type Mistake = (&'static str, &'static str, &'static str);

/// Whether a rule is broken, and how that is told.
type Rule = (bool, Mistake);

impl Keys {
    /// The first rule that the keys break.
    pub(super) fn check(&self) -> Result<(), Mistake> {
        let readiness = self.readiness_rules().into_iter().chain(self.watchdog_rules());
        let times = self.zero_rules().into_iter().chain(self.time_rules()).chain(self.schedule_rules());
        let mut rules = readiness.chain(times).chain(self.exchange_rules()).chain(self.range_rules());
        rules.find(|(is_broken, _)| *is_broken).map_or(Ok(()), |(_, mistake)| Err(mistake))
    }

    fn readiness_rules(&self) -> [Rule; 4] {
        let ready = self.ready.unwrap_or(ReadyKind::Immediate);
        let half = if self.ready_file.is_some() { "ready_file" } else { "ready" };
        let probes = matches!(ready, ReadyKind::Socket | ReadyKind::Http);
        let has_text = self.ready_log.as_deref().is_some_and(|text| !text.is_empty());
        [
            (
                ready == ReadyKind::Log && !has_text,
                ("ready", "is `log` without a text to wait for", "set `ready_log = \"listening\"`"),
            ),
            (
                (ready == ReadyKind::File) != self.ready_file.is_some(),
                (half, "needs the other half", "set both `ready = \"file\"` and `ready_file`"),
            ),
            (probes && self.ready_address.is_none(), ("ready", "probes no address", "set `ready_address`")),
            (ready == ReadyKind::Http && !is_http(self.ready_address.as_ref()), no_http("ready_address")),
        ]
    }

    fn watchdog_rules(&self) -> [Rule; 3] {
        let half = if self.watchdog.is_some() { "watchdog" } else { "watchdog_s" };
        let probes = matches!(self.watchdog, Some(WatchdogKind::Socket | WatchdogKind::Http));
        let address_half = if probes { "watchdog" } else { "watchdog_address" };
        let goes_with = "an address goes with `socket` and `http`, and only with those";
        let is_http = is_http(self.watchdog_address.as_ref());
        [
            (
                self.watchdog.is_some() != self.watchdog_s.is_some(),
                (half, "needs the other half", "set both `watchdog` and `watchdog_s`"),
            ),
            (probes != self.watchdog_address.is_some(), (address_half, "needs the other half", goes_with)),
            (self.watchdog == Some(WatchdogKind::Http) && !is_http, no_http("watchdog_address")),
        ]
    }

    fn zero_rules(&self) -> [Rule; 3] {
        let zero =
            |key, value: Option<u64>| (value == Some(0), (key, "is zero", "leave it out to switch it off"));
        [
            zero("watchdog_s", self.watchdog_s),
            zero("interval_s", self.interval_s),
            zero("run_timeout_s", self.run_timeout_s),
        ]
    }

    fn time_rules(&self) -> [Rule; 10] {
        let rule = |key, value: Option<u64>, unit: u64| {
            let is_too_long = value.is_some_and(|value| value / unit > TIME_MAX_S);
            (is_too_long, (key, "is longer than ten years", "use 315360000 seconds or less"))
        };
        [
            rule("restart_delay_ms", self.restart_delay_ms, 1_000),
            rule("restart_delay_max_ms", self.restart_delay_max_ms, 1_000),
            rule("restart_stable_after_s", self.restart_stable_after_s, 1),
            rule("start_limit_interval_s", self.start_limit_interval_s, 1),
            rule("interval_s", self.interval_s, 1),
            rule("run_timeout_s", self.run_timeout_s, 1),
            rule("ready_timeout_s", self.ready_timeout_s, 1),
            rule("watchdog_s", self.watchdog_s, 1),
            rule("stop_timeout_s", self.stop_timeout_s, 1),
            rule("dump_timeout_s", self.dump_timeout_s, 1),
        ]
    }

    fn schedule_rules(&self) -> [Rule; 3] {
        let delays = self.restart_delay_ms.zip(self.restart_delay_max_ms);
        let is_scheduled = self.interval_s.is_some() || self.cron.is_some();
        [
            (
                delays.is_some_and(|(delay, max)| delay > max),
                ("restart_delay_ms", "exceeds `restart_delay_max_ms`", "raise the maximum"),
            ),
            (
                self.interval_s.is_some() && self.cron.is_some(),
                ("cron", "stands beside `interval_s`", "leave one of them out"),
            ),
            (
                is_scheduled && self.restart == Some(Restart::Always),
                ("restart", "is `always` for a plugin with `interval_s` or `cron`", "leave one of them out"),
            ),
        ]
    }

    fn exchange_rules(&self) -> [Rule; 2] {
        let url = self.metrics_url.as_ref();
        let is_url = is_http(url) && !url.is_some_and(|url| url.contains(char::is_whitespace));
        let has_hooks = self.hooks.as_ref().is_some_and(|hooks| !hooks.is_empty());
        [
            (
                url.is_some() && !is_url,
                ("metrics_url", "is no `http://` address", "write `http://127.0.0.1:9100/metrics`"),
            ),
            (
                has_hooks && self.control != Some(true),
                ("hooks", "has no channel for hints", "set `control = true`"),
            ),
        ]
    }

    fn range_rules(&self) -> [Rule; 9] {
        let cgroup = &self.cgroup;
        let has_zero =
            cgroup.memory_bytes == Some(0) || cgroup.cpu_percent == Some(0) || cgroup.pids == Some(0);
        let is_no_variable = |(name, value): (&String, &String)| {
            name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
        };
        [
            (
                self.start_limit_burst == Some(0),
                ("start_limit_burst", "is zero, so it would never start", "use 1 or more"),
            ),
            (
                self.ready_log.as_ref().is_some_and(|text| text.len() > READY_LOG_MAX_BYTES),
                ("ready_log", "is longer than 256 bytes", "a part of the line is enough"),
            ),
            (
                self.line_max_bytes.is_some_and(|bytes| !(64..=1 << 20).contains(&bytes)),
                ("line_max_bytes", "is out of range", "use 64 to 1048576"),
            ),
            (
                has_zero,
                (
                    "cgroup",
                    "has a limit of zero, with which nothing can run",
                    "leave it out to switch it off",
                ),
            ),
            (
                self.umask.is_some_and(|mask| mask > 0o777),
                ("umask", "has bits beyond permissions", "write it in octal: `umask = 0o077`"),
            ),
            (
                self.io_priority.is_some_and(|priority| priority > 7),
                ("io_priority", "is out of range", "use 0 (first) to 7"),
            ),
            (
                cgroup.io_weight.is_some_and(|weight| !(1..=10_000).contains(&weight)),
                ("cgroup", "has an `io_weight` out of range", "use 1 to 10000; 100 is usual"),
            ),
            (
                self.nice.is_some_and(|nice| !(-20..=19).contains(&nice)),
                ("nice", "is out of range", "use -20 to 19"),
            ),
            (
                self.environment.iter().any(is_no_variable),
                ("environment", "has a name or value that no variable can have", "no `=` in names, no NUL"),
            ),
        ]
    }

    /// The first event asked for that never comes, and what there is instead.
    pub(super) fn unknown_event(&self, known: &[&str]) -> Option<(&str, String)> {
        let is_known = |kind: &str| known.is_empty() || kind == "*" || known.contains(&kind);
        let unknown = self.events.iter().flatten().find(|kind| !is_known(kind))?;
        Some((unknown, format!("there are {}, and `*` for all", known.join(", "))))
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
}

fn is_http(address: Option<&String>) -> bool {
    address.is_some_and(|address| address.starts_with("http://"))
}

fn no_http(key: &'static str) -> Mistake {
    (key, "is no `http://` address", "write `http://127.0.0.1:8000/healthz`")
}
