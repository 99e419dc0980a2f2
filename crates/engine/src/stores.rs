//! What waits to be stored in the second tier: a lane for each place that is to have it.
//!
//! Every lane has its own position in what was committed and its own leases, so that one which is slow,
//! limited or stuck keeps nothing from the others. The engine decides nothing about storage; the controllers
//! in the second tier empty the lanes. Facts: `spec/cache-semantics.md` 11.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use larder_core::cache::EntryRef;
use larder_core::hash::ChunkHash;
use larder_core::key::Scope;
use tokio::sync::Notify;

use super::engine::{Engine, State};
use super::room::above_watermark;
use super::verify::{CheckPoint, Checked};

/// Share of the pool that objects waiting in a lane may hold once the pool is above its watermark; below,
/// nobody else needs the memory. Beyond it the last chunks of the oldest stores are given up, so that a slow
/// backend never keeps stores into memory from succeeding. What is left in any lane is the newest that was
/// committed, so all lanes together hold no more than the longest.
const QUEUE_SHARE: u64 = 4;

/// Chunks given up at a time for each that is queued: the queue shrinks, and no commit pays for all of it.
const SHED_PER_QUEUED: usize = 4;

/// An object to be stored, shared by the lanes it waits in. Whoever takes one from a lane holds that lane's
/// lease on it.
#[derive(Debug)]
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
    lanes_left: AtomicU32,
    is_missed: AtomicBool,
    checksum: OnceLock<Option<u64>>,
}

impl StoreWork {
    /// Notes that one lane is done with the object. True for the last one, if all of them stored it.
    pub fn finish(&self, is_stored: bool) -> bool {
        if !is_stored {
            self.is_missed.store(true, Ordering::Release);
        }
        self.lanes_left.fetch_sub(1, Ordering::AcqRel) == 1 && !self.is_missed.load(Ordering::Acquire)
    }

    /// The checksum to store it with; none if its bytes are not those that were committed. The first lane
    /// that asks waits for the hashing, whoever asks meanwhile waits with it.
    pub fn checksum(&self, engine: &Engine) -> Option<u64> {
        let hash = || {
            let bytes = self.scope.layout.bytes();
            match engine.verify_object(self.entry, self.offset, bytes, CheckPoint::Store) {
                Ok(Checked::Intact(checksum) | Checked::Gone(checksum)) => Some(checksum),
                Ok(Checked::Changed) => None,
                Err(error) => {
                    tracing::warn!("an object was not stored in L2: {error}");
                    None
                }
            }
        };
        *self.checksum.get_or_init(hash)
    }

    fn bytes(&self) -> u64 {
        self.scope.layout.bytes()
    }
}

/// What waits in one lane.
#[derive(Debug)]
struct Queue {
    id: u64,
    is_open: bool,
    /// One list per commit, in chunk order: what is given up must be what follows, never what precedes.
    commits: VecDeque<VecDeque<Arc<StoreWork>>>,
    backlog: Backlog,
    shed_total: u64,
    due: Arc<Notify>,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Objects.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Backlog {
    fn add(&mut self, work: &StoreWork) {
        self.objects += 1;
        self.bytes += work.bytes();
    }

    fn remove(&mut self, work: &StoreWork) {
        self.objects -= 1;
        self.bytes -= work.bytes();
    }
}

impl Queue {
    /// The oldest commit that has objects left.
    fn oldest(&mut self) -> Option<&mut VecDeque<Arc<StoreWork>>> {
        while self.commits.front()?.is_empty() {
            self.commits.pop_front();
        }
        self.commits.front_mut()
    }

    /// The oldest object.
    fn front(&mut self) -> Option<&StoreWork> {
        self.oldest()?.front().map(|work| &**work)
    }

    fn take(&mut self) -> Option<Arc<StoreWork>> {
        let work = self.oldest()?.pop_front()?;
        self.backlog.remove(&work);
        Some(work)
    }

    /// The last object of the oldest commit.
    fn shed(&mut self) -> Option<Arc<StoreWork>> {
        let work = self.oldest()?.pop_back()?;
        self.backlog.remove(&work);
        Some(work)
    }
}

/// The lanes of one engine.
#[derive(Debug, Default)]
pub(super) struct StoreLanes {
    queues: Vec<Queue>,
    opened_total: u64,
    /// Leases on objects that wait, and on those taken that are not released yet.
    pub(super) leases: u64,
}

impl StoreLanes {
    fn queue(&mut self, id: u64) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.id == id)
    }

    /// Objects that wait, once for each lane they wait in.
    pub(super) fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.backlog.objects).sum()
    }
}

/// A lane, for as long as this is held. It is closed at first.
#[derive(Debug)]
pub struct StoreLane {
    engine: Arc<Engine>,
    id: u64,
    due: Arc<Notify>,
}

impl StoreLane {
    /// Adds a lane to an engine's.
    pub fn new(engine: &Arc<Engine>) -> Self {
        let due = Arc::new(Notify::new());
        let lanes = &mut engine.state().lanes;
        lanes.opened_total += 1;
        let id = lanes.opened_total;
        let queue = Queue {
            id,
            is_open: false,
            commits: VecDeque::new(),
            backlog: Backlog::default(),
            shed_total: 0,
            due: Arc::clone(&due),
        };
        lanes.queues.push(queue);
        Self { engine: Arc::clone(engine), id, due }
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
    pub fn take(&self, max_bytes: u64) -> Vec<Arc<StoreWork>> {
        let mut state = self.engine.state();
        let Some(queue) = state.lanes.queue(self.id) else { return Vec::new() };
        let mut left = max_bytes;
        let mut taken: Vec<Arc<StoreWork>> = Vec::new();
        while queue.front().is_some_and(|work| taken.is_empty() || work.bytes() <= left) {
            let Some(work) = queue.take() else { break };
            left = left.saturating_sub(work.bytes());
            taken.push(work);
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
            if is_open && state.cache.lease(work.entry, 1) {
                state.lanes.leases += 1;
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
    state.lanes.leases -= 1;
    state.cache.release(work.entry, 1);
}

impl Engine {
    /// Gives a lease back that came with a [`StoreWork`].
    pub fn release_store(&self, entry: EntryRef) {
        let mut state = self.state();
        state.cache.release(entry, 1);
        state.lanes.leases -= 1;
    }

    /// Drops an object from memory after it was stored elsewhere, unless somebody holds it.
    pub fn drop_stored(&self, entry: EntryRef) {
        let mut state = self.state();
        state.cache.remove_unleased(entry);
        self.record_removals(&mut state);
    }

    /// Queues committed objects in every open lane.
    pub(super) fn queue_stores(
        &self,
        state: &mut State,
        scope: &Scope,
        prompt: &Arc<[ChunkHash]>,
        prompt_end: usize,
        stored: &[EntryRef],
    ) {
        let State { lanes, cache, .. } = state;
        let open = lanes.queues.iter().filter(|queue| queue.is_open).count() as u32;
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
            if !cache.lease(entry, open) {
                continue;
            }
            lanes.leases += u64::from(open);
            commit.push_back(Arc::new(StoreWork {
                entry,
                scope: Arc::clone(&scope),
                hash,
                offset,
                prompt: Arc::clone(prompt),
                prompt_end,
                lanes_left: AtomicU32::new(open),
                is_missed: AtomicBool::new(false),
                checksum: OnceLock::new(),
            }));
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
        if !above_watermark(used, expected, state.limits.eviction_watermark) {
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
