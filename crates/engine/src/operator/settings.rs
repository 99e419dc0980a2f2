//! Limits and policy, which may change while the engine runs.

use larder_core::eviction::Policy;

use crate::config::Limits;
use crate::faces::Operator;

impl Operator {
    /// The limits now.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.state().limits.clone()
    }

    /// Changes the limits. What is over the new ones is evicted or given back by the passes that follow.
    pub fn set_limits(&self, limits: Limits) {
        let mut state = self.state();
        state.limits = limits;
        self.after_change(&mut state);
        self.wake_sweep.notify_one();
    }

    /// Evicts by another policy from now on, beginning with the order of the one before. Holds the lock for
    /// some tens of milliseconds for a million objects: the one thing in the engine that grows with them, and
    /// asked for by hand.
    pub fn set_policy(&self, policy: Box<dyn Policy>) {
        self.state().cache.replace_policy(policy);
    }
}
