//! What changed and what left, for whoever keeps a copy of the table or tells others about it.

use std::collections::VecDeque;

use super::parts::{Removed, Slot, State};
use super::table::Cache;
use crate::hash::Sample;

impl Cache {
    /// Starts or stops noting which records change.
    pub fn record_changes(&mut self, record: bool) {
        self.changes.record(record);
    }

    /// Whether there are changes to take.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changes.has_any()
    }

    /// The ids of records that changed, in order, some more than once. What a record is now is told by
    /// [`Self::slot`].
    pub fn take_changes(&mut self) -> Vec<u32> {
        self.changes.take()
    }

    /// The memory of the object with this id; none if the id is not in use.
    #[must_use]
    pub fn slot(&self, id: u32) -> Option<Slot<'_>> {
        let entry = (id < self.entries.bound()).then(|| self.entries.at(id))?;
        (entry.state != State::Free).then(|| Slot {
            scope: self.scopes.get(entry.scope),
            hash: entry.hash,
            position: entry.position,
            offset: self.offset_of(id),
            seal: entry.sealed.then_some(entry.seal),
            is_being_written: match entry.state {
                State::Staging => true,
                // Cleared while it was being written: readers have leases, a writer has none.
                State::Condemned => entry.leases == 0,
                State::Resident | State::Free => false,
            },
        })
    }

    /// Starts or stops remembering removals for [`Self::take_removed`]; at first none are.
    pub fn record_removed(&mut self, record: bool) {
        self.removals.record(record);
    }

    /// Whether [`Self::take_removed`] has something to give.
    #[must_use]
    pub fn has_removed(&self) -> bool {
        self.removals.has_any()
    }

    /// Takes the objects that left the index since the last call, oldest first, and how many were not
    /// remembered.
    pub fn take_removed(&mut self) -> (VecDeque<Removed>, u64) {
        self.removals.take()
    }

    /// Remembers removals of a share of all chunks for [`Self::take_followed`]; at first of none.
    pub fn follow(&mut self, sample: Sample) {
        self.removals.follow(sample);
    }

    /// Takes the removals of the followed share since the last call, oldest first; of very many the latest
    /// are missing.
    pub fn take_followed(&mut self) -> Vec<Removed> {
        self.removals.take_followed()
    }
}
