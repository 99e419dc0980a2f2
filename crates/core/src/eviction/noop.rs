//! Never evicts.

use super::policy::{Arrival, EntryId, Policy, Removal};

/// A full pool stays full; stores are refused.
#[derive(Debug, Default)]
pub struct Noop {
    len: usize,
}

impl Noop {
    /// A policy without objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Policy for Noop {
    fn name(&self) -> &'static str {
        "noop"
    }

    fn insert(&mut self, _id: EntryId, _arrival: Arrival) {
        self.len += 1;
    }

    fn touch(&mut self, _id: EntryId) {}

    fn remove(&mut self, _id: EntryId, _removal: Removal) {
        self.len -= 1;
    }

    fn victims(&mut self, _evictable: &mut dyn FnMut(EntryId) -> bool, _want: usize) -> Vec<EntryId> {
        Vec::new()
    }

    fn cold_to_hot(&mut self) -> Vec<EntryId> {
        Vec::new()
    }

    fn len(&self) -> usize {
        self.len
    }
}
