//! Which lookups wait for the second tier. Facts: `spec/cache-semantics.md` 11.

use std::collections::VecDeque;
use std::sync::Arc;

use larder_core::cache::Row;
use larder_core::hash::ChunkHash;

/// Most lookups that wait for the second tier; further ones are answered from memory alone.
pub(crate) const PREFETCH_QUEUE_MAX: usize = 1_024;

/// What a prefetch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A lookup that waits for its answer.
    Lookup,
    /// An operator who wants the objects in memory.
    Warm,
}

/// A lookup that the second tier may extend, or a warm prefetch.
#[derive(Clone, Debug)]
pub struct PrefetchWork {
    /// The request that waits, or the id of the warm prefetch.
    pub(crate) request_id: Box<str>,
    pub(crate) purpose: Purpose,
    /// Which of its lookups: a later one makes this one void.
    pub(crate) generation: u64,
    /// Ranks and groups.
    pub rows: Arc<[Row]>,
    /// Hashes of the prompt's complete chunks.
    pub hashes: Arc<[ChunkHash]>,
    /// Chunks that are in memory and leased already.
    pub from: usize,
    /// Workers that will retrieve.
    pub(crate) readers: u8,
    /// The prompt's tokens, if somebody is to be told of chunks that become readable.
    pub(crate) tokens: Option<Arc<[u32]>>,
}

/// Lookups that the second tier is asked about.
#[derive(Debug, Default)]
pub(crate) struct Prefetches {
    is_enabled: bool,
    waiting: VecDeque<PrefetchWork>,
    queued_total: u64,
    unanswered: usize,
}

impl Prefetches {
    /// Whether there is a second tier.
    pub(crate) fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Notes whether there is a second tier.
    pub(crate) fn set_enabled(&mut self, is_enabled: bool) {
        self.is_enabled = is_enabled;
    }

    /// Queues a lookup and names it; none if too many wait.
    pub(crate) fn queue(&mut self, mut work: PrefetchWork) -> Option<u64> {
        if self.waiting.len() >= PREFETCH_QUEUE_MAX {
            return None;
        }
        self.queued_total += 1;
        self.unanswered += 1;
        work.generation = self.queued_total;
        self.waiting.push_back(work);
        Some(self.queued_total)
    }

    /// The next that waits, for somebody who has to answer it.
    pub(crate) fn take(&mut self) -> Option<PrefetchWork> {
        self.waiting.pop_front()
    }

    /// Notes that one is answered.
    pub(crate) fn note_answered(&mut self) {
        debug_assert!(self.unanswered > self.waiting.len(), "what is answered was taken");
        self.unanswered -= 1;
    }

    /// Those that wait to be taken.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Those that were not answered yet, taken or not.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered
    }
}
