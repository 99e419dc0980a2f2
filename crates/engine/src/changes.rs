//! What follows a change of the object table, whoever made it: eviction is woken, and who wants to know of
//! stores, reads and removals is told.

use std::sync::Arc;

use hashbrown::HashMap;
use larder_core::cache::EntryRef;
use larder_core::hash::ChunkHash;
use larder_core::kv_events::KvEventKind;

use crate::engine::{Engine, State};
use crate::state::lifetimes::Touch;

impl Engine {
    /// To be called after anything that fills the pool or removes objects.
    pub(crate) fn after_change(&self, state: &mut State) {
        let (used, capacity) = state.cache.usage();
        if state.limits.is_above_watermark(used, capacity) {
            self.wake_eviction.notify_one();
        }
        self.record_removals(state);
    }

    /// Tells what left the index: to the event log, one record per model, and to whoever follows the life of
    /// chunks.
    pub(crate) fn record_removals(&self, state: &mut State) {
        self.follow_removals(state);
        if !state.cache.has_removed() {
            return;
        }
        let (removed, lost) = state.cache.take_removed();
        if lost > 0 {
            state.events.mark_lost();
        }
        let mut by_model: HashMap<Arc<str>, Vec<ChunkHash>> = HashMap::new();
        for object in removed {
            let hashes = by_model.entry_ref(object.scope.namespace.model_name()).or_default();
            if hashes.last() != Some(&object.hash) {
                hashes.push(object.hash);
            }
        }
        for (model_name, hashes) in by_model {
            state.events.push(model_name, hashes, KvEventKind::Removed);
        }
        self.wake_events.notify_one();
    }

    /// Follows objects that were just stored, loaded or read.
    pub(crate) fn follow(&self, state: &mut State, entries: &[EntryRef], touch: Touch) {
        if !state.lifetimes.is_on() {
            return;
        }
        let now_ms = self.now_ms();
        let State { cache, lifetimes, .. } = state;
        for &entry in entries {
            let Some(chunk) = cache.chunk(entry).filter(|chunk| lifetimes.sample.takes(chunk)) else {
                continue;
            };
            if let Some(scope) = cache.shared_scope(entry) {
                lifetimes.touch((scope, chunk), touch, now_ms);
            }
        }
    }

    /// Counts uses of a tenant's chunks; to be told by one rank alone.
    pub(crate) fn follow_uses(&self, state: &mut State, salt: &str, entries: &[EntryRef], touch: Touch) {
        let State { cache, lifetimes, .. } = state;
        if lifetimes.is_on() {
            let chunks = entries.iter().filter_map(|&entry| cache.chunk(entry));
            lifetimes.uses(salt, chunks, touch == Touch::Read, self.now_ms());
        }
    }

    /// Follows what left memory to its end.
    pub(crate) fn follow_removals(&self, state: &mut State) {
        let now_ms = self.now_ms();
        for removed in state.cache.take_followed() {
            state.lifetimes.remove(removed, now_ms);
        }
    }
}
