//! The supervisor on a scripted spawner: what it does when the system under it refuses, stalls or dies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{ReloadReport, Supervisor};
use crate::config::SupervisorConfig;
use crate::error::SuperviseError;
use crate::lifecycle::{Event, Phase};
use crate::manifest::{Outcome, Policy, Restart};
use crate::os::{ChildStdio, LaunchId, LaunchSpec, ProcessEvent, RunSignal, Spawner, Watcher};
use crate::output::OutputLimits;

/// What the script shares with the test.
#[derive(Debug, Default)]
struct Script {
    refuse: AtomicU32,
    stall: AtomicBool,
    ignore_stop: AtomicBool,
    /// Whether not even SIGKILL ends a run.
    deaf: AtomicBool,
    /// Launches and signals that panic.
    panics: AtomicU32,
    launched: AtomicU32,
    runs: Mutex<HashMap<u64, mpsc::Sender<ProcessEvent>>>,
    signals: Mutex<Vec<RunSignal>>,
}

#[derive(Debug)]
struct Scripted(Arc<Script>);

impl Spawner for Scripted {
    async fn launch(
        &self,
        id: LaunchId,
        _spec: LaunchSpec,
        _stdio: ChildStdio,
        events: mpsc::Sender<ProcessEvent>,
    ) -> Result<u32, SuperviseError> {
        self.0.panic_if_due();
        if self.0.stall.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let left = self.0.refuse.load(Ordering::Relaxed);
        if left > 0 {
            self.0.refuse.store(left - 1, Ordering::Relaxed);
            return Err(SuperviseError::Guardian(std::io::ErrorKind::OutOfMemory.into()));
        }
        self.0.runs.lock().unwrap().insert(id.0, events);
        Ok(1000 + self.0.launched.fetch_add(1, Ordering::Relaxed))
    }

    async fn signal(&self, id: LaunchId, signal: RunSignal) {
        self.0.panic_if_due();
        self.0.signals.lock().unwrap().push(signal);
        let ignored = signal != RunSignal::Kill && self.0.ignore_stop.load(Ordering::Relaxed);
        if ignored || self.0.deaf.load(Ordering::Relaxed) {
            return;
        }
        if let Some(run) = self.0.runs.lock().unwrap().remove(&id.0) {
            run.try_send(ProcessEvent::Exited(Outcome::Signal(15))).unwrap();
            run.try_send(ProcessEvent::Gone).unwrap();
        }
    }

    async fn close(&self) -> bool {
        true
    }
}

impl Script {
    fn panic_if_due(&self) {
        let due = self.panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        assert!(due.is_err(), "as the script has it");
    }

    /// Reports the same about every run.
    fn report(&self, events: &[ProcessEvent]) {
        for (_, run) in self.runs.lock().unwrap().drain() {
            events.iter().for_each(|event| run.try_send(*event).unwrap());
        }
    }
}

/// The first of May 2026, a Friday, from midnight on the runtime's clock.
fn from_midnight(elapsed: Duration) -> jiff::Zoned {
    let begin = jiff::civil::date(2026, 5, 1).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
    begin.checked_add(elapsed).unwrap()
}

struct Rig {
    supervisor: Supervisor<Scripted>,
    script: Arc<Script>,
    _dir: tempfile::TempDir,
}

async fn rig(script: Script, policy: Policy) -> Rig {
    rig_with(script, policy, "").await
}

async fn rig_with(script: Script, policy: Policy, manifest: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    std::fs::write(dir.path().join("plugins/x.sh"), "#!/bin/sh\n").unwrap();
    std::fs::write(dir.path().join("plugins/x.sh.plugin.toml"), manifest).unwrap();
    let script = Arc::new(script);
    let mut config = SupervisorConfig::new(vec![dir.path().join("plugins")], "{}");
    config.runtime_dir = dir.path().to_path_buf();
    config.defaults.policy = policy;
    config.defaults.output = OutputLimits::default();
    config.stop_budget = Duration::from_secs(60);
    config.local_time = from_midnight;
    let supervisor = Supervisor::start_with(config, |_| Scripted(Arc::clone(&script))).await.unwrap();
    Rig { supervisor, script, _dir: dir }
}

impl Rig {
    async fn until(&self, wanted: impl Fn(&Phase) -> bool) {
        let handle = self.supervisor.find("x").unwrap();
        let mut status = handle.status.clone();
        let reached = status.wait_for(|s| wanted(&s.lifecycle.phase()));
        timeout(Duration::from_secs(86_400), reached).await.unwrap().unwrap();
    }
}

fn restarting() -> Policy {
    Policy { restart: Restart::OnFailure, start_limit_burst: 10, ..Policy::default() }
}

