//! The steps between the states of an object, of which every verb is made, and what each leaves in balance.

use super::parts::{ScopeId, State};
use super::table::{Cache, slot_hash};
use crate::eviction::Removal;
use crate::key::Scope;

impl Cache {
    /// Counts one more object of a scope, for the caller to insert.
    pub(super) fn acquire_scope(&mut self, scope: &Scope) -> ScopeId {
        let id = self.scopes.acquire(scope, &mut self.tenants);
        self.tell_limits();
        id
    }

    /// Counts an object with memory among those being written.
    pub(super) fn index_staging(&mut self, id: u32) {
        let entries = &self.entries;
        let hash = |&id: &u32| slot_hash(entries.at(id).scope, &entries.at(id).hash);
        self.staging.insert_unique(hash(&id), id, hash);
        self.stats.staging_bytes += self.scopes.get(entries.at(id).scope).layout.bytes();
    }

    /// Puts an object with memory into the index.
    pub(super) fn publish(&mut self, id: u32) {
        self.entries.at_mut(id).state = State::Resident;
        self.index_resident(id);
        self.changes.note(id);
        self.policy.insert(id, self.arrival(id));
    }

    /// Puts an object into the index.
    fn index_resident(&mut self, id: u32) {
        let entries = &self.entries;
        let hash = |&id: &u32| slot_hash(entries.at(id).scope, &entries.at(id).hash);
        self.resident.insert_unique(hash(&id), id, hash);
    }

    pub(super) fn unlink_staging(&mut self, id: u32) {
        let entry = self.entries.at(id);
        let hash = slot_hash(entry.scope, &entry.hash);
        if let Ok(found) = self.staging.find_entry(hash, |&other| other == id) {
            found.remove();
            self.stats.staging_bytes -= self.scopes.get(self.entries.at(id).scope).layout.bytes();
        }
    }

    /// Gives up on a staging object; its memory stays until the last lease on it is given back.
    pub(super) fn drop_staging(&mut self, id: u32) {
        if self.entries.at(id).leases > 0 {
            return self.condemn_staging(id);
        }
        self.free_memory(id);
        self.unlink_staging(id);
        self.forget(id);
    }

    /// Has a staging object never be published; whoever may touch its memory frees it.
    pub(super) fn condemn_staging(&mut self, id: u32) {
        self.unlink_staging(id);
        self.note_condemned(id);
    }

    fn note_condemned(&mut self, id: u32) {
        let entry = self.entries.at_mut(id);
        (entry.state, entry.sealed) = (State::Condemned, false);
        self.changes.note(id);
        self.stats.condemned_objects += 1;
    }

    /// Frees a condemned object that nobody touches any more.
    pub(super) fn forget_condemned(&mut self, id: u32) {
        self.free_memory(id);
        self.stats.condemned_objects -= 1;
        self.forget(id);
    }

    fn unlink_resident(&mut self, id: u32, removal: Removal) {
        let entry = self.entries.at(id);
        let (scope, hash) = (entry.scope, entry.hash);
        if let Ok(found) = self.resident.find_entry(slot_hash(scope, &hash), |&other| other == id) {
            found.remove();
        }
        self.policy.remove(id, removal);
        self.removals.note(self.scopes.get(scope), hash, removal);
    }

    /// Takes a leased resident object out of the index; the last reader frees its memory.
    pub(super) fn condemn(&mut self, id: u32) {
        self.unlink_resident(id, Removal::Dropped);
        self.note_condemned(id);
    }

    /// Takes an unleased resident object out of the index and frees its memory.
    pub(super) fn remove_resident(&mut self, id: u32, removal: Removal) {
        self.unlink_resident(id, removal);
        self.free_memory(id);
        self.forget(id);
    }

    /// Notes where an object's memory is.
    pub(super) fn take_memory(&mut self, id: u32, offset: u64) {
        let scope = self.entries.at(id).scope;
        self.tenants.charge(self.scopes.tenant(scope), self.held_bytes(scope));
        let unit = u32::try_from(offset / self.arena.align()).expect("an arena has fewer units than 2^32");
        self.entries.at_mut(id).unit = unit;
        self.changes.note(id);
    }

    pub(super) fn free_memory(&mut self, id: u32) {
        let scope = self.entries.at(id).scope;
        self.tenants.discharge(self.scopes.tenant(scope), self.held_bytes(scope));
        self.arena.free(self.offset_of(id));
        self.changes.note(id);
    }

    /// First byte of the memory of an object that has some.
    pub(super) fn offset_of(&self, id: u32) -> u64 {
        u64::from(self.entries.at(id).unit) * self.arena.align()
    }

    pub(super) fn held_bytes(&self, scope: ScopeId) -> u64 {
        self.bytes_held_by(self.scopes.get(scope))
    }

    /// Forgets an object without memory.
    pub(super) fn forget(&mut self, id: u32) {
        self.scopes.release(self.entries.at(id).scope, &mut self.tenants);
        self.entries.remove(id);
    }
}
