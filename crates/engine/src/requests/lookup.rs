//! Lookup, its answer, and giving leases back (`spec/cache-semantics.md` 4).

use std::sync::Arc;

use larder_core::cache::Row;
use larder_core::hash::ChunkHash;
use larder_core::key::TokenRange;
use larder_telemetry::events::Event;

use crate::engine::{Engine, State};
use crate::error::EngineError;
use crate::faces::Requests;
use crate::key::PromptKey;
use crate::state::connections::ConnectionId;
use crate::state::counters::LookupCounts;
use crate::state::layouts::EngineLayouts;
use crate::state::prefetches::{PrefetchWork, Purpose};
use crate::state::sessions::{Found, Session};

/// Most readers one lookup leases for; the peer clamps at the same number.
const READERS_MAX: u32 = 128;

impl Requests {
    /// Finds the longest usable prefix of a prompt and leases it to the request. The answer waits for
    /// [`Self::collect`].
    ///
    /// # Errors
    /// [`EngineError::Readers`] when the client does not say how many workers will retrieve.
    pub fn lookup(&self, key: &PromptKey<'_>, connection: ConnectionId) -> Result<(), EngineError> {
        let now_ms = self.now_ms();
        let hashes = key.lookup_hashes(self.config.chunk_size);
        let engines = self.candidates(key, connection, now_ms);
        if engines.is_empty() {
            self.count(key, connection, |counts| counts.no_layout += 1);
            self.close_session(key, connection);
            return Ok(());
        }
        if key.readers < 1 {
            return Err(EngineError::Readers(key.readers));
        }
        if hashes.is_empty() {
            self.count(key, connection, |counts| counts.no_chunk += 1);
            self.close_session(key, connection);
            return Ok(());
        }
        let readers = key.readers.min(READERS_MAX) as u8;
        let rows = engines.iter().map(|layouts| layouts.rows(key.cache_salt));
        let mut candidates = rows.collect::<Result<Vec<Arc<[Row]>>, _>>()?;
        let mut state = self.state();
        let chosen = longest(&state, &candidates, hashes);
        if candidates.len() > 1 {
            state.instances.layouts.settle(connection, &engines[chosen]);
        }
        let rows = candidates.swap_remove(chosen);
        let answer = state.cache.lookup(&rows, hashes, readers);
        let is_short = answer.hit_chunks < hashes.len();
        let work = is_short.then(|| PrefetchWork {
            request_id: key.request_id.into(),
            purpose: Purpose::Lookup,
            generation: 0,
            rows: Arc::clone(&rows),
            hashes: hashes.into(),
            from: answer.hit_chunks,
            readers,
            tokens: key.token_ids.clone(),
        });
        let pending = work.and_then(|work| self.queue_prefetch(&mut state, work));
        self.bus.publish(|| Event::Lookup {
            model_name: key.model_name,
            cache_salt: key.cache_salt,
            request_id: key.request_id,
            requested_chunks: hashes.len(),
            hit_chunks: answer.hit_chunks,
            asks_l2: pending.is_some(),
        });
        let found = Found {
            hit_chunks: answer.hit_chunks,
            pending,
            collected: false,
            rows,
            leases: answer.leases,
            hashes: Arc::clone(&key.hashes),
        };
        self.count_hits(key, connection, hashes.len(), answer.hit_chunks);
        let (superseded, given_up) = state.sessions.open(key, connection, now_ms, found);
        if state.last_seen.at_ms(connection).is_none() {
            // It was closed while its prompt was hashed.
            state.sessions.orphan(connection, now_ms);
        }
        self.counters.evicted_sessions.add(given_up.len() as u64);
        for session in superseded.into_iter().chain(given_up) {
            self.close(&mut state, session);
        }
        self.wake_sweep.notify_one();
        Ok(())
    }

    fn count_hits(&self, key: &PromptKey<'_>, connection: ConnectionId, asked: usize, hits: usize) {
        let (chunk_size, asked, hits) = (u64::from(self.config.chunk_size), asked as u64, hits as u64);
        self.count(key, connection, |counts| {
            counts.lookups += 1;
            counts.requested_tokens += asked * chunk_size;
            counts.hit_tokens += hits * chunk_size;
            counts.hit_l1_keys += hits * u64::from(key.world_size);
        });
    }

    fn count(&self, key: &PromptKey<'_>, connection: ConnectionId, change: impl FnOnce(&mut LookupCounts)) {
        self.counters.lookup(key.model_name, key.cache_salt, Some(connection), change);
    }

