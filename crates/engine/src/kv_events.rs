//! The KV event stream's side of the engine (`spec/cache-semantics.md` 12).
//!
//! Nothing is recorded while nobody subscribes: a record holds a chunk's tokens, several times the memory of
//! the object itself. When recording starts again the log has a gap, and readers with an older cursor are
//! told.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashSet;
use larder_core::cache::EntryRef;
use larder_core::hash::ChunkHash;
use larder_core::key::Scope;
use larder_core::kv_events::{KvEventKind, KvEventPage};

use crate::engine::{Engine, State};
use crate::faces::Requests;
use crate::state::prefetches::PrefetchWork;

impl Requests {
    /// Resolves when there may be new events.
    pub async fn events_due(&self) {
        self.wake_events.notified().await;
    }

    /// Whether a lookup should come with the prompt's tokens, because it may bring chunks into memory.
    #[must_use]
    pub fn wants_tokens_of_loads(&self) -> bool {
        self.wants_tokens() && (self.has_tier() || self.is_adopting())
    }

    /// Starts or stops recording.
    pub fn record_events(&self, record: bool) {
        let mut state = self.state();
        let record = record && state.events.is_enabled();
        if record && !self.recording.swap(record, Ordering::Relaxed) && state.cache.stats().stored_total > 0 {
            state.events.mark_lost();
        }
        self.recording.store(record, Ordering::Relaxed);
        state.cache.record_removed(record);
    }

    /// Up to `max_events` events of a model after `cursor`.
    #[must_use]
    pub fn read_events(&self, model_name: &str, cursor: u64, max_events: usize) -> KvEventPage {
        self.state().events.read(model_name, cursor, max_events)
    }
}

impl Engine {
    /// Whether a commit should come with the prompt's tokens.
    pub fn wants_tokens(&self) -> bool {
        self.recording.load(Ordering::Relaxed)
    }

    /// Whether there is an event log, and what tells it from that of another run.
    pub fn event_log(&self) -> (bool, u64) {
        let state = self.state();
        (state.events.is_enabled(), state.events.incarnation_ns())
    }

    /// Records those chunks of a prompt that became readable just now, each with its tokens.
    pub(crate) fn record_stores(
        &self,
        state: &mut State,
        scope: &Scope,
        hashes: &[ChunkHash],
        stored: &[EntryRef],
        tokens: &[u32],
    ) {
        let size = self.config.chunk_size as usize;
        let stored: HashSet<ChunkHash> =
            stored.iter().filter_map(|&entry| state.cache.chunk(entry)).collect();
        let chunks = hashes.iter().zip(tokens.chunks_exact(size)).enumerate();
        for (chunk, (hash, tokens)) in chunks.filter(|(_, (hash, _))| stored.contains(*hash)) {
            let parent = chunk.checked_sub(1).map(|parent| hashes[parent]);
            let kind = KvEventKind::Stored { parent, tokens: tokens.into() };
            state.events.push(Arc::clone(scope.namespace.model_name()), vec![*hash], kind);
        }
        self.wake_events.notify_one();
    }

    /// Records those chunks of a prompt that came into memory by a prefetch just now. Ranks share a chunk;
    /// the first one tells of it, as it does of stores.
    pub(crate) fn record_arrivals(&self, state: &mut State, work: &PrefetchWork, arrived: &[EntryRef]) {
        let Some(tokens) = &work.tokens else { return };
        for row in work.rows.iter().filter(|row| row.rank == 0) {
            let own = |entry: &EntryRef| state.cache.scope(*entry) == Some(&row.scope);
            let own: Vec<EntryRef> = arrived.iter().copied().filter(own).collect();
            self.record_stores(state, &row.scope, &work.hashes, &own, tokens);
        }
    }
}
