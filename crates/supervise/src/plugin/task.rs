//! The task of one plugin: it alone drives that plugin's lifecycle, holds its pipes and publishes its status.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::launch::{Launched, launch, read_files};
use super::state::{Plugin, Run};
use super::waits::{at, control_turn, feed_turn, metrics_turn, next_event, next_sign};
use super::watchdog::output_turn;
use crate::control::{Alert, Channel};
use crate::discover::Progress;
use crate::error::SuperviseError;
use crate::health::{HealthChecks, HealthSign};
use crate::lifecycle::{Action, CLOCK_CHECK_AFTER, Event, Phase};
use crate::manifest::{Manifest, Readiness, StopSignal};
use crate::metrics::Scraper;
use crate::os::{ProcessEvent, RunSignal, Spawner};
use crate::output::{Awaited, Severity};

/// Rest before a plugin whose supervision failed is driven again.
const RECOVERY_PAUSE: Duration = Duration::from_secs(1);

/// What has come from the plugin.
enum Input {
    HealthSign(HealthSign),
    Metrics,
    Control(Option<Alert>),
    Output,
}

impl<S: Spawner> Plugin<S> {
    /// Runs until the supervisor has let go of the plugin and nothing of it is left. What goes wrong here
    /// costs the plugin its run and nobody their plugin.
    pub(crate) async fn supervise(mut self) {
        while unwinding(self.drive()).await.is_err() {
            tracing::error!(target: "larder_supervise", "Supervision of runtime plugin {} failed, killing its run", self.label);
            self.unsupervised = true;
            tokio::time::sleep(RECOVERY_PAUSE).await;
        }
        self.finish_run();
    }

    async fn drive(&mut self) {
        if std::mem::take(&mut self.unsupervised) {
            self.apply(Event::Unsupervised).await;
            self.publish();
        }
        while !(self.released && self.published.is_at_rest()) {
            let deadline = self.deadline();
            let watchdog = self.health.as_ref().and_then(HealthChecks::deadline);
            let event = tokio::select! {
                biased;
                command = self.commands.recv(), if !self.released => {
                    self.released = command.is_none();
                    self.published.commands += 1;
                    self.read_policy(command).await;
                    let command = command.unwrap_or(Event::Stop);
                    Some(command).filter(|c| *c != Event::Configured || self.manifest.restart_on_config)
                }
                event = next_event(&mut self.events) => {
                    self.note_process_event(event);
                    Some(match event {
                        ProcessEvent::Exited(outcome) => Event::Exited(outcome),
                        ProcessEvent::Gone => Event::Gone,
                        ProcessEvent::Lost => Event::Lost,
                    })
                }
                () = at(deadline) => self.judge_deadline(deadline).await,
                () = at(watchdog) => self.judge_silence(watchdog).await,
                () = feed_turn(&mut self.feed) => None,
                input = self.pace.keep(&self.shared.shares, async {
                    // None of them first, so that a flood through one does not silence the others.
                    tokio::select! {
                        notice = next_sign(&mut self.health) => Input::HealthSign(notice),
                        () = metrics_turn(&mut self.metrics) => Input::Metrics,
                        alert = control_turn(&mut self.control) => Input::Control(alert),
                        () = output_turn(&mut self.run, &mut self.log) => Input::Output,
                    }
                }) => self.take_input(input),
            };
            self.log_exit_if_due();
            if let Some(event) = event {
                self.apply(event).await;
                self.publish();
            }
        }
    }

