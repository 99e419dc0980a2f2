//! What the log, the journal and the history say about one plugin.

use std::time::Duration;

use tokio::time::Instant;

use super::history::why;
use super::state::{Consequence, Plugin, UnloggedExit};
use crate::control::Alert;
use crate::lifecycle::{FailCause, Next, Phase};
use crate::manifest::Outcome;
use crate::os::{ProcessEvent, Spawner};
use crate::output::Severity;

/// How long the log line about an exit waits for the last output, if a descendant keeps the pipe open.
const LAST_OUTPUT_WAIT: Duration = Duration::from_millis(200);

impl<S: Spawner> Plugin<S> {
    pub(super) fn note_process_event(&mut self, event: ProcessEvent) {
        self.health = None;
        self.feed = None;
        self.published.status_text = None;
        let (outcome, wait) = match event {
            ProcessEvent::Exited(outcome) => (outcome, LAST_OUTPUT_WAIT),
            ProcessEvent::Lost => (Outcome::Lost, Duration::ZERO),
            ProcessEvent::Gone => {
                if let Some(run) = &mut self.run {
                    run.group = None;
                }
                if self.published.pid.is_none() {
                    return;
                }
                // Whoever would have told how its first process ended was killed.
                (Outcome::Lost, LAST_OUTPUT_WAIT)
            }
        };
        self.published.pid = None;
        let (phase, success) = (self.lifecycle.phase(), self.manifest.policy.is_success(outcome));
        self.records.history.end(Some(outcome.code()), why(phase, outcome, success));
        self.scraper = None;
        let asked = matches!(phase, Phase::Stopping { next, .. } if next != Next::Itself);
        if let Some(run) = &mut self.run {
            run.unlogged_exit.get_or_insert(UnloggedExit {
                outcome,
                expected: asked || success,
                latest: Instant::now() + wait,
            });
        }
    }

    /// Logs an exit after the last output, or once waiting for that has taken too long.
    pub(super) fn log_exit_if_due(&mut self) {
        let Some(run) = &mut self.run else { return };
        let Some(exit) = run.unlogged_exit else { return };
        if !run.output.has_ended() && Instant::now() < exit.latest {
            return;
        }
        run.unlogged_exit = None;
        let consequence = run.unlogged_consequence.take();
        let severity = if exit.expected { Severity::Info } else { Severity::Warn };
        self.log(severity, &format!("exited with code {}", exit.outcome.code()));
        if let Some(consequence) = consequence {
            self.log_consequence(consequence);
        }
    }

    pub(super) fn note_phase(&mut self, before: Phase, next: Phase) {
        if next == before {
            return;
        }
        let was_killed = matches!(before, Phase::Stopping { killed: true, .. });
        let consequence = match next {
            Phase::Backoff { until } => Consequence::Restart(until.saturating_sub(self.shared.now())),
            Phase::Failed { cause } => {
                self.published.last_error.get_or_insert_with(|| cause.to_string());
                Consequence::Rest(cause)
            }
            Phase::Stopping { killed: true, .. } if !was_killed => {
                return self.log(Severity::Warn, "did not stop in time, killing it");
            }
            Phase::Stopping { dumping: true, .. } => {
                return self.log(Severity::Warn, "did not stop in time, asking for a trace of what it does");
            }
            Phase::Degraded { .. } => return self.log(Severity::Warn, "is degraded"),
            Phase::Ready { .. } if matches!(before, Phase::Degraded { .. }) => {
                return self.log(Severity::Info, "is well again");
            }
            _ => return,
        };
        // The exit waits for the last output, and this for the exit.
        match &mut self.run {
            Some(run) if run.unlogged_exit.is_some() => run.unlogged_consequence = Some(consequence),
            _ => self.log_consequence(consequence),
        }
    }

    fn log_consequence(&self, consequence: Consequence) {
        match consequence {
            Consequence::Restart(wait) => {
                self.log(Severity::Info, &format!("restarts in {} ms", wait.as_millis()));
            }
            // Said with its code, and a run that ends in failure is no failure of the server's.
            Consequence::Rest(cause @ FailCause::Exit) => {
                self.log(Severity::Info, &format!("is not started again: {cause}"));
            }
            Consequence::Rest(cause) => {
                self.log(Severity::Error, &format!("is not started again: {cause}"));
            }
        }
    }

    /// Says it in the log and in the plugin's journal.
    pub(super) fn log(&self, severity: Severity, text: &str) {
        self.records.journal.note(severity, text);
        severity.log(format_args!("Runtime plugin {} {text}", self.label));
    }

    pub(super) fn log_alert(&self, alert: Option<Alert>) {
        let Some(Alert { severity, text }) = alert else { return };
        severity.log(format_args!("[{}] alert: {text}", self.label));
    }
}
