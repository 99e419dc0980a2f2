//! The engine's side of the second tier: what waits to be stored there, and which lookups wait for it.
//!
//! The engine decides nothing about storage. It keeps two bounded queues and hands memory out; the controllers in
//! [`crate::controllers::l2`] drain them. Facts: `spec/cache-semantics.md` 11.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashSet;
use larder_core::cache::{Commit, EntryRef, Row};
use larder_core::hash::ChunkHash;
use larder_core::key::Scope;

use super::core::{Engine, State};
use super::room::above_watermark;
use crate::events::Event;

/// Share of the pool that objects waiting for their store may hold once the pool is above its watermark; below, nobody else
/// needs the memory. Beyond it the last chunks of the oldest stores are given up, so that a slow backend never keeps stores
/// into memory from succeeding.
const STORE_QUEUE_SHARE: u64 = 4;

/// Chunks given up at a time for each that is queued: the queue shrinks, and no commit pays for all of it.
const SHED_PER_QUEUED: usize = 4;

/// Most lookups that wait for the second tier; further ones are answered from memory alone.
const PREFETCH_QUEUE_MAX: usize = 1_024;

/// An object to be stored, under a lease that its taker must give back.
#[derive(Clone, Debug)]
pub struct StoreWork {
    /// The object.
    pub entry: EntryRef,
    /// Its scope.
    pub scope: Arc<Scope>,
    /// Its chunk.
    pub hash: ChunkHash,
    /// First byte in the pool.
    pub offset: u64,
    /// The chunks of the prompt it is part of.
    pub prompt: Arc<[ChunkHash]>,
    /// How many of them there were when it was committed.
    pub prompt_end: usize,
}

/// What a prefetch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A lookup that waits for its answer.
    Lookup,
    /// An operator who wants the objects in memory.
    Warm,
}

/// A lookup that the second tier may extend, or a warm prefetch.
#[derive(Clone, Debug)]
pub struct PrefetchWork {
    /// The request that waits, or the id of the warm prefetch.
    pub request_id: Box<str>,
    pub(super) purpose: Purpose,
    /// Which of its lookups: a later one makes this one void.
    pub generation: u64,
    /// Ranks and groups.
    pub rows: Arc<[Row]>,
    /// Hashes of the prompt's complete chunks.
    pub hashes: Arc<[ChunkHash]>,
    /// Chunks that are in memory and leased already.
    pub from: usize,
    /// Workers that will retrieve.
    pub readers: u8,
}

/// Memory reserved for one object that is to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadSlot {
    /// Its row.
    pub row: usize,
    /// Its chunk.
    pub chunk: usize,
    /// The staging object; to be committed by [`Engine::finish_prefetch`] or given to [`Engine::abort_load`].
    pub entry: EntryRef,
    /// First byte in the pool.
    pub offset: u64,
}

/// An object that was loaded and may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The staging object.
    pub entry: EntryRef,
    /// The checksum it was sealed with, if it was.
    pub seal: Option<u64>,
}

/// Queues towards the second tier.
#[derive(Debug, Default)]
pub(super) struct TierQueues {
    enabled: bool,
    /// One list per commit, in chunk order: what is given up must be what follows, never what precedes.
    stores: VecDeque<VecDeque<StoreWork>>,
    store_count: usize,
    store_bytes: u64,
    /// Leases on objects in the store queue, and on those taken from it that are not released yet.
    pub(super) store_leases: u64,
    prefetches: VecDeque<PrefetchWork>,
    generation: u64,
    pub(super) prefetching: usize,
}

impl TierQueues {
    /// Whether there is a second tier.
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }
}

impl Engine {
    /// Starts filling the queues, or stops. What is queued already stays for whoever drains them.
    pub fn set_tier_enabled(&self, enabled: bool) {
        self.state().tier.enabled = enabled;
    }

    /// Whether there is a second tier to store in and load from.
    pub fn has_tier(&self) -> bool {
        self.state().tier.enabled
    }

    /// Resolves when there may be objects to store.
    pub async fn stores_due(&self) {
        self.wake_stores.notified().await;
    }

    /// Resolves when there may be lookups to extend.
    pub async fn prefetches_due(&self) {
        self.wake_prefetches.notified().await;
    }

