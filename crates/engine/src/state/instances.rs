//! Engine workers: what they registered, what they are copying, and whether they live.
//!
//! Facts: `spec/cache-semantics.md` 7, `spec/transfer-modes.md` 2.4.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};

use super::connections::ConnectionId;
use super::layouts::Layouts;
use super::pending::Pending;
use super::processes::{ORPHAN_GRACE_MS, Orphaned, Process, is_over};
use super::registration::Registration;
use crate::error::EngineError;
use crate::limits::{CONNECTIONS_PER_INSTANCE_MAX, INSTANCES_MAX, INSTANCES_PER_CONNECTION_MAX};

/// One registered worker.
#[derive(Debug)]
pub(crate) struct Instance {
    /// What it registered.
    pub registration: Registration,
    /// The rank it transfers, once it has.
    pub rank: Option<u32>,
    /// Whether it sends bytes in messages though the pool is shared: it can't reach the pool, and is told to
    /// write nothing there.
    pub sends_bytes: bool,
    /// Open connections it was heard on.
    pub connections: VecDeque<ConnectionId>,
    /// When it was last heard of.
    pub seen_ms: u64,
    /// When it last began or ended a transfer.
    pub transferred_ms: u64,
    /// Whether it ever pinged: it is reaped by the short timeout then.
    pub pinged: bool,
    /// That its last connection went away, if none is left.
    pub orphaned: Option<Orphaned>,
    /// Its process, once that is known.
    pub process: Option<Process>,
    /// The connection behind which its process was looked for.
    pub looked_behind: Option<ConnectionId>,
    /// Transfers between prepare and commit.
    pub pending: Pending,
}

impl Instance {
    fn new(registration: Registration, now_ms: u64) -> Self {
        Self {
            registration,
            rank: None,
            sends_bytes: false,
            connections: VecDeque::new(),
            seen_ms: now_ms,
            transferred_ms: now_ms,
            pinged: false,
            orphaned: None,
            process: None,
            looked_behind: None,
            pending: Pending::default(),
        }
    }

    /// Whether nobody can touch any more what it was told to read or write.
    pub(crate) fn is_gone(&self, now_ms: u64) -> bool {
        is_over(self.process.as_ref(), self.orphaned, now_ms)
    }

    /// What the worker was before, if another process may have taken its place: who registers again when all
    /// its connections are gone need not be the one that was told to touch what is pending.
    fn take_unseen(&mut self, now_ms: u64) -> Option<Self> {
        let is_the_same = self.process.as_ref().is_some_and(|process| !process.has_ended());
        if self.orphaned.is_none() || self.pending.count() == 0 || is_the_same {
            return None;
        }
        let mut before = Self::new(self.registration.clone(), now_ms);
        before.orphaned = self.orphaned;
        before.process = self.process.take();
        before.pending = std::mem::take(&mut self.pending);
        Some(before)
    }
}

/// Registered workers by instance id, and the layouts lookups go by.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    by_id: HashMap<i64, Instance>,
    by_connection: HashMap<ConnectionId, HashSet<i64>>,
    /// What their objects look like.
    pub(crate) layouts: Layouts,
    told_unknown: HashSet<i64>,
}

/// What a registration changed.
#[derive(Debug)]
pub(crate) enum Registered {
    /// A new worker.
    New,
    /// The same worker again, nothing changed.
    Refreshed,
    /// The worker came back with other parameters, or maybe another one in its place; this is what it was
    /// before.
    Replaced(Box<Instance>),
    /// There are [`INSTANCES_MAX`] already, or [`INSTANCES_PER_CONNECTION_MAX`] of this connection.
    Refused,
}

impl Instances {
    /// Adds or refreshes a worker.
    ///
    /// # Errors
    /// [`EngineError::TooManyLayouts`], and as for [`Self::note_alive`].
    pub(crate) fn register(
        &mut self,
        instance_id: i64,
        registration: Registration,
        connection: Option<ConnectionId>,
        now_ms: u64,
    ) -> Result<Registered, EngineError> {
        self.told_unknown.remove(&instance_id);
        if let Some(known) = self.by_id.get_mut(&instance_id)
            && known.registration == registration
        {
            let before = known.take_unseen(now_ms);
            self.note_alive(instance_id, connection, now_ms)?;
            return Ok(before.map_or(Registered::Refreshed, |before| Registered::Replaced(Box::new(before))));
        }
        if !self.layouts.has_room(&registration) {
            return Err(EngineError::TooManyLayouts(instance_id));
        }
        let before = self.unregister(instance_id);
        if before.is_none() && !self.has_room(connection) {
            return Ok(Registered::Refused);
        }
        self.layouts.add(&registration);
        self.by_id.insert(instance_id, Instance::new(registration, now_ms));
        self.note_alive(instance_id, connection, now_ms)?;
        Ok(before.map_or(Registered::New, |before| Registered::Replaced(Box::new(before))))
    }