#[tokio::test(start_paused = true)]
async fn refused_launches_are_tried_again() {
    let rig = rig(Script { refuse: 3.into(), ..Script::default() }, restarting()).await;
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    let status = &rig.supervisor.snapshot()[0];
    assert_eq!((status.starts, status.pid, status.last_error.as_deref()), (4, Some(1000), None));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_launch_is_given_up() {
    let rig = rig(Script { stall: true.into(), ..Script::default() }, Policy::default()).await;
    rig.until(|p| matches!(p, Phase::Failed { .. })).await;
    assert!(
        rig.supervisor.snapshot()[0]
            .last_error
            .as_deref()
            .is_some_and(|e| e.contains("was not started within 10 s"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_guardian_brings_plugins_back() {
    let rig = rig(Script::default(), Policy::default()).await;
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    rig.script.report(&[ProcessEvent::Lost]);
    rig.until(|p| matches!(p, Phase::Backoff { .. })).await;
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    assert_eq!(rig.supervisor.snapshot()[0].starts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_escalates_once_and_reports_it() {
    let rig = rig(Script { ignore_stop: true.into(), ..Script::default() }, Policy::default()).await;
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    let report = rig.supervisor.stop().await;
    assert_eq!((report.stopped, report.killed), (vec!["x".to_owned()], vec!["x".to_owned()]));
    let signals = rig.script.signals.lock().unwrap().clone();
    assert_eq!(signals, [RunSignal::Stop(crate::manifest::StopSignal::SigTerm), RunSignal::Kill]);
}

#[tokio::test(start_paused = true)]
async fn commands_after_a_stop_are_refused() {
    let rig = rig(Script::default(), Policy::default()).await;
    rig.supervisor.stop().await;
    assert!(matches!(rig.supervisor.restart("x").await, Err(SuperviseError::Unknown(_))));
    assert_eq!(rig.supervisor.snapshot(), []);
    assert_eq!(rig.supervisor.reload().await, ReloadReport::default(), "nothing is started any more");
}

#[tokio::test(start_paused = true)]
async fn a_command_survives_its_caller() {
    let rig = rig(Script::default(), Policy::default()).await;
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    {
        let restart = rig.supervisor.restart("x");
        tokio::pin!(restart);
        // Polled once, then left.
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(restart.as_mut().poll(cx).is_pending())).await
        );
    }
    let handle = rig.supervisor.find("x").unwrap();
    handle.status.clone().wait_for(|s| s.lifecycle.starts() == 2).await.unwrap();
}

#[tokio::test]
async fn an_unusable_runtime_directory_is_no_obstacle() {
    let mut config = SupervisorConfig::new(Vec::new(), "{}");
    config.runtime_dir = "/no/such/directory".into();
    let supervisor = Supervisor::start_with(config, |_| Scripted(Arc::default())).await.unwrap();
    assert!(supervisor.shared.config.scratches()[0].path().is_dir());
}

#[tokio::test(start_paused = true)]
async fn calendar_times_start_runs_that_never_overlap() {
    let rig = rig_with(
        Script::default(),
        Policy::default(),
        "cron = \"0 6,7 * * fri-sat\"\nrun_timeout_s = 9000\n",
    )
    .await;
    rig.until(|p| matches!(p, Phase::Scheduled { .. })).await;
    assert_eq!(rig.supervisor.snapshot()[0].due_in_ms, Some(6 * 3600 * 1000));
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    // The run outlasts seven and ends at 08:30 with its time.
    rig.until(|p| matches!(p, Phase::Scheduled { .. })).await;
    let status = &rig.supervisor.snapshot()[0];
    assert_eq!((status.starts, status.due_in_ms), (1, Some((21 * 60 + 30) * 60 * 1000)));
    assert_eq!(rig.script.signals.lock().unwrap().len(), 1);
    // By hand meanwhile, which moves nothing.
    rig.supervisor.start_plugin("x").await.unwrap();
    rig.supervisor.restart("x").await.unwrap();
    let status = rig.supervisor.stop_plugin("x").await.unwrap();
    assert_eq!((status.phase, status.starts), (Phase::Stopped, 3));
}

fn skip_reasons<S: Spawner>(supervisor: &Supervisor<S>) -> Vec<crate::SkipReason> {
    supervisor.skipped().into_iter().map(|skipped| skipped.reason).collect()
}

#[tokio::test(start_paused = true)]
async fn a_location_that_does_not_answer_costs_nobody_else_anything_and_comes_back() {
    let rig = rig(Script::default(), Policy::default()).await;
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    let turn = rig.supervisor.locations[0].hold().await;
    assert_eq!(rig.supervisor.reload().await, ReloadReport::default());
    assert_eq!(skip_reasons(&rig.supervisor), [crate::SkipReason::Unanswering]);
    assert!(matches!(rig.supervisor.snapshot()[0].phase, Phase::Ready { .. }), "what runs goes on");
    assert!(matches!(rig.supervisor.manifest("x").await, Err(SuperviseError::Unanswering(_))));
    let restarted = rig.supervisor.restart("x").await.unwrap();
    assert!(restarted.last_error.is_some_and(|error| error.contains("does not answer")));
    assert!(rig.supervisor.has_moved().await, "it is looked at again");
    drop(turn);
    rig.supervisor.reload().await;
    assert_eq!(skip_reasons(&rig.supervisor), []);
    let status = rig.supervisor.start_plugin("x").await.unwrap();
    assert!(matches!(status.phase, Phase::Ready { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_location_that_does_not_answer() {
    let rig = rig(Script::default(), Policy::default()).await;
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    let _turn = rig.supervisor.locations[0].hold().await;
    let begun = Instant::now();
    let (reload, report) = tokio::join!(rig.supervisor.reload(), rig.supervisor.stop());
    assert_eq!((reload, report.stopped), (ReloadReport::default(), vec!["x".to_owned()]));
    assert!(begun.elapsed() < Duration::from_secs(1), "on the paused clock, which only waits move");
}

#[tokio::test]
async fn only_changes_that_concern_plugins_call_for_a_look() {
    let rig = rig(Script::default(), Policy::default()).await;
    let supervisor = &rig.supervisor;
    supervisor.watcher.set(Arc::new(Watcher::new().unwrap())).unwrap();
    supervisor.reload().await;
    let folder = rig._dir.path().join("plugins");
    let write = |name: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(folder.join(name), "text").unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let concerned = async || {
        let changes = supervisor.watcher.get().unwrap().changes().await;
        supervisor.concerns_plugins(&changes).await
    };
    for (name, mode, expected) in [
        ("state.json", 0o644, false),
        ("_helper.py", 0o644, false),
        (".x.sh.swp", 0o644, false),
        ("tool", 0o755, true),
        ("new.py", 0o644, true),
        ("x.sh", 0o644, true),
        ("x.sh.plugin.toml", 0o644, true),
        (".pluginignore", 0o644, true),
    ] {
        write(name, mode);
        assert_eq!(concerned().await, expected, "{name}");
    }
    std::fs::create_dir(folder.join("sub")).unwrap();
    assert!(concerned().await);
    std::fs::rename(&folder, folder.with_extension("old")).unwrap();
    assert!(concerned().await, "the folder itself");
}

#[tokio::test(start_paused = true)]
async fn a_plugin_whose_supervision_failed_is_killed_and_started_again() {
    let rig = rig(Script::default(), restarting()).await;
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    // Fails at the stop, and again at the kill that follows.
    rig.script.panics.store(2, Ordering::Relaxed);
    let restarted = rig.supervisor.restart("x").await.unwrap();
    assert!(matches!(restarted.phase, Phase::Ready { .. }), "{restarted:?}");
    assert_eq!((restarted.starts, rig.script.signals.lock().unwrap().clone()), (2, vec![RunSignal::Kill]));
    rig.script.panics.store(1, Ordering::Relaxed);
    rig.supervisor.restart("x").await.unwrap();
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    assert_eq!(rig.supervisor.stop().await.stopped, ["x"]);
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_panics_is_a_failed_launch() {
    let rig = rig(Script { panics: 1.into(), ..Script::default() }, restarting()).await;
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    assert_eq!(rig.supervisor.snapshot()[0].starts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_kill_that_is_repeated_is_one_run_that_needed_it() {
    let rig = rig(Script { deaf: true.into(), ..Script::default() }, Policy::default()).await;
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    let handle = rig.supervisor.find("x").unwrap();
    handle.commands.send(Event::Stop).await.unwrap();
    while rig.script.signals.lock().unwrap().len() < 5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(rig.supervisor.snapshot()[0].kills, 1);
}

#[tokio::test(start_paused = true)]
async fn a_first_wave_that_takes_its_time_leaves_the_others_theirs() {
    let rig = rig_with(Script { ignore_stop: true.into(), ..Script::default() }, Policy::default(), "").await;
    let folder = rig._dir.path().join("plugins");
    std::fs::write(folder.join("first.sh"), "#!/bin/sh\n").unwrap();
    std::fs::write(folder.join("first.sh.plugin.toml"), "after = [\"x\"]\nstop_timeout_s = 3600\n").unwrap();
    rig.supervisor.reload().await;
    rig.until(|p| matches!(p, Phase::Ready { .. })).await;
    let handle = rig.supervisor.find("first").unwrap();
    handle.status.clone().wait_for(|s| matches!(s.lifecycle.phase(), Phase::Ready { .. })).await.unwrap();
    let begun = Instant::now();
    let report = rig.supervisor.stop().await;
    let terms = rig.script.signals.lock().unwrap().iter().filter(|s| **s != RunSignal::Kill).count();
    assert_eq!((report.killed, terms), (vec!["first".to_owned(), "x".to_owned()], 2), "each was asked");
    assert!(begun.elapsed() <= Duration::from_secs(62), "{:?}", begun.elapsed());
}

/// What the log says is not looked at here; what it says it about is.
#[tokio::test(start_paused = true)]
async fn who_wants_more_time_to_end_than_there_is_is_known() {
    let rig = rig_with(Script::default(), Policy::default(), "stop_timeout_s = 61\n").await;
    let orders = rig.supervisor.find("x").unwrap().orders();
    assert!(orders.stop_time > rig.supervisor.stop_budget);
}
