//! The log lines about single stores and retrieves, in the words that the peer's users filter for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use larder_telemetry::Allowance;

/// Transfers whose beginning is remembered; beyond it all are forgotten at once, since most of them never
/// end.
const BEGUN_MAX: usize = 4096;

/// What a transfer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    Store,
    Retrieve,
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::Store => "Stored",
            Self::Retrieve => "Retrieved",
        }
    }
}

/// A request's transfer by one worker.
type Name = (Direction, i64, Box<str>);

/// Writes a line for each transfer that ends well, as long as they are not too many.
#[derive(Debug)]
pub(super) struct TransferLog {
    is_enabled: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    begun: HashMap<Name, Instant>,
    allowance: Allowance,
}

impl TransferLog {
    pub(super) fn new(is_enabled: bool) -> Self {
        let state = State { begun: HashMap::new(), allowance: Allowance::new(Instant::now()) };
        Self { is_enabled, state: Mutex::new(state) }
    }

    /// A worker was told where the bytes are, or are to be.
    pub(super) fn begin(&self, direction: Direction, instance_id: i64, request_id: &str) {
        if !self.is_enabled {
            return;
        }
        let mut state = self.state();
        if state.begun.len() >= BEGUN_MAX {
            state.begun.clear();
        }
        state.begun.insert((direction, instance_id, request_id.into()), Instant::now());
    }

    /// The transfer of so many tokens has ended well. One whose beginning is not known is not told.
    pub(super) fn end(&self, direction: Direction, instance_id: i64, request_id: &str, tokens: u64) {
        if !self.is_enabled {
            return;
        }
        let now = Instant::now();
        let mut state = self.state();
        let Some(begun) = state.begun.remove(&(direction, instance_id, request_id.into())) else { return };
        let Some(left_out) = state.allowance.pass(now) else { return };
        drop(state);
        if left_out > 0 {
            tracing::info!("{left_out} lines about stores and retrieves were left out");
        }
        let seconds = now.saturating_duration_since(begun).as_secs_f64();
        tracing::info!("{} {tokens} tokens in {seconds:.3} seconds", direction.word());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tests::Lines;

    #[test]
    fn a_transfer_that_began_has_one_line_and_those_left_out_are_told_before_it() {
        let told = Lines::of("transfer_log", || {
            let log = TransferLog::new(true);
            log.begin(Direction::Store, 1, "r");
            let before = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
            let mut allowance = Allowance::new(before);
            while allowance.pass(before).is_some() {}
            // With the one that ended the loop.
            assert!(allowance.pass(before).is_none() && allowance.pass(before).is_none());
            log.state().allowance = allowance;
            for _ in 0..2 {
                log.end(Direction::Store, 1, "r", 32);
            }
            log.begin(Direction::Retrieve, 1, "r");
            log.end(Direction::Retrieve, 2, "r", 16);
            log.end(Direction::Retrieve, 1, "r", 16);
            let silent = TransferLog::new(false);
            silent.begin(Direction::Store, 1, "r");
            silent.end(Direction::Store, 1, "r", 32);
        });
        let told: Vec<&str> =
            told.iter().map(|line| line.split_once(" in ").map_or(line.as_str(), |(head, _)| head)).collect();
        assert_eq!(
            told,
            ["3 lines about stores and retrieves were left out", "Stored 32 tokens", "Retrieved 16 tokens"]
        );
    }

    #[test]
    fn transfers_that_never_end_are_not_remembered_for_ever() {
        let log = TransferLog::new(true);
        for request in 0..3 * BEGUN_MAX {
            log.begin(Direction::Store, 1, &request.to_string());
            assert!(log.state().begun.len() <= BEGUN_MAX);
        }
        TransferLog::new(false).begin(Direction::Store, 1, "r");
    }
}
