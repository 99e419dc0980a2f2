//! Objects that a server before this one left in the pool, and the seals by which they are recognised.

use super::entry::{Entry, EntryRef, State};
use super::table::Cache;
use crate::hash::ChunkHash;
use crate::key::Scope;

impl Cache {
    /// Makes the memory at `offset` a resident object: the chunk at `position` of its prompt. `None`, and no change, when the chunk is
    /// resident already, or its memory would overlap another object's, reach beyond the pool or not be aligned.
    ///
    /// Adopt in order of ascending offsets: then each takes constant time. The caller vouches for the bytes. What is adopted
    /// later is hotter, and touching what was used last puts an order known otherwise in place. Quotas do not refuse it; what is beyond them
    /// is for [`Self::evict_over_quota`].
    pub fn adopt(
        &mut self,
        scope: &Scope,
        hash: ChunkHash,
        position: usize,
        offset: u64,
    ) -> Option<EntryRef> {
        if self.find(scope, &hash).is_some() {
            return None;
        }
        let scope = self.acquire_scope(scope);
        let entry = self.entries.insert(Entry::staging(hash, scope, position, 0));
        let bytes = self.scopes.get(scope).layout.bytes();
        let Some(extent) = self.arena.alloc_at(offset, bytes, entry.id) else {
            self.forget(entry.id);
            return None;
        };
        let tenant = self.scopes.tenant(scope);
        let was_over = self.tenants.excess_bytes(tenant, 0) > 0;
        self.take_memory(entry.id, extent.offset);
        if !was_over && self.tenants.excess_bytes(tenant, 0) > 0 {
            self.tenants.note_over(tenant);
        }
        self.publish(entry.id);
        self.stats.adopted_total += 1;
        Some(entry)
    }

    /// Notes a caller's 64 bits with an object that exists, such as the checksum of its bytes; false if it is gone.
    pub fn set_seal(&mut self, entry: EntryRef, seal: u64) -> bool {
        let Some(found) = self.entries.get_mut(entry) else { return false };
        (found.seal, found.sealed) = (seal, true);
        true
    }

    /// What [`Self::set_seal`] noted, while the object exists.
    #[must_use]
    pub fn seal(&self, entry: EntryRef) -> Option<u64> {
        self.entries.get(entry).filter(|found| found.sealed).map(|found| found.seal)
    }

    /// Puts an object with memory into the index.
    pub(super) fn publish(&mut self, id: u32) {
        self.entries.at_mut(id).state = State::Resident;
        self.index_resident(id);
        self.policy.insert(id, self.arrival(id));
    }
}
