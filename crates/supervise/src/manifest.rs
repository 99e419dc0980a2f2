//! The optional file beside a plugin, `<file>.plugin.toml`: how it is kept running, in systemd's vocabulary.
//!
//! Owns names, units, defaults and the explanation of mistakes. A plugin whose manifest is wrong is not started: its author asked for something
//! that it would not get.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::confinement::{Confinement, Limits};
use crate::discovery::MANIFEST_SUFFIX;
use crate::output::OutputLimits;
use crate::policy::{Policy, Restart, StopSignal};
use crate::rate::LineRate;
use crate::severity::Severity;

/// Bytes of a manifest that are read.
const MANIFEST_MAX_BYTES: u64 = 256 * 1024;

/// What a plugin's manifest, or the lack of one, asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Whether the plugin is started without being asked.
    pub enabled: bool,
    /// Plugins that are ready, or have ended, before this one starts.
    pub after: Vec<String>,
    /// How it is kept running.
    pub policy: Policy,
    /// How it says that it is ready.
    pub readiness: Readiness,
    /// How it shows that it is alive.
    pub watchdog: Watchdog,
    /// How much of its output is logged.
    pub output: OutputLimits,
    /// What it may use.
    pub confinement: Confinement,
    /// Kinds of events it gets on standard input; `*` is all.
    pub events: Vec<String>,
    /// Whether it leaves metrics in a folder of its own.
    pub metrics: bool,
    /// Whether it sees secrets in the configuration that are masked for others.
    pub secrets: bool,
    /// Names of inherited variables it gets; `None` is all.
    pub inherit: Option<Vec<String>>,
    /// Variables set on top.
    pub environment: BTreeMap<String, String>,
}

/// How a plugin says that it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readiness {
    /// It is ready once it runs.
    Immediate,
    /// With its first line of output.
    FirstLine,
    /// With a line that contains this text; `*` stands for anything.
    Log(String),
    /// With `READY=1` on `NOTIFY_SOCKET`.
    Notify,
    /// When something accepts connections at this TCP address or socket path.
    Socket(String),
    /// When a GET of this `http://` address answers with a status of 200 to 299.
    Http(String),
}

/// How a plugin shows that it is alive. When it stops to, it is ended, and its restart policy decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Watchdog {
    /// Nothing is expected.
    Off,
    /// `WATCHDOG=1` on `NOTIFY_SOCKET` at least this often.
    Notify(Duration),
    /// Output at least this often.
    Output(Duration),
}

/// A mistake in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}line {line}: {message}{}", file.as_deref().map(|f| format!("{f}: ")).unwrap_or_default(),
    hint.as_deref().map(|h| format!("\nhint: {h}")).unwrap_or_default())]
pub struct ManifestError {
    /// The manifest, as shown.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl Manifest {
    /// What a plugin without a manifest gets.
    pub fn bare(policy: Policy, output: OutputLimits) -> Self {
        Self {
            enabled: true,
            after: Vec::new(),
            policy,
            readiness: Readiness::Immediate,
            watchdog: Watchdog::Off,
            output,
            confinement: Confinement::default(),
            events: Vec::new(),
            metrics: false,
            secrets: false,
            inherit: None,
            environment: BTreeMap::new(),
        }
    }

    /// Where the manifest of `plugin` would be.
    pub fn path_for(plugin: &Path) -> PathBuf {
        let mut name = plugin.as_os_str().to_owned();
        name.push(MANIFEST_SUFFIX);
        name.into()
    }

    /// Reads the manifest of `plugin`, or returns `bare` where there is none.
    pub fn load(plugin: &Path, bare: &Self) -> Result<Self, ManifestError> {
        use std::io::Read;
        let path = Self::path_for(plugin);
        let mut text = String::new();
        let read = match std::fs::File::open(&path) {
            Ok(file) => file.take(MANIFEST_MAX_BYTES).read_to_string(&mut text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(bare.clone()),
            Err(e) => Err(e),
        };
        let in_file = |error: ManifestError| ManifestError { file: Some(crate::text::shown(&path)), ..error };
        read.map_err(|e| in_file(ManifestError { file: None, line: 1, message: e.to_string(), hint: None }))?;
        Self::parse(&text, bare).map_err(in_file)
    }

    /// Reads a manifest; what it leaves out is as in `bare`.
    pub fn parse(text: &str, bare: &Self) -> Result<Self, ManifestError> {
        let keys: Keys = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| line_at(text, span.start));
            ManifestError { file: None, line, message: e.message().replace('\n', " "), hint: None }
        })?;
        keys.check().map_err(|(key, message, hint)| ManifestError {
            file: None,
            line: line_of(text, key),
            message: format!("`{key}` {message}"),
            hint: Some(hint.to_owned()),
        })?;
        Ok(keys.apply(bare))
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1
}

