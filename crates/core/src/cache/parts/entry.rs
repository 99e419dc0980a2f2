//! The object table's records and the handle other parts hold on them.

use crate::hash::ChunkHash;

/// Names one object record. Goes stale, and is then ignored, when the object leaves the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryRef {
    pub(crate) id: u32,
    pub(crate) generation: u32,
}

#[cfg(test)]
impl EntryRef {
    /// A handle for tests of what only keeps handles.
    pub(crate) fn numbered(id: u32) -> Self {
        Self { id, generation: 0 }
    }
}

/// Position of a [`Scope`](crate::key::Scope) in the scope table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScopeId(pub(crate) u32);

/// Where an object is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The record is unused.
    Free,
    /// Memory is handed to a writer; nobody else can see the object.
    Staging,
    /// Committed, in the index, readable.
    Resident,
    /// Out of the index by force while somebody may still touch its memory: freed by the last of them.
    Condemned,
}

/// One object, 64 bytes: a pool of a terabyte has millions of them.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) hash: ChunkHash,
    pub(crate) scope: ScopeId,
    pub(crate) generation: u32,
    /// First unit of its memory in the arena.
    pub(crate) unit: u32,
    /// Readers that may be copying from the memory, or were promised that it stays.
    pub(crate) leases: u32,
    /// When staging began, in milliseconds of the caller's clock, wrapping every 49 days.
    pub(crate) staged_ms: u32,
    /// Chunks before it in its prompt; the last value stands for all beyond.
    pub(crate) position: u16,
    pub(crate) state: State,
    pub(crate) sealed: bool,
    /// What [`Cache::set_seal`](crate::cache::Cache::set_seal) noted, if `sealed`.
    pub(crate) seal: u64,
}

impl Entry {
    /// A staging record whose memory is yet to be found.
    pub(crate) fn staging(hash: ChunkHash, scope: ScopeId, position: usize, staged_ms: u32) -> Self {
        Self {
            hash,
            scope,
            generation: 0,
            unit: 0,
            leases: 0,
            staged_ms,
            position: u16::try_from(position).unwrap_or(u16::MAX),
            state: State::Staging,
            sealed: false,
            seal: 0,
        }
    }
}

/// Records by id, with free ids reused under a new generation.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    slots: Vec<Entry>,
    free: Vec<u32>,
}

impl Entries {
    /// Adds a record and returns its handle.
    pub(crate) fn insert(&mut self, entry: Entry) -> EntryRef {
        if let Some(id) = self.free.pop() {
            let slot = &mut self.slots[id as usize];
            debug_assert_eq!(slot.state, State::Free, "a free id is nobody's");
            let generation = slot.generation;
            *slot = Entry { generation, ..entry };
            return EntryRef { id, generation };
        }
        let id = u32::try_from(self.slots.len()).expect("fewer objects than 4 KiB units in 16 TiB");
        self.slots.push(entry);
        EntryRef { id, generation: 0 }
    }

    /// Forgets a record; every handle on it goes stale.
    pub(crate) fn remove(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        debug_assert_ne!(slot.state, State::Free, "a record is forgotten once");
        slot.generation = slot.generation.wrapping_add(1);
        slot.state = State::Free;
        self.free.push(id);
    }

    /// The record behind a handle that is not stale.
    pub(crate) fn get(&self, entry: EntryRef) -> Option<&Entry> {
        let slot = self.slots.get(entry.id as usize)?;
        (slot.generation == entry.generation && slot.state != State::Free).then_some(slot)
    }

    /// As [`Self::get`], to change it.
    pub(crate) fn get_mut(&mut self, entry: EntryRef) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(entry.id as usize)?;
        (slot.generation == entry.generation && slot.state != State::Free).then_some(slot)
    }

    /// The record with this id, in use or not.
    pub(crate) fn at(&self, id: u32) -> &Entry {
        &self.slots[id as usize]
    }

    /// As [`Self::at`], to change it.
    pub(crate) fn at_mut(&mut self, id: u32) -> &mut Entry {
        &mut self.slots[id as usize]
    }

    /// The handle of a record in use.
    pub(crate) fn handle(&self, id: u32) -> EntryRef {
        EntryRef { id, generation: self.slots[id as usize].generation }
    }

    /// Records in use.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Ids ever given out: the bound for walking all records.
    pub(crate) fn bound(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("fewer objects than 4 KiB units in 16 TiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_sixty_four_bytes() {
        assert_eq!(size_of::<Entry>(), 64);
    }
}
