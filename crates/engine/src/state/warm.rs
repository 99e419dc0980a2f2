//! Prefetches that no request waits for, by id.

use std::collections::VecDeque;

use hashbrown::HashMap;

/// Most warm prefetches remembered. When a new one finds no room, the oldest finished one is forgotten; if
/// none is finished, the new one is refused.
pub(crate) const WARM_MAX: usize = 1_024;

/// How a warm prefetch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmStatus {
    /// It is under way.
    Pending,
    /// It is over.
    Completed {
        /// Objects of the prompt's longest usable prefix that are in memory now.
        found_keys: usize,
        /// Objects asked for.
        total_keys: usize,
    },
}

/// Warm prefetches by id.
#[derive(Debug, Default)]
pub(crate) struct WarmPrefetches {
    by_id: HashMap<Box<str>, WarmStatus>,
    oldest_first: VecDeque<Box<str>>,
    pub(crate) count: u64,
}

impl WarmPrefetches {
    pub(crate) fn make_room(&mut self) -> bool {
        if self.by_id.len() < WARM_MAX {
            return true;
        }
        let finished = |id: &str| self.by_id.get(id).is_none_or(|status| *status != WarmStatus::Pending);
        let Some(position) = self.oldest_first.iter().position(|id| finished(id)) else { return false };
        if let Some(id) = self.oldest_first.remove(position) {
            self.by_id.remove(&id);
        }
        true
    }

    pub(crate) fn insert(&mut self, id: Box<str>, status: WarmStatus) {
        self.oldest_first.push_back(id.clone());
        self.by_id.insert(id, status);
    }

    /// Notes the end of one; false if it is not known.
    pub(crate) fn complete(&mut self, id: &str, found_keys: usize, total_keys: usize) -> bool {
        let status = self.by_id.get_mut(id);
        status.map(|status| *status = WarmStatus::Completed { found_keys, total_keys }).is_some()
    }

    pub(crate) fn take(&mut self, id: &str) -> Option<WarmStatus> {
        let status = *self.by_id.get(id)?;
        if status != WarmStatus::Pending {
            self.by_id.remove(id);
            self.oldest_first.retain(|other| **other != *id);
        }
        Some(status)
    }
}
