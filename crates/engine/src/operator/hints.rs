//! Hints from outside the engine, such as those of plugins: taken when they come, never asked for, never
//! waited for.
//!
//! Owns their limits. What they mean for the order of eviction is in `larder-core`.

use std::sync::Arc;
use std::time::Duration;

use larder_core::cache::{AdviceStats, Selector, Wish};
use larder_core::hash::ChunkHash;

use crate::faces::Operator;

/// Longest time that a hint holds.
pub const HINT_TTL_MAX: Duration = Duration::from_secs(3_600);

/// Most chunks that one hint names.
pub const HINT_CHUNKS_MAX: usize = 1_024;

/// What somebody who knows more than the engine would like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// These chunks should leave memory last.
    Protect(Vec<ChunkHash>),
    /// These chunks should leave memory first.
    EvictFirst(Vec<ChunkHash>),
    /// Objects of this model or salt should leave memory first.
    EvictScopeFirst(Selector),
    /// Objects of this model or salt should not be written to the second tier.
    DeclineL2(Selector),
}

/// What came of a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HintOutcome {
    /// Pieces of advice that hold now.
    pub taken: usize,
    /// Those for which there was no room.
    pub refused: usize,
}

impl Operator {
    /// Takes a hint that holds for `ttl`, at most [`HINT_TTL_MAX`].
    pub fn hint(&self, by: &str, hint: Hint, ttl: Duration) -> HintOutcome {
        let ttl_ms = u64::try_from(ttl.min(HINT_TTL_MAX).as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.now_ms().saturating_add(ttl_ms);
        let by: Arc<str> = by.into();
        let wishes: Vec<Wish> = match hint {
            Hint::Protect(chunks) => chunks.into_iter().take(HINT_CHUNKS_MAX).map(Wish::Keep).collect(),
            Hint::EvictFirst(chunks) => chunks.into_iter().take(HINT_CHUNKS_MAX).map(Wish::Shed).collect(),
            Hint::EvictScopeFirst(selector) => vec![Wish::ShedAll(selector)],
            Hint::DeclineL2(selector) => vec![Wish::StayOutOfL2(selector)],
        };
        let asked = wishes.len();
        let mut state = self.state();
        let taken = wishes.into_iter().filter(|wish| state.cache.advise(&by, wish.clone(), until_ms)).count();
        drop(state);
        let refused = asked - taken;
        self.counters.hints.add(taken as u64);
        self.counters.refused_hints.add(refused as u64);
        self.wake_sweep.notify_one();
        HintOutcome { taken, refused }
    }

    /// Forgets the hints of one giver, because it is gone.
    pub fn withdraw_hints(&self, by: &str) {
        self.state().cache.withdraw_advice(by);
    }

    /// How many hints hold, and what came of them.
    #[must_use]
    pub fn hint_stats(&self) -> AdviceStats {
        self.state().cache.advice_stats()
    }
}
