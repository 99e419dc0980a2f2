//! What one adapter holds, in the order in which it would leave. Pure.
//!
//! Built for a million objects: strings are kept once per namespace (model, rank, group, salt); an object is
//! a hash, a namespace number and a size, and a table of 4-byte ids finds it. Ids are those the eviction
//! policy knows.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashTable;
use larder_core::eviction::{Arrival, EntryId, PerTenant, Policy, Removal, TenantId};
use larder_core::hash::ChunkHash;
use larder_core::interner::Interner;
use larder_core::key::{Namespace, ObjectKey};

/// Objects of one adapter, their bytes by tenant, and their order.
pub(super) struct Ledger {
    policy: Box<dyn Policy>,
    ids: HashTable<EntryId>,
    objects: Vec<Object>,
    free: Vec<EntryId>,
    /// Objects are counted of each, and it is noted whose it is.
    namespaces: Interner<Namespace, TenantId>,
    /// Namespaces are counted of each salt.
    tenants: Interner<Arc<str>, Share>,
    bytes: u64,
}

/// One object. A free place has the namespace [`NOBODY`].
#[derive(Clone, Copy)]
struct Object {
    chunk_hash: ChunkHash,
    namespace: u32,
    bytes: u64,
}

const NOBODY: u32 = u32::MAX;

/// An object that is to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) id: EntryId,
    pub(super) key: ObjectKey,
    pub(super) bytes: u64,
}

/// What a tenant has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) objects: u64,
    pub(super) bytes: u64,
}

impl Ledger {
    /// An empty one. The policy must be without objects.
    pub(super) fn new(policy: Box<dyn Policy>) -> Self {
        Self {
            policy: PerTenant::over(policy, []),
            ids: HashTable::new(),
            objects: Vec::new(),
            free: Vec::new(),
            namespaces: Interner::default(),
            tenants: Interner::default(),
            bytes: 0,
        }
    }

    /// Notes an object, as the hottest if it is new, and returns its id. One that was noted with another size
    /// is noted anew.
    pub(super) fn insert(&mut self, key: &ObjectKey, bytes: u64) -> EntryId {
        if let Some(id) = self.find(key) {
            if self.objects[id as usize].bytes == bytes {
                return id;
            }
            self.remove_id(id, Removal::Dropped);
        }
        let namespace = self.namespaces.acquire(&key.namespace, || {
            let salt = key.namespace.cache_salt();
            let tenant = self.tenants.acquire(&**salt, || (Arc::clone(salt), Share::default()));
            (key.namespace.clone(), TenantId(tenant))
        });
        let tenant = self.namespaces[namespace];
        let fingerprint = fold(&key.chunk_hash) ^ self.namespaces.hash(namespace);
        let object = Object { chunk_hash: key.chunk_hash, namespace, bytes };
        let id = match self.free.pop() {
            Some(id) => {
                self.objects[id as usize] = object;
                id
            }
            None => {
                self.objects.push(object);
                EntryId::try_from(self.objects.len() - 1).expect("fewer than 2^32 objects fit in memory")
            }
        };
        let objects = &self.objects;
        self.ids.insert_unique(slot_hash(&object), id, |&id| slot_hash(&objects[id as usize]));
        let share = &mut self.tenants[tenant.0];
        (share.objects, share.bytes) = (share.objects + 1, share.bytes + bytes);
        self.bytes += bytes;
        self.policy.insert(id, Arrival { fingerprint, tenant, bytes, position: 0 });
        id
    }

    /// Forgets an object, if it is known.
    pub(super) fn remove(&mut self, key: &ObjectKey, removal: Removal) {
        if let Some(id) = self.find(key) {
            self.remove_id(id, removal);
        }
    }

    /// An object was used by a request.
    pub(super) fn touch(&mut self, key: &ObjectKey) {
        if let Some(id) = self.find(key) {
            self.policy.touch(id);
        }
    }

    /// An object is part of a prompt that goes on.
    pub(super) fn refresh(&mut self, key: &ObjectKey) {
        if let Some(id) = self.find(key) {
            self.policy.refresh(id);
        }
    }

