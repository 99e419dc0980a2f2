//! The second tier's door to the engine: one object for each lookup that it extends, from the moment the
//! lookup is taken until whoever asked has the answer. Facts: `spec/cache-semantics.md` 11.
//!
//! 1. [`Tiers::take_prefetch`] hands it out.
//! 2. [`Prefetch::verify_adopted`] publishes what a server before this one left in memory, so that it is not
//!    loaded.
//! 3. [`Prefetch::resident`] says what is missing, [`Prefetch::reserve`] hands out memory for it.
//! 4. What a load can no more bring in time is given up by [`Prefetch::abandon_all_but`]: others may load it.
//! 5. While [`Prefetch::others_write`] says so, somebody else is about to finish what is missing.
//! 6. [`Prefetch::answer`] publishes what came and answers, once. What comes later is published for the next
//!    lookup by [`Prefetch::publish_late`].
//!
//! Nothing of this can be left half done: a prefetch that is dropped answers, and a slot that is dropped
//! gives its memory back unless it was published. The engine decides nothing about storage.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use larder_core::cache::{Commit, EntryRef};
use larder_telemetry::events::Event;

use crate::engine::{Engine, State, table_ms};
use crate::faces::Tiers;
use crate::state::lifetimes::Touch;
use crate::state::prefetches::{PREFETCH_QUEUE_MAX, PrefetchWork, Purpose};

/// Longest a load waits for the pool to be prepared, right after a start. Then it takes what room there is.
const PREPARATION_PATIENCE: Duration = Duration::from_secs(30);

/// Memory for one object that is to be loaded. It goes back when this is dropped, unless the object was
/// published.
#[derive(Debug)]
pub struct LoadSlot {
    engine: Tiers,
    entry: EntryRef,
    /// Its row.
    pub row: usize,
    /// Its chunk.
    pub chunk: usize,
    /// First byte in the pool.
    pub offset: u64,
}

impl LoadSlot {
    /// Gives up on the load: nobody waits for it any more, and others may load the same chunk. Who has the
    /// slot may still write to its memory.
    pub fn abandon(&self) {
        let now_ms = table_ms(self.engine.now_ms());
        self.engine.state().cache.abandon(self.entry, now_ms);
    }

    /// Its object has arrived, with the checksum it was sealed with, if it was.
    #[must_use]
    pub fn arrived(&self, seal: Option<u64>) -> Arrival {
        Arrival { entry: self.entry, seal }
    }
}

impl Drop for LoadSlot {
    fn drop(&mut self) {
        // Once it is published this changes nothing.
        self.engine.state().cache.abort(self.entry);
    }
}

/// An object that was loaded and may be published, while its slot is held.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    entry: EntryRef,
    seal: Option<u64>,
}

/// A lookup that the second tier extends, or a warm prefetch. See the [module](self).
#[derive(Debug)]
pub struct Prefetch {
    engine: Tiers,
    work: Arc<PrefetchWork>,
    /// Every staging object that was made for it.
    reserved: HashSet<EntryRef>,
    is_answered: bool,
}

impl Tiers {
    /// Starts queueing lookups, or stops. What is queued already stays for whoever drains it.
    pub fn set_enabled(&self, enabled: bool) {
        self.state().prefetches.set_enabled(enabled);
    }

    /// Resolves when there may be lookups to extend.
    pub async fn prefetches_due(&self) {
        self.wake_prefetches.notified().await;
    }

    /// Takes the next lookup that waits for the second tier.
    #[must_use]
    pub fn take_prefetch(&self) -> Option<Prefetch> {
        let work = Arc::new(self.state().prefetches.take()?);
        Some(Prefetch { engine: self.clone(), work, reserved: HashSet::new(), is_answered: false })
    }
}

impl Prefetch {
    /// What is to be brought.
    #[must_use]
    pub fn work(&self) -> &Arc<PrefetchWork> {
        &self.work
    }

    /// Publishes what of the prompt a server before this one left in memory.
    pub async fn verify_adopted(&self) {
        if self.engine.is_adopting() {
            let (engine, work) = (self.engine.clone(), Arc::clone(&self.work));
            let verified = tokio::task::spawn_blocking(move || engine.verify_adopted_of(&work));
            if let Err(error) = verified.await {
                tracing::error!("objects of the server before were not looked at: {error}");
            }
        }
    }

    /// Which objects are in memory, from the first missing chunk on: one list per row.
    #[must_use]
    pub fn resident(&self) -> Vec<Vec<bool>> {
        let PrefetchWork { rows, hashes, from, .. } = &*self.work;
        let state = self.engine.state();
        let is_here = |scope, hash| state.cache.find(scope, hash).is_some();
        rows.iter()
            .map(|row| hashes[*from..].iter().map(|hash| is_here(&row.scope, hash)).collect())
            .collect()
    }

    /// Memory for what is not there of the first `chunks` missing chunks, `bytes` of it, evicting for it;
    /// what is about to be there is left out. Right after a start it waits for the pool rather than cut the
    /// prompt.
    pub async fn reserve(&mut self, chunks: usize, bytes: u64) -> Vec<LoadSlot> {
        if chunks == 0 {
            return Vec::new();
        }
        // Nobody is to be evicted for room that is about to be there. It counts as wanted until it is taken.
        let engine = self.engine.clone();
        let _room = tokio::time::timeout(PREPARATION_PATIENCE, engine.room_prepared(bytes)).await;
        let range = self.work.from..self.work.from + chunks;
        (0..self.work.rows.len()).flat_map(|row| self.reserve_row(row, range.clone())).collect()
    }

