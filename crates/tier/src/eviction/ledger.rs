//! What one adapter holds, in the order in which it would leave. Pure.
//!
//! Built for a million objects: strings are kept once per namespace (model, rank, group, salt); an object is
//! a hash, a namespace number and a size, and a table of 4-byte ids finds it. Ids are those the eviction
//! policy knows.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use larder_core::eviction::{Arrival, EntryId, PerTenant, Policy, Removal, TenantId};
use larder_storage::Key;

/// Objects of one adapter, their bytes by tenant, and their order.
pub(super) struct Ledger {
    policy: Box<dyn Policy>,
    ids: HashTable<EntryId>,
    objects: Vec<Object>,
    free: Vec<EntryId>,
    namespaces: Namespaces,
    tenants: Tenants,
    bytes: u64,
}

/// One object. A free place has the namespace [`NOBODY`].
#[derive(Clone, Copy)]
struct Object {
    chunk_hash: [u8; 32],
    namespace: u32,
    bytes: u64,
}

const NOBODY: u32 = u32::MAX;

/// An object that is to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) id: EntryId,
    pub(super) key: Key,
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
            namespaces: Namespaces::default(),
            tenants: Tenants::default(),
            bytes: 0,
        }
    }

    /// Notes an object, as the hottest if it is new, and returns its id. One that was noted with another size
    /// is noted anew.
    pub(super) fn insert(&mut self, key: &Key, bytes: u64) -> EntryId {
        if let Some(id) = self.find(key) {
            if self.objects[id as usize].bytes == bytes {
                return id;
            }
            self.remove_id(id, Removal::Dropped);
        }
        let namespace = self.namespaces.enter(key, &mut self.tenants);
        let Namespace { tenant, seed, .. } = &self.namespaces.list[namespace as usize];
        let (tenant, fingerprint) = (*tenant, fold(&key.chunk_hash) ^ seed);
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
        self.tenants.add(tenant, bytes);
        self.bytes += bytes;
        self.policy.insert(id, Arrival { fingerprint, tenant, bytes, position: 0 });
        id
    }

    /// Forgets an object, if it is known.
    pub(super) fn remove(&mut self, key: &Key, removal: Removal) {
        if let Some(id) = self.find(key) {
            self.remove_id(id, removal);
        }
    }

    /// An object was used by a request.
    pub(super) fn touch(&mut self, key: &Key) {
        if let Some(id) = self.find(key) {
            self.policy.touch(id);
        }
    }

    /// An object is part of a prompt that goes on.
    pub(super) fn refresh(&mut self, key: &Key) {
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
        let (objects, namespaces) = (&self.objects, &self.namespaces.list);
        let mut evictable = |id: EntryId| {
            let is_of_tenant = |tenant| namespaces[objects[id as usize].namespace as usize].tenant == tenant;
            !barred(id) && tenant.is_none_or(is_of_tenant)
        };
        let ids = match tenant {
            Some(tenant) => self.policy.victims_of(tenant, &mut evictable, want),
            None => self.policy.victims(&mut evictable, want),
        };
        let victim = |id: EntryId| {
            let Object { chunk_hash, namespace, bytes } = self.objects[id as usize];
            Victim { id, key: self.namespaces.list[namespace as usize].key(chunk_hash), bytes }
        };
        ids.into_iter().map(victim).collect()
    }

    /// Tells the policy what each tenant may have.
    pub(super) fn tell_limits(&mut self, limit_for: &dyn Fn(&str) -> Option<u64>) {
        for (salt, tenant) in &self.tenants.ids {
            self.policy.set_quota(*tenant, limit_for(salt));
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
        let tenants = self.tenants.list.iter().filter(|tenant| tenant.namespaces > 0);
        tenants.map(|tenant| (Arc::clone(&tenant.cache_salt), tenant.share))
    }

    /// What one tenant has now.
    pub(super) fn usage_of(&self, cache_salt: &str) -> Share {
        let share = |tenant: TenantId| &self.tenants.list[tenant.0 as usize];
        self.tenant(cache_salt).map_or_else(Share::default, |tenant| share(tenant).share)
    }

    /// The tenant of a salt, if it has objects.
    pub(super) fn tenant(&self, cache_salt: &str) -> Option<TenantId> {
        self.tenants.ids.get(cache_salt).copied()
    }

    fn find(&self, key: &Key) -> Option<EntryId> {
        let namespace = self.namespaces.find(key)?;
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
        self.bytes -= object.bytes;
        let tenant = self.namespaces.list[object.namespace as usize].tenant;
        self.tenants.subtract(tenant, object.bytes);
        self.namespaces.leave(object.namespace, &mut self.tenants);
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

fn fold(hash: &[u8; 32]) -> u64 {
    let (words, _) = hash.as_chunks::<8>();
    words.iter().fold(0, |folded, word| folded ^ u64::from_le_bytes(*word))
}

/// The part of a key that many objects share.
struct Namespace {
    /// The key of any of them.
    any: Key,
    tenant: TenantId,
    /// The same whenever the same namespace comes again, for fingerprints.
    seed: u64,
    objects: u64,
}

impl Namespace {
    fn key(&self, chunk_hash: [u8; 32]) -> Key {
        self.any.with_chunk_hash(chunk_hash)
    }

    fn is_of(&self, key: &Key) -> bool {
        self.any.kv_rank == key.kv_rank
            && self.any.object_group_id == key.object_group_id
            && self.any.model_name == key.model_name
            && self.any.cache_salt == key.cache_salt
    }
}

/// Numbered namespaces; the number of an empty one is used again.
#[derive(Default)]
struct Namespaces {
    hasher: DefaultHashBuilder,
    ids: HashTable<u32>,
    list: Vec<Namespace>,
    free: Vec<u32>,
}

impl Namespaces {
    fn seed(&self, key: &Key) -> u64 {
        use std::hash::BuildHasher;
        self.hasher.hash_one((&*key.model_name, key.kv_rank, key.object_group_id, &*key.cache_salt))
    }

    fn find(&self, key: &Key) -> Option<u32> {
        self.ids.find(self.seed(key), |&id| self.list[id as usize].is_of(key)).copied()
    }

    fn enter(&mut self, key: &Key, tenants: &mut Tenants) -> u32 {
        let id = self.find(key).unwrap_or_else(|| self.add(key, tenants));
        self.list[id as usize].objects += 1;
        id
    }

    fn add(&mut self, key: &Key, tenants: &mut Tenants) -> u32 {
        let seed = self.seed(key);
        let namespace =
            Namespace { any: key.clone(), tenant: tenants.enter(&key.cache_salt), seed, objects: 0 };
        let id = match self.free.pop() {
            Some(id) => {
                self.list[id as usize] = namespace;
                id
            }
            None => {
                self.list.push(namespace);
                u32::try_from(self.list.len() - 1).expect("fewer namespaces than objects")
            }
        };
        let list = &self.list;
        self.ids.insert_unique(seed, id, |&id| list[id as usize].seed);
        id
    }

    fn leave(&mut self, id: u32, tenants: &mut Tenants) {
        let namespace = &mut self.list[id as usize];
        namespace.objects -= 1;
        if namespace.objects > 0 {
            return;
        }
        let (seed, tenant) = (namespace.seed, namespace.tenant);
        if let Ok(entry) = self.ids.find_entry(seed, |&other| other == id) {
            entry.remove();
        }
        self.free.push(id);
        tenants.leave(tenant);
    }
}

/// Numbered tenants; the number of one without objects is used again.
#[derive(Default)]
struct Tenants {
    ids: HashMap<Arc<str>, TenantId>,
    list: Vec<Tenant>,
    free: Vec<TenantId>,
}

struct Tenant {
    cache_salt: Arc<str>,
    namespaces: u64,
    share: Share,
}

impl Tenants {
    fn enter(&mut self, cache_salt: &Arc<str>) -> TenantId {
        let id = match self.ids.get(cache_salt) {
            Some(id) => *id,
            None => {
                let tenant =
                    Tenant { cache_salt: Arc::clone(cache_salt), namespaces: 0, share: Share::default() };
                let id = match self.free.pop() {
                    Some(id) => {
                        self.list[id.0 as usize] = tenant;
                        id
                    }
                    None => {
                        self.list.push(tenant);
                        TenantId(u32::try_from(self.list.len() - 1).expect("fewer tenants than objects"))
                    }
                };
                self.ids.insert(Arc::clone(cache_salt), id);
                id
            }
        };
        self.list[id.0 as usize].namespaces += 1;
        id
    }

    fn leave(&mut self, id: TenantId) {
        let tenant = &mut self.list[id.0 as usize];
        tenant.namespaces -= 1;
        if tenant.namespaces == 0 {
            self.ids.remove(&tenant.cache_salt);
            self.free.push(id);
        }
    }

    fn add(&mut self, id: TenantId, bytes: u64) {
        let share = &mut self.list[id.0 as usize].share;
        share.objects += 1;
        share.bytes += bytes;
    }

    fn subtract(&mut self, id: TenantId, bytes: u64) {
        let share = &mut self.list[id.0 as usize].share;
        share.objects -= 1;
        share.bytes -= bytes;
    }
}

#[cfg(test)]
mod tests;