    fn take_input(&mut self, input: Input) -> Option<Event> {
        match input {
            Input::HealthSign(notice) => self.take_sign(notice),
            Input::Metrics => None,
            Input::Control(alert) => {
                self.log_alert(alert);
                None
            }
            Input::Output => self.take_output(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        // One beyond all times never comes.
        let deadline = self.shared.epoch.checked_add(self.lifecycle.deadline()?)?;
        let by_calendar =
            matches!(self.lifecycle.phase(), Phase::Scheduled { .. }) && self.manifest.policy.cron.is_some();
        Some(if by_calendar { deadline.min(Instant::now() + CLOCK_CHECK_AFTER) } else { deadline })
    }

    /// A plugin at rest is armed by its manifest as it is now; a mistake in that is told by the launch.
    async fn read_policy(&mut self, command: Option<Event>) {
        let arms = matches!(command, Some(Event::Start | Event::Restart | Event::Enable));
        if !arms || self.lifecycle.is_occupied() {
            return;
        }
        let (path, shared) = (self.origin.path.clone(), Arc::clone(&self.shared));
        let read =
            move |_: &Progress| Manifest::load(&path, &shared.bare).unwrap_or_else(|_| shared.bare.clone());
        if let Ok(manifest) = self.origin.location.ask(read).await {
            self.manifest = manifest;
            self.lifecycle.set_policy(self.manifest.policy.clone());
        }
    }

    fn read_calendar(&mut self) {
        let turn = self.manifest.policy.cron.as_ref().and_then(|cron| {
            let waiting = matches!(self.lifecycle.phase(), Phase::Scheduled { .. });
            let now = self.shared.now();
            self.alarm.turn(cron, &(self.shared.local_time)(now), now, waiting)
        });
        self.lifecycle.set_turn(turn);
    }

    /// Takes an event, and those that its actions cause in turn.
    async fn apply(&mut self, event: Event) {
        let mut pending = vec![event];
        while let Some(event) = pending.pop() {
            self.read_calendar();
            let before = self.lifecycle.phase();
            let (next, actions) = self.lifecycle.clone().step(event, self.shared.now());
            self.note_phase(before, next.phase());
            self.lifecycle = next;
            // Between runs that follow each other nothing is missed; a plugin at rest is not listened for.
            if matches!(
                self.lifecycle.phase(),
                Phase::Exited | Phase::Failed { .. } | Phase::Stopped | Phase::Disabled
            ) {
                self.records.bookmark.end();
            }
            for action in actions {
                match action {
                    Action::Launch => pending.push(self.launch().await),
                    Action::AskToStop => {
                        self.signal(RunSignal::Stop(self.manifest.policy.stop_signal)).await;
                    }
                    Action::Dump => {
                        let signal = self.manifest.policy.dump_signal.unwrap_or(StopSignal::SigQuit);
                        self.signal(RunSignal::Stop(signal)).await;
                    }
                    Action::Kill => {
                        let again = matches!(before, Phase::Stopping { killed: true, .. });
                        self.published.kills += u64::from(!again);
                        self.signal(RunSignal::Kill).await;
                    }
                }
            }
        }
    }

    async fn launch(&mut self) -> Event {
        self.finish_run();
        self.published.last_error = None;
        self.records.history.begin(self.lifecycle.starts());
        self.publish();
        match self.try_launch().await {
            Ok(pid) => {
                let with = self.published.interpreter.as_deref().unwrap_or("its program");
                self.records.journal.note(Severity::Info, &format!("started with {with} as process {pid}"));
                self.published.pid = Some(pid);
                Event::Launched
            }
            Err(error) => {
                tracing::error!(target: "larder_supervise", "Failed to launch plugin {}: {error}", self.label);
                let text = error.to_string();
                self.records.journal.note(Severity::Error, &format!("cannot be started: {text}"));
                self.records.history.end(None, "not started");
                self.published.last_error = Some(text);
                if matches!(error, SuperviseError::Settings(_) | SuperviseError::Untrusted(_)) {
                    Event::Rejected
                } else {
                    Event::LaunchFailed
                }
            }
        }
    }

    async fn try_launch(&mut self) -> Result<u32, SuperviseError> {
        // Read anew for every run, so that a restart is all that a changed manifest needs.
        let (origin, shared) = (self.origin.clone(), Arc::clone(&self.shared));
        let (manifest, program) = self.origin.location.ask(move |_| read_files(&origin, &shared)).await??;
        self.manifest = manifest;
        self.lifecycle.set_policy(self.manifest.policy.clone());
        let program = program?;
        let awaited = match &self.manifest.readiness {
            Readiness::FirstLine => Some(Awaited::Any),
            Readiness::Log(text) => Some(Awaited::Containing(text.clone())),
            _ => None,
        };
        self.log.begin(self.manifest.output, awaited);
        let launched = launch(&self.shared, &self.origin, program, &self.manifest, &self.records).await?;
        let Launched { id, pid, interpreter, feed, output, health, metrics, control, group, notices, events } =
            launched;
        tracing::info!(target: "larder_supervise", "Launched runtime plugin: {} with {interpreter}", self.label);
        self.published.interpreter = Some(interpreter);
        self.events = Some(events);
        self.health = Some(health);
        self.metrics = metrics;
        let scraped =
            |url: String| Scraper::new(self.label.clone(), url, Arc::clone(&self.records.latest_metrics));
        self.scraper = self.manifest.metrics_url.clone().map(scraped);
        self.control = control;
        self.feed = Some(feed);
        let of_group = group.iter().flat_map(|group| &group.status().notices);
        for notice in notices.iter().chain(of_group) {
            tracing::warn!(target: "larder_supervise", "Runtime plugin {}: {notice}", self.label);
        }
        self.published.notices = notices;
        self.published.cgroup = group.as_ref().map(|group| group.status().clone());
        self.run = Some(Run { id, output, group, unlogged_exit: None, unlogged_consequence: None });
        Ok(pid)
    }

    async fn signal(&mut self, signal: RunSignal) {
        // Who is told to end is no longer watched.
        self.health = None;
        self.feed = None;
        let Some(run) = &self.run else { return };
        if let (RunSignal::Kill, Some(group)) = (signal, &run.group) {
            group.kill();
        }
        self.shared.spawner.signal(run.id, signal).await;
    }

    fn finish_run(&mut self) {
        for alert in self.control.take().map(Channel::close).unwrap_or_default() {
            self.log_alert(Some(alert));
        }
        if let Some(metrics) = self.metrics.take() {
            metrics.close();
        }
        if let Some(run) = &mut self.run {
            run.output.close(&mut self.log);
        }
        self.log_exit_if_due();
        self.run = None;
    }

    pub(super) fn publish(&mut self) {
        self.published.lifecycle = self.lifecycle.clone();
        self.records.history.note_phase(self.lifecycle.phase());
        if self.published.is_at_rest() && !matches!(self.lifecycle.phase(), Phase::Waiting) {
            self.published.pid = None;
        }
        self.status.send_replace(self.published.clone());
    }
}

/// The result of `work`, or that it panicked; the panic has been told by then.
async fn unwinding<T>(work: impl Future<Output = T>) -> Result<T, ()> {
    let mut work = pin!(work);
    let turn = poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)))
            .map_or(Poll::Ready(Err(())), |poll| poll.map(Ok))
    });
    turn.await
}
