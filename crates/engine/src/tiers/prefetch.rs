//! The engine's side of loads from the second tier: which lookups wait for it, and the memory it fills.
//!
//! The engine decides nothing about storage. It keeps a bounded queue and hands memory out; the controllers
//! in the second tier drain it. Facts: `spec/cache-semantics.md` 11.

use std::ops::Range;

use hashbrown::HashSet;
use larder_core::cache::{Commit, EntryRef, Row};
use larder_core::hash::ChunkHash;
use larder_telemetry::events::Event;

use crate::engine::{Engine, State};
use crate::faces::Tiers;
use crate::state::lifetimes::Touch;
use crate::state::prefetches::{PREFETCH_QUEUE_MAX, PrefetchWork, Purpose};

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

impl Tiers {
    /// Starts queueing lookups, or stops. What is queued already stays for whoever drains it.
    pub fn set_enabled(&self, enabled: bool) {
        self.state().prefetches.enabled = enabled;
    }

    /// Resolves when there may be lookups to extend.
    pub async fn prefetches_due(&self) {
        self.wake_prefetches.notified().await;
    }

    /// Takes the next lookup that waits for the second tier.
    #[must_use]
    pub fn take_prefetch(&self) -> Option<PrefetchWork> {
        self.state().prefetches.waiting.pop_front()
    }

    /// Which objects of `rows` from chunk `from` on are in memory: one list per row.
    #[must_use]
    pub fn resident(&self, rows: &[Row], hashes: &[ChunkHash], from: usize) -> Vec<Vec<bool>> {
        let state = self.state();
        let row = |row: &Row| {
            hashes[from..].iter().map(|hash| state.cache.find(&row.scope, hash).is_some()).collect()
        };
        rows.iter().map(row).collect()
    }

    /// Whether somebody else than the holder of `own` is about to finish an object of `rows` that is missing
    /// from chunk `from` on.
    #[must_use]
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

    /// Reserves memory for the chunks of one row that are not there, evicting for it. What is there or about
    /// to be is left out.
    #[must_use]
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

    /// Gives up on loads that may still write to their memory: nobody waits for them, and others may load the
    /// same chunks.
    pub fn abandon_loads(&self, entries: &[EntryRef]) {
        let now_ms = self.now_ms() as u32;
        let mut state = self.state();
        entries.iter().for_each(|&entry| state.cache.abandon(entry, now_ms));
    }

    /// Publishes what was loaded and answers whoever asked with what is in memory now; a lookup may be void
    /// by then.
    pub fn finish_prefetch(&self, work: &PrefetchWork, loaded: &[Arrival]) {
        let mut state = self.state();
        let committed = self.publish_loads(&mut state, work, loaded);
        state.prefetches.prefetching -= 1;
        match work.purpose {
            Purpose::Lookup => self.answer_lookup(&mut state, work, committed),
            Purpose::Warm => self.complete_warm(&mut state, work),
        }
        self.after_change(&mut state);
        drop(state);
        self.answered.notify_waiters();
    }

    /// Publishes what arrived after the answer.
    pub fn publish_late(&self, work: &PrefetchWork, loaded: &[Arrival]) {
        let mut state = self.state();
        self.publish_loads(&mut state, work, loaded);
        self.after_change(&mut state);
    }

    /// Returns how many objects are new.
    fn publish_loads(&self, state: &mut State, work: &PrefetchWork, loaded: &[Arrival]) -> usize {
        let mut committed = Vec::new();
        for &Arrival { entry, seal } in loaded.iter().rev() {
            if state.cache.commit(entry) != Commit::Stored {
                continue;
            }
            committed.push(entry);
            let bytes = state.cache.scope(entry).map_or(0, |scope| scope.layout.bytes());
            match seal {
                Some(seal) => _ = state.cache.set_seal(entry, seal),
                None => self.queue_seals(state, bytes, &[entry]),
            }
        }
        self.follow(state, &committed, Touch::Loaded);
        self.record_arrivals(state, work, &committed);
        self.counters.l2_loaded_chunks.add(committed.len() as u64);
        committed.len()
    }

    fn answer_lookup(&self, state: &mut State, work: &PrefetchWork, committed: usize) {
        let State { sessions, cache, .. } = state;
        if let Some(found) = sessions.waiting_for(&work.request_id, work.generation) {
            let answer = cache.lookup(&work.rows, &work.hashes, work.readers);
            let gained = answer.hit_chunks.saturating_sub(work.from) as u64;
            self.counters.l2_hit_chunks.add(gained);
            let scope = &work.rows[0].scope;
            self.counters.lookup(&scope.model_name, &scope.cache_salt, None, |counts| {
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
}

impl Engine {
    /// Whether there is a second tier to load from.
    pub fn has_tier(&self) -> bool {
        self.state().prefetches.enabled
    }

    /// Queues a lookup for the second tier; `None` if there is none or it has too much to do.
    pub(crate) fn queue_prefetch(&self, state: &mut State, mut work: PrefetchWork) -> Option<u64> {
        if !state.prefetches.enabled && !self.is_adopting() {
            return None;
        }
        if state.prefetches.waiting.len() >= PREFETCH_QUEUE_MAX {
            self.counters.l2_refused_lookups.add(1);
            if let Some(more) = self.full_queue.pass() {
                tracing::warn!(
                    "a lookup was answered from L1 alone: {PREFETCH_QUEUE_MAX} wait for L2 already{more}\n\
                     hint: see `--l2-prefetch-max-in-flight` and `larder adapters ls`"
                );
            }
            return None;
        }
        state.prefetches.generation += 1;
        state.prefetches.prefetching += 1;
        work.generation = state.prefetches.generation;
        let generation = work.generation;
        state.prefetches.waiting.push_back(work);
        self.wake_prefetches.notify_one();
        Some(generation)
    }
}