    /// Other memory for an object whose slot somebody may still write to.
    pub fn reserve_again(&mut self, row: usize, chunk: usize) -> Option<LoadSlot> {
        self.reserve_row(row, chunk..chunk + 1).pop()
    }

    pub(crate) fn reserve_row(&mut self, row: usize, chunks: Range<usize>) -> Vec<LoadSlot> {
        let PrefetchWork { rows, hashes, .. } = &*self.work;
        let (start, now_ms) = (chunks.start, self.engine.now_ms());
        let mut state = self.engine.state();
        let answer = state.cache.reserve(&rows[row].scope, &hashes[..chunks.end], chunks, table_ms(now_ms));
        self.engine.record_removals(&mut state);
        drop(state);
        self.reserved.extend(answer.reserved.iter().map(|reserved| reserved.entry));
        let slot = |reserved: &larder_core::cache::Reserved| LoadSlot {
            engine: self.engine.clone(),
            entry: reserved.entry,
            row,
            chunk: start + reserved.index,
            offset: reserved.offset,
        };
        answer.reserved.iter().map(slot).collect()
    }

    /// Gives up on what was reserved and has not arrived, as [`LoadSlot::abandon`].
    pub fn abandon_all_but(&self, arrived: &[Arrival]) {
        let arrived: HashSet<EntryRef> = arrived.iter().map(|arrival| arrival.entry).collect();
        let now_ms = table_ms(self.engine.now_ms());
        let mut state = self.engine.state();
        self.reserved.difference(&arrived).for_each(|&entry| state.cache.abandon(entry, now_ms));
    }

    /// Whether somebody else is about to finish an object that is missing before chunk `end`.
    #[must_use]
    pub fn others_write(&self, end: usize) -> bool {
        let PrefetchWork { rows, hashes, from, .. } = &*self.work;
        let now_ms = table_ms(self.engine.now_ms());
        let state = self.engine.state();
        rows.iter().any(|row| {
            hashes[*from..end].iter().filter(|hash| state.cache.find(&row.scope, hash).is_none()).any(
                |hash| {
                    let writer = state.cache.writer(&row.scope, hash, now_ms);
                    writer.is_some_and(|writer| !self.reserved.contains(&writer))
                },
            )
        })
    }

    /// Whether whoever asked has the answer.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Publishes what was loaded and answers whoever asked with what is in memory now, under one hold of the
    /// lock, so that nothing of it is evicted in between; a lookup may be void by then.
    pub fn answer(&mut self, loaded: &[Arrival]) {
        if std::mem::replace(&mut self.is_answered, true) {
            return self.publish_late(loaded);
        }
        let mut state = self.engine.state();
        let committed = self.engine.publish_loads(&mut state, &self.work, loaded);
        state.prefetches.note_answered();
        match self.work.purpose {
            Purpose::Lookup => self.engine.answer_lookup(&mut state, &self.work, committed),
            Purpose::Warm => self.engine.complete_warm(&mut state, &self.work),
        }
        self.engine.after_change(&mut state);
        drop(state);
        self.engine.answered.notify_waiters();
    }

    /// Publishes what arrived after the answer.
    pub fn publish_late(&self, loaded: &[Arrival]) {
        let mut state = self.engine.state();
        self.engine.publish_loads(&mut state, &self.work, loaded);
        self.engine.after_change(&mut state);
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        if !self.is_answered {
            self.answer(&[]);
        }
    }
}

impl Engine {
    /// Whether there is a second tier to load from.
    pub(crate) fn has_tier(&self) -> bool {
        self.state().prefetches.is_enabled()
    }

    /// Queues a lookup for the second tier; `None` if there is none or it has too much to do.
    pub(crate) fn queue_prefetch(&self, state: &mut State, work: PrefetchWork) -> Option<u64> {
        if !state.prefetches.is_enabled() && !self.is_adopting() {
            return None;
        }
        let queued = state.prefetches.queue(work);
        if queued.is_some() {
            self.wake_prefetches.notify_one();
            return queued;
        }
        self.counters.l2_refused_lookups.add(1);
        if let Some(more) = self.full_queue.pass() {
            tracing::warn!(
                "a lookup was answered from L1 alone: {PREFETCH_QUEUE_MAX} wait for L2 already{more}\n\
                 hint: see `--l2-prefetch-max-in-flight` and `larder adapters ls`"
            );
        }
        None
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
            let namespace = &work.rows[0].scope.namespace;
            self.counters.lookup(namespace.model_name(), namespace.cache_salt(), None, |counts| {
                let tokens = gained * u64::from(self.config.chunk_size);
                counts.hit_tokens += tokens;
                counts.hit_l2_tokens += tokens;
                counts.hit_l2_keys += gained * work.rows.len() as u64;
            });
            self.bus.publish(|| Event::L2Load {
                model_name: namespace.model_name(),
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
