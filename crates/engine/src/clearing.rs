//! Emptying L1.

use larder_telemetry::events::Event;

use crate::engine::Engine;
use crate::faces::{Operator, Requests};

/// Object records walked under one hold of the lock when clearing.
const CLEAR_STEP: u32 = 4_096;

impl Engine {
    fn clear_l1(&self, force: bool) {
        self.drop_unverified();
        self.drop_verified();
        let mut next = Some(0);
        while let Some(from) = next {
            let mut state = self.state();
            next = state.cache.clear_step(force, from, CLEAR_STEP);
            self.record_removals(&mut state);
        }
        self.bus.publish(|| Event::Clear { force });
        tracing::info!("cleared L1 (force={force})");
    }
}

impl Requests {
    /// Empties L1 (`spec/cache-semantics.md` 8). Without `force` objects under lease and objects being
    /// written stay. With it they leave the index at once, and their memory is reused when their reader or
    /// writer lets go.
    pub fn clear(&self, force: bool) {
        self.clear_l1(force);
    }
}

impl Operator {
    /// As [`Requests::clear`].
    pub fn clear(&self, force: bool) {
        self.clear_l1(force);
    }
}
