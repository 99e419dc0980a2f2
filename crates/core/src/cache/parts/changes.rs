//! Which records changed, for whoever keeps a copy of the table that outlives this process.

use std::sync::Arc;

use crate::hash::ChunkHash;
use crate::key::Scope;

/// Records that changed since they were last taken; nothing is noted unless somebody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    wanted: bool,
    ids: Vec<u32>,
}

impl Changes {
    /// Starts or stops noting which records change.
    pub(crate) fn record(&mut self, record: bool) {
        self.wanted = record;
        self.ids.clear();
    }

    /// Notes that a record changed.
    pub(crate) fn note(&mut self, id: u32) {
        if self.wanted {
            self.ids.push(id);
        }
    }

    /// Whether there are changes to take.
    pub(crate) fn has_any(&self) -> bool {
        !self.ids.is_empty()
    }

    /// The records that changed since the last call, in order, some more than once.
    pub(crate) fn take(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.ids)
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
