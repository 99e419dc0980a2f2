//! What left the index, for those who publish it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::table::Cache;
use crate::eviction::Removal;
use crate::hash::{ChunkHash, Sample};
use crate::key::Scope;

/// Most removals remembered for [`Cache::take_removed`]; later ones are counted as lost.
const REMOVALS_MAX: usize = 65_536;

/// An object that left the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The scope it was in.
    pub scope: Arc<Scope>,
    /// Its chunk.
    pub hash: ChunkHash,
    /// Whether it had to make room, in contrast to what was cleared, dropped or found to be wrong.
    pub evicted: bool,
}

/// Removals nobody has taken yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Removals {
    record: bool,
    removed: VecDeque<Removed>,
    lost: u64,
    /// Chunks whose removal is remembered for [`Cache::take_followed`].
    sample: Sample,
    followed: Vec<Removed>,
}

impl Removals {
    pub(super) fn note(&mut self, scope: &Arc<Scope>, hash: ChunkHash, removal: Removal) {
        let removed = || Removed { scope: Arc::clone(scope), hash, evicted: removal == Removal::Evicted };
        if self.sample.takes(&hash) && self.followed.len() < REMOVALS_MAX {
            self.followed.push(removed());
        }
        if !self.record {
            return;
        }
        if self.removed.len() < REMOVALS_MAX {
            self.removed.push_back(removed());
        } else {
            self.lost += 1;
        }
    }
}

impl Cache {
    /// Starts or stops remembering removals for [`Self::take_removed`]; at first none are.
    pub fn record_removed(&mut self, record: bool) {
        self.removals.record = record;
    }

    /// Takes the objects that left the index since the last call, oldest first, and how many were not
    /// remembered.
    pub fn take_removed(&mut self) -> (VecDeque<Removed>, u64) {
        (std::mem::take(&mut self.removals.removed), std::mem::take(&mut self.removals.lost))
    }

    /// Remembers removals of a share of all chunks for [`Self::take_followed`]; at first of none.
    pub fn follow(&mut self, sample: Sample) {
        self.removals.sample = sample;
    }

    /// Takes the removals of the followed share since the last call, oldest first; of very many the latest
    /// are missing.
    pub fn take_followed(&mut self) -> Vec<Removed> {
        std::mem::take(&mut self.removals.followed)
    }

    /// Whether [`Self::take_removed`] has something to give.
    #[must_use]
    pub fn has_removed(&self) -> bool {
        !self.removals.removed.is_empty()
    }
}
