//! Lookup, its answer, and giving leases back (`spec/cache-semantics.md` 4).

use std::sync::Arc;

use larder_core::cache::Row;
use larder_core::key::TokenRange;

use super::core::{ConnectionId, Engine, State};
use super::error::EngineError;
use super::key::PromptKey;
use super::sessions::{Found, Session};
use super::tier::{PrefetchWork, Purpose};
use crate::events::Event;

/// Most readers one lookup leases for; the peer clamps at the same number.
const READERS_MAX: u32 = 128;

impl Engine {
    /// Finds the longest usable prefix of a prompt and leases it to the request. The answer waits for [`Self::collect`].
    ///
    /// # Errors
    /// [`EngineError::Readers`] when the client does not say how many workers will retrieve.
    pub fn lookup(&self, key: &PromptKey<'_>, connection: ConnectionId) -> Result<(), EngineError> {
        let now_ms = self.now_ms();
        let hashes = key.lookup_hashes(self.config.chunk_size);
        let mut state = self.state();
        state.heard.note(connection, now_ms);
        let Some(layout) = state.instances.layout(key.model_name, key.world_size).cloned() else {
            self.counters.lookup(key.model_name, key.cache_salt, |counts| counts.no_layout += 1);
            self.open_session(&mut state, key.request_id, connection, now_ms, None);
            return Ok(());
        };
        if key.readers < 1 {
            return Err(EngineError::Readers(key.readers));
        }
        if hashes.is_empty() {
            self.counters.lookup(key.model_name, key.cache_salt, |counts| counts.no_chunk += 1);
            self.open_session(&mut state, key.request_id, connection, now_ms, None);
            return Ok(());
        }
        let readers = key.readers.min(READERS_MAX) as u8;
        let rows: Arc<[Row]> = (0..key.world_size)
            .map(|rank| Row { scope: key.scope(&layout, rank), rank, window: None })
            .collect();
        let answer = state.cache.lookup(&rows, hashes, readers);
        let pending = if answer.hit_chunks < hashes.len() {
            let work = PrefetchWork {
                request_id: key.request_id.into(),
                purpose: Purpose::Lookup,
                generation: 0,
                rows: Arc::clone(&rows),
                hashes: hashes.into(),
                from: answer.hit_chunks,
                readers,
                tokens: key.token_ids.clone(),
            };
            self.queue_prefetch(&mut state, work)
        } else {
            None
        };
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
            leases: answer.leases,
            scopes: rows.iter().map(|row| row.scope.clone()).collect(),
            hashes: Arc::clone(&key.hashes),
        };
        self.counters.lookup(key.model_name, key.cache_salt, |counts| {
            counts.lookups += 1;
            counts.requested_tokens += hashes.len() as u64 * u64::from(self.config.chunk_size);
            counts.hit_tokens += answer.hit_chunks as u64 * u64::from(self.config.chunk_size);
            counts.hit_l1_keys += answer.hit_chunks as u64 * u64::from(key.world_size);
        });
        self.open_session(&mut state, key.request_id, connection, now_ms, Some(found));
        Ok(())
    }

    /// Whether a worker of this model and world size is registered.
    pub fn has_model(&self, model_name: &str, world_size: u32) -> bool {
        self.state().instances.layout(model_name, world_size).is_some()
    }

    /// The number of chunks a request's lookup found, once; 0 for a request without a lookup or when the answer was given before,
    /// `None` while the second tier is being asked.
    pub fn collect(&self, request_id: &str, connection: ConnectionId) -> Option<usize> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        state.heard.note(connection, now_ms);
        let session = state.sessions.get(request_id, now_ms);
        match session.and_then(|session| session.found.as_mut()) {
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

    /// Gives back what the request still holds on the chunks inside `key.range`, and on no others: a chunk that the range
    /// only touches in part stays leased. Collects the lookup's answer if nobody did.
    pub fn free_leases(&self, key: &PromptKey<'_>, connection: ConnectionId) {
        let TokenRange { start, end } = key.range;
        if start >= end {
            return;
        }
        let size = u64::from(self.config.chunk_size);
        let chunks = start.div_ceil(size) as usize..(end / size) as usize;
        let now_ms = self.now_ms();
        let mut state = self.state();
        state.heard.note(connection, now_ms);
        let State { sessions, cache, .. } = &mut *state;
        let session = sessions.get(key.request_id, now_ms);
        let Some(found) = session.and_then(|session| session.found.as_mut()) else { return };
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

    /// Ends a request: what it holds goes back, and its prompt counts as just used. False for an unknown request.
    pub fn end_session(&self, request_id: &str, connection: ConnectionId) -> bool {
        let now_ms = self.now_ms();
        let mut state = self.state();
        state.heard.note(connection, now_ms);
        let Some(session) = state.sessions.end(request_id) else { return false };
        if let Some(found) = &session.found {
            for scope in &found.scopes {
                state.cache.refresh(scope, &found.hashes);
            }
        }
        self.close(&mut state, session);
        true
    }

    fn open_session(
        &self,
        state: &mut State,
        request_id: &str,
        connection: ConnectionId,
        now_ms: u64,
        found: Option<Found>,
    ) {
        let (session, evicted) = state.sessions.open(request_id, now_ms);
        session.owner = Some(connection);
        session.orphaned_ms = None;
        let superseded = std::mem::replace(&mut session.found, found);
        self.counters.evicted_sessions.add(evicted.len() as u64);
        if let Some(superseded) = superseded {
            state.cache.release_all(superseded.leases);
            self.answered.notify_waiters();
        }
        for session in evicted {
            self.close(state, session);
        }
        self.wake_sweep.notify_one();
    }

    /// Gives back the leases of a session that is no more, and has whoever waits for its answer look again.
    pub(super) fn close(&self, state: &mut State, session: Session) {
        if let Some(found) = session.found {
            state.cache.release_all(found.leases);
        }
        self.answered.notify_waiters();
    }
}
