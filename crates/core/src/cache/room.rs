//! Making room: eviction in the background, and on the spot for a store that finds none.

use super::parts::{EntryRef, State};
use super::table::Cache;
use crate::eviction::{Removal, TenantId};
use crate::hash::ChunkHash;
use crate::key::Scope;

/// Cold objects evicted for one allocation before a run of neighbours is evicted instead.
///
/// With objects of one size the first victim makes room. With mixed sizes small holes may never add up; after
/// this many tries the objects around the coldest one go, which frees one long run.
const VICTIMS_BEFORE_WINDOW: usize = 4;

impl Cache {
    /// Bytes handed out and bytes that may be; cheaper than [`Self::stats`].
    #[must_use]
    pub fn usage(&self) -> (u64, u64) {
        (self.arena.used_bytes(), self.arena.capacity_bytes())
    }

    /// Evicts up to `count` of the objects without leases and returns how many went: what advice says, then
    /// the coldest, and at last those of which advice says that they should stay.
    pub fn evict(&mut self, count: usize) -> usize {
        let mut gone = self.evict_advised(count);
        for spares in [true, false] {
            // Without advice the second round would only repeat the first.
            if gone < count && (spares || self.advice.keeps_any()) {
                let victims = self.coldest(count - gone, spares);
                for &id in &victims {
                    self.remove_resident(id, Removal::Evicted);
                }
                self.stats.evicted_total += victims.len() as u64;
                gone += victims.len();
            }
        }
        self.check_balance();
        gone
    }

    /// Finds memory for `entry`. `spare` is called before anything is evicted, to hold on to what must stay.
    pub(super) fn allocate(
        &mut self,
        bytes: u64,
        entry: EntryRef,
        spare: impl FnOnce(&mut Self),
    ) -> Option<u64> {
        if let Some(extent) = self.arena.alloc(bytes, entry.id) {
            return Some(extent.offset);
        }
        if bytes > self.arena.capacity_bytes() {
            return None;
        }
        spare(self);
        for _ in 0..VICTIMS_BEFORE_WINDOW {
            let victim = self.next_victim()?;
            self.evict_for_store(victim);
            if let Some(extent) = self.arena.alloc(bytes, entry.id) {
                return Some(extent.offset);
            }
        }
        let next = self.next_victim()?;
        let near = self.offset_of(next);
        self.evict_window(bytes, near)?;
        self.arena.alloc(bytes, entry.id).map(|extent| extent.offset)
    }

    /// Leases the resident chunks of a prompt, once, so that room for its next chunk is not made of its own
    /// beginning.
    pub(super) fn spare(&mut self, spared: &mut Option<Vec<EntryRef>>, scope: &Scope, prompt: &[ChunkHash]) {
        if spared.is_some() {
            return;
        }
        let chunks: Vec<EntryRef> = prompt.iter().filter_map(|hash| self.find(scope, hash)).collect();
        for &chunk in &chunks {
            self.lease(chunk, 1);
        }
        *spared = Some(chunks);
    }

    /// The coldest objects without leases; `spares` leaves out what advice wants to stay.
    fn coldest(&mut self, count: usize, spares: bool) -> Vec<u32> {
        let (entries, advice) = (&self.entries, &self.advice);
        let evictable = &mut |id| {
            let entry = entries.at(id);
            is_evictable(entry.state, entry.leases) && !(spares && advice.keeps(&entry.hash))
        };
        self.policy.victims(evictable, count)
    }

    /// What a store that needs room evicts next.
    fn next_victim(&mut self) -> Option<u32> {
        let spared = self.coldest(1, true).first().copied();
        spared.or_else(|| self.advice.keeps_any().then(|| self.coldest(1, false).first().copied())?)
    }

    /// The coldest evictable object of a tenant.
    pub(super) fn coldest_of(&mut self, tenant: TenantId) -> Option<u32> {
        let (entries, scopes) = (&self.entries, &self.scopes);
        let evictable = &mut |id| {
            let entry = entries.at(id);
            is_evictable(entry.state, entry.leases) && scopes.tenant(entry.scope) == tenant
        };
        self.policy.victims_of(tenant, evictable, 1).first().copied()
    }

    /// Evicts adjacent objects until `bytes` are free in one piece, preferably around `near`.
    fn evict_window(&mut self, bytes: u64, near: u64) -> Option<()> {
        let entries = &self.entries;
        let owners = self.arena.cheapest_window(bytes, near, &mut |owner| {
            is_evictable(entries.at(owner).state, entries.at(owner).leases)
        })?;
        for owner in owners {
            self.evict_for_store(owner);
        }
        Some(())
    }

    fn evict_for_store(&mut self, id: u32) {
        self.remove_resident(id, Removal::Evicted);
        self.stats.evicted_total += 1;
        self.stats.evicted_for_store_total += 1;
    }

    /// Evicts one object so that its salt keeps its quota.
    pub(super) fn evict_for_quota(&mut self, id: u32) {
        self.remove_resident(id, Removal::Evicted);
        self.stats.evicted_total += 1;
        self.stats.evicted_for_quota_total += 1;
    }
}

fn is_evictable(state: State, leases: u32) -> bool {
    state == State::Resident && leases == 0
}
