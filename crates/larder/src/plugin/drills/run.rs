//! The drills, one after the other.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::ArgMatches;
use larder_supervise::{
    FailCause, Manifest, Outcome, Phase, PluginStatus, Stream, Supervisor, SupervisorConfig,
};
use tokio::time::sleep;

use super::processes::Mark;
use super::report::{Report, Verdict};
use super::{events, golden, processes};
use crate::exit;
use crate::plugin::foreground::block_on;
use crate::plugin::rig::{self, Rig, the_plugin};
use crate::plugin::watch;

/// Longest wait for a program to start.
const START_MAX: Duration = Duration::from_secs(10);
/// Longest wait for processes to be gone after the server was killed.
const GONE_MAX: Duration = Duration::from_secs(5);
/// Lines a second, over the time of a drill, that are too many for a log.
const FLOOD_LINES_PER_S: u64 = 100;
/// Share of one processor that is too much for a plugin that has nothing to do.
const BUSY_SHARE: f64 = 0.5;
/// Time to end in the drill in which the plugin cannot.
const HUNG_STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// A configuration that is none.
const BAD_CONFIG: &str = "{\"mp_config\": {\"port\": ";

/// What the drills are called, with `-` for spaces, as `--only` takes them.
pub(crate) const NAMES: [&str; 12] = [
    "manifest",
    "start",
    "output",
    "golden-output",
    "load",
    "stop",
    "empty-configuration",
    "bad-configuration",
    "fast-stop",
    "event-flood",
    "hanging",
    "killed-server",
];
const EMPTY_CONFIG_DRILL: &str = "empty configuration";
const BAD_CONFIG_DRILL: &str = "bad configuration";