fn line_of(text: &str, key: &str) -> usize {
    let sets = |line: &str| {
        line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().position(sets).map_or(1, |index| index + 1)
}

/// The manifest as written. Times carry their unit in the name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    #[serde(rename = "description")]
    _description: Option<String>,
    enabled: Option<bool>,
    after: Vec<String>,
    restart: Option<Restart>,
    restart_delay_ms: Option<u64>,
    restart_delay_max_ms: Option<u64>,
    restart_stable_after_s: Option<u64>,
    start_limit_burst: Option<u32>,
    start_limit_interval_s: Option<u64>,
    interval_s: Option<u64>,
    run_timeout_s: Option<u64>,
    ready: Option<ReadyKind>,
    ready_log: Option<String>,
    ready_address: Option<String>,
    ready_timeout_s: Option<u64>,
    watchdog: Option<WatchdogKind>,
    watchdog_s: Option<u64>,
    stop_signal: Option<StopSignal>,
    stop_timeout_s: Option<u64>,
    success_codes: Option<Vec<i32>>,
    stderr_level: Option<Severity>,
    lines_per_second: Option<u32>,
    lines_burst: Option<u32>,
    line_max_bytes: Option<usize>,
    events: Vec<String>,
    metrics: bool,
    secrets: bool,
    inherit: Option<Vec<String>>,
    environment: BTreeMap<String, String>,
    user: Option<String>,
    group: Option<String>,
    umask: Option<u32>,
    nice: Option<i32>,
    no_new_privs: Option<bool>,
    read_paths: Option<Vec<PathBuf>>,
    write_paths: Option<Vec<PathBuf>>,
    limits: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReadyKind {
    Immediate,
    FirstLine,
    Log,
    Notify,
    Socket,
    Http,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WatchdogKind {
    Notify,
    Output,
}

/// A key, what is wrong with it, and what would be right.
type Mistake = (&'static str, &'static str, &'static str);

impl Keys {
    /// Relations between keys, which the format itself cannot express.
    fn check(&self) -> Result<(), Mistake> {
        let ready = self.ready.unwrap_or(ReadyKind::Immediate);
        if ready == ReadyKind::Log && self.ready_log.as_deref().is_none_or(str::is_empty) {
            return Err(("ready", "is `log` without a text to wait for", "set `ready_log = \"listening\"`"));
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
        for (key, value) in [
            ("watchdog_s", self.watchdog_s),
            ("interval_s", self.interval_s),
            ("run_timeout_s", self.run_timeout_s),
        ] {
            if value == Some(0) {
                return Err((key, "is zero", "leave it out to switch it off"));
            }
        }
        if let (Some(delay), Some(max)) = (self.restart_delay_ms, self.restart_delay_max_ms)
            && delay > max
        {
            return Err(("restart_delay_ms", "exceeds `restart_delay_max_ms`", "raise the maximum"));
        }
        if self.interval_s.is_some() && self.restart == Some(Restart::Always) {
            return Err(("restart", "is `always` for a plugin with an interval", "leave one of them out"));
        }
        if self.start_limit_burst == Some(0) {
            return Err(("start_limit_burst", "is zero, so it would never start", "use 1 or more"));
        }
        if self.line_max_bytes.is_some_and(|bytes| !(64..=1 << 20).contains(&bytes)) {
            return Err(("line_max_bytes", "is out of range", "use 64 to 1048576"));
        }
        if self.umask.is_some_and(|mask| mask > 0o777) {
            return Err(("umask", "has bits beyond permissions", "write it in octal: `umask = 0o077`"));
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

    fn apply(self, bare: &Manifest) -> Manifest {
        let address = self.ready_address.unwrap_or_default();
        let readiness = match self.ready {
            None => bare.readiness.clone(),
            Some(ReadyKind::Immediate) => Readiness::Immediate,
            Some(ReadyKind::FirstLine) => Readiness::FirstLine,
            Some(ReadyKind::Log) => Readiness::Log(self.ready_log.unwrap_or_default()),
            Some(ReadyKind::Notify) => Readiness::Notify,
            Some(ReadyKind::Socket) => Readiness::Socket(address),
            Some(ReadyKind::Http) => Readiness::Http(address),
        };
        let seconds = |value: Option<u64>, default: Duration| value.map_or(default, Duration::from_secs);
        let millis = |value: Option<u64>, default: Duration| value.map_or(default, Duration::from_millis);
        let old = bare.policy.clone();
        let delay = millis(self.restart_delay_ms, old.delay);
        let policy = Policy {
            restart: self.restart.unwrap_or(old.restart),
            delay,
            delay_max: millis(self.restart_delay_max_ms, old.delay_max).max(delay),
            stable_after: seconds(self.restart_stable_after_s, old.stable_after),
            start_limit_burst: self.start_limit_burst.unwrap_or(old.start_limit_burst),
            start_limit_interval: seconds(self.start_limit_interval_s, old.start_limit_interval),
            interval: self.interval_s.map(Duration::from_secs).or(old.interval),
            run_timeout: self.run_timeout_s.map(Duration::from_secs).or(old.run_timeout),
            awaits_ready: readiness != Readiness::Immediate,
            ready_timeout: self.ready_timeout_s.map(Duration::from_secs).or(old.ready_timeout),
            stop_timeout: seconds(self.stop_timeout_s, old.stop_timeout),
            stop_signal: self.stop_signal.unwrap_or(old.stop_signal),
            success_codes: self.success_codes.unwrap_or(old.success_codes),
        };
        let watchdog = match (self.watchdog, self.watchdog_s.map(Duration::from_secs)) {
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
        let confinement = Confinement {
            user: self.user,
            group: self.group,
            umask: self.umask,
            nice: self.nice,
            no_new_privs: self.no_new_privs.unwrap_or(false),
            read_paths: self.read_paths,
            write_paths: self.write_paths,
            limits: self.limits,
        };
        Manifest {
            enabled: self.enabled.unwrap_or(bare.enabled),
            after: self.after,
            policy,
            readiness,
            watchdog,
            output,
            confinement,
            events: self.events,
            metrics: self.metrics,
            secrets: self.secrets,
            inherit: self.inherit.or_else(|| bare.inherit.clone()),
            environment: self.environment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare() -> Manifest {
        Manifest::bare(Policy::default(), OutputLimits::default())
    }

    fn mistake(text: &str) -> ManifestError {
        Manifest::parse(text, &bare()).unwrap_err()
    }

    #[test]
    fn an_empty_manifest_changes_nothing() {
        assert_eq!(Manifest::parse("", &bare()).unwrap(), bare());
        assert_eq!(Manifest::parse("# only words\n", &bare()).unwrap(), bare());
    }

    #[test]
    fn every_key_has_its_effect() {
        let text = r#"
            description = "pushes metrics"
            enabled = false
            after = ["database"]
            restart = "on-failure"
            restart_delay_ms = 200
            restart_delay_max_ms = 5000
            restart_stable_after_s = 10
            start_limit_burst = 3
            start_limit_interval_s = 30
            run_timeout_s = 60
            ready = "log"
            ready_log = "listening on *"
            ready_timeout_s = 7
            watchdog = "output"
            watchdog_s = 9
            stop_signal = "SIGINT"
            stop_timeout_s = 2
            success_codes = [3]
            stderr_level = "info"
            lines_per_second = 5
            lines_burst = 6
            line_max_bytes = 100
            inherit = ["PATH"]
            environment = { A = "1" }
            user = "nobody"
            umask = 0o077
            nice = 5
            no_new_privs = true
            read_paths = ["/usr"]
            limits = { open_files = 64, memory_bytes = 1000000 }
        "#;
        let m = Manifest::parse(text, &bare()).unwrap();
        assert!(!m.enabled);
        assert_eq!(m.after, ["database"]);
        assert_eq!(m.policy.restart, Restart::OnFailure);
        assert_eq!(
            (m.policy.delay, m.policy.delay_max),
            (Duration::from_millis(200), Duration::from_secs(5))
        );
        assert_eq!((m.policy.start_limit_burst, m.policy.run_timeout), (3, Some(Duration::from_secs(60))));
        assert_eq!((m.policy.awaits_ready, m.policy.ready_timeout), (true, Some(Duration::from_secs(7))));
        assert_eq!(
            (m.policy.stop_signal, m.policy.stop_timeout),
            (StopSignal::SigInt, Duration::from_secs(2))
        );
        assert_eq!(m.policy.success_codes, [3]);
        assert_eq!(m.readiness, Readiness::Log("listening on *".into()));
        assert_eq!(m.watchdog, Watchdog::Output(Duration::from_secs(9)));
        assert_eq!((m.output.rate.per_second, m.output.rate.burst, m.output.line_max_bytes), (5, 6, 100));
        assert_eq!(m.output.stderr_severity, Severity::Info);
        assert_eq!((m.inherit, m.environment["A"].as_str()), (Some(vec!["PATH".into()]), "1"));
        assert_eq!((m.confinement.umask, m.confinement.nice), (Some(0o077), Some(5)));
        assert_eq!(m.confinement.limits.open_files, Some(64));
    }

    #[test]
    fn mistakes_are_shown_with_line_and_remedy() {
        let error = mistake("restart = \"always\"\nrestrat_delay_ms = 3\n");
        assert_eq!(error.line, 2);
        assert!(error.message.contains("restrat_delay_ms"), "{error}");
        let error = mistake("\nrestart = \"sometimes\"\n");
        assert_eq!(error.line, 2);
        assert!(error.message.contains("on-failure"), "{error}");
        let error = mistake("after = []\n\nready = \"log\"\n");
        assert_eq!((error.line, error.hint.as_deref()), (3, Some("set `ready_log = \"listening\"`")));
        assert_eq!(mistake("x = ").line, 1);
    }

    #[test]
    fn relations_between_keys() {
        for text in [
            "ready = \"http\"",
            "ready = \"http\"\nready_address = \"127.0.0.1:80\"",
            "watchdog = \"notify\"",
            "watchdog_s = 3",
            "watchdog = \"output\"\nwatchdog_s = 0",
            "restart_delay_ms = 5\nrestart_delay_max_ms = 4",
            "interval_s = 5\nrestart = \"always\"",
            "start_limit_burst = 0",
            "line_max_bytes = 3",
            "umask = 4095",
            "nice = 40",
            "environment = { \"A=B\" = \"\" }",
        ] {
            let error = mistake(text);
            assert!(error.hint.is_some(), "{text}: {error}");
        }
    }
}
