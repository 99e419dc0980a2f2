//! The task of one plugin: it alone drives that plugin's lifecycle, holds its pipes and publishes its status.

use std::ffi::{OsStr, OsString};
use std::future::pending;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::SuperviseError;
use crate::interpreter::{self, Interpreters};
use crate::journal::Journal;
use crate::lifecycle::{Action, Event, Lifecycle, Phase};
use crate::output::{LineLog, Output, OutputLimits};
use crate::policy::Policy;
use crate::spawner::{
    ChildStdio, EVENTS_MAX, LaunchId, LaunchSpec, Outcome, ProcessEvent, RunSignal, Spawner,
};
use crate::text::{escaped, shown};

/// How long the log line about an exit waits for the last output, if a descendant keeps the pipe open.
const LAST_OUTPUT_WAIT: Duration = Duration::from_millis(200);
/// How long the guardian may take to start a program.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(10);

/// What all plugins of a supervisor share.
#[derive(Debug)]
pub(crate) struct Shared<S> {
    pub(crate) spawner: S,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) interpreters: Interpreters,
    pub(crate) output: OutputLimits,
    /// Fixed point of all times given to lifecycles.
    pub(crate) epoch: Instant,
    pub(crate) launches: AtomicU64,
}

impl<S> Shared<S> {
    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// What a plugin's task publishes after every event.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) pid: Option<u32>,
    pub(crate) interpreter: Option<String>,
    pub(crate) last_error: Option<String>,
    pub(crate) kills: u64,
    /// Commands taken so far.
    pub(crate) commands: u64,
}

impl Published {
    pub(crate) fn new(lifecycle: Lifecycle) -> Self {
        Self { lifecycle, pid: None, interpreter: None, last_error: None, kills: 0, commands: 0 }
    }

    /// Whether nothing runs and nothing is about to.
    pub(crate) fn at_rest(&self) -> bool {
        !self.lifecycle.occupied()
            && !matches!(self.lifecycle.phase(), Phase::Launching { .. } | Phase::Backoff { .. })
    }
}

/// One plugin and everything it holds.
pub(crate) struct Plugin<S> {
    path: PathBuf,
    label: String,
    shared: Arc<Shared<S>>,
    lifecycle: Lifecycle,
    policy: Policy,
    commands: mpsc::Receiver<Event>,
    status: watch::Sender<Published>,
    published: Published,
    log: LineLog,
    /// What the spawner reports about `run`.
    events: Option<mpsc::Receiver<ProcessEvent>>,
    run: Option<Run>,
}

/// The current or latest run.
struct Run {
    id: LaunchId,
    stdin: Option<OwnedFd>,
    output: Output,
    /// An exit that is not in the log yet, and when it must be at the latest.
    unlogged_exit: Option<(Outcome, Instant)>,
}

impl<S: Spawner> Plugin<S> {
    pub(crate) fn new(
        path: PathBuf,
        shared: Arc<Shared<S>>,
        policy: Policy,
        journal: Arc<Journal>,
        commands: mpsc::Receiver<Event>,
        status: watch::Sender<Published>,
    ) -> Self {
        let label = shown(&path);
        let log = LineLog::new(label.clone(), journal, shared.output);
        let published = status.borrow().clone();
        let lifecycle = published.lifecycle.clone();
        Self {
            path,
            label,
            shared,
            lifecycle,
            policy,
            commands,
            status,
            published,
            log,
            events: None,
            run: None,
        }
    }

    /// Runs until the supervisor drops the command channel.
    pub(crate) async fn supervise(mut self) {
        loop {
            let deadline = self.lifecycle.deadline().map(|at| self.shared.epoch + at);
            let event = tokio::select! {
                biased;
                command = self.commands.recv() => {
                    let Some(command) = command else { break };
                    self.published.commands += 1;
                    Some(command)
                }
                event = next_event(&mut self.events) => {
                    self.note_process_event(event);
                    Some(match event {
                        ProcessEvent::Exited(outcome) => Event::Exited(outcome),
                        ProcessEvent::Gone => Event::Gone,
                        ProcessEvent::Lost => Event::Lost,
                    })
                }
                () = at(deadline) => Some(Event::Elapsed),
                () = output_turn(&mut self.run, &mut self.log) => None,
            };
            self.log_exit_if_due();
            if let Some(event) = event {
                self.apply(event).await;
                self.publish();
            }
        }
    }

    /// Takes an event, and those that its actions cause in turn.
    async fn apply(&mut self, event: Event) {
        let mut pending = vec![event];
        while let Some(event) = pending.pop() {
            let (next, actions) = self.lifecycle.clone().step(event, self.shared.now());
            self.note_phase(next.phase());
            self.lifecycle = next;
            for action in actions {
                match action {
                    Action::Launch => pending.push(self.launch().await),
                    Action::AskToStop => {
                        self.signal(RunSignal::Stop(self.policy.stop_signal), true).await;
                    }
                    Action::Kill => {
                        self.published.kills += 1;
                        self.signal(RunSignal::Kill, true).await;
                    }
                }
            }
        }
    }

    async fn launch(&mut self) -> Event {
        self.finish_run();
        self.published.last_error = None;
        self.publish();
        match self.try_launch().await {
            Ok((run, events, pid)) => {
                self.events = Some(events);
                self.published.pid = Some(pid);
                self.run = Some(run);
                Event::Launched
            }
            Err(error) => {
                tracing::error!(target: "larder_supervise", "Failed to launch plugin {}: {error}", self.label);
                self.published.last_error = Some(error.to_string());
                Event::LaunchFailed
            }
        }
    }