    /// Notes that a worker spoke, on `connection` if that is still open.
    ///
    /// # Errors
    /// [`EngineError::UnknownInstance`], and [`EngineError::TooManyConnections`] for a worker that speaks on
    /// more than it may: on those it is not to be given anything, because its end could not be seen.
    pub(crate) fn note_alive(
        &mut self,
        instance_id: i64,
        connection: Option<ConnectionId>,
        now_ms: u64,
    ) -> Result<&mut Instance, EngineError> {
        let unknown = EngineError::UnknownInstance(instance_id);
        let instance = self.by_id.get_mut(&instance_id).ok_or(unknown)?;
        instance.seen_ms = now_ms;
        let Some(connection) = connection else {
            if instance.connections.is_empty() {
                let left = Orphaned { since_ms: now_ms, grace_ms: ORPHAN_GRACE_MS };
                instance.orphaned.get_or_insert(left);
            }
            return Ok(instance);
        };
        if !instance.connections.contains(&connection) {
            if instance.connections.len() == CONNECTIONS_PER_INSTANCE_MAX {
                return Err(EngineError::TooManyConnections(instance_id));
            }
            instance.connections.push_back(connection);
            self.by_connection.entry(connection).or_default().insert(instance_id);
        }
        instance.orphaned = None;
        Ok(instance)
    }

    /// Removes a worker and hands it over; what it was copying is the caller's to clean up.
    #[must_use = "what a worker leaves behind pins memory"]
    pub(crate) fn unregister(&mut self, instance_id: i64) -> Option<Instance> {
        let instance = self.by_id.remove(&instance_id)?;
        for connection in &instance.connections {
            if let Some(own) = self.by_connection.get_mut(connection) {
                own.remove(&instance_id);
            }
        }
        self.layouts.remove(&instance.registration, instance.rank);
        Some(instance)
    }

    /// The worker with this id.
    pub(crate) fn get_mut(&mut self, instance_id: i64) -> Option<&mut Instance> {
        self.by_id.get_mut(&instance_id)
    }

    /// Notes which rank a worker transfers.
    pub(crate) fn learn_rank(&mut self, instance_id: i64, rank: u32) {
        let Some(instance) = self.by_id.get_mut(&instance_id) else { return };
        if instance.rank != Some(rank) {
            let before = instance.rank.replace(rank);
            self.layouts.learn_rank(&instance.registration, before, rank);
        }
    }

    /// Notes that a worker transfers under requests of the scheduler on `connection`.
    pub(crate) fn learn_scheduler(&mut self, connection: ConnectionId, instance_id: i64) {
        if let Some(instance) = self.by_id.get(&instance_id) {
            self.layouts.learn_scheduler(connection, &instance.registration);
        }
    }

    /// Whether a ping of this unknown worker is to be answered with `false`: once, after which
    /// the client goes through its recovery and registers again.
    pub(crate) fn tell_unknown(&mut self, instance_id: i64) -> bool {
        if self.told_unknown.len() >= INSTANCES_MAX {
            self.told_unknown.clear();
        }
        self.told_unknown.insert(instance_id)
    }

    /// Notes that a connection is gone.
    pub(crate) fn disconnected(&mut self, connection: ConnectionId, orphaned: Orphaned) {
        self.layouts.forget(connection);
        for instance_id in self.by_connection.remove(&connection).unwrap_or_default() {
            let Some(instance) = self.by_id.get_mut(&instance_id) else { continue };
            instance.connections.retain(|&other| other != connection);
            if instance.connections.is_empty() {
                instance.orphaned = Some(orphaned);
            }
        }
    }

    /// All workers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &Instance)> {
        self.by_id.iter().map(|(&id, instance)| (id, instance))
    }

    /// All workers, to change them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (i64, &mut Instance)> {
        self.by_id.iter_mut().map(|(&id, instance)| (id, instance))
    }

    /// Number of workers.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether one more fits, after one that is gone and holds nothing made room for it if it has to.
    fn has_room(&mut self, connection: Option<ConnectionId>) -> bool {
        let own = connection.and_then(|connection| self.by_connection.get(&connection));
        if own.is_some_and(|own| own.len() >= INSTANCES_PER_CONNECTION_MAX) {
            return false;
        }
        if self.by_id.len() < INSTANCES_MAX {
            return true;
        }
        let gone = self.by_id.iter().filter(|(_, i)| i.connections.is_empty() && i.pending.count() == 0);
        let Some((&id, _)) = gone.min_by_key(|(_, instance)| instance.seen_ms) else { return false };
        self.unregister(id).is_some()
    }
}
