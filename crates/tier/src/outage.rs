//! How long what is to be stored waits for an adapter that is down. Pure; the clock is an argument.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use larder_storage::decorators::BreakerState;
use tokio::time::Instant;

/// Longest that it waits: long enough for a restart or a failover, and no longer, because what waits keeps
/// memory from others.
const PATIENCE: Duration = Duration::from_secs(60);

/// Since when an adapter takes nothing.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<Option<Instant>>);

impl Outage {
    /// Whether to wait for the adapter, given the state of its circuit.
    pub(super) fn is_waited_out(&self, state: BreakerState, now: Instant) -> bool {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state == BreakerState::Closed {
            *since = None;
            return false;
        }
        now.duration_since(*since.get_or_insert(now)) < PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_waited_out_up_to_a_limit_and_the_next_one_anew() {
        let outage = Outage::default();
        let start = Instant::now();
        assert!(!outage.is_waited_out(BreakerState::Closed, start));
        assert!(outage.is_waited_out(BreakerState::Open, start));
        assert!(
            outage.is_waited_out(BreakerState::HalfOpen, start + PATIENCE / 2),
            "a probe does not end it"
        );
        assert!(!outage.is_waited_out(BreakerState::Open, start + PATIENCE));
        assert!(!outage.is_waited_out(BreakerState::Closed, start + PATIENCE));
        assert!(outage.is_waited_out(BreakerState::Open, start + PATIENCE * 2));
    }
}
