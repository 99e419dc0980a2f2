//! Lanes to the second tier: what is committed goes into each that is open, and the controllers of the tier
//! empty them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::cache::EntryRef;
use larder_core::hash::ChunkHash;
use larder_core::key::Scope;
use tokio::sync::Notify;

use crate::engine::{Engine, State};
use crate::faces::Tiers;
use crate::state::checks::CheckPoint;
use crate::state::stores::{Backlog, Queue, StoreWork};
use crate::verify::Checked;

/// Share of the pool that objects waiting in a lane may hold once the pool is above its watermark; below,
/// nobody else needs the memory. Beyond it the last chunks of the oldest stores are given up, so that a slow
/// backend never keeps stores into memory from succeeding. What is left in any lane is the newest that was
/// committed, so all lanes together hold no more than the longest.
const QUEUE_SHARE: u64 = 4;

/// Chunks given up at a time for each that is queued: the queue shrinks, and no commit pays for all of it.
const SHED_PER_QUEUED: usize = 4;

/// A lane, for as long as this is held. It is closed at first.
#[derive(Debug)]
pub struct StoreLane {
    engine: Tiers,
    id: u64,
    due: Arc<Notify>,
}

impl StoreLane {
    /// Adds a lane to an engine's.
    #[must_use]
    pub fn new(engine: &Tiers) -> Self {
        let due = Arc::new(Notify::new());
        let lanes = &mut engine.state().lanes;
        lanes.opened_total += 1;
        let id = lanes.opened_total;
        lanes.queues.push(Queue::new(id, Arc::clone(&due)));
        Self { engine: engine.clone(), id, due }
    }

    /// Whether what is committed from now on goes into the lane. What waits in one that closes is given up.
    pub fn set_open(&self, is_open: bool) {
        let mut state = self.engine.state();
        let Some(queue) = state.lanes.queue(self.id) else { return };
        queue.is_open = is_open;
        if !is_open {
            let given_up: Vec<_> = std::iter::from_fn(|| queue.shed()).collect();
            given_up.iter().for_each(|work| give_up(&mut state, work));
        }
        drop(state);
        self.due.notify_one();
    }

    /// Resolves when there may be something to take.
    pub async fn due(&self) {
        self.due.notified().await;
    }

    /// Bytes of the object that is next; none if nothing waits.
    #[must_use]
    pub fn next_bytes(&self) -> Option<u64> {
        let mut state = self.engine.state();
        state.lanes.queue(self.id)?.front().map(|work| work.bytes())
    }

    /// Takes up to `max_bytes` of objects, oldest first, at least one if there is any.
    #[must_use]
    pub fn take(&self, max_bytes: u64) -> Vec<TakenStore> {
        let (mut left, mut taken) = (max_bytes, Vec::new());
        let mut state = self.engine.state();
        let Some(queue) = state.lanes.queue(self.id) else { return taken };
        while queue.front().is_some_and(|work| taken.is_empty() || work.bytes() <= left) {
            let Some(work) = queue.take() else { break };
            left = left.saturating_sub(work.bytes());
            taken.push(TakenStore { engine: self.engine.clone(), work });
        }
        taken
    }

    /// Puts objects back in front, in their order, under leases of their own. Those that are gone, and all of
    /// them when the lane was closed, count as not stored.
    pub fn put_back(&self, taken: Vec<Arc<StoreWork>>) {
        let mut state = self.engine.state();
        let is_open = state.lanes.queue(self.id).is_some_and(|queue| queue.is_open);
        let mut commit = VecDeque::new();
        for work in taken {
            let State { lanes, cache, .. } = &mut *state;
            if is_open && lanes.lease(cache, work.entry, 1) {
                commit.push_back(work);
            } else {
                work.finish(false);
            }
        }
        if let Some(queue) = state.lanes.queue(self.id) {
            commit.iter().for_each(|work| queue.backlog.add(work));
            queue.commits.push_front(commit);
        }
        drop(state);
        self.due.notify_one();
    }

    /// How much waits.
    pub fn backlog(&self) -> Backlog {
        self.engine.state().lanes.queue(self.id).map_or_else(Backlog::default, |queue| queue.backlog)
    }

    /// Objects given up because others needed the memory.
    #[must_use]
    pub fn shed_total(&self) -> u64 {
        self.engine.state().lanes.queue(self.id).map_or(0, |queue| queue.shed_total)
    }
}

