//! Prefetches that no request waits for: an operator brings a prompt's objects into memory ahead of time.
//!
//! They take the way of every prefetch and hold no leases: what they bring is like any other object in L1.

use std::sync::Arc;

use larder_core::cache::Row;
use larder_core::hash::ChunkHash;
use larder_core::key::{KeyError, check_key};

use crate::engine::{Engine, State};
use crate::faces::Operator;
use crate::state::prefetches::{PrefetchWork, Purpose};
use crate::state::warm::WarmStatus;

/// Why a warm prefetch does not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WarmError {
    /// No worker has said what the model's objects look like.
    #[error(
        "no layout registered for model_name='{model_name}' world_size={world_size}; the model has not allocated KV cache on this node yet"
    )]
    NoLayout {
        /// The model as asked for.
        model_name: String,
        /// The number of ranks as asked for.
        world_size: u32,
    },
    /// A name that can't be a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// [`WARM_MAX`] are under way, or the second tier has too much to do.
    #[error("too many prefetches are under way; ask again when some have completed")]
    Busy,
}

impl Operator {
    /// Begins to bring the objects of a prompt's chunks, of all ranks, into L1, and names the prefetch.
    /// `hashes` are those of the complete chunks of `token_ids`.
    ///
    /// # Errors
    /// [`WarmError`]; then nothing begins.
    pub fn warm(
        &self,
        model_name: &str,
        world_size: u32,
        cache_salt: &str,
        hashes: Arc<[ChunkHash]>,
        token_ids: &[u32],
    ) -> Result<Box<str>, WarmError> {
        check_key(model_name, world_size, None)?;
        let layouts = self.state().instances.layouts.latest(model_name, world_size);
        let layouts =
            layouts.ok_or_else(|| WarmError::NoLayout { model_name: model_name.to_owned(), world_size })?;
        let rows = layouts.rows(cache_salt)?;
        let mut state = self.state();
        if !state.warm.make_room() {
            return Err(WarmError::Busy);
        }
        state.warm.count += 1;
        let id: Box<str> = format!("{:016x}{:016x}", self.config.incarnation_ns, state.warm.count).into();
        let from = self.resident_prefix(&mut state, &rows, &hashes);
        let total_keys = hashes.len() * rows.len();
        let whole = from == hashes.len();
        let work = PrefetchWork {
            request_id: id.clone(),
            purpose: Purpose::Warm,
            generation: 0,
            rows: Arc::clone(&rows),
            hashes,
            from,
            readers: 1,
            tokens: self.wants_tokens().then(|| token_ids.into()),
        };
        let status = if whole || !(state.prefetches.is_enabled() || self.is_adopting()) {
            WarmStatus::Completed { found_keys: from * rows.len(), total_keys }
        } else {
            self.queue_prefetch(&mut state, work).ok_or(WarmError::Busy)?;
            WarmStatus::Pending
        };
        state.warm.insert(id.clone(), status);
        Ok(id)
    }

    /// How a warm prefetch stands; the end of one is told once.
    #[must_use]
    pub fn warm_status(&self, id: &str) -> Option<WarmStatus> {
        self.state().warm.take(id)
    }
}

impl Engine {
    /// Notes the end of a warm prefetch.
    pub(crate) fn complete_warm(&self, state: &mut State, work: &PrefetchWork) {
        let found = self.resident_prefix(state, &work.rows, &work.hashes);
        let rows = work.rows.len();
        state.warm.complete(&work.request_id, found * rows, work.hashes.len() * rows);
    }

    /// Chunks from the start of a prompt that are in memory; they count as just used.
    fn resident_prefix(&self, state: &mut State, rows: &[Row], hashes: &[ChunkHash]) -> usize {
        let answer = state.cache.lookup(rows, hashes, 1);
        state.cache.release_all(answer.leases);
        answer.hit_chunks
    }
}
