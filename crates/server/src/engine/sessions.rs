//! Requests in flight: what a lookup found, which leases it took, and whose they are.
//!
//! Facts: `spec/cache-semantics.md` 3 and 4. A request id alone names nothing: engines choose it, and two of them may choose the same.
//! A session is what one connection looked up, for one model, world size and salt, under one id. What carries only an id means the
//! sessions of its own connection, or those of a connection that is gone, whose client may have connected again.

use std::sync::Arc;

use hashbrown::HashMap;
use larder_core::cache::{EntryRef, Row};
use larder_core::hash::ChunkHash;
use larder_core::key::Scope;
use larder_core::lease::LeaseSet;

use super::ConnectionId;
use super::key::PromptKey;

/// Most sessions at a time. Beyond it, the connection that has most of them loses its longest idle ones.
pub(super) const SESSIONS_MAX: usize = 65_536;

/// Most sessions of one connection; beyond it, it loses its own.
pub(super) const SESSIONS_PER_CONNECTION_MAX: usize = 16_384;

/// Most bytes that sessions take together, and those of one connection.
const SESSION_BYTES_MAX: usize = 1 << 30;
const SESSION_BYTES_PER_CONNECTION_MAX: usize = 512 << 20;

/// Share of a connection's sessions given up at once when there are too many, so that the search for them is rare.
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
    /// Where the prompt's objects are, one row per rank and group.
    pub rows: Arc<[Row]>,
    /// Leases on what was found, row by row.
    pub leases: LeaseSet,
    /// Hashes of the prompt's complete chunks.
    pub hashes: Arc<[ChunkHash]>,
}

impl Found {
    /// Takes one reader's lease on each of the chunks from `start` to the end of `prefix`, if what was looked up begins with
    /// that prefix and is in `scope`.
    pub(super) fn take(
        &mut self,
        scope: &Scope,
        prefix: &[ChunkHash],
        start: usize,
    ) -> Option<Vec<EntryRef>> {
        // A chunk hash names every token before it as well.
        if self.hashes.get(..prefix.len())?.last() != prefix.last() {
            return None;
        }
        let row = self.rows.iter().position(|row| row.scope == *scope)?;
        self.leases.take(row, start..prefix.len())
    }

    fn size_bytes(&self) -> usize {
        size_of_val(&*self.rows) + size_of_val(&*self.hashes) + self.leases.size_bytes()
    }
}

/// One request of one scheduler.
#[derive(Debug)]
pub(super) struct Session {
    /// The model it looked up.
    pub model_name: Arc<str>,
    /// The number of ranks.
    pub world_size: u32,
    /// The tenant.
    pub cache_salt: Arc<str>,
    /// The latest lookup.
    pub found: Found,
    /// The connection that looked up, and so holds the leases.
    pub owner: ConnectionId,
    /// When the owner's connection went away, if it did.
    pub orphaned_ms: Option<u64>,
    /// When the request was last heard of.
    pub used_ms: u64,
    size_bytes: usize,
}

impl Session {
    fn is_of(&self, key: &PromptKey<'_>) -> bool {
        self.world_size == key.world_size
            && *self.model_name == *key.model_name
            && *self.cache_salt == *key.cache_salt
    }
}

/// Which of the sessions under one id are the connection's to speak for: its own, or else those whose connection is gone.
fn speaks_for(sessions: &[Session], connection: ConnectionId) -> impl Fn(&Session) -> bool + use<> {
    let owns = sessions.iter().any(|session| session.owner == connection);
    move |session| if owns { session.owner == connection } else { session.orphaned_ms.is_some() }
}

/// What the sessions of a connection take.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    count: usize,
    bytes: usize,
}

/// Sessions by request id. Those under one id are in the order of their lookups.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_request: HashMap<Box<str>, Vec<Session>>,
    by_owner: HashMap<ConnectionId, Usage>,
    total: Usage,
}

