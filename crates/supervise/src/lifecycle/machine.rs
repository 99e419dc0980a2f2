//! The life of one plugin as a pure machine: `step(state, event, now) -> (state, actions)`.
//!
//! Owns every decision about starting, waiting, restarting and stopping; performs none of them. Time is an
//! argument (a duration since any fixed point) and jitter comes from a seed in the state, so equal inputs
//! give equal outputs.
//!
//! ```text
//! Waiting -> Launching -> Starting -> Ready | Degraded -> Exited | Failed
//!               ^            |          |                  (policy)
//!               |            v          v
//!            Backoff <--- exit without being asked
//!
//! Launching | Starting | Ready -> Stopping(asked) -> Stopping(dumping) -> Stopping(killed) -> Stopped | Disabled | Launching
//! ```
//!
//! A run is over only when its last process is gone, not when its first one is: [`Event::Exited`] reports the
//! first process,
//! [`Event::Gone`] the last. A new run never starts while processes of the previous one are left.

use std::collections::VecDeque;
use std::time::Duration;

use crate::manifest::Outcome;
use crate::manifest::{Policy, Restart};

use super::phase::{Action, Event, FailCause, Next, Phase};

/// Pause between two attempts to kill what a SIGKILL has not ended yet.
pub(crate) const KILL_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The state of one plugin's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lifecycle {
    policy: Policy,
    phase: Phase,
    /// Whether processes of the last run may be left.
    occupied: bool,
    /// Whether the first process of the last run has ended.
    leader_gone: bool,
    /// Runs that failed one after the other.
    failures: u32,
    /// Start times inside the policy's interval.
    recent: VecDeque<Duration>,
    starts: u64,
    started_at: Duration,
    last_exit: Option<Outcome>,
    seed: u64,
    /// When the calendar wants the next run, for a plugin that has one.
    turn: Option<Duration>,
}

impl Lifecycle {
    /// A plugin that waits for its first [`Event::Start`].
    #[must_use]
    pub(crate) fn new(policy: Policy, seed: u64) -> Self {
        Self {
            policy,
            phase: Phase::Waiting,
            occupied: false,
            leader_gone: true,
            failures: 0,
            recent: VecDeque::new(),
            starts: 0,
            started_at: Duration::ZERO,
            last_exit: None,
            seed,
            turn: None,
        }
    }

    /// Where the plugin is.
    #[must_use]
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Programs started so far.
    #[must_use]
    pub(crate) fn starts(&self) -> u64 {
        self.starts
    }

    /// How the latest ended run ended.
    #[must_use]
    pub(crate) fn last_exit(&self) -> Option<Outcome> {
        self.last_exit
    }

    /// Whether processes of a run may be left.
    #[must_use]
    pub(crate) fn is_occupied(&self) -> bool {
        self.occupied
    }

    /// The rules it lives by.
    #[must_use]
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Replaces the policy; it counts from the next decision.
    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Tells when the calendar wants the next run; `None` for a plugin without one. To be told before each
    /// step, since calendars move against the clock that steps are timed by.
    pub(crate) fn set_turn(&mut self, turn: Option<Duration>) {
        self.turn = turn;
        if let (Phase::Scheduled { until }, Some(turn)) = (&mut self.phase, turn) {
            *until = turn;
        }
    }

    /// Adds to the time that a plugin has to become ready what was lost otherwise.
    pub(crate) fn excuse(&mut self, lost: Duration) {
        if let Phase::Starting { since } = &mut self.phase {
            *since = since.saturating_add(lost);
        }
    }

