//! Requests in flight: what a lookup found, which leases it took, and whose they are.
//!
//! Facts: `spec/cache-semantics.md` 3 and 4. A request id alone names nothing: engines choose it, and two of
//! them may choose the same. A session is what one connection looked up, for one model, world size and salt,
//! under one id. What carries only an id means the sessions of its own connection, or those of a connection
//! that is gone, whose client may have connected again.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use larder_core::cache::{EntryRef, Row};
use larder_core::hash::ChunkHash;
use larder_core::key::{Namespace, Scope};
use larder_core::lease::LeaseSet;

use super::connections::ConnectionId;
use crate::key::PromptKey;

/// Most sessions at a time. Beyond it, the connection that has most of them loses its oldest ones.
pub(crate) const SESSIONS_MAX: usize = 65_536;

/// Most sessions of one connection; beyond it, it loses its own.
pub(crate) const SESSIONS_PER_CONNECTION_MAX: usize = 16_384;

/// Most sessions under one request id; beyond it, the connection that has most of them loses its oldest one
/// there. A node has tens of engines that may choose the same id.
pub(crate) const SESSIONS_PER_REQUEST_MAX: usize = 256;

/// Most bytes that sessions take together, and those of one connection.
const SESSION_BYTES_MAX: usize = 1 << 30;
const SESSION_BYTES_PER_CONNECTION_MAX: usize = 512 << 20;

/// Share of a connection's sessions given up at once when there are too many.
const GIVE_UP_SHARE: usize = 16;

/// What the books about one session take, roughly.
const BOOKS_BYTES: usize = 128;

/// What a lookup left behind for the rest of its request.
#[derive(Debug)]
pub(crate) struct Found {
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
    /// Takes one reader's lease on each of the chunks from `start` to the end of `prefix`, if what was looked
    /// up begins with that prefix and is in `scope`.
    pub(crate) fn take(
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

    /// What is held of it, for the table to release.
    pub(crate) fn into_leases(mut self) -> LeaseSet {
        std::mem::replace(&mut self.leases, LeaseSet::new(1))
    }

    fn size_bytes(&self) -> usize {
        size_of_val(&*self.rows) + size_of_val(&*self.hashes) + self.leases.size_bytes()
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        let is_given_back = self.leases.held() == 0 || std::thread::panicking();
        debug_assert!(is_given_back, "leases that nobody gives back pin their objects");
    }
}

/// One request of one scheduler.
#[derive(Debug)]
pub(crate) struct Session {
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
    /// When the request was last heard of.
    pub used_ms: u64,
    /// Its place in the order of all lookups.
    number: u64,
    size_bytes: usize,
}

impl Session {
    fn is_of(&self, key: &PromptKey<'_>) -> bool {
        self.world_size == key.world_size
            && *self.model_name == *key.model_name
            && *self.cache_salt == *key.cache_salt
    }
}

/// A connection that has sessions.
#[derive(Debug, Default)]
struct Owner {
    /// The ids of their requests, oldest lookup first.
    sessions: BTreeMap<u64, Arc<str>>,
    bytes: usize,
    /// When the connection went away, if it did.
    gone_ms: Option<u64>,
}

/// The connections that have sessions.
#[derive(Debug, Default)]
struct Owners(HashMap<ConnectionId, Owner>);

impl Owners {
    fn gone_ms(&self, connection: ConnectionId) -> Option<u64> {
        self.0.get(&connection)?.gone_ms
    }

    fn add(&mut self, request_id: &Arc<str>, session: &Session) {
        let owner = self.0.entry(session.owner).or_default();
        owner.sessions.insert(session.number, Arc::clone(request_id));
        owner.bytes += session.size_bytes;
    }

    fn remove(&mut self, session: &Session) {
        let Some(owner) = self.0.get_mut(&session.owner) else { return };
        owner.sessions.remove(&session.number);
        owner.bytes -= session.size_bytes;
        if owner.sessions.is_empty() {
            debug_assert_eq!(owner.bytes, 0, "who has no sessions has no bytes");
            self.0.remove(&session.owner);
        }
    }

    /// Which of the sessions under one id are the connection's to speak for: its own, or else those whose
    /// connection is gone.
    fn speaks_for(
        &self,
        sessions: &[Session],
        connection: ConnectionId,
    ) -> impl Fn(&Session) -> bool + use<'_> {
        let owns = sessions.iter().any(|session| session.owner == connection);
        move |session| match owns {
            true => session.owner == connection,
            false => self.gone_ms(session.owner).is_some(),
        }
    }
}

/// Sessions by request id. Those under one id are in the order of their lookups. No operation but those over
/// all of them takes longer the more there are.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_request: HashMap<Arc<str>, Vec<Session>>,
    owners: Owners,
    opened_total: u64,
    count: usize,
    bytes: usize,
}