impl Sessions {
    /// Notes what a lookup found. Also returns the sessions that are over by that, whose leases the caller must release: the request's
    /// lookup before, and what had to be given up for lack of room.
    #[must_use = "the leases of what is over are to be released"]
    pub(super) fn open(
        &mut self,
        key: &PromptKey<'_>,
        owner: ConnectionId,
        now_ms: u64,
        found: Found,
    ) -> (Option<Session>, Vec<Session>) {
        let superseded = self.close(key, owner);
        let size_bytes = size_of::<Session>() + key.request_id.len() + found.size_bytes();
        let given_up = self.make_room(owner, size_bytes);
        let scope = found.rows.first().map(|row| &row.scope);
        let name = |name: Option<&Arc<str>>, or: &str| name.map_or_else(|| or.into(), Arc::clone);
        let session = Session {
            model_name: name(scope.map(|scope| &scope.model_name), key.model_name),
            world_size: key.world_size,
            cache_salt: name(scope.map(|scope| &scope.cache_salt), key.cache_salt),
            found,
            owner,
            orphaned_ms: None,
            used_ms: now_ms,
            size_bytes,
        };
        self.count(&session);
        self.by_request.entry(key.request_id.into()).or_default().push(session);
        (superseded, given_up)
    }

    /// Ends what a connection looked up by this key's names before.
    #[must_use = "its leases are to be released"]
    pub(super) fn close(&mut self, key: &PromptKey<'_>, connection: ConnectionId) -> Option<Session> {
        self.take(key.request_id, connection, |session| session.is_of(key)).pop()
    }

    /// The session that this key names on this connection, marked as used. Of a connection that is gone, it is the caller's from now on.
    pub(super) fn named(
        &mut self,
        key: &PromptKey<'_>,
        connection: ConnectionId,
        now_ms: u64,
    ) -> Option<&mut Session> {
        self.claim(key.request_id, connection, now_ms);
        let sessions = self.by_request.get_mut(key.request_id)?;
        sessions.iter_mut().rfind(|session| session.owner == connection && session.is_of(key))
    }

    /// The session of a connection's latest lookup under an id, marked as used. As for [`Self::named`].
    pub(super) fn latest(
        &mut self,
        request_id: &str,
        connection: ConnectionId,
        now_ms: u64,
    ) -> Option<&mut Session> {
        self.claim(request_id, connection, now_ms);
        let sessions = self.by_request.get_mut(request_id)?;
        sessions.iter_mut().rfind(|session| session.owner == connection)
    }

    /// Every session that this key names, whoever owns it: a worker has another connection than its scheduler.
    pub(super) fn lenders(&mut self, key: &PromptKey<'_>) -> impl Iterator<Item = &mut Session> {
        let sessions = self.by_request.get_mut(key.request_id).into_iter().flatten();
        sessions.filter(|session| session.is_of(key))
    }

    /// What a prefetch is for, unless its lookup was superseded or its request is over.
    pub(super) fn waiting_for(&mut self, request_id: &str, generation: u64) -> Option<&mut Found> {
        let sessions = self.by_request.get_mut(request_id)?.iter_mut();
        sessions.map(|session| &mut session.found).find(|found| found.pending == Some(generation))
    }

    /// Ends the sessions under an id that are the connection's, or of a connection that is gone.
    #[must_use = "their leases are to be released"]
    pub(super) fn end(&mut self, request_id: &str, connection: ConnectionId) -> Vec<Session> {
        self.take(request_id, connection, |_| true)
    }

    /// Ends all sessions under an id, whoever owns them.
    #[must_use = "their leases are to be released"]
    pub(super) fn end_all(&mut self, request_id: &str) -> Vec<Session> {
        let ended = self.by_request.remove(request_id).unwrap_or_default();
        ended.iter().for_each(|session| self.discount(session));
        ended
    }

    /// Removes the sessions for which `expired` says so and hands them over.
    #[must_use = "their leases are to be released"]
    pub(super) fn take_expired(
        &mut self,
        mut expired: impl FnMut(&Session) -> bool,
    ) -> Vec<(Box<str>, Session)> {
        let mut taken = Vec::new();
        self.by_request.retain(|request_id, sessions| {
            let over = sessions.extract_if(.., |session| expired(session));
            taken.extend(over.map(|session| (request_id.clone(), session)));
            !sessions.is_empty()
        });
        for (_, session) in &taken {
            self.discount(session);
        }
        taken
    }

    /// Notes that a connection is gone: what it owned becomes an orphan.
    pub(super) fn orphan(&mut self, connection: ConnectionId, now_ms: u64) {
        if !self.by_owner.contains_key(&connection) {
            return;
        }
        let sessions = self.by_request.values_mut().flatten();
        for session in sessions.filter(|session| session.owner == connection) {
            session.orphaned_ms = Some(now_ms);
        }
    }