/// An object taken from a lane, under that lane's lease until this is dropped.
#[derive(Debug)]
pub struct TakenStore {
    engine: Tiers,
    work: Arc<StoreWork>,
}

impl TakenStore {
    /// The object.
    #[must_use]
    pub fn work(&self) -> &Arc<StoreWork> {
        &self.work
    }
}

impl Drop for TakenStore {
    fn drop(&mut self) {
        let mut state = self.engine.state();
        let State { lanes, cache, .. } = &mut *state;
        lanes.release(cache, self.work.entry);
    }
}

impl Drop for StoreLane {
    fn drop(&mut self) {
        self.set_open(false);
        let id = self.id;
        self.engine.state().lanes.queues.retain(|queue| queue.id != id);
    }
}

/// Gives back the lease of an object that a lane will not store.
fn give_up(state: &mut State, work: &StoreWork) {
    work.finish(false);
    state.lanes.release(&mut state.cache, work.entry);
}

impl Tiers {
    /// The checksum to store an object with; none if its bytes are not those that were committed. The first
    /// lane that asks waits for the hashing, whoever asks meanwhile waits with it.
    pub fn checksum_of(&self, work: &StoreWork) -> Option<u64> {
        let hash = || {
            let bytes = work.scope.layout.bytes();
            match self.verify_object(work.entry, work.offset, bytes, CheckPoint::Store) {
                Ok(Checked::Intact(checksum) | Checked::Gone(checksum)) => Some(checksum),
                Ok(Checked::Changed) => None,
                Err(error) => {
                    tracing::warn!("an object was not stored in L2: {error}");
                    None
                }
            }
        };
        *work.checksum.get_or_init(hash)
    }

    /// Drops an object from memory after it was stored elsewhere, unless somebody holds it.
    pub fn drop_stored(&self, work: &StoreWork) {
        let mut state = self.state();
        state.cache.remove_unleased(work.entry);
        self.record_removals(&mut state);
    }
}

impl Engine {
    /// Queues committed objects in every open lane.
    pub(crate) fn queue_stores(
        &self,
        state: &mut State,
        scope: &Scope,
        prompt: &Arc<[ChunkHash]>,
        prompt_end: usize,
        stored: &[EntryRef],
    ) {
        let State { lanes, cache, .. } = state;
        let open = lanes.queues.iter().filter(|queue| queue.is_open).count();
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        if open == 0 {
            return;
        }
        if cache.stays_out_of_l2(scope) {
            self.counters.declined_stores.add(stored.len() as u64);
            return;
        }
        let scope = Arc::new(scope.clone());
        let mut commit = VecDeque::new();
        for &entry in stored {
            let (Some(offset), Some(hash)) = (cache.offset(entry), cache.chunk(entry)) else { continue };
            if !lanes.lease(cache, entry, open) {
                continue;
            }
            commit.push_back(Arc::new(StoreWork::new(
                entry,
                &scope,
                hash,
                offset,
                (prompt, prompt_end),
                open,
            )));
        }
        let queued = commit.len();
        for queue in lanes.queues.iter_mut().filter(|queue| queue.is_open) {
            commit.iter().for_each(|work| queue.backlog.add(work));
            queue.commits.push_back(commit.clone());
            queue.due.notify_one();
        }
        self.shed_stores(state, SHED_PER_QUEUED * queued);
    }

    /// Gives up to `most` chunks of each lane up if they hold memory that others need.
    fn shed_stores(&self, state: &mut State, most: usize) {
        let (used, capacity) = state.cache.usage();
        let growing = self.growing.load(Ordering::Relaxed);
        let expected = if growing { self.pool.len_bytes() } else { capacity };
        if !state.limits.is_above_watermark(used, expected) {
            return;
        }
        let mut shed = Vec::new();
        for queue in &mut state.lanes.queues {
            for _ in 0..most {
                if queue.backlog.bytes <= capacity / QUEUE_SHARE {
                    break;
                }
                let Some(work) = queue.shed() else { break };
                queue.shed_total += 1;
                shed.push(work);
            }
        }
        shed.iter().for_each(|work| give_up(state, work));
        self.counters.l2_shed_chunks.add(shed.len() as u64);
    }
}
