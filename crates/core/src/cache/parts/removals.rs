//! What left the index, for those who publish it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::eviction::Removal;
use crate::hash::{ChunkHash, Sample};
use crate::key::Scope;

/// Most removals remembered for [`Removals::take`]; later ones are counted as lost.
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
pub(crate) struct Removals {
    record: bool,
    removed: VecDeque<Removed>,
    lost: u64,
    /// Chunks whose removal is remembered for [`Self::take_followed`].
    sample: Sample,
    followed: Vec<Removed>,
}

impl Removals {
    /// Starts or stops remembering removals for [`Self::take`]; at first none are.
    pub(crate) fn record(&mut self, record: bool) {
        self.record = record;
    }

    /// Remembers removals of a share of all chunks for [`Self::take_followed`]; at first of none.
    pub(crate) fn follow(&mut self, sample: Sample) {
        self.sample = sample;
    }

    /// Notes that an object left.
    pub(crate) fn note(&mut self, scope: &Arc<Scope>, hash: ChunkHash, removal: Removal) {
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

    /// Whether [`Self::take`] has something to give.
    pub(crate) fn has_any(&self) -> bool {
        !self.removed.is_empty()
    }

    /// Takes the removals since the last call, oldest first, and how many were not remembered.
    pub(crate) fn take(&mut self) -> (VecDeque<Removed>, u64) {
        (std::mem::take(&mut self.removed), std::mem::take(&mut self.lost))
    }

    /// Takes the removals of the followed share since the last call, oldest first.
    pub(crate) fn take_followed(&mut self) -> Vec<Removed> {
        std::mem::take(&mut self.followed)
    }
}