/// Runs all drills and prints what came of each.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let seconds = matches.get_one("seconds").copied().unwrap_or(3);
    let done = Rig::new(matches).and_then(|rig| {
        let words = rig::words(matches);
        let only = matches.get_many::<String>("only").into_iter().flatten().cloned().collect();
        let file = rig.file.clone();
        let drills =
            Drills { rig, words, only, time: Duration::from_secs(seconds), report: Report::default() };
        let report = block_on(drills.all())??;
        if let Some(path) = matches.get_one::<PathBuf>("report") {
            report.write(path, &file)?;
        }
        Ok(report)
    });
    match done {
        Ok(report) if report.failed() == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(exit::FAILED),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

struct Drills {
    rig: Rig,
    /// The options it was called with.
    words: Vec<String>,
    /// The drills that are wanted; all without any.
    only: Vec<String>,
    /// How long the plugin is watched in each drill.
    time: Duration,
    report: Report,
}

/// A plugin that has been watched for a while.
struct Watched {
    supervisor: Supervisor,
    status: PluginStatus,
    mark: Mark,
}

impl Watched {
    /// What the plugin has printed.
    fn output(&self) -> Vec<String> {
        let lines = self.supervisor.tail(&self.status.name, usize::MAX).unwrap_or_default();
        lines.into_iter().filter(|line| line.stream != Stream::Lifecycle).map(|line| line.text).collect()
    }
}

impl Drills {
    async fn all(mut self) -> Result<Report, String> {
        self.manifest()?;
        let runs_on = self.healthy().await?;
        for (name, config) in [(EMPTY_CONFIG_DRILL, "{}"), (BAD_CONFIG_DRILL, BAD_CONFIG)] {
            if self.is_wanted(name) {
                let (verdict, output) = self.misconfigured(config).await?;
                self.tell_with(name, verdict, output);
            }
        }
        if runs_on && self.is_wanted("fast stop") {
            let verdict = self.stopped_at_once().await?;
            self.tell("fast stop", verdict);
        }
        if runs_on && self.is_wanted("event flood") {
            self.event_flood().await?;
        }
        if runs_on && self.is_wanted("hanging") {
            let verdict = self.hung().await?;
            self.tell("hanging", verdict);
        }
        if runs_on && self.is_wanted("killed server") {
            let verdict = self.server_killed().await?;
            self.tell("killed server", verdict);
        }
        let summary = self.report.summary();
        print_line(&summary);
        Ok(self.report)
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted.replace('-', " ") == name)
    }

    fn tell(&mut self, name: &'static str, verdict: Verdict) {
        self.tell_with(name, verdict, Vec::new());
    }

    /// Tells what came of a drill, if it is wanted.
    fn tell_with(&mut self, name: &'static str, verdict: Verdict, output: Vec<String>) {
        if self.is_wanted(name) {
            print_line(&self.report.add(name, verdict, output));
        }
    }

    /// Without a usable manifest nothing else can be tried.
    fn manifest(&mut self) -> Result<(), String> {
        let bare = self.rig.supervisor_config().defaults;
        Manifest::load(&self.rig.file, &bare).map_err(|error| error.to_string())?;
        let present = Manifest::path_for(&self.rig.file).exists();
        self.tell("manifest", Verdict::Ok(if present { "valid" } else { "none" }.into()));
        Ok(())
    }

    /// Starts, speaks, is quiet and idle, and stops. Whether it runs until it is stopped.
    async fn healthy(&mut self) -> Result<bool, String> {
        let watched = self.watch(self.rig.supervisor_config()).await?;
        let runs_on = watched.status.pid.is_some() && watched.status.last_exit.is_none();
        let output = watched.output();
        self.tell_with("start", started(&watched.status), output.clone());
        let said = watched.status.lines.stdout + watched.status.lines.stderr;
        let says = match said {
            0 => Verdict::Note("printed nothing: nobody can see what it does".into()),
            _ => Verdict::Ok(format!("{said} lines")),
        };
        self.tell_with("output", self.flood(&watched.status).unwrap_or(says), output.clone());
        if let Some(verdict) = golden::compare(&self.rig.file, &output) {
            self.tell_with("golden output", verdict, output.clone());
        }
        if runs_on {
            let busy = self.busy(&watched);
            self.tell("load", busy);
        }
        let verdict = self.stop(watched).await;
        if runs_on {
            self.tell_with("stop", verdict, output);
        }
        Ok(runs_on)
    }

    fn flood(&self, status: &PluginStatus) -> Option<Verdict> {
        let lines = status.lines.stdout + status.lines.stderr;
        let limit = FLOOD_LINES_PER_S * self.time.as_secs().max(1);
        (lines > limit || status.lines.suppressed > 0).then(|| {
            let suppressed = status.lines.suppressed;
            Verdict::Failed(format!(
                "{lines} lines in {} s, {suppressed} of them suppressed",
                self.time.as_secs()
            ))
        })
    }

    fn busy(&self, watched: &Watched) -> Verdict {
        let usage = watched.supervisor.usage().into_iter().next().map(|(_, usage)| usage).unwrap_or_default();
        let share = usage.cpu_s / self.time.as_secs_f64();
        let text = format!("{:.0} % of a processor, {} MiB", share * 100.0, usage.resident_bytes >> 20);
        if share > BUSY_SHARE {
            Verdict::Failed(format!("{text}: does it wait anywhere?"))
        } else {
            Verdict::Ok(text)
        }
    }

    /// A plugin that hears of more than it can read goes on, and still ends when it should.
    async fn event_flood(&mut self) -> Result<(), String> {
        let Ok(manifest) = Manifest::load(&self.rig.file, &self.rig.supervisor_config().defaults) else {
            return Ok(());
        };
        if manifest.events.is_empty() {
            return Ok(());
        }
        let mut watched = self.start(self.rig.supervisor_config()).await?;
        events::flood(&watched.supervisor.events(), &manifest.events);
        if let Some(status) = watch::until_or(&watched.supervisor, self.time, watch::is_over).await {
            watched.status = status;
        }
        let (output, ended) = (watched.output(), watched.status.last_exit);
        let verdict = match (ended, self.stop(watched).await) {
            (Some(_), _) => Verdict::Failed(format!("ends with {} in a flood of events", outcome(ended))),
            (None, failed @ Verdict::Failed(_)) => failed,
            (None, _) => Verdict::Ok(format!("goes on through {} events", events::FLOOD)),
        };
        self.tell_with("event flood", verdict, output);
        Ok(())
    }

    async fn misconfigured(&self, config: &str) -> Result<(Verdict, Vec<String>), String> {
        let mut settings = self.rig.supervisor_config();
        settings.config = config.to_owned();
        let watched = self.watch(settings).await?;
        let status = &watched.status;
        let said = status.lines.stdout + status.lines.stderr > 0;
        // One that was restarted meanwhile has ended, too.
        let running = status.pid.filter(|_| status.last_exit.is_none());
        let verdict = match (self.flood(status), running, status.last_exit) {
            (Some(flood), ..) => flood,
            (None, Some(_), _) => Verdict::Ok("goes on".into()),
            (None, None, Some(Outcome::Code(0))) => Verdict::Ok("ends with code 0".into()),
            (None, None, Some(Outcome::Code(code))) if said => {
                Verdict::Ok(format!("gives up with code {code} and says something"))
            }
            (None, None, Some(Outcome::Code(code))) => {
                Verdict::Failed(format!("gives up with code {code} without a word"))
            }
            (None, None, None) if status.phase == Phase::Failed { cause: FailCause::Config } => {
                Verdict::Ok("not started: it does not fit the manifest".into())
            }
            (None, None, other) => Verdict::Failed(format!("ends with {}", outcome(other))),
        };
        let output = watched.output();
        let verdict = match self.stop(watched).await {
            failed @ Verdict::Failed(_) => failed,
            _ => verdict,
        };
        Ok((verdict, output))
    }

    async fn stopped_at_once(&self) -> Result<Verdict, String> {
        let watched = self.start(self.rig.supervisor_config()).await?;
        Ok(self.stop(watched).await)
    }

    /// A plugin that can do nothing any more is ended all the same.
    async fn hung(&self) -> Result<Verdict, String> {
        let mut settings = self.rig.supervisor_config();
        settings.defaults.policy.stop_timeout = HUNG_STOP_TIMEOUT;
        let Watched { supervisor, status, mark } = self.start(settings).await?;
        let stopped = status.pid.is_some_and(processes::freeze);
        supervisor.stop().await;
        let left = mark.count();
        Ok(match (stopped, left) {
            (false, _) => Verdict::Note("could not be tried".into()),
            (true, 0) => Verdict::Ok("killed, nothing left".into()),
            (true, left) => Verdict::Failed(format!("{left} processes left")),
        })
    }

    /// A server that is killed takes the plugin with it.
    async fn server_killed(&self) -> Result<Verdict, String> {
        let mark = Mark::new();
        let larder =
            std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
        let mut server = Command::new(larder)
            .args(["plugin", "run"])
            .args(&self.words)
            .arg(&self.rig.file)
            .env(Mark::VARIABLE, mark.value())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("a server cannot be started: {error}"))?;
        // Itself, its guardian, the plugin.
        let begun = mark.wait(START_MAX, |count| count >= 3).await;
        sleep(self.time).await;
        let killed = server.kill().and_then(|()| server.wait());
        let since = Instant::now();
        let gone = mark.wait(GONE_MAX, |count| count == 0).await;
        Ok(match (begun && killed.is_ok(), gone) {
            (_, false) => Verdict::Failed(format!("{} processes left", mark.count())),
            (false, true) => Verdict::Note("it had ended before".into()),
            (true, true) => Verdict::Ok(format!("nothing left after {} ms", since.elapsed().as_millis())),
        })
    }

    /// Starts it and watches it for the time of a drill, or until it ends.
    async fn watch(&self, settings: SupervisorConfig) -> Result<Watched, String> {
        let mut watched = self.start(settings).await?;
        if let Some(status) = watch::until_or(&watched.supervisor, self.time, watch::is_over).await {
            watched.status = status;
        }
        Ok(watched)
    }

    async fn start(&self, mut settings: SupervisorConfig) -> Result<Watched, String> {
        let mark = Mark::new();
        settings.environment.push((Mark::VARIABLE.into(), mark.value().into()));
        let supervisor = Supervisor::start(settings).await.map_err(|error| error.to_string())?;
        let name = the_plugin(&supervisor)?.name;
        let decided = |status: &PluginStatus| watch::has_started(status) || status.phase == Phase::Disabled;
        let mut status = watch::until_or(&supervisor, START_MAX, decided).await.ok_or("it is gone")?;
        if status.phase == Phase::Disabled {
            status = supervisor.enable(&name).await.map_err(|error| error.to_string())?;
        }
        Ok(Watched { supervisor, status, mark })
    }

    async fn stop(&self, watched: Watched) -> Verdict {
        let Watched { supervisor, mark, .. } = watched;
        let since = Instant::now();
        let report = supervisor.stop().await;
        let (time, left) = (since.elapsed().as_millis(), mark.count());
        if left > 0 {
            Verdict::Failed(format!("{left} processes left"))
        } else if !report.killed.is_empty() {
            Verdict::Failed(
                "had to be killed: end on SIGTERM, or when standard input ends, and take children along"
                    .into(),
            )
        } else {
            Verdict::Ok(format!("ended after {time} ms, nothing left"))
        }
    }
}

fn started(status: &PluginStatus) -> Verdict {
    let with = status.interpreter.as_deref().unwrap_or("nothing");
    match (status.phase, status.last_exit) {
        (Phase::Failed { cause: FailCause::Launch | FailCause::Config }, _) => {
            Verdict::Failed(status.last_error.clone().unwrap_or_else(|| "cannot be run".into()))
        }
        (Phase::Ready { .. }, None) => Verdict::Ok(format!("runs with {with}")),
        (Phase::Starting { .. }, None) => Verdict::Note(format!("runs with {with}, and is not ready yet")),
        (Phase::Exited | Phase::Scheduled { .. }, Some(Outcome::Code(0))) => {
            Verdict::Ok(format!("ran with {with} and ended with code 0"))
        }
        (_, exit) => Verdict::Failed(format!("ended with {}", outcome(exit))),
    }
}

fn outcome(exit: Option<Outcome>) -> String {
    match exit {
        Some(Outcome::Code(code)) => format!("code {code}"),
        Some(Outcome::Signal(signal)) => format!("signal {signal}"),
        _ => "no result".into(),
    }
}

fn print_line(line: &str) {
    // Nothing can be done when nobody reads.
    _ = writeln!(io::stdout(), "{line}");
}
