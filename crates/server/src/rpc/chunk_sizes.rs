//! Which engines cut prompts in other chunks than this server.
//!
//! An engine asks for the chunk size once, when it starts, on each of its connections. If the server is then restarted with a
//! smaller one, the engine comes back on new connections without asking, takes each chunk of a hit for one of its own size,
//! and dies of a hit longer than its prompt. Its registration tells: a chunk of it has more slots than one here has tokens.
//! Fewer slots tell nothing, since some models keep less than one slot a token.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashSet;

use crate::engine::ConnectionId;

/// Most models remembered; beyond that all are taken for those of such an engine.
const MODELS_MAX: usize = 256;

/// Who asked, and which models engines have that should have asked. Usable from any thread.
#[derive(Debug, Default)]
pub(super) struct ChunkSizes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    asked: HashSet<ConnectionId>,
    models: HashSet<Box<str>>,
}

impl ChunkSizes {
    /// A connection was told the chunk size.
    pub(super) fn note_asked(&self, connection: ConnectionId) {
        self.state().asked.insert(connection);
    }

    /// A connection has ended.
    pub(super) fn forget(&self, connection: ConnectionId) {
        self.state().asked.remove(&connection);
    }

    /// Whether a worker that registers `slots` in a chunk of `chunk_size` tokens knows that size. If not, hits for its model are
    /// kept from everybody who did not ask, as its scheduler.
    pub(super) fn admits(
        &self,
        connection: ConnectionId,
        model_name: &str,
        slots: Option<u32>,
        chunk_size: u32,
    ) -> bool {
        let mut state = self.state();
        if slots.is_none_or(|slots| slots <= chunk_size) || state.asked.contains(&connection) {
            return true;
        }
        if state.models.len() < MODELS_MAX {
            state.models.insert(model_name.into());
        }
        false
    }

    /// Whether a hit would be misunderstood by whoever looks a prompt of this model up.
    pub(super) fn misleads(&self, connection: ConnectionId, model_name: &str) -> bool {
        let state = self.state();
        let is_full = state.models.len() >= MODELS_MAX;
        (is_full || state.models.contains(model_name)) && !state.asked.contains(&connection)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_never_asked_and_has_larger_chunks_is_refused_and_its_scheduler_finds_nothing() {
        let sizes = ChunkSizes::default();
        sizes.note_asked(1);
        assert!(sizes.admits(1, "m", Some(256), 64) && sizes.admits(2, "m", Some(64), 64));
        assert!(sizes.admits(2, "m", Some(16), 64) && sizes.admits(2, "m", None, 64));
        assert!(!sizes.misleads(2, "m"));
        assert!(!sizes.admits(2, "m", Some(256), 64));
        assert!(sizes.misleads(2, "m") && sizes.misleads(3, "m"));
        assert!(!sizes.misleads(1, "m") && !sizes.misleads(3, "other"));
        sizes.forget(1);
        assert!(sizes.misleads(1, "m"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let sizes = ChunkSizes::default();
        for model in 0..MODELS_MAX + 10 {
            assert!(!sizes.admits(1, &model.to_string(), Some(256), 64));
        }
        assert_eq!(sizes.state().models.len(), MODELS_MAX);
        assert!(sizes.misleads(1, "any"));
    }
}
