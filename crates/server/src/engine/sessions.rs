//! Requests in flight: what a lookup found, which leases it took, and whose they are.
//!
//! Facts: `spec/cache-semantics.md` 3 and 4. A session holds no tokens and no hashes, so a reused request id can never
//! resolve to the objects of another prompt.

use std::sync::Arc;

use hashbrown::HashMap;
use larder_core::hash::ChunkHash;
use larder_core::key::Scope;
use larder_core::lease::LeaseSet;

use super::ConnectionId;

/// Most sessions at a time; beyond it the longest idle ones are given up.
pub(super) const SESSIONS_MAX: usize = 65_536;

/// Share of the sessions given up at once when there are too many, so that the search for them is rare.
const GIVE_UP_SHARE: usize = 16;

/// What a lookup left behind for the rest of its request.
#[derive(Debug)]
pub(super) struct Found {
    /// Chunks from the start of the prompt that can be retrieved.
    pub hit_chunks: usize,
    /// The prefetch the answer waits for, if it does.
    pub pending: Option<u64>,
    /// Whether the answer was collected; it is given once.
    pub collected: bool,
    /// Leases on what was found.
    pub leases: LeaseSet,
    /// Where the prompt's objects are, one scope per rank and group.
    pub scopes: Vec<Scope>,
    /// Hashes of the prompt's complete chunks.
    pub hashes: Arc<[ChunkHash]>,
}

/// One request.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// The latest lookup.
    pub found: Option<Found>,
    /// The connection that looked up, and so holds the leases.
    pub owner: Option<ConnectionId>,
    /// When the owner's connection went away, if it did.
    pub orphaned_ms: Option<u64>,
    /// When the request was last heard of.
    pub used_ms: u64,
}

/// Sessions by request id.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_request: HashMap<Box<str>, Session>,
}

impl Sessions {
    /// The session of a request, marked as used, created if absent. Also returns the sessions that had to be
    /// given up for it, whose leases the caller must release.
    pub(super) fn open(&mut self, request_id: &str, now_ms: u64) -> (&mut Session, Vec<Session>) {
        let full = self.by_request.len() >= SESSIONS_MAX && !self.by_request.contains_key(request_id);
        let evicted = if full { self.give_up_longest_idle() } else { Vec::new() };
        let session = self.by_request.entry(request_id.into()).or_default();
        session.used_ms = now_ms;
        (session, evicted)
    }

    /// The session of a request, if there is one, marked as used.
    pub(super) fn get(&mut self, request_id: &str, now_ms: u64) -> Option<&mut Session> {
        let session = self.by_request.get_mut(request_id)?;
        session.used_ms = now_ms;
        Some(session)
    }

    /// The session of a request, if there is one; no sign of life.
    pub(super) fn peek(&mut self, request_id: &str) -> Option<&mut Session> {
        self.by_request.get_mut(request_id)
    }

    /// Ends a request and hands its session over.
    pub(super) fn end(&mut self, request_id: &str) -> Option<Session> {
        self.by_request.remove(request_id)
    }

    /// Removes the sessions for which `expired` says so and hands them over.
    pub(super) fn take_expired(
        &mut self,
        mut expired: impl FnMut(&Session) -> bool,
    ) -> Vec<(Box<str>, Session)> {
        self.by_request.extract_if(|_, session| expired(session)).collect()
    }

    /// Notes that a connection is gone: what it owned becomes an orphan.
    pub(super) fn orphan(&mut self, connection: ConnectionId, now_ms: u64) {
        for session in self.by_request.values_mut().filter(|session| session.owner == Some(connection)) {
            session.orphaned_ms = Some(now_ms);
        }
    }

    /// All sessions.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Session)> {
        self.by_request.iter().map(|(request_id, session)| (&**request_id, session))
    }

    /// Number of sessions.
    pub(super) fn len(&self) -> usize {
        self.by_request.len()
    }

    /// Leases held by all sessions together.
    pub(super) fn leases(&self) -> u64 {
        self.by_request.values().filter_map(|session| session.found.as_ref()).map(|f| f.leases.held()).sum()
    }

    fn give_up_longest_idle(&mut self) -> Vec<Session> {
        let mut used: Vec<u64> = self.by_request.values().map(|session| session.used_ms).collect();
        let mut excess = used.len() / GIVE_UP_SHARE;
        let (_, &mut limit, _) = used.select_nth_unstable(excess);
        let idle = self.by_request.extract_if(|_, session| {
            let taken = excess > 0 && session.used_ms <= limit;
            excess -= usize::from(taken);
            taken
        });
        idle.map(|(_, session)| session).collect()
    }
}