impl Sessions {
    /// Notes what a lookup found. Also returns the sessions that are over by that, whose leases the caller
    /// must release: what the request looked up before, and what had to be given up for lack of room.
    #[must_use = "the leases of what is over are to be released"]
    pub(crate) fn open(
        &mut self,
        key: &PromptKey<'_>,
        owner: ConnectionId,
        now_ms: u64,
        found: Found,
    ) -> (Vec<Session>, Vec<Session>) {
        let superseded = self.close(key, owner);
        let size_bytes = size_of::<Session>() + BOOKS_BYTES + key.request_id.len() + found.size_bytes();
        let given_up = self.make_room(key.request_id, owner, size_bytes);
        let namespace = found.rows.first().map(|row| &row.scope.namespace);
        let name = |name: Option<&Arc<str>>, or: &str| name.map_or_else(|| or.into(), Arc::clone);
        self.opened_total += 1;
        let session = Session {
            model_name: name(namespace.map(Namespace::model_name), key.model_name),
            world_size: key.world_size,
            cache_salt: name(namespace.map(Namespace::cache_salt), key.cache_salt),
            found,
            owner,
            used_ms: now_ms,
            number: self.opened_total,
            size_bytes,
        };
        self.count += 1;
        self.bytes += size_bytes;
        let known = self.by_request.get_key_value(key.request_id);
        let request_id = known.map_or_else(|| key.request_id.into(), |(known, _)| Arc::clone(known));
        self.owners.add(&request_id, &session);
        self.by_request.entry(request_id).or_default().push(session);
        (superseded, given_up)
    }

    /// Ends what a connection looked up by this key's names before: several sessions, if it speaks for
    /// several that are gone.
    #[must_use = "their leases are to be released"]
    pub(crate) fn close(&mut self, key: &PromptKey<'_>, connection: ConnectionId) -> Vec<Session> {
        self.take(key.request_id, connection, |session| session.is_of(key))
    }

    /// The session that this key names on this connection, marked as used. Of a connection that is gone, it
    /// is the caller's from now on.
    pub(crate) fn named(
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
    pub(crate) fn latest(
        &mut self,
        request_id: &str,
        connection: ConnectionId,
        now_ms: u64,
    ) -> Option<&mut Session> {
        self.claim(request_id, connection, now_ms);
        let sessions = self.by_request.get_mut(request_id)?;
        sessions.iter_mut().rfind(|session| session.owner == connection)
    }

    /// Every session that this key names, whoever owns it: a worker has another connection than its
    /// scheduler.
    pub(crate) fn lenders(&mut self, key: &PromptKey<'_>) -> impl Iterator<Item = &mut Session> {
        let sessions = self.by_request.get_mut(key.request_id).into_iter().flatten();
        sessions.filter(|session| session.is_of(key))
    }

    /// What a prefetch is for, unless its lookup was superseded or its request is over.
    pub(crate) fn waiting_for(&mut self, request_id: &str, generation: u64) -> Option<&mut Found> {
        let sessions = self.by_request.get_mut(request_id)?.iter_mut();
        sessions.map(|session| &mut session.found).find(|found| found.pending == Some(generation))
    }

    /// Ends the sessions under an id that are the connection's, or of a connection that is gone.
    #[must_use = "their leases are to be released"]
    pub(crate) fn end(&mut self, request_id: &str, connection: ConnectionId) -> Vec<Session> {
        self.take(request_id, connection, |_| true)
    }

    /// Ends all sessions under an id, whoever owns them.
    #[must_use = "their leases are to be released"]
    pub(crate) fn end_all(&mut self, request_id: &str) -> Vec<Session> {
        let ended = self.by_request.remove(request_id).unwrap_or_default();
        ended.iter().for_each(|session| self.discount(session));
        ended
    }

    /// Removes the sessions for which `expired` says so and hands them over. It is told of each when its
    /// connection went away, if it did.
    #[must_use = "their leases are to be released"]
    pub(crate) fn take_expired(
        &mut self,
        mut expired: impl FnMut(&Session, Option<u64>) -> bool,
    ) -> Vec<(Arc<str>, Session)> {
        let mut taken = Vec::new();
        let Self { by_request, owners, .. } = self;
        by_request.retain(|request_id, sessions| {
            let over = sessions.extract_if(.., |session| expired(session, owners.gone_ms(session.owner)));
            taken.extend(over.map(|session| (Arc::clone(request_id), session)));
            !sessions.is_empty()
        });
        for (_, session) in &taken {
            self.discount(session);
        }
        taken
    }

    /// Notes that a connection is gone: what it owns is an orphan from now on.
    pub(crate) fn orphan(&mut self, connection: ConnectionId, now_ms: u64) {
        if let Some(owner) = self.owners.0.get_mut(&connection) {
            owner.gone_ms = Some(now_ms);
        }
    }

    /// Whether the connection that holds a session's leases is gone.
    pub(crate) fn is_orphaned(&self, session: &Session) -> bool {
        self.owners.gone_ms(session.owner).is_some()
    }

    /// All sessions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Session)> {
        let requests = self.by_request.iter();
        requests
            .flat_map(|(request_id, sessions)| sessions.iter().map(move |session| (&**request_id, session)))
    }

    /// Number of sessions.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bytes that sessions take.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Leases held by all sessions together.
    pub(crate) fn leases(&self) -> u64 {
        self.iter().map(|(_, session)| session.found.leases.held()).sum()
    }

