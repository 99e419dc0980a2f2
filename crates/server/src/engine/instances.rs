//! Engine workers: what they registered, what they are copying, and whether they live.
//!
//! Facts: `spec/cache-semantics.md` 7, `spec/transfer-modes.md` 2.4.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use larder_core::cache::EntryRef;
use larder_core::hash::ChunkHash;
use larder_core::key::Scope;
use larder_core::layout::ObjectLayout;

use super::ConnectionId;

/// Most registered instances; a fleet's node has tens.
pub(super) const INSTANCES_MAX: usize = 16_384;

/// Most transfers one instance may have between prepare and commit.
pub(super) const PENDING_PER_INSTANCE_MAX: usize = 4_096;

/// Most connections remembered per instance; the oldest is forgotten first.
const CONNECTIONS_PER_INSTANCE_MAX: usize = 16;

/// What a worker says of itself when it registers for engine-driven transfer (`spec/mp-protocol.md` 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    /// The model as object keys carry it.
    pub model_name: Arc<str>,
    /// Number of ranks that share a prompt's objects.
    pub world_size: u32,
    /// Tokens per block of the engine's paged cache; shown in status pages only.
    pub block_size: u32,
    /// Whether objects have one plane instead of two.
    pub use_mla: bool,
    /// Shape, data type and size of every object.
    pub layout: Arc<ObjectLayout>,
}

/// Names a transfer between its prepare and its commit; the request id is no part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TransferKey {
    /// Where the objects are.
    pub scope: Scope,
    /// Hash of the last chunk, which names every token before it as well.
    pub last: ChunkHash,
    /// First chunk.
    pub start: usize,
    /// One past the last chunk.
    pub end: usize,
}

/// Memory a worker is writing.
#[derive(Debug)]
pub(super) struct PendingStore {
    /// The staging objects, in chunk order.
    pub entries: Vec<EntryRef>,
    /// When the memory was handed out.
    pub since_ms: u64,
    /// Whether the write TTL is over: the commit is refused, and the memory is free once the worker moves on.
    pub expired: bool,
}

/// One registered worker.
#[derive(Debug)]
pub(super) struct Instance {
    /// What it registered.
    pub registration: Registration,
    /// Connections it was heard on.
    pub connections: VecDeque<ConnectionId>,
    /// When it was last heard of.
    pub seen_ms: u64,
    /// When it last began or ended a transfer.
    pub transferred_ms: u64,
    /// Whether it ever pinged: it is reaped by the short timeout then.
    pub pinged: bool,
    /// When its last connection went away, if none is left.
    pub orphaned_ms: Option<u64>,
    /// Stores between prepare and commit.
    pub stores: HashMap<TransferKey, PendingStore>,
    /// Retrieves between prepare and commit, each with the leases that moved to it.
    pub retrieves: HashMap<TransferKey, Vec<Vec<EntryRef>>>,
}

impl Instance {
    fn new(registration: Registration, now_ms: u64) -> Self {
        Self {
            registration,
            connections: VecDeque::new(),
            seen_ms: now_ms,
            transferred_ms: now_ms,
            pinged: false,
            orphaned_ms: None,
            stores: HashMap::new(),
            retrieves: HashMap::new(),
        }
    }

    /// Notes that the worker spoke, on `connection` if that is still open.
    pub(super) fn heard(&mut self, connection: Option<ConnectionId>, now_ms: u64) {
        self.seen_ms = now_ms;
        let Some(connection) = connection else { return };
        self.orphaned_ms = None;
        if !self.connections.contains(&connection) {
            if self.connections.len() == CONNECTIONS_PER_INSTANCE_MAX {
                self.connections.pop_front();
            }
            self.connections.push_back(connection);
        }
    }

    /// Transfers between prepare and commit.
    pub(super) fn pending(&self) -> usize {
        self.stores.len() + self.retrieves.values().map(Vec::len).sum::<usize>()
    }

    /// Leases it reads under.
    pub(super) fn reading(&self) -> u64 {
        self.retrieves.values().flatten().map(|batch| batch.len() as u64).sum()
    }

    /// Takes everything the worker may be copying: memory it writes, and leases it reads under.
    pub(super) fn take_pending(&mut self) -> Abandoned {
        Abandoned {
            staging: self.stores.drain().flat_map(|(_, pending)| pending.entries).collect(),
            leases: self.retrieves.drain().flat_map(|(_, batches)| batches).flatten().collect(),
        }
    }
}

/// What a worker left behind; staging is to be aborted, leases are to be released.
#[derive(Debug, Default)]
#[must_use = "what a worker leaves behind pins memory"]
pub(super) struct Abandoned {
    /// Memory that was being written.
    pub staging: Vec<EntryRef>,
    /// One lease on each object that was being read.
    pub leases: Vec<EntryRef>,
}