    async fn try_launch(&mut self) -> Result<(Run, mpsc::Receiver<ProcessEvent>, u32), SuperviseError> {
        let shared = &self.shared;
        let search_path =
            shared.environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let chosen = interpreter::choose(
            &self.path,
            &shared.interpreters,
            search_path.unwrap_or(OsStr::new("/usr/bin:/bin")),
        )?;
        let program = shown(&chosen.program);
        if let Some(wanted) = &chosen.passed_over {
            let wanted = escaped(wanted);
            tracing::warn!(target: "larder_supervise",
                "Runtime plugin {}: interpreter `{wanted}` not found, using `{program}`", self.label);
        }
        let failed = |e: rustix::io::Errno| SuperviseError::Launch {
            program: chosen.program.clone(),
            source: e.into(),
        };
        let (child_in, stdin) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let (stdout, child_out) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let (stderr, child_err) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        for ours in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(ours, true).map_err(failed)?;
        }
        let output = Output::new(stdout, stderr, &shared.output)
            .map_err(|source| SuperviseError::Launch { program: chosen.program.clone(), source })?;
        let mut environment = shared.environment.clone();
        for (name, value) in &chosen.environment {
            environment.retain(|(known, _)| known != name.as_str());
            environment.push((name.into(), value.into()));
        }
        let spec = LaunchSpec { program: chosen.program.clone(), argv: chosen.argv.clone(), environment };
        let stdio = ChildStdio { stdin: child_in, stdout: child_out, stderr: child_err };
        let id = LaunchId(shared.launches.fetch_add(1, Ordering::Relaxed));
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let launching = shared.spawner.launch(id, spec, stdio, sender);
        let pid = timeout(LAUNCH_TIMEOUT, launching)
            .await
            .unwrap_or_else(|_| Err(SuperviseError::Guardian(std::io::ErrorKind::TimedOut.into())))?;
        tracing::info!(target: "larder_supervise", "Launched runtime plugin: {} with {program}", self.label);
        self.published.interpreter = Some(program);
        Ok((Run { id, stdin: Some(stdin), output, unlogged_exit: None }, events, pid))
    }

    async fn signal(&mut self, signal: RunSignal, hang_up: bool) {
        let Some(run) = &mut self.run else { return };
        if hang_up {
            run.stdin = None;
        }
        self.shared.spawner.signal(run.id, signal).await;
    }

    fn note_process_event(&mut self, event: ProcessEvent) {
        let Some(run) = &mut self.run else { return };
        match event {
            ProcessEvent::Exited(outcome) => {
                self.published.pid = None;
                run.stdin = None;
                run.unlogged_exit = Some((outcome, Instant::now() + LAST_OUTPUT_WAIT));
            }
            ProcessEvent::Gone => {}
            ProcessEvent::Lost => {
                self.published.pid = None;
                run.unlogged_exit.get_or_insert((Outcome::Lost, Instant::now()));
            }
        }
    }

    /// Logs an exit after the last output, or once waiting for that has taken too long.
    fn log_exit_if_due(&mut self) {
        let Some(run) = &mut self.run else { return };
        let Some((outcome, latest)) = run.unlogged_exit else { return };
        if !run.output.ended() && Instant::now() < latest {
            return;
        }
        run.unlogged_exit = None;
        let (label, code) = (&self.label, outcome.code());
        let expected = self.policy.is_success(outcome)
            || matches!(self.lifecycle.phase(), Phase::Stopping { .. } | Phase::Stopped | Phase::Disabled);
        if expected {
            tracing::info!(target: "larder_supervise", "Runtime plugin {label} exited with code {code}");
        } else {
            tracing::warn!(target: "larder_supervise", "Runtime plugin {label} exited with code {code}");
        }
    }

    fn note_phase(&self, next: Phase) {
        if next == self.lifecycle.phase() {
            return;
        }
        let label = &self.label;
        match next {
            Phase::Backoff { until } => {
                let wait_ms = until.saturating_sub(self.shared.now()).as_millis();
                tracing::info!(target: "larder_supervise", "Runtime plugin {label} restarts in {wait_ms} ms");
            }
            Phase::Failed { cause } => {
                tracing::error!(target: "larder_supervise", "Runtime plugin {label} is not started again: {cause}");
            }
            Phase::Stopping { killed: true, .. } => {
                tracing::warn!(target: "larder_supervise", "Runtime plugin {label} did not stop in time, killing it");
            }
            _ => {}
        }
    }

    fn finish_run(&mut self) {
        if let Some(run) = &mut self.run {
            run.output.close(&mut self.log);
            run.unlogged_exit = run.unlogged_exit.map(|(outcome, _)| (outcome, Instant::now()));
        }
        self.log_exit_if_due();
        self.run = None;
    }

    fn publish(&mut self) {
        self.published.lifecycle = self.lifecycle.clone();
        if self.published.at_rest() && !matches!(self.lifecycle.phase(), Phase::Waiting) {
            self.published.pid = None;
        }
        self.status.send_replace(self.published.clone());
    }
}

async fn next_event(events: &mut Option<mpsc::Receiver<ProcessEvent>>) -> ProcessEvent {
    if let Some(receiver) = events {
        if let Some(event) = receiver.recv().await {
            return event;
        }
        *events = None;
    }
    pending().await
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Relays some output, or returns when an exit that waits for the last output must be logged.
async fn output_turn(run: &mut Option<Run>, log: &mut LineLog) {
    let Some(run) = run else { return pending().await };
    let latest = run.unlogged_exit.map(|(_, latest)| latest);
    if latest.is_some() && run.output.ended() {
        return;
    }
    tokio::select! {
        () = run.output.turn(log) => {}
        () = at(latest) => {}
    }
}
