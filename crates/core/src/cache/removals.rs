//! What left the index, for those who publish it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::table::Cache;
use crate::hash::ChunkHash;
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
}

/// Removals nobody has taken yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Removals {
    record: bool,
    removed: VecDeque<Removed>,
    lost: u64,
}

impl Removals {
    pub(super) fn note(&mut self, scope: &Arc<Scope>, hash: ChunkHash) {
        if !self.record {
            return;
        }
        if self.removed.len() < REMOVALS_MAX {
            self.removed.push_back(Removed { scope: Arc::clone(scope), hash });
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

    /// Takes the objects that left the index since the last call, oldest first, and how many were not remembered.
    pub fn take_removed(&mut self) -> (VecDeque<Removed>, u64) {
        (std::mem::take(&mut self.removals.removed), std::mem::take(&mut self.removals.lost))
    }

    /// Whether [`Self::take_removed`] has something to give.
    #[must_use]
    pub fn has_removed(&self) -> bool {
        !self.removals.removed.is_empty() || self.removals.lost > 0
    }
}
