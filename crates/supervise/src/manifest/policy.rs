//! How a plugin is kept running and how it is ended: the numbers, in systemd's vocabulary.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cron::Cron;

/// When a run that ended by itself is followed by another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Not at all, as the bare contract has it (spec/runtime-plugins.md 7).
    #[default]
    Never,
    /// After anything but a success.
    OnFailure,
    /// After every end.
    Always,
}

/// Signals a plugin can be asked to stop with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum StopSignal {
    #[default]
    SigTerm,
    SigInt,
    SigHup,
    SigQuit,
    SigUsr1,
    SigUsr2,
}

/// How a plugin's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "number", rename_all = "snake_case")]
pub enum Outcome {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Its end was not seen: the guardian died, and it with it.
    Lost,
}

impl Outcome {
    /// The number the peer logs: the code, or the negated signal (spec/runtime-plugins.md 6).
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => -signal,
            Self::Lost => -9,
        }
    }
}

/// The rules for one plugin's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// When it is started again.
    pub restart: Restart,
    /// Wait before the first restart; doubled with each further failure in a row.
    pub delay: Duration,
    /// Longest such wait.
    pub delay_max: Duration,
    /// A run of this length or more clears the count of failures and of starts.
    pub stable_after: Duration,
    /// Starts allowed within `start_limit_interval`; one more and the plugin is left failed.
    pub start_limit_burst: u32,
    /// See `start_limit_burst`.
    pub start_limit_interval: Duration,
    /// Time from one start to the next of a plugin that does its work and ends; a run that takes longer
    /// delays the next.
    pub interval: Option<Duration>,
    /// Calendar times, in local time, at which a plugin does its work and ends; a time that comes while it
    /// runs is left out.
    pub cron: Option<Cron>,
    /// Longest run; what takes longer is ended as failed.
    pub run_timeout: Option<Duration>,
    /// Whether the plugin says when it is ready; otherwise it is ready once it runs.
    pub awaits_ready: bool,
    /// How long it may take to become ready; `None` is for ever.
    pub ready_timeout: Option<Duration>,
    /// Time between the stop signal and SIGKILL.
    pub stop_timeout: Duration,
    /// The stop signal.
    pub stop_signal: StopSignal,
    /// Sent once `stop_timeout` is over, so that what hangs leaves a trace before it is killed.
    pub dump_signal: Option<StopSignal>,
    /// Time between `dump_signal` and SIGKILL.
    pub dump_timeout: Duration,
    /// Exit codes that count as success; 0 always does.
    pub success_codes: Vec<i32>,
}

impl Default for Policy {
    /// The bare contract: run once, ready at once, five seconds to end.
    fn default() -> Self {
        Self {
            restart: Restart::Never,
            delay: Duration::from_millis(500),
            delay_max: Duration::from_secs(60),
            stable_after: Duration::from_secs(30),
            start_limit_burst: 5,
            start_limit_interval: Duration::from_secs(60),
            interval: None,
            cron: None,
            run_timeout: None,
            awaits_ready: false,
            ready_timeout: None,
            stop_timeout: Duration::from_secs(5),
            stop_signal: StopSignal::SigTerm,
            dump_signal: None,
            dump_timeout: Duration::from_secs(2),
            success_codes: Vec::new(),
        }
    }
}

impl Policy {
    /// The longest time between the request to end and SIGKILL.
    #[must_use]
    pub fn stop_time(&self) -> Duration {
        let dump = self.dump_signal.map_or(Duration::ZERO, |_| self.dump_timeout);
        self.stop_timeout.saturating_add(dump)
    }

    /// Whether a run that ended like this achieved what it was meant to.
    #[must_use]
    pub fn is_success(&self, outcome: Outcome) -> bool {
        matches!(outcome, Outcome::Code(code) if code == 0 || self.success_codes.contains(&code))
    }

    /// The wait after `failures` failed runs in a row: doubled each time, capped, and shortened by up to a
    /// quarter so that plugins felled by one cause do not come back in step. `random` is any number.
    #[must_use]
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.delay.saturating_mul(1 << doublings).min(self.delay_max);
        let quarter = u64::try_from((full / 4).as_nanos()).unwrap_or(u64::MAX);
        full - Duration::from_nanos(random % quarter.saturating_add(1).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let policy =
            Policy { delay: Duration::from_secs(1), delay_max: Duration::from_secs(10), ..Policy::default() };
        let seconds: Vec<_> = [0, 1, 2, 3, 4, 5, 40].map(|n| policy.delay(n, 0).as_secs()).into();
        assert_eq!(seconds, [1, 1, 2, 4, 8, 10, 10]);
    }

    proptest! {
        #[test]
        fn jitter_takes_a_quarter_at_most(failures: u32, random: u64) {
            let policy = Policy::default();
            let (full, jittered) = (policy.delay(failures, 0), policy.delay(failures, random));
            prop_assert!(jittered <= full && jittered >= full * 3 / 4);
        }
    }

    #[test]
    fn success_is_a_listed_code() {
        let policy = Policy { success_codes: vec![3], ..Policy::default() };
        assert!(policy.is_success(Outcome::Code(0)) && policy.is_success(Outcome::Code(3)));
        assert!(!policy.is_success(Outcome::Code(1)) && !policy.is_success(Outcome::Signal(15)));
        assert!(!policy.is_success(Outcome::Lost));
    }
}