    /// Takes up to `max_bytes` of objects to store, oldest first, at least one if there is any.
    pub fn take_stores(&self, max_bytes: u64) -> Vec<StoreWork> {
        let mut state = self.state();
        let tier = &mut state.tier;
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(commit) = tier.stores.front_mut() {
            let Some(work) = commit.front() else {
                tier.stores.pop_front();
                continue;
            };
            let size = work.scope.layout.bytes();
            if !taken.is_empty() && bytes + size > max_bytes {
                break;
            }
            bytes += size;
            taken.extend(commit.pop_front());
        }
        tier.store_bytes -= bytes;
        tier.store_count -= taken.len();
        taken
    }

    /// Takes the next lookup that waits for the second tier.
    pub fn take_prefetch(&self) -> Option<PrefetchWork> {
        self.state().tier.prefetches.pop_front()
    }

    /// Objects and lookups that wait to be taken.
    pub fn tier_backlog(&self) -> (usize, usize) {
        let state = self.state();
        (state.tier.store_count, state.tier.prefetches.len())
    }

    /// Gives a lease back that came with a [`StoreWork`].
    pub fn release_store(&self, entry: EntryRef) {
        let mut state = self.state();
        state.cache.release(entry, 1);
        state.tier.store_leases -= 1;
    }

    /// Drops an object from memory after it was stored elsewhere, unless somebody holds it.
    pub fn drop_stored(&self, entry: EntryRef) {
        let mut state = self.state();
        state.cache.remove_unleased(entry);
        self.record_removals(&mut state);
    }

    /// Which objects of `rows` from chunk `from` on are in memory: one list per row.
    pub fn resident(&self, rows: &[Row], hashes: &[ChunkHash], from: usize) -> Vec<Vec<bool>> {
        let state = self.state();
        let row = |row: &Row| {
            hashes[from..].iter().map(|hash| state.cache.find(&row.scope, hash).is_some()).collect()
        };
        rows.iter().map(row).collect()
    }

    /// Whether somebody else than the holder of `own` is about to finish an object of `rows` that is missing from chunk `from` on.
    pub fn others_write(&self, rows: &[Row], hashes: &[ChunkHash], from: usize, own: &[EntryRef]) -> bool {
        let now_ms = self.now_ms() as u32;
        let own: HashSet<EntryRef> = own.iter().copied().collect();
        let state = self.state();
        let awaited = |row: &Row, hash: &ChunkHash| {
            state.cache.find(&row.scope, hash).is_none()
                && state.cache.writer(&row.scope, hash, now_ms).is_some_and(|writer| !own.contains(&writer))
        };
        rows.iter().any(|row| hashes[from..].iter().any(|hash| awaited(row, hash)))
    }

