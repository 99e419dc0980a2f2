//! Readers: leases on objects, and what counts as a use of a prompt.

use super::parts::{EntryRef, State};
use super::table::Cache;
use crate::hash::ChunkHash;
use crate::key::Scope;

impl Cache {
    /// Whether an object may be read: it is committed, and was neither evicted nor cleared since.
    #[must_use]
    pub fn is_resident(&self, entry: EntryRef) -> bool {
        self.entries.get(entry).is_some_and(|found| found.state == State::Resident)
    }

    /// Keeps an object's memory in place for `count` more readers; false if it is gone or cleared. One that
    /// is not committed yet can have readers, too: of what it was before it was adopted.
    pub fn lease(&mut self, entry: EntryRef, count: u32) -> bool {
        let Some(found) = self.entries.get_mut(entry) else { return false };
        if found.state == State::Condemned || count == 0 {
            return false;
        }
        if found.leases == 0 {
            self.stats.leased_objects += 1;
        }
        found.leases += count;
        self.stats.leases += u64::from(count);
        true
    }

    /// Gives `count` leases back; the last one on a condemned object frees it.
    pub fn release(&mut self, entry: EntryRef, count: u32) {
        let Some(found) = self.entries.get_mut(entry) else { return };
        let released = count.min(found.leases);
        if released == 0 {
            return;
        }
        found.leases -= released;
        let (condemned, is_last) = (found.state == State::Condemned, found.leases == 0);
        debug_assert!(u64::from(released) <= self.stats.leases && self.stats.leased_objects > 0);
        self.stats.leases -= u64::from(released);
        if is_last {
            self.stats.leased_objects -= 1;
            if condemned {
                self.forget_condemned(entry.id);
            }
        }
        debug_assert!(self.stats.leased_objects <= self.stats.leases, "a leased object has a lease");
    }

    /// Counts a use of the resident chunks of a prompt, the first chunk as the most recent.
    pub fn touch(&mut self, scope: &Scope, prefix: &[ChunkHash]) {
        let Some(scope) = self.scopes.find(scope) else { return };
        for hash in prefix.iter().rev() {
            if let Some(id) = self.find_resident(scope, hash) {
                self.policy.touch(id);
            }
        }
    }

    /// Marks the chunks of a prompt that are resident from its start as still in use by the same request, the
    /// first chunk as the most recent. What follows a chunk that is not there is of no use without it, and is
    /// not looked for.
    pub fn refresh(&mut self, scope: &Scope, prefix: &[ChunkHash]) {
        let Some(scope) = self.scopes.find(scope) else { return };
        let resident = prefix.iter().map_while(|hash| self.find_resident(scope, hash));
        let resident: Vec<u32> = resident.collect();
        for id in resident.into_iter().rev() {
            self.policy.refresh(id);
        }
    }
}