    /// When [`Event::Elapsed`] is due, if nothing else happens before.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Backoff { until } | Phase::Scheduled { until } => Some(until),
            Phase::Stopping { deadline, .. } => Some(deadline),
            Phase::Starting { since } => {
                let limits = [self.policy.ready_timeout, self.policy.run_timeout];
                limits.into_iter().flatten().min().map(|timeout| since.saturating_add(timeout))
            }
            Phase::Ready { since } | Phase::Degraded { since } => {
                self.policy.run_timeout.map(|timeout| since.saturating_add(timeout))
            }
            _ => None,
        }
    }

    /// Takes one event at time `now`.
    #[must_use]
    pub(crate) fn step(mut self, event: Event, now: Duration) -> (Self, Vec<Action>) {
        let actions = match event {
            Event::Start | Event::Restart | Event::Stop | Event::Disable | Event::Enable => {
                self.asked(event, now)
            }
            Event::Configured if self.is_up() => self.asked(Event::Restart, now),
            Event::Configured => Vec::new(),
            Event::Launched => self.launched(now),
            Event::LaunchFailed => self.launch_failed(now),
            Event::Rejected => self.rejected(now),
            Event::BecameReady | Event::Degraded | Event::Recovered => self.changed(event),
            Event::Leaving => self.leaving(now),
            Event::Hung => self.give_up_run(FailCause::Hung, now),
            Event::TimeIsUp => self.time_is_up(now),
            Event::Unsupervised => self.unsupervised(now),
            Event::Exited(outcome) => self.exited(outcome, now),
            Event::Gone => self.gone(now),
            Event::Lost => self.lost(now),
            Event::Elapsed => self.elapsed(now),
        };
        (self, actions)
    }

    fn asked(&mut self, event: Event, now: Duration) -> Vec<Action> {
        if self.is_disabled() && !matches!(event, Event::Enable | Event::Disable) {
            return Vec::new();
        }
        if matches!(event, Event::Start | Event::Restart | Event::Enable) && !self.is_up_to(event) {
            // What was asked for is no failure, and forgives those before.
            self.forgive();
        }
        match event {
            Event::Enable if self.phase == Phase::Disabled => {
                self.phase = Phase::Stopped;
                self.arm(now)
            }
            Event::Enable if self.is_disabled() => self.end_with(Next::Run, now),
            Event::Enable => Vec::new(),
            Event::Start if self.is_up() => Vec::new(),
            Event::Start if self.phase == Phase::Waiting => self.arm(now),
            Event::Start => self.begin(now),
            Event::Restart if self.occupied => self.end_with(Next::Run, now),
            // It has not come to its turn yet, and reads its files when it does.
            Event::Restart if self.phase == Phase::Waiting => Vec::new(),
            Event::Restart => self.arm(now),
            Event::Stop => self.end_with(Next::Stopped, now),
            _ => self.end_with(Next::Disabled, now),
        }
    }

    /// Whether a plugin already is what it is asked to become.
    fn is_up_to(&self, event: Event) -> bool {
        event != Event::Restart && self.is_up()
    }

    fn forgive(&mut self) {
        self.failures = 0;
        self.recent.clear();
    }

    fn is_up(&self) -> bool {
        matches!(
            self.phase,
            Phase::Launching { next: Next::Run }
                | Phase::Starting { .. }
                | Phase::Ready { .. }
                | Phase::Degraded { .. }
        )
    }

    fn is_disabled(&self) -> bool {
        matches!(
            self.phase,
            Phase::Disabled
                | Phase::Stopping { next: Next::Disabled, .. }
                | Phase::Launching { next: Next::Disabled }
        )
    }

    /// Starts a run, or waits for its time where a calendar says when.
    fn arm(&mut self, now: Duration) -> Vec<Action> {
        let Some(until) = self.turn else { return self.begin(now) };
        self.phase = Phase::Scheduled { until };
        Vec::new()
    }

    /// Starts a run, or first ends what the previous one left behind.
    fn begin(&mut self, now: Duration) -> Vec<Action> {
        if self.occupied {
            return self.end_with(Next::Run, now);
        }
        let horizon = now.saturating_sub(self.policy.start_limit_interval);
        self.recent.retain(|at| *at >= horizon);
        if self.recent.len() >= self.policy.start_limit_burst as usize {
            self.phase = Phase::Failed { cause: FailCause::CrashLoop };
            return Vec::new();
        }
        self.recent.push_back(now);
        self.starts += 1;
        self.started_at = now;
        self.occupied = true;
        self.leader_gone = false;
        self.phase = Phase::Launching { next: Next::Run };
        vec![Action::Launch]
    }

    /// Ends whatever runs, then goes on with `next`.
    fn end_with(&mut self, next: Next, now: Duration) -> Vec<Action> {
        match &mut self.phase {
            Phase::Launching { next: pending } => *pending = next,
            Phase::Stopping { next: pending, .. } => *pending = next,
            _ if self.occupied => {
                self.phase = self.stopping(next, now);
                return vec![Action::AskToStop];
            }
            _ => return self.go_on(next, now),
        }
        Vec::new()
    }

    /// The first step of a stop.
    fn stopping(&self, next: Next, now: Duration) -> Phase {
        let deadline = now.saturating_add(self.policy.stop_timeout);
        Phase::Stopping { killed: false, dumping: false, deadline, next }
    }

    /// The last step of a stop.
    fn kill(&mut self, next: Next, now: Duration) -> Vec<Action> {
        let deadline = now.saturating_add(KILL_AGAIN_AFTER);
        self.phase = Phase::Stopping { killed: true, dumping: false, deadline, next };
        vec![Action::Kill]
    }

    fn go_on(&mut self, next: Next, now: Duration) -> Vec<Action> {
        match next {
            Next::Run => return self.begin(now),
            Next::Judge(cause) => self.judge(false, Some(cause), now),
            Next::Itself => {
                let success = self.last_exit.is_some_and(|outcome| self.policy.is_success(outcome));
                self.judge(success, None, now);
            }
            Next::Stopped => self.phase = Phase::Stopped,
            Next::Disabled => self.phase = Phase::Disabled,
        }
        Vec::new()
    }

    fn launched(&mut self, now: Duration) -> Vec<Action> {
        let Phase::Launching { next } = self.phase else { return Vec::new() };
        self.phase = match self.policy.awaits_ready {
            true => Phase::Starting { since: now },
            false => Phase::Ready { since: now },
        };
        if next == Next::Run { Vec::new() } else { self.end_with(next, now) }
    }

    fn launch_failed(&mut self, now: Duration) -> Vec<Action> {
        let Phase::Launching { next } = self.phase else { return Vec::new() };
        self.occupied = false;
        self.leader_gone = true;
        let next = if next == Next::Run { Next::Judge(FailCause::Launch) } else { next };
        self.go_on(next, now)
    }

    fn rejected(&mut self, now: Duration) -> Vec<Action> {
        let Phase::Launching { next } = self.phase else { return Vec::new() };
        self.occupied = false;
        self.leader_gone = true;
        if next != Next::Run {
            return self.go_on(next, now);
        }
        self.phase = Phase::Failed { cause: FailCause::Config };
        Vec::new()
    }

    fn changed(&mut self, event: Event) -> Vec<Action> {
        self.phase = match (event, self.phase) {
            (Event::BecameReady, Phase::Starting { since }) => Phase::Ready { since },
            (Event::Degraded, Phase::Ready { since }) => Phase::Degraded { since },
            (Event::Recovered, Phase::Degraded { since }) => Phase::Ready { since },
            (_, phase) => phase,
        };
        Vec::new()
    }

    /// It ends by itself and is given as much time for that as if it had been asked to.
    fn leaving(&mut self, now: Duration) -> Vec<Action> {
        if let Phase::Starting { .. } | Phase::Ready { .. } | Phase::Degraded { .. } = self.phase {
            self.phase = self.stopping(Next::Itself, now);
        }
        Vec::new()
    }

    fn time_is_up(&mut self, now: Duration) -> Vec<Action> {
        match self.phase {
            Phase::Stopping { killed: false, next, .. } => self.kill(next, now),
            _ => Vec::new(),
        }
    }

    /// Nobody knows what the run has been through, so it is killed and judged as failed.
    fn unsupervised(&mut self, now: Duration) -> Vec<Action> {
        match self.phase {
            Phase::Launching { .. } => self.launch_failed(now),
            Phase::Stopping { next, .. } => self.kill(next, now),
            _ if self.occupied => self.kill(Next::Judge(FailCause::Unsupervised), now),
            _ => Vec::new(),
        }
    }

    fn give_up_run(&mut self, cause: FailCause, now: Duration) -> Vec<Action> {
        match self.phase {
            Phase::Starting { .. } | Phase::Ready { .. } | Phase::Degraded { .. } => {
                self.end_with(Next::Judge(cause), now)
            }
            _ => Vec::new(),
        }
    }

    fn exited(&mut self, outcome: Outcome, now: Duration) -> Vec<Action> {
        if self.leader_gone {
            return Vec::new();
        }
        self.leader_gone = true;
        self.last_exit = Some(outcome);
        if let Phase::Starting { since } | Phase::Ready { since } | Phase::Degraded { since } = self.phase {
            if now.saturating_sub(since) >= self.policy.stable_after {
                self.forgive();
            }
            self.judge(self.policy.is_success(outcome), None, now);
        }
        Vec::new()
    }

    /// Decides what follows a run that ended without being asked to.
    fn judge(&mut self, success: bool, cause: Option<FailCause>, now: Duration) {
        let again = match self.policy.restart {
            Restart::Never => false,
            Restart::OnFailure => !success,
            Restart::Always => true,
        };
        self.failures = if success { 0 } else { self.failures.saturating_add(1) };
        let by_interval = self.policy.interval.map(|interval| self.started_at.saturating_add(interval));
        let next_turn = self.turn.or(by_interval).filter(|_| !again);
        self.phase = match (again, success) {
            _ if next_turn.is_some() => Phase::Scheduled { until: next_turn.unwrap_or(now).max(now) },
            (true, _) => Phase::Backoff { until: now.saturating_add(self.delay()) },
            (false, true) => Phase::Exited,
            (false, false) => Phase::Failed { cause: cause.unwrap_or(FailCause::Exit) },
        };
    }

    fn delay(&mut self) -> Duration {
        self.seed = splitmix(self.seed);
        self.policy.delay(self.failures, self.seed)
    }

    fn gone(&mut self, now: Duration) -> Vec<Action> {
        self.occupied = false;
        if !std::mem::replace(&mut self.leader_gone, true) {
            self.last_exit = Some(Outcome::Lost);
        }
        match self.phase {
            Phase::Stopping { next, .. } => self.go_on(next, now),
            // Nobody saw its exit; the run is over all the same.
            Phase::Starting { .. } | Phase::Ready { .. } | Phase::Degraded { .. } => {
                self.judge(false, None, now);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The plugin is not to blame, so it runs again whatever its policy, and the start does not count; only
    /// the pauses grow.
    fn lost(&mut self, now: Duration) -> Vec<Action> {
        self.recent.pop_back();
        self.occupied = false;
        self.leader_gone = true;
        match self.phase {
            Phase::Stopping { next, .. } | Phase::Launching { next } if next != Next::Run => {
                self.go_on(next, now)
            }
            Phase::Launching { .. }
            | Phase::Starting { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. }
            | Phase::Stopping { .. } => {
                self.last_exit = Some(Outcome::Lost);
                self.failures = self.failures.saturating_add(1);
                self.phase = Phase::Backoff { until: now.saturating_add(self.delay()) };
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn elapsed(&mut self, now: Duration) -> Vec<Action> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match self.phase {
            Phase::Backoff { .. } => self.begin(now),
            Phase::Scheduled { .. } => {
                // Starts that the clock asked for are no crash loop.
                self.recent.clear();
                self.begin(now)
            }
            Phase::Starting { since }
                if self.policy.ready_timeout.is_some_and(|limit| now >= since.saturating_add(limit)) =>
            {
                self.give_up_run(FailCause::NotReady, now)
            }
            Phase::Starting { .. } | Phase::Ready { .. } | Phase::Degraded { .. } => {
                self.give_up_run(FailCause::Timeout, now)
            }
            Phase::Stopping { killed: false, dumping: false, next, .. }
                if self.policy.dump_signal.is_some() =>
            {
                let deadline = now.saturating_add(self.policy.dump_timeout);
                self.phase = Phase::Stopping { killed: false, dumping: true, deadline, next };
                vec![Action::Dump]
            }
            Phase::Stopping { next, .. } => self.kill(next, now),
            _ => Vec::new(),
        }
    }
}

fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