    /// Reserves memory for the chunks of one row that are not there, evicting for it. What is there or about to be is left out.
    pub fn reserve_load(
        &self,
        rows: &[Row],
        row: usize,
        hashes: &[ChunkHash],
        chunks: Range<usize>,
    ) -> Vec<LoadSlot> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let scope = &rows[row].scope;
        let start = chunks.start;
        let answer = state.cache.reserve(scope, &hashes[..chunks.end], chunks, now_ms as u32);
        self.record_removals(&mut state);
        let slot = |r: &larder_core::cache::Reserved| LoadSlot {
            row,
            chunk: start + r.index,
            entry: r.entry,
            offset: r.offset,
        };
        answer.reserved.iter().map(slot).collect()
    }

    /// Takes back memory that nobody loads into any more.
    pub fn abort_load(&self, entry: EntryRef) {
        self.state().cache.abort(entry);
    }

    /// Publishes what was loaded and answers whoever asked with what is in memory now; a lookup may be void by then.
    pub fn finish_prefetch(&self, work: &PrefetchWork, loaded: &[Arrival]) {
        let mut state = self.state();
        let mut committed = 0;
        for &Arrival { entry, seal } in loaded.iter().rev() {
            if state.cache.commit(entry) != Commit::Stored {
                continue;
            }
            committed += 1;
            let bytes = state.cache.scope(entry).map_or(0, |scope| scope.layout.bytes());
            match seal {
                Some(seal) => _ = state.cache.set_seal(entry, seal),
                None => self.queue_seals(&mut state, bytes, &[entry]),
            }
        }
        self.counters.l2_loaded_chunks.add(committed as u64);
        state.tier.prefetching -= 1;
        match work.purpose {
            Purpose::Lookup => self.answer_lookup(&mut state, work, committed),
            Purpose::Warm => self.complete_warm(&mut state, work),
        }
        self.after_change(&mut state);
        drop(state);
        self.answered.notify_waiters();
    }

    fn answer_lookup(&self, state: &mut State, work: &PrefetchWork, committed: usize) {
        let State { sessions, cache, .. } = state;
        let found = sessions.peek(&work.request_id).and_then(|session| session.found.as_mut());
        if let Some(found) = found.filter(|found| found.pending == Some(work.generation)) {
            let answer = cache.lookup(&work.rows, &work.hashes, work.readers);
            let gained = answer.hit_chunks.saturating_sub(work.from) as u64;
            self.counters.l2_hit_chunks.add(gained);
            let scope = &work.rows[0].scope;
            self.counters.lookup(&scope.model_name, &scope.cache_salt, |counts| {
                let tokens = gained * u64::from(self.config.chunk_size);
                counts.hit_tokens += tokens;
                counts.hit_l2_tokens += tokens;
                counts.hit_l2_keys += gained * work.rows.len() as u64;
            });
            self.bus.publish(|| Event::L2Load {
                model_name: &scope.model_name,
                request_id: &work.request_id,
                objects: committed,
                hit_chunks: answer.hit_chunks,
            });
            found.pending = None;
            found.hit_chunks = answer.hit_chunks;
            let superseded = std::mem::replace(&mut found.leases, answer.leases);
            cache.release_all(superseded);
        }
    }

    /// Queues committed objects for the second tier.
    pub(super) fn queue_stores(
        &self,
        state: &mut State,
        scope: &Scope,
        prompt: &Arc<[ChunkHash]>,
        prompt_end: usize,
        stored: &[EntryRef],
    ) {
        if !state.tier.enabled {
            return;
        }
        let scope = Arc::new(scope.clone());
        let bytes = scope.layout.bytes();
        let mut commit = VecDeque::new();
        for &entry in stored {
            let (Some(offset), Some(hash)) = (state.cache.offset(entry), state.cache.chunk(entry)) else {
                continue;
            };
            state.cache.lease(entry, 1);
            commit.push_back(StoreWork {
                entry,
                scope: Arc::clone(&scope),
                hash,
                offset,
                prompt: Arc::clone(prompt),
                prompt_end,
            });
        }
        let queued = commit.len();
        state.tier.store_count += commit.len();
        state.tier.store_leases += commit.len() as u64;
        state.tier.store_bytes += bytes * commit.len() as u64;
        state.tier.stores.push_back(commit);
        self.shed_stores(state, SHED_PER_QUEUED * queued);
        self.wake_stores.notify_one();
    }

    /// Gives up to `most` chunks up if they hold memory that others need.
    fn shed_stores(&self, state: &mut State, most: usize) {
        let (used, capacity) = state.cache.usage();
        let growing = self.growing.load(Ordering::Relaxed);
        let expected = if growing { self.pool.len_bytes() } else { capacity };
        if !above_watermark(used, expected, state.limits.eviction_watermark) {
            return;
        }
        let mut shed_count = 0;
        while shed_count < most && state.tier.store_bytes > capacity / STORE_QUEUE_SHARE {
            let Some(oldest) = state.tier.stores.front_mut() else { break };
            let Some(shed) = oldest.pop_back() else {
                state.tier.stores.pop_front();
                continue;
            };
            shed_count += 1;
            state.tier.store_count -= 1;
            state.tier.store_bytes -= shed.scope.layout.bytes();
            state.tier.store_leases -= 1;
            state.cache.release(shed.entry, 1);
        }
        self.counters.l2_shed_chunks.add(shed_count as u64);
    }

    /// Queues a lookup for the second tier; `None` if there is none or it has too much to do.
    pub(super) fn queue_prefetch(&self, state: &mut State, mut work: PrefetchWork) -> Option<u64> {
        let has_source = state.tier.enabled || self.is_adopting();
        if !has_source || state.tier.prefetches.len() >= PREFETCH_QUEUE_MAX {
            return None;
        }
        state.tier.generation += 1;
        state.tier.prefetching += 1;
        work.generation = state.tier.generation;
        let generation = work.generation;
        state.tier.prefetches.push_back(work);
        self.wake_prefetches.notify_one();
        Some(generation)
    }
}
