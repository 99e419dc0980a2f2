//! Which engines cut prompts in other chunks than this server.
//!
//! An engine asks for the chunk size once, when it starts, on each of its connections. If the server is then
//! restarted with a smaller one, the engine comes back on new connections without asking, takes each chunk of
//! a hit for one of its own size, and dies of a hit longer than its prompt. Its registration tells: a chunk
//! of it has more slots than one here has tokens. Fewer slots tell nothing, since some models keep less than
//! one slot a token.
//!
//! Which scheduler belongs to such a worker nothing tells. So hits for its model are kept from all who did
//! not ask, as long as the worker's connection is open and a little longer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};

use larder_engine::ConnectionId;

/// Most models that one connection keeps hits from; an engine has one.
const MODELS_PER_CONNECTION_MAX: usize = 2;

/// Most refused registrations that are remembered.
const REFUSED_MAX: usize = 1_024;

/// How long hits are still kept back when the refused worker's connection has ended: its engine may live, and
/// be about to connect again.
const GONE_GRACE: Duration = Duration::from_secs(60);

/// Who asked, and which models engines have that should have asked. Usable from any thread.
#[derive(Debug, Default)]
pub(super) struct ChunkSizes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    asked: HashSet<ConnectionId>,
    refused: HashMap<Box<str>, Vec<Refused>>,
}

/// A worker that was refused.
#[derive(Debug)]
struct Refused {
    connection: ConnectionId,
    /// When its connection ended.
    gone: Option<Instant>,
}

impl Refused {
    fn counts(&self, now: Instant) -> bool {
        self.gone.is_none_or(|gone| now.saturating_duration_since(gone) < GONE_GRACE)
    }
}

impl ChunkSizes {
    /// A connection was told the chunk size.
    pub(super) fn note_asked(&self, connection: ConnectionId) {
        let mut state = self.state();
        state.asked.insert(connection);
        state.retain(|refused| refused.connection != connection);
    }

    /// A connection has ended.
    pub(super) fn forget(&self, connection: ConnectionId, now: Instant) {
        let mut state = self.state();
        state.asked.remove(&connection);
        let its = state.refused.values_mut().flatten().filter(|refused| refused.connection == connection);
        its.for_each(|refused| refused.gone = Some(now));
    }

    /// Whether a worker that registers `slots` in a chunk of `chunk_size` tokens knows that size. If not,
    /// hits for its model are kept from everybody who did not ask, as its scheduler.
    pub(super) fn admits(
        &self,
        connection: ConnectionId,
        model_name: &str,
        slots: Option<u32>,
        chunk_size: u32,
        now: Instant,
    ) -> bool {
        let mut state = self.state();
        if slots.is_none_or(|slots| slots <= chunk_size) || state.asked.contains(&connection) {
            return true;
        }
        state.retain(|refused| refused.counts(now));
        state.remember(connection, model_name);
        false
    }

    /// Whether a hit would be misunderstood by whoever looks a prompt of this model up.
    pub(super) fn misleads(&self, connection: ConnectionId, model_name: &str) -> bool {
        let state = self.state();
        let Some(refused) = state.refused.get(model_name) else { return false };
        let now = Instant::now();
        refused.iter().any(|refused| refused.counts(now)) && !state.asked.contains(&connection)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn retain(&mut self, counts: impl Fn(&Refused) -> bool) {
        self.refused.retain(|model_name, refused| {
            refused.retain(&counts);
            if refused.is_empty() {
                tracing::info!("hits of model `{model_name}` are not kept back any more");
            }
            !refused.is_empty()
        });
    }

    fn remember(&mut self, connection: ConnectionId, model_name: &str) {
        let is_own = |refused: &&Refused| refused.connection == connection;
        if self.refused.get(model_name).is_some_and(|known| known.iter().any(|refused| is_own(&refused))) {
            return;
        }
        let all = || self.refused.values().flatten();
        let own = all().filter(is_own).count();
        if own >= MODELS_PER_CONNECTION_MAX || all().count() >= REFUSED_MAX {
            tracing::warn!(
                "hits of model `{model_name}` are not kept from engines that know another chunk size: too many registrations \
                 were refused, {own} of them of this connection"
            );
            return;
        }
        self.refused.entry(model_name.into()).or_default().push(Refused { connection, gone: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(sizes: &ChunkSizes, connection: ConnectionId, model_name: &str, now: Instant) {
        assert!(!sizes.admits(connection, model_name, Some(256), 64, now));
    }

    #[test]
    fn an_engine_that_never_asked_and_has_larger_chunks_is_refused_and_its_scheduler_finds_nothing() {
        let (sizes, now) = (ChunkSizes::default(), Instant::now());
        sizes.note_asked(1);
        assert!(sizes.admits(1, "m", Some(256), 64, now) && sizes.admits(2, "m", Some(64), 64, now));
        assert!(sizes.admits(2, "m", Some(16), 64, now) && sizes.admits(2, "m", None, 64, now));
        assert!(!sizes.misleads(2, "m"));
        refuse(&sizes, 2, "m", now);
        assert!(sizes.misleads(2, "m") && sizes.misleads(3, "m"));
        assert!(!sizes.misleads(1, "m") && !sizes.misleads(3, "other"));
        sizes.forget(1, now);
        assert!(sizes.misleads(1, "m"));
    }

    #[test]
    fn hits_are_kept_back_no_longer_than_the_refused_engine_is_there() {
        let (sizes, now) = (ChunkSizes::default(), Instant::now());
        refuse(&sizes, 2, "m", now);
        refuse(&sizes, 3, "m", now);
        sizes.forget(2, now.checked_sub(GONE_GRACE).unwrap());
        assert!(sizes.misleads(9, "m"), "another one of its kind is there");
        sizes.forget(3, now);
        assert!(sizes.misleads(9, "m"), "it may come back");
        sizes.forget(3, now.checked_sub(GONE_GRACE).unwrap());
        assert!(!sizes.misleads(9, "m"));
        refuse(&sizes, 4, "n", now);
        assert!(!sizes.state().refused.contains_key("m"));
        assert!(sizes.misleads(9, "n"));
        sizes.note_asked(4);
        assert!(!sizes.misleads(9, "n"), "it knows the chunk size now");
    }

    #[test]
    fn one_connection_keeps_hits_from_few_models_and_never_from_all() {
        let (sizes, now) = (ChunkSizes::default(), Instant::now());
        for model in 0..REFUSED_MAX {
            refuse(&sizes, 1, &model.to_string(), now);
        }
        let kept = (0..REFUSED_MAX).filter(|model| sizes.misleads(9, &model.to_string()));
        assert_eq!(kept.count(), MODELS_PER_CONNECTION_MAX);
        assert!(!sizes.misleads(9, "any"));
        for connection in 2..REFUSED_MAX as u64 + 10 {
            refuse(&sizes, connection, "m", now);
        }
        assert_eq!(sizes.state().refused.values().flatten().count(), REFUSED_MAX);
        assert!(!sizes.misleads(9, "any"));
    }
}
