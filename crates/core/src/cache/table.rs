//! Reserve, commit, abort, lease, release and clear.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashTable;

use super::parts::{
    Advice, CacheStats, Changes, Entries, Entry, EntryRef, Removals, ScopeId, Scopes, State, Tenants,
};
use crate::arena::Arena;
use crate::eviction::{Policy, Removal};
use crate::hash::ChunkHash;
use crate::key::Scope;

/// What the table needs to know at start.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Bytes that may be handed out; [`Cache::grow`] raises it while a pool is prepared.
    pub capacity_bytes: u64,
    /// Alignment and unit of allocations in bytes, a power of two.
    pub align_bytes: u64,
    /// How long a writer keeps others from storing the same chunk, in milliseconds. After that the chunk
    /// may be reserved a second time; the first commit wins.
    pub staging_fresh_ms: u32,
}

/// Memory reserved for one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Position of the chunk in the range that was asked for.
    pub index: usize,
    /// The staging object.
    pub entry: EntryRef,
    /// First byte in the pool.
    pub offset: u64,
}

/// Answer to [`Cache::reserve`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Chunks to write, in order.
    pub reserved: Vec<Reserved>,
    /// Chunks that are resident already.
    pub resident: usize,
    /// Chunks another writer is about to commit.
    pub busy: usize,
    /// Chunks for which no room could be made, and those after them: they are lost to the cache.
    pub refused: usize,
    /// Those of `refused` that the quota of their salt did not allow.
    pub refused_by_quota: usize,
}

/// Answer to [`Cache::commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The object is readable now.
    Stored,
    /// Another writer was first; this copy was dropped. The chunk is readable.
    Duplicate,
    /// The reservation does not exist any more; nothing was published.
    Gone,
}

/// Why a chunk is not reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Nothing more can be evicted, or the caller wants no more.
    Room,
    /// Its salt may not have more, and has nothing to evict.
    Quota,
}