    /// All sessions.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Session)> {
        let requests = self.by_request.iter();
        requests
            .flat_map(|(request_id, sessions)| sessions.iter().map(move |session| (&**request_id, session)))
    }

    /// Number of sessions.
    pub(super) fn len(&self) -> usize {
        self.total.count
    }

    /// Bytes that sessions take.
    pub(super) fn size_bytes(&self) -> usize {
        self.total.bytes
    }

    /// Leases held by all sessions together.
    pub(super) fn leases(&self) -> u64 {
        self.iter().map(|(_, session)| session.found.leases.held()).sum()
    }

    /// Makes the sessions under an id whose connection is gone those of `connection`, and marks all that are its as used.
    fn claim(&mut self, request_id: &str, connection: ConnectionId, now_ms: u64) {
        let Some(sessions) = self.by_request.get_mut(request_id) else { return };
        let its = speaks_for(sessions, connection);
        for session in sessions.iter_mut().filter(|session| its(session)) {
            session.used_ms = now_ms;
            if session.orphaned_ms.take().is_some() && session.owner != connection {
                let size = Usage { count: 1, bytes: session.size_bytes };
                let before = std::mem::replace(&mut session.owner, connection);
                subtract(&mut self.by_owner, before, size);
                let usage = self.by_owner.entry(connection).or_default();
                usage.count += size.count;
                usage.bytes += size.bytes;
            }
        }
    }

    fn take(
        &mut self,
        request_id: &str,
        connection: ConnectionId,
        over: impl Fn(&Session) -> bool,
    ) -> Vec<Session> {
        let Some(sessions) = self.by_request.get_mut(request_id) else { return Vec::new() };
        let its = speaks_for(sessions, connection);
        let taken: Vec<Session> = sessions.extract_if(.., |session| its(session) && over(session)).collect();
        if sessions.is_empty() {
            self.by_request.remove(request_id);
        }
        for session in &taken {
            self.discount(session);
        }
        taken
    }

    fn count(&mut self, session: &Session) {
        for usage in [self.by_owner.entry(session.owner).or_default(), &mut self.total] {
            usage.count += 1;
            usage.bytes += session.size_bytes;
        }
    }

    fn discount(&mut self, session: &Session) {
        let size = Usage { count: 1, bytes: session.size_bytes };
        self.total.count -= size.count;
        self.total.bytes -= size.bytes;
        subtract(&mut self.by_owner, session.owner, size);
    }

    /// Gives sessions up so that one more of `bytes` fits: the connection's own if it has its share, else those of whoever has most.
    fn make_room(&mut self, owner: ConnectionId, bytes: usize) -> Vec<Session> {
        let own = self.by_owner.get(&owner).copied().unwrap_or_default();
        let own_bytes_max = SESSION_BYTES_PER_CONNECTION_MAX;
        if own.count >= SESSIONS_PER_CONNECTION_MAX || own.bytes + bytes > own_bytes_max {
            return self.give_up_longest_idle(owner);
        }
        let largest = if self.total.count >= SESSIONS_MAX {
            self.by_owner.iter().max_by_key(|(_, usage)| usage.count)
        } else if self.total.bytes + bytes > SESSION_BYTES_MAX {
            self.by_owner.iter().max_by_key(|(_, usage)| usage.bytes)
        } else {
            None
        };
        let largest = largest.map(|(&owner, _)| owner);
        largest.map_or_else(Vec::new, |largest| self.give_up_longest_idle(largest))
    }

    fn give_up_longest_idle(&mut self, owner: ConnectionId) -> Vec<Session> {
        let own = self.iter().filter(|(_, session)| session.owner == owner);
        let mut used: Vec<u64> = own.map(|(_, session)| session.used_ms).collect();
        if used.is_empty() {
            return Vec::new();
        }
        let mut excess = used.len().div_ceil(GIVE_UP_SHARE);
        let (_, &mut limit, _) = used.select_nth_unstable(excess - 1);
        let idle = self.take_expired(|session| {
            let taken = excess > 0 && session.owner == owner && session.used_ms <= limit;
            excess -= usize::from(taken);
            taken
        });
        idle.into_iter().map(|(_, session)| session).collect()
    }
}

fn subtract(by_owner: &mut HashMap<ConnectionId, Usage>, owner: ConnectionId, size: Usage) {
    let Some(usage) = by_owner.get_mut(&owner) else { return };
    usage.count -= size.count;
    usage.bytes -= size.bytes;
    if usage.count == 0 {
        by_owner.remove(&owner);
    }
}
