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
        debug_assert_eq!(entries.at(id).state, State::Staging);
        let hash = |&id: &u32| slot_hash(entries.at(id).scope, &entries.at(id).hash);
        self.staging.insert_unique(hash(&id), id, hash);
        self.stats.staging_bytes += self.scopes.get(entries.at(id).scope).layout.bytes();
        debug_assert!(self.stats.staging_bytes <= self.arena.used_bytes(), "who writes has memory");
    }

    /// Puts an object with memory into the index.
    pub(super) fn publish(&mut self, id: u32) {
        debug_assert_eq!(self.entries.at(id).state, State::Staging, "only what was written is published");
        self.entries.at_mut(id).state = State::Resident;
        self.index_resident(id);
        self.changes.note(id);
        self.policy.insert(id, self.arrival(id));
        debug_assert!(self.policy.len() <= self.resident.len(), "the policy knows what is in the index");
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
        let found = self.staging.find_entry(hash, |&other| other == id);
        debug_assert!(found.is_ok(), "what is being written is among the staging objects");
        if let Ok(found) = found {
            found.remove();
            let bytes = self.scopes.get(self.entries.at(id).scope).layout.bytes();
            debug_assert!(bytes <= self.stats.staging_bytes, "only what was counted is taken off");
            self.stats.staging_bytes -= bytes;
        }
    }

    /// Gives up on a staging object; its memory stays until the last lease on it is given back.
    pub(super) fn drop_staging(&mut self, id: u32) {
        if self.entries.at(id).leases > 0 {
            return self.condemn_staging(id);
        }
        self.free_memory(id);
        // Its bytes are those of its scope, which the last object takes with it.
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
        debug_assert!(matches!(entry.state, State::Staging | State::Resident), "nothing is condemned twice");
        (entry.state, entry.sealed) = (State::Condemned, false);
        self.changes.note(id);
        self.stats.condemned_objects += 1;
    }

    /// Frees a condemned object that nobody touches any more.
    pub(super) fn forget_condemned(&mut self, id: u32) {
        let entry = self.entries.at(id);
        debug_assert!(entry.state == State::Condemned && entry.leases == 0, "the last of them frees it");
        debug_assert!(self.stats.condemned_objects > 0);
        self.free_memory(id);
        self.stats.condemned_objects -= 1;
        self.forget(id);
    }

    fn unlink_resident(&mut self, id: u32, removal: Removal) {
        let entry = self.entries.at(id);
        let (scope, hash) = (entry.scope, entry.hash);
        debug_assert_eq!(entry.state, State::Resident);
        let found = self.resident.find_entry(slot_hash(scope, &hash), |&other| other == id);
        debug_assert!(found.is_ok(), "a resident object is in the index");
        if let Ok(found) = found {
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
        debug_assert_eq!(self.entries.at(id).leases, 0, "memory under lease stays in place");
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

    /// Gives an object's memory back. Its record is next, by [`Self::forget`].
    fn free_memory(&mut self, id: u32) {
        let scope = self.entries.at(id).scope;
        self.tenants.discharge(self.scopes.tenant(scope), self.held_bytes(scope));
        let owner = self.arena.free(self.offset_of(id));
        debug_assert_eq!(owner, Some(id), "memory is freed by whom it was given to");
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
        debug_assert_eq!(self.entries.at(id).leases, 0, "nobody reads what is forgotten");
        self.scopes.release(self.entries.at(id).scope, &mut self.tenants);
        self.entries.remove(id);
    }

    /// Checks, in debug builds, what holds between any two verbs, as far as it can be seen at a glance.
    pub(super) fn check_balance(&self) {
        let stats = &self.stats;
        debug_assert_eq!(
            self.entries.len() as u64,
            self.resident.len() as u64 + self.staging.len() as u64 + stats.condemned_objects,
            "every object is resident, staging or condemned"
        );
        debug_assert!(stats.staging_bytes <= self.arena.used_bytes(), "who writes has memory");
        debug_assert!(stats.leased_objects <= stats.leases, "a leased object has a lease");
        debug_assert!(stats.leased_objects <= self.entries.len() as u64, "and is an object");
        debug_assert_eq!(self.entries.len(), self.arena.blocks(), "every object has memory, and nobody else");
    }
}