    /// Up to `want` objects to leave first, of one tenant or of all, without those in `barred`. They stay
    /// until they are removed.
    pub(super) fn victims(
        &mut self,
        tenant: Option<TenantId>,
        barred: &dyn Fn(EntryId) -> bool,
        want: usize,
    ) -> Vec<Victim> {
        let (objects, namespaces) = (&self.objects, &self.namespaces);
        let mut evictable = |id: EntryId| {
            let is_of_tenant = |tenant| namespaces[objects[id as usize].namespace] == tenant;
            !barred(id) && tenant.is_none_or(is_of_tenant)
        };
        let ids = match tenant {
            Some(tenant) => self.policy.victims_of(tenant, &mut evictable, want),
            None => self.policy.victims(&mut evictable, want),
        };
        let victim = |id: EntryId| {
            let Object { chunk_hash, namespace, bytes } = self.objects[id as usize];
            Victim { id, key: self.namespaces.name(namespace).key(chunk_hash), bytes }
        };
        ids.into_iter().map(victim).collect()
    }

    /// Tells the policy what each tenant may have.
    pub(super) fn tell_limits(&mut self, limit_for: &dyn Fn(&str) -> Option<u64>) {
        for (tenant, salt, _) in self.tenants.iter() {
            self.policy.set_quota(TenantId(tenant), limit_for(salt));
        }
    }

    /// Bytes of all objects.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of objects.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Tenants with objects, and what they have.
    pub(super) fn tenants(&self) -> impl Iterator<Item = (Arc<str>, Share)> {
        self.tenants.iter().map(|(_, salt, share)| (Arc::clone(salt), *share))
    }

    /// What one tenant has now.
    pub(super) fn usage_of(&self, cache_salt: &str) -> Share {
        self.tenants.find(cache_salt).map_or_else(Share::default, |tenant| self.tenants[tenant])
    }

    /// The tenant of a salt, if it has objects.
    pub(super) fn tenant(&self, cache_salt: &str) -> Option<TenantId> {
        self.tenants.find(cache_salt).map(TenantId)
    }

    fn find(&self, key: &ObjectKey) -> Option<EntryId> {
        let namespace = self.namespaces.find(&key.namespace)?;
        let sought = |&id: &EntryId| {
            let object = &self.objects[id as usize];
            object.namespace == namespace && object.chunk_hash == key.chunk_hash
        };
        let hash = slot_hash(&Object { chunk_hash: key.chunk_hash, namespace, bytes: 0 });
        self.ids.find(hash, sought).copied()
    }

    fn remove_id(&mut self, id: EntryId, removal: Removal) {
        let object = self.objects[id as usize];
        let found = self.ids.find_entry(slot_hash(&object), |&other| other == id);
        let Ok(entry) = found else { return };
        entry.remove();
        self.policy.remove(id, removal);
        self.objects[id as usize].namespace = NOBODY;
        self.free.push(id);
        let tenant = self.namespaces[object.namespace].0;
        let share = &mut self.tenants[tenant];
        debug_assert!(share.objects > 0 && object.bytes <= share.bytes && share.bytes <= self.bytes);
        (share.objects, share.bytes) = (share.objects - 1, share.bytes - object.bytes);
        self.bytes -= object.bytes;
        if self.namespaces.release(object.namespace).is_some() {
            let left = self.tenants.release(tenant);
            debug_assert!(
                left.is_none_or(|share| share == Share::default()),
                "who has no objects has no bytes"
            );
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("objects", &self.len()).field("bytes", &self.bytes).finish()
    }
}

/// Chunk hashes are uniform already; only the namespace has to be mixed in.
fn slot_hash(object: &Object) -> u64 {
    (fold(&object.chunk_hash) ^ u64::from(object.namespace)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn fold(hash: &ChunkHash) -> u64 {
    let (words, _) = hash.0.as_chunks::<8>();
    words.iter().fold(0, |folded, word| folded ^ u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests;
