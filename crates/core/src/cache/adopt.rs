//! Objects that a server before this one left in the pool, and the seals by which they are recognised.

use super::parts::{Entry, EntryRef, State};
use super::table::Cache;
use crate::hash::ChunkHash;
use crate::key::Scope;

impl Cache {
    /// Takes the memory at `offset` over as a staging object: the chunk at `position` of its prompt, whose
    /// writer began at `staged_ms`. `None`, and no change, when its memory would overlap another object's,
    /// reach beyond the pool or not be aligned.
    ///
    /// The caller commits it once it knows that the bytes are the chunk's, or aborts it. Adopt in order of
    /// ascending offsets: then each takes constant time. What is committed later is hotter. Quotas do not
    /// refuse it; what is beyond them is for
    /// [`Self::evict_over_quota`].
    pub fn adopt(
        &mut self,
        scope: &Scope,
        hash: ChunkHash,
        position: usize,
        offset: u64,
        staged_ms: u32,
    ) -> Option<EntryRef> {
        let scope = self.acquire_scope(scope);
        let entry = self.entries.insert(Entry::staging(hash, scope, position, staged_ms));
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
        self.index_staging(entry.id);
        self.stats.adopted_total += 1;
        self.check_balance();
        Some(entry)
    }

    /// Notes a caller's 64 bits with an object, such as the checksum of its bytes; false if it is gone or
    /// cleared.
    pub fn set_seal(&mut self, entry: EntryRef, seal: u64) -> bool {
        let Some(found) = self.entries.get_mut(entry) else { return false };
        if found.state == State::Condemned {
            return false;
        }
        (found.seal, found.sealed) = (seal, true);
        self.changes.note(entry.id);
        true
    }

    /// What [`Self::set_seal`] noted, while the object exists.
    #[must_use]
    pub fn seal(&self, entry: EntryRef) -> Option<u64> {
        self.entries.get(entry).filter(|found| found.sealed).map(|found| found.seal)
    }
}