    /// Whether what is counted for each connection and for all is what the sessions take.
    #[cfg(test)]
    pub(crate) fn is_balanced(&self) -> bool {
        let mut counted: HashMap<ConnectionId, (usize, usize)> = HashMap::new();
        for (_, session) in self.iter() {
            let (count, bytes) = counted.entry(session.owner).or_default();
            *count += 1;
            *bytes += session.size_bytes;
        }
        let (count, bytes) = counted.values().fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
        let kept = |(id, owner): (&ConnectionId, &Owner)| (*id, (owner.sessions.len(), owner.bytes));
        (count, bytes) == (self.count, self.bytes)
            && counted == self.owners.0.iter().map(kept).collect::<HashMap<_, _>>()
            && self.by_request.values().all(|sessions| !sessions.is_empty())
    }

    /// Makes the sessions under an id whose connection is gone those of `connection`, and marks all that are
    /// its as used.
    fn claim(&mut self, request_id: &str, connection: ConnectionId, now_ms: u64) {
        let Self { by_request, owners, .. } = self;
        let Some((request_id, sessions)) = by_request.get_key_value_mut(request_id) else { return };
        let owns = sessions.iter().any(|session| session.owner == connection);
        for session in sessions {
            if session.owner != connection {
                if owns || owners.gone_ms(session.owner).is_none() {
                    continue;
                }
                owners.remove(session);
                session.owner = connection;
                owners.add(request_id, session);
            }
            session.used_ms = now_ms;
        }
    }

    fn take(
        &mut self,
        request_id: &str,
        connection: ConnectionId,
        over: impl Fn(&Session) -> bool,
    ) -> Vec<Session> {
        let Self { by_request, owners, .. } = self;
        let Some(sessions) = by_request.get_mut(request_id) else { return Vec::new() };
        let taken: Vec<Session> = {
            let its = owners.speaks_for(sessions, connection);
            sessions.extract_if(.., |session| its(session) && over(session)).collect()
        };
        if sessions.is_empty() {
            by_request.remove(request_id);
        }
        for session in &taken {
            self.discount(session);
        }
        taken
    }

    fn take_numbered(&mut self, request_id: &str, number: u64) -> Option<Session> {
        let sessions = self.by_request.get_mut(request_id)?;
        let index = sessions.iter().position(|session| session.number == number)?;
        let session = sessions.remove(index);
        if sessions.is_empty() {
            self.by_request.remove(request_id);
        }
        self.discount(&session);
        Some(session)
    }

    fn discount(&mut self, session: &Session) {
        self.count -= 1;
        self.bytes -= session.size_bytes;
        debug_assert!(self.count > 0 || self.bytes == 0, "no sessions take no bytes");
        self.owners.remove(session);
    }

    /// Gives sessions up so that one more of `bytes` fits: the connection's own if it has its share, else
    /// those of whoever has most.
    fn make_room(&mut self, request_id: &str, owner: ConnectionId, bytes: usize) -> Vec<Session> {
        let mut given_up: Vec<Session> = self.give_up_namesake(request_id).into_iter().collect();
        let (own_count, own_bytes) =
            self.owners.0.get(&owner).map_or((0, 0), |own| (own.sessions.len(), own.bytes));
        let owners = self.owners.0.iter();
        let largest = if own_count >= SESSIONS_PER_CONNECTION_MAX
            || own_bytes + bytes > SESSION_BYTES_PER_CONNECTION_MAX
        {
            Some(owner)
        } else if self.count >= SESSIONS_MAX {
            owners.max_by_key(|(_, owner)| owner.sessions.len()).map(|(&owner, _)| owner)
        } else if self.bytes + bytes > SESSION_BYTES_MAX {
            owners.max_by_key(|(_, owner)| owner.bytes).map(|(&owner, _)| owner)
        } else {
            None
        };
        given_up.extend(largest.into_iter().flat_map(|largest| self.give_up_oldest(largest)));
        given_up
    }

    /// Gives a session up if there are too many under one id.
    fn give_up_namesake(&mut self, request_id: &str) -> Option<Session> {
        let sessions = self.by_request.get(request_id)?;
        if sessions.len() < SESSIONS_PER_REQUEST_MAX {
            return None;
        }
        let mut counts: HashMap<ConnectionId, usize> = HashMap::new();
        sessions.iter().for_each(|session| *counts.entry(session.owner).or_default() += 1);
        let oldest_of_largest = sessions.iter().rev().max_by_key(|session| counts.get(&session.owner));
        let number = oldest_of_largest?.number;
        self.take_numbered(request_id, number)
    }

    fn give_up_oldest(&mut self, owner: ConnectionId) -> Vec<Session> {
        let Some(own) = self.owners.0.get(&owner) else { return Vec::new() };
        let excess = own.sessions.len().div_ceil(GIVE_UP_SHARE);
        let oldest = own.sessions.iter().take(excess);
        let oldest: Vec<(u64, Arc<str>)> = oldest.map(|(&number, id)| (number, Arc::clone(id))).collect();
        oldest.iter().filter_map(|(number, id)| self.take_numbered(id, *number)).collect()
    }
}