    /// Whether a worker of this model and world size is registered.
    #[must_use]
    pub fn has_model(&self, model_name: &str, world_size: u32) -> bool {
        self.state().instances.layouts.has(model_name, world_size)
    }

    /// What the engines that may be asking look like. Their rows, one for each of many ranks, are made
    /// without the lock.
    fn candidates(&self, key: &PromptKey<'_>, connection: ConnectionId, now_ms: u64) -> Vec<EngineLayouts> {
        let mut state = self.state();
        state.last_seen.note(connection, now_ms);
        state.instances.layouts.candidates(key.model_name, key.world_size, connection)
    }

    /// Ends what the request looked up before, because there is nothing that it could find now.
    fn close_session(&self, key: &PromptKey<'_>, connection: ConnectionId) {
        let mut state = self.state();
        for session in state.sessions.close(key, connection) {
            self.close(&mut state, session);
        }
    }

    /// The number of chunks the connection's latest lookup of this id found, once; 0 for a request without a
    /// lookup or when the answer was given before, `None` while the second tier is being asked.
    #[must_use]
    pub fn collect(&self, request_id: &str, connection: ConnectionId) -> Option<usize> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        state.last_seen.note(connection, now_ms);
        match state.sessions.latest(request_id, connection, now_ms).map(|session| &mut session.found) {
            Some(found) if found.pending.is_some() => None,
            Some(found) if !found.collected => {
                found.collected = true;
                Some(found.hit_chunks)
            }
            _ => Some(0),
        }
    }

    /// As [`Self::collect`], once the answer is there.
    pub async fn collect_when_answered(&self, request_id: &str, connection: ConnectionId) -> usize {
        loop {
            let answered = self.answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            if let Some(chunks) = self.collect(request_id, connection) {
                return chunks;
            }
            answered.await;
        }
    }

    /// Gives back what the request still holds on the chunks inside `key.range`, and on no others: a chunk
    /// that the range only touches in part stays leased. Collects the lookup's answer if nobody did.
    pub fn free_leases(&self, key: &PromptKey<'_>, connection: ConnectionId) {
        let TokenRange { start, end } = key.range;
        if start >= end {
            return;
        }
        let size = u64::from(self.config.chunk_size);
        let position = |chunk: u64| usize::try_from(chunk).unwrap_or(usize::MAX);
        let chunks = position(start.div_ceil(size))..position(end / size);
        let now_ms = self.now_ms();
        let mut state = self.state();
        state.last_seen.note(connection, now_ms);
        let State { sessions, cache, .. } = &mut *state;
        let Some(session) = sessions.named(key, connection, now_ms) else { return };
        let found = &mut session.found;
        if found.pending.is_some() {
            return;
        }
        found.collected = true;
        if chunks.start < chunks.end {
            for (entry, count) in found.leases.take_range(key.worker_id, chunks) {
                cache.release(entry, count);
            }
        }
    }

    /// Ends a request: what the connection's lookups of this id hold goes back, and their prompts count as
    /// just used. False for an unknown request.
    #[expect(clippy::must_use_candidate, reason = "what it does is what most callers want")]
    pub fn end_session(&self, request_id: &str, connection: ConnectionId) -> bool {
        let now_ms = self.now_ms();
        let mut state = self.state();
        state.last_seen.note(connection, now_ms);
        let ended = state.sessions.end(request_id, connection);
        let was_known = !ended.is_empty();
        for session in ended {
            for row in session.found.rows.iter() {
                state.cache.refresh(&row.scope, &session.found.hashes);
            }
            self.close(&mut state, session);
        }
        was_known
    }
}

impl Engine {
    /// Gives back the leases of a session that is no more, and has whoever waits for its answer look again.
    pub(crate) fn close(&self, state: &mut State, session: Session) {
        state.cache.release_all(session.found.into_leases());
        self.answered.notify_waiters();
    }
}

/// Which of the candidates has most of the prompt, the first of equals.
fn longest(state: &State, candidates: &[Arc<[Row]>], hashes: &[ChunkHash]) -> usize {
    if candidates.len() == 1 {
        return 0;
    }
    let prefix = |rows: &Arc<[Row]>| state.cache.usable_prefix(rows, hashes);
    let prefixes = candidates.iter().map(prefix).enumerate().rev();
    prefixes.max_by_key(|&(_, chunks)| chunks).map_or(0, |(index, _)| index)
}