/// Layout of the objects of a model, shared by its instances.
#[derive(Debug)]
struct ModelLayout {
    world_size: u32,
    layout: Arc<ObjectLayout>,
    instances: usize,
}

/// Registered workers by instance id, and the layouts lookups go by.
#[derive(Debug, Default)]
pub(super) struct Instances {
    by_id: HashMap<i64, Instance>,
    layouts: HashMap<Arc<str>, Vec<ModelLayout>>,
    told_unknown: HashSet<i64>,
}

/// What a registration changed.
#[derive(Debug)]
pub(super) enum Registered {
    /// A new worker.
    New,
    /// The same worker again, nothing changed.
    Refreshed,
    /// The worker came back with other parameters; what it left behind must be cleaned up.
    Replaced(Abandoned),
    /// There are [`INSTANCES_MAX`] already.
    Refused,
}

impl Instances {
    /// Adds or refreshes a worker.
    pub(super) fn register(
        &mut self,
        instance_id: i64,
        registration: Registration,
        connection: Option<ConnectionId>,
        now_ms: u64,
    ) -> Registered {
        self.told_unknown.remove(&instance_id);
        if let Some(known) = self.by_id.get_mut(&instance_id) {
            known.heard(connection, now_ms);
            if known.registration == registration {
                return Registered::Refreshed;
            }
            let abandoned = known.take_pending();
            let before = std::mem::replace(&mut known.registration, registration.clone());
            self.drop_layout(&before);
            self.add_layout(&registration);
            return Registered::Replaced(abandoned);
        }
        if self.by_id.len() >= INSTANCES_MAX {
            return Registered::Refused;
        }
        self.add_layout(&registration);
        let mut instance = Instance::new(registration, now_ms);
        instance.heard(connection, now_ms);
        self.by_id.insert(instance_id, instance);
        Registered::New
    }

    /// Removes a worker and hands over what it left behind.
    pub(super) fn unregister(&mut self, instance_id: i64) -> Option<Abandoned> {
        let mut instance = self.by_id.remove(&instance_id)?;
        self.drop_layout(&instance.registration);
        Some(instance.take_pending())
    }

    /// The worker with this id.
    pub(super) fn get_mut(&mut self, instance_id: i64) -> Option<&mut Instance> {
        self.by_id.get_mut(&instance_id)
    }

    /// The layout lookups of a model go by: that of its latest registration.
    pub(super) fn layout(&self, model_name: &str, world_size: u32) -> Option<&Arc<ObjectLayout>> {
        let worlds = self.layouts.get(model_name)?;
        worlds.iter().find(|model| model.world_size == world_size).map(|model| &model.layout)
    }

    /// Whether a ping of this unknown worker is to be answered with `false`: once, after which
    /// the client goes through its recovery and registers again.
    pub(super) fn tell_unknown(&mut self, instance_id: i64) -> bool {
        if self.told_unknown.len() >= INSTANCES_MAX {
            self.told_unknown.clear();
        }
        self.told_unknown.insert(instance_id)
    }

    /// Notes that a connection is gone.
    pub(super) fn disconnected(&mut self, connection: ConnectionId, now_ms: u64) {
        for instance in self.by_id.values_mut() {
            let before = instance.connections.len();
            instance.connections.retain(|&other| other != connection);
            if before > 0 && instance.connections.is_empty() {
                instance.orphaned_ms = Some(now_ms);
            }
        }
    }

    /// All workers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Instance)> {
        self.by_id.iter().map(|(&id, instance)| (id, instance))
    }

    /// All workers, to change them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (i64, &mut Instance)> {
        self.by_id.iter_mut().map(|(&id, instance)| (id, instance))
    }

    /// Number of workers.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn add_layout(&mut self, registration: &Registration) {
        let Registration { model_name, world_size, layout, .. } = registration;
        let worlds = self.layouts.entry(Arc::clone(model_name)).or_default();
        match worlds.iter_mut().find(|model| model.world_size == *world_size) {
            Some(model) => {
                model.layout = Arc::clone(layout);
                model.instances += 1;
            }
            None => {
                worlds.push(ModelLayout {
                    world_size: *world_size,
                    layout: Arc::clone(layout),
                    instances: 1,
                });
            }
        }
    }

    fn drop_layout(&mut self, registration: &Registration) {
        let Some(worlds) = self.layouts.get_mut(&registration.model_name) else { return };
        if let Some(model) = worlds.iter_mut().find(|model| model.world_size == registration.world_size) {
            model.instances -= 1;
        }
        worlds.retain(|model| model.instances > 0);
        if worlds.is_empty() {
            self.layouts.remove(&registration.model_name);
        }
    }
}
