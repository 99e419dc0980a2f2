//! What waits to be stored in the second tier: a lane for each place that is to have it.
//!
//! Every lane has its own position in what was committed and its own leases, so that one which is slow,
//! limited or stuck keeps nothing from the others. The engine decides nothing about storage; the controllers
//! in the second tier empty the lanes. Facts: `spec/cache-semantics.md` 11.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use larder_core::cache::{Cache, EntryRef};
use larder_core::hash::ChunkHash;
use larder_core::key::Scope;
use tokio::sync::Notify;

/// An object to be stored, shared by the lanes it waits in.
#[derive(Debug)]
pub struct StoreWork {
    pub(crate) entry: EntryRef,
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
    pub(crate) checksum: OnceLock<Option<u64>>,
}

impl StoreWork {
    /// An object of `prompt`'s first chunks that waits in so many lanes.
    pub(crate) fn new(
        entry: EntryRef,
        scope: &Arc<Scope>,
        hash: ChunkHash,
        offset: u64,
        (prompt, prompt_end): (&Arc<[ChunkHash]>, usize),
        lanes: u32,
    ) -> Self {
        Self {
            entry,
            scope: Arc::clone(scope),
            hash,
            offset,
            prompt: Arc::clone(prompt),
            prompt_end,
            lanes_left: AtomicU32::new(lanes),
            is_missed: AtomicBool::new(false),
            checksum: OnceLock::new(),
        }
    }

    /// Notes that one lane is done with the object. True for the last one, if all of them stored it.
    pub fn finish(&self, is_stored: bool) -> bool {
        if !is_stored {
            self.is_missed.store(true, Ordering::Release);
        }
        let lanes_left = self.lanes_left.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(lanes_left > 0, "each lane is done with an object once");
        lanes_left == 1 && !self.is_missed.load(Ordering::Acquire)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.scope.layout.bytes()
    }
}

/// What waits in one lane.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: u64,
    pub(crate) is_open: bool,
    /// One list per commit, in chunk order: what is given up must be what follows, never what precedes.
    pub(crate) commits: VecDeque<VecDeque<Arc<StoreWork>>>,
    pub(crate) backlog: Backlog,
    pub(crate) shed_total: u64,
    pub(crate) due: Arc<Notify>,
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
    pub(crate) fn add(&mut self, work: &StoreWork) {
        self.objects += 1;
        self.bytes += work.bytes();
    }

    fn remove(&mut self, work: &StoreWork) {
        self.objects -= 1;
        self.bytes -= work.bytes();
        debug_assert!(self.objects > 0 || self.bytes == 0, "no objects have no bytes");
    }
}

impl Queue {
    pub(crate) fn new(id: u64, due: Arc<Notify>) -> Self {
        Self { id, is_open: false, commits: VecDeque::new(), backlog: Backlog::default(), shed_total: 0, due }
    }

    /// The oldest commit that has objects left.
    fn oldest(&mut self) -> Option<&mut VecDeque<Arc<StoreWork>>> {
        while self.commits.front()?.is_empty() {
            self.commits.pop_front();
        }
        self.commits.front_mut()
    }

    /// The oldest object.
    pub(crate) fn front(&mut self) -> Option<&StoreWork> {
        self.oldest()?.front().map(|work| &**work)
    }

    pub(crate) fn take(&mut self) -> Option<Arc<StoreWork>> {
        let work = self.oldest()?.pop_front()?;
        self.backlog.remove(&work);
        Some(work)
    }

    /// The last object of the oldest commit.
    pub(crate) fn shed(&mut self) -> Option<Arc<StoreWork>> {
        let work = self.oldest()?.pop_back()?;
        self.backlog.remove(&work);
        Some(work)
    }
}

/// The lanes of one engine.
#[derive(Debug, Default)]
pub(crate) struct StoreLanes {
    pub(crate) queues: Vec<Queue>,
    pub(crate) opened_total: u64,
    leases: u64,
}

impl StoreLanes {
    pub(crate) fn queue(&mut self, id: u64) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.id == id)
    }

    /// Takes a lease on an object for each of so many lanes; false if it is gone.
    pub(crate) fn lease(&mut self, cache: &mut Cache, entry: EntryRef, lanes: u32) -> bool {
        let is_there = cache.lease(entry, lanes);
        self.leases += if is_there { u64::from(lanes) } else { 0 };
        is_there
    }

    /// Gives back one lane's lease on an object.
    pub(crate) fn release(&mut self, cache: &mut Cache, entry: EntryRef) {
        cache.release(entry, 1);
        self.leases -= 1;
    }

    /// Leases on objects that wait, and on those taken that are not released yet.
    pub(crate) fn leases(&self) -> u64 {
        self.leases
    }

    /// Objects that wait, once for each lane they wait in.
    pub(crate) fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.backlog.objects).sum()
    }
}
