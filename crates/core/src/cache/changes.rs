//! Which records changed, for whoever keeps a copy of the table that outlives this process.

use std::sync::Arc;

use super::entry::State;
use super::table::Cache;
use crate::hash::ChunkHash;
use crate::key::Scope;

/// Records that changed since they were last taken; nothing is noted unless somebody wants to know.
#[derive(Debug, Default)]
pub(super) struct Changes {
    wanted: bool,
    ids: Vec<u32>,
}

impl Changes {
    pub(super) fn note(&mut self, id: u32) {
        if self.wanted {
            self.ids.push(id);
        }
    }
}

/// Memory that an object has, as a copy of the table remembers it.
#[derive(Clone, Debug)]
pub struct Slot<'a> {
    /// Where the object is.
    pub scope: &'a Arc<Scope>,
    /// Its chunk.
    pub hash: ChunkHash,
    /// Chunks before it in its prompt; the last value stands for all beyond.
    pub position: u16,
    /// First byte in the pool.
    pub offset: u64,
    /// Its seal, if it has one and may be found by it again: not while it is being written, nor after it was
    /// cleared under a lease.
    pub seal: Option<u64>,
    /// Whether a writer may still touch the memory.
    pub is_being_written: bool,
}

impl Cache {
    /// Starts or stops noting which records change.
    pub fn record_changes(&mut self, record: bool) {
        self.changes.wanted = record;
        self.changes.ids.clear();
    }

    /// Whether there are changes to take.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.changes.ids.is_empty()
    }

    /// The ids of records that changed, in order, some more than once. What a record is now is told by
    /// [`Self::slot`].
    pub fn take_changes(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.changes.ids)
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
}
