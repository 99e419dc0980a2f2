//! Whether a plugin is well, as far as it shows: readiness, signs of life, and what becomes of silence.

use std::time::Duration;

use tokio::time::Instant;

use super::state::{Plugin, Run};
use super::waits::{at, next_sign};
use crate::control::Alert;
use crate::health::HealthSign;
use crate::lifecycle::{Event, Phase};
use crate::manifest::WatchdogAction;
use crate::os::Spawner;
use crate::output::{LineLog, Severity};

/// A deadline found passed by more than this was missed because the server did not run, which is not the
/// plugin's fault.
const LATE: Duration = Duration::from_millis(500);
/// Turns of a last look; a plugin that never stops talking has been heard.
const LAST_LOOKS: usize = 8;

impl<S: Spawner> Plugin<S> {
    /// What follows from a time that has come.
    pub(super) async fn judge_deadline(&mut self, deadline: Option<Instant>) -> Option<Event> {
        if !matches!(self.lifecycle.phase(), Phase::Starting { .. }) {
            return Some(Event::Elapsed);
        }
        if let Some(event) = self.look_once_more().await {
            return Some(event);
        }
        let late = deadline.map(|deadline| deadline.elapsed()).filter(|late| *late > LATE);
        match late {
            Some(late) => {
                self.lifecycle.excuse(late);
                None
            }
            None => Some(Event::Elapsed),
        }
    }

    /// What follows from the passing of a watchdog's time.
    pub(super) async fn judge_silence(&mut self, deadline: Option<Instant>) -> Option<Event> {
        let heard = self.look_once_more().await;
        let Some(health) = &mut self.health else { return heard };
        if heard.is_some() || health.deadline().is_none_or(|deadline| deadline > Instant::now()) {
            return heard;
        }
        if deadline.is_some_and(|deadline| deadline.elapsed() > LATE) {
            health.forgive();
            return None;
        }
        self.miss_sign_of_life()
    }

    /// Takes what has come and was not read yet, without waiting for more.
    async fn look_once_more(&mut self) -> Option<Event> {
        let mut event = None;
        for _ in 0..LAST_LOOKS {
            let seen = tokio::select! {
                biased;
                notice = next_sign(&mut self.health) => self.take_sign(notice),
                () = output_turn(&mut self.run, &mut self.log) => self.take_output(),
                () = std::future::ready(()) => return event,
            };
            event = event.or(seen);
        }
        event
    }

    fn miss_sign_of_life(&mut self) -> Option<Event> {
        self.log(Severity::Warn, "gives no sign of life");
        let action = self.manifest.watchdog_action;
        match (action, &mut self.health) {
            (WatchdogAction::End, _) | (_, None) => {
                self.health = None;
                return Some(Event::Hung);
            }
            (_, Some(health)) => health.forgive(),
        }
        let already = matches!(self.lifecycle.phase(), Phase::Degraded { .. });
        if action == WatchdogAction::Alert && !already {
            let alert = Alert { severity: Severity::Error, text: "gives no sign of life".to_owned() };
            self.records.control.raise(&alert);
            self.log_alert(Some(alert));
        }
        Some(Event::Degraded)
    }

    pub(super) fn take_sign(&mut self, notice: HealthSign) -> Option<Event> {
        if notice.status.is_some() {
            self.published.status_text = notice.status;
            self.publish();
        }
        if notice.leaving {
            if let Some(health) = &mut self.health {
                health.retire();
            }
            return Some(Event::Leaving);
        }
        match notice.ready {
            true if matches!(self.lifecycle.phase(), Phase::Starting { .. }) => Some(Event::BecameReady),
            _ if notice.alive => self.recovered(),
            _ => None,
        }
    }

    pub(super) fn take_output(&mut self) -> Option<Event> {
        let is_sign = self.health.as_mut().is_some_and(|health| health.note_output());
        match self.log.take_found() {
            true => Some(Event::BecameReady),
            false if is_sign => self.recovered(),
            false => None,
        }
    }

    fn recovered(&self) -> Option<Event> {
        matches!(self.lifecycle.phase(), Phase::Degraded { .. }).then_some(Event::Recovered)
    }
}

/// Relays some output, or returns when an exit that waits for the last output must be logged.
pub(super) async fn output_turn(run: &mut Option<Run>, log: &mut LineLog) {
    let Some(run) = run else { return std::future::pending().await };
    let latest = run.unlogged_exit.map(|exit| exit.latest);
    if latest.is_some() && run.output.has_ended() {
        return;
    }
    tokio::select! {
        () = run.output.turn(log) => {}
        () = at(latest) => {}
    }
}