/// The object table of one pool. See the [module](super) for the life of an object.
pub struct Cache {
    pub(super) entries: Entries,
    pub(super) scopes: Scopes,
    pub(super) tenants: Tenants,
    pub(super) resident: HashTable<u32>,
    pub(super) staging: HashTable<u32>,
    pub(super) arena: Arena,
    pub(super) policy: Box<dyn Policy>,
    pub(super) config: CacheConfig,
    pub(super) stats: CacheStats,
    pub(super) removals: Removals,
    pub(super) changes: Changes,
    pub(super) advice: Advice,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Where the index has an object, and its fingerprint for policies.
pub(super) fn slot_hash(scope: ScopeId, hash: &ChunkHash) -> u64 {
    let head = u64::from_le_bytes(*hash.0.first_chunk().expect("a chunk hash has 32 bytes"));
    head ^ u64::from(scope.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Cache {
    /// An empty table over `config.capacity_bytes` of memory, evicting by `policy`.
    #[must_use]
    pub fn new(config: CacheConfig, policy: Box<dyn Policy>) -> Self {
        Self {
            entries: Entries::default(),
            scopes: Scopes::default(),
            tenants: Tenants::default(),
            resident: HashTable::new(),
            staging: HashTable::new(),
            arena: Arena::new(config.capacity_bytes, config.align_bytes),
            policy,
            config,
            stats: CacheStats::default(),
            removals: Removals::default(),
            changes: Changes::default(),
            advice: Advice::default(),
        }
    }

    /// Allows allocation up to `capacity_bytes`; a smaller value than now changes nothing.
    pub fn grow(&mut self, capacity_bytes: u64) {
        if capacity_bytes > self.arena.capacity_bytes() {
            self.arena.grow(capacity_bytes);
        }
    }

    /// Reserves memory for the absent chunks of `range`, where `prefix` holds the chunk hashes from
    /// the start of the prompt to the end of the range.
    ///
    /// Room is made by evicting colder objects, never one of this prompt; of a salt that is at its quota, by
    /// evicting its own. When nothing more can be evicted the rest of the range is refused: a prefix of it is
    /// still worth storing.
    pub fn reserve(
        &mut self,
        scope: &Scope,
        prefix: &[ChunkHash],
        range: Range<usize>,
        now_ms: u32,
    ) -> Reservation {
        self.reserve_up_to(usize::MAX, scope, prefix, range, now_ms)
    }

    /// As [`Self::reserve`], for at most `most` chunks; those beyond are refused.
    pub fn reserve_up_to(
        &mut self,
        most: usize,
        scope: &Scope,
        prefix: &[ChunkHash],
        range: Range<usize>,
        now_ms: u32,
    ) -> Reservation {
        let mut answer = Reservation::default();
        let prompt = &prefix[..range.end];
        let (mut spared, mut refusal) = (None, None);
        for (index, hash) in prefix[range.clone()].iter().enumerate() {
            // Looked up anew for each chunk: making room for the one before may have evicted the scope's last
            // object, and its number with it.
            if let Some(id) = self.scopes.find(scope) {
                if self.find_resident(id, hash).is_some() {
                    answer.resident += 1;
                    continue;
                }
                if self.fresh_writer(id, hash, now_ms).is_some() {
                    answer.busy += 1;
                    continue;
                }
            }
            if answer.reserved.len() >= most {
                refusal.get_or_insert(Refusal::Room);
            }
            // After the first refusal nothing more is reserved, even if a later chunk would fit: a prompt is
            // read from its start, and a chunk behind a gap is never found.
            if refusal.is_none() {
                let id = self.acquire_scope(scope);
                let entry = Entry::staging(*hash, id, range.start + index, now_ms);
                match self.stage(entry, |cache| cache.spare(&mut spared, scope, prompt)) {
                    Ok((entry, offset)) => {
                        answer.reserved.push(Reserved { index, entry, offset });
                        continue;
                    }
                    Err(refused) => refusal = Some(refused),
                }
            }
            answer.refused += 1;
            answer.refused_by_quota += usize::from(refusal == Some(Refusal::Quota));
        }
        // Not before the whole range is done: what is reserved last may need room as well.
        for chunk in spared.into_iter().flatten() {
            self.release(chunk, 1);
        }
        self.check_balance();
        self.stats.refused_total += answer.refused as u64;
        self.stats.refused_by_quota_total += answer.refused_by_quota as u64;
        answer
    }

    /// Adds a staging object with memory. Its scope was acquired for it.
    fn stage(&mut self, entry: Entry, mut spare: impl FnMut(&mut Self)) -> Result<(EntryRef, u64), Refusal> {
        let scope = entry.scope;
        let (bytes, held, tenant) =
            (self.scopes.get(scope).layout.bytes(), self.held_bytes(scope), self.scopes.tenant(scope));
        let entry = self.entries.insert(entry);
        // The quota first: what its tenant gives up for it is room, too. Within both, the prompt's own chunks
        // are leased before anything is evicted; they are the coldest once nothing has touched them since
        // they were stored, and a prompt without its beginning is worth nothing.
        let offset = match self.fit_quota(tenant, held, &mut spare) {
            true => self.allocate(bytes, entry, &mut spare).ok_or(Refusal::Room),
            false => Err(Refusal::Quota),
        };
        let offset = offset.inspect_err(|_| self.forget(entry.id))?;
        self.take_memory(entry.id, offset);
        self.index_staging(entry.id);
        Ok((entry, offset))
    }

    /// Publishes what a writer has finished. Commit the chunks of a prompt last chunk first, so that a
    /// chunk is never colder than its continuation.
    pub fn commit(&mut self, entry: EntryRef) -> Commit {
        let Some(found) = self.entries.get(entry) else { return Commit::Gone };
        let (scope, hash) = (found.scope, found.hash);
        match found.state {
            State::Staging => {}
            State::Condemned if found.leases == 0 => {
                self.forget_condemned(entry.id);
                return Commit::Gone;
            }
            State::Condemned | State::Resident | State::Free => return Commit::Gone,
        }
        // Of two writers the first wins: readers may hold its copy.
        if self.find_resident(scope, &hash).is_some() {
            self.stats.duplicates_total += 1;
            self.drop_staging(entry.id);
            return Commit::Duplicate;
        }
        self.unlink_staging(entry.id);
        self.publish(entry.id);
        self.stats.stored_total += 1;
        self.check_balance();
        Commit::Stored
    }

    /// Takes back memory that its writer has let go of without finishing, once the last lease on it is given
    /// back. Nothing is published.
    pub fn abort(&mut self, entry: EntryRef) {
        let Some(found) = self.entries.get(entry) else { return };
        match found.state {
            State::Staging => self.drop_staging(entry.id),
            State::Condemned if found.leases == 0 => self.forget_condemned(entry.id),
            State::Condemned | State::Resident | State::Free => return,
        }
        self.check_balance();
        self.stats.aborted_total += 1;
    }

    /// The resident object of a chunk.
    #[must_use]
    pub fn find(&self, scope: &Scope, hash: &ChunkHash) -> Option<EntryRef> {
        self.find_resident(self.scopes.find(scope)?, hash).map(|id| self.entries.handle(id))
    }

    /// First byte of an object's memory in the pool, while the object exists.
    #[must_use]
    pub fn offset(&self, entry: EntryRef) -> Option<u64> {
        self.entries.get(entry).map(|_| self.offset_of(entry.id))
    }

    /// The chunk an object holds, while the object exists.
    #[must_use]
    pub fn chunk(&self, entry: EntryRef) -> Option<ChunkHash> {
        self.entries.get(entry).map(|found| found.hash)
    }

    /// Removes a resident object that nobody holds a lease on; false if somebody does, or it is gone.
    pub fn remove_unleased(&mut self, entry: EntryRef) -> bool {
        let removable = |found: &Entry| found.state == State::Resident && found.leases == 0;
        let removable = self.entries.get(entry).is_some_and(removable);
        if removable {
            self.remove_resident(entry.id, Removal::Dropped);
        }
        removable
    }

    /// Takes a resident object out of the index whoever holds it; the last of them frees its memory. False if
    /// it is not there.
    pub fn discard(&mut self, entry: EntryRef) -> bool {
        let Some(found) = self.entries.get(entry).filter(|found| found.state == State::Resident) else {
            return false;
        };
        if found.leases == 0 {
            self.remove_resident(entry.id, Removal::Dropped);
        } else {
            self.condemn(entry.id);
        }
        true
    }

    /// As [`Self::discard`], unless there are more leases on it than `own`, which are the caller's.
    pub fn discard_unshared(&mut self, entry: EntryRef, own: u32) -> bool {
        self.entries.get(entry).is_some_and(|found| found.leases <= own) && self.discard(entry)
    }

    /// Where an object belongs, while it exists.
    #[must_use]
    pub fn scope(&self, entry: EntryRef) -> Option<&Scope> {
        self.entries.get(entry).map(|found| &**self.scopes.get(found.scope))
    }

    /// The same, shared.
    #[must_use]
    pub fn shared_scope(&self, entry: EntryRef) -> Option<Arc<Scope>> {
        self.entries.get(entry).map(|found| Arc::clone(self.scopes.get(found.scope)))
    }

    /// Removes resident objects without leases, and with `force` also those under lease or being written,
    /// whose memory is then kept until the last reader or the writer lets go. Walks at most `step` records
    /// from `from` and returns where to go on.
    pub fn clear_step(&mut self, force: bool, from: u32, step: u32) -> Option<u32> {
        let until = from.saturating_add(step).min(self.entries.bound());
        for id in from..until {
            let entry = self.entries.at(id);
            match (entry.state, entry.leases) {
                (State::Resident, 0) => self.remove_resident(id, Removal::Dropped),
                (State::Resident, _) if force => self.condemn(id),
                (State::Staging, _) if force => self.condemn_staging(id),
                _ => {}
            }
        }
        self.check_balance();
        (until < self.entries.bound()).then_some(until)
    }

    /// The numbers as of now.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            capacity_bytes: self.arena.capacity_bytes(),
            used_bytes: self.arena.used_bytes(),
            largest_free_bytes: self.arena.largest_free_bytes(),
            resident_objects: self.resident.len() as u64,
            staging_objects: self.staging.len() as u64,
            scopes: self.scopes.len() as u64,
            ..self.stats
        }
    }

    pub(super) fn find_resident(&self, scope: ScopeId, hash: &ChunkHash) -> Option<u32> {
        let same = |&id: &u32| {
            let entry = self.entries.at(id);
            entry.scope == scope && entry.hash == *hash
        };
        self.resident.find(slot_hash(scope, hash), same).copied()
    }

    /// The staging object of a chunk whose writer began lately.
    #[must_use]
    pub fn writer(&self, scope: &Scope, hash: &ChunkHash, now_ms: u32) -> Option<EntryRef> {
        let id = self.fresh_writer(self.scopes.find(scope)?, hash, now_ms)?;
        Some(self.entries.handle(id))
    }

    fn fresh_writer(&self, scope: ScopeId, hash: &ChunkHash, now_ms: u32) -> Option<u32> {
        let fresh = |id: &u32| {
            let entry = self.entries.at(*id);
            entry.scope == scope
                && entry.hash == *hash
                && now_ms.wrapping_sub(entry.staged_ms) < self.config.staging_fresh_ms
        };
        self.staging.iter_hash(slot_hash(scope, hash)).copied().find(fresh)
    }

    /// Bytes that an object of this scope takes from the pool.
    #[must_use]
    pub fn bytes_held_by(&self, scope: &Scope) -> u64 {
        scope.layout.bytes().next_multiple_of(self.arena.align())
    }
}
