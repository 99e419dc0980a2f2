//! What a policy is told, and what it answers.
//!
//! # Contract
//!
//! Ids are dense and reused; a policy keeps its order in vectors indexed by them. The caller guarantees that
//! an id is inserted before it is touched or removed, and never twice at a time. The policy guarantees that
//! an id it names as a victim is one the caller called evictable, and keeps it until the caller removes it.
//!
//! A chunk is useless without the chunks before it. Callers therefore apply a prompt's chunks in reverse,
//! last chunk first, and touch the whole prefix with every lookup and store. Then no chunk is ever colder
//! than its continuation, and any policy that evicts by recency shortens a prompt from its end instead of
//! hollowing it out.

/// Dense id of an object.
pub type EntryId = u32;

/// Dense number of a tenant: the objects of one `cache_salt`. Reused when the tenant's last object is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

/// What a policy is told about a new object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// The same whenever the same object comes again, under whatever id.
    pub fingerprint: u64,
    /// Whose object it is.
    pub tenant: TenantId,
    /// Bytes it takes from the pool.
    pub bytes: u64,
    /// Chunks before it in its prompt: its depth in the tree of prefixes.
    pub position: u32,
}

/// Why an object is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The policy named it. It may be remembered.
    Evicted,
    /// It was cleared or replaced, which says nothing about its use.
    Dropped,
}

/// An order of objects from the first to leave to the last.
pub trait Policy: Send {
    /// The name operators choose the policy by.
    fn name(&self) -> &'static str;

    /// A new object.
    fn insert(&mut self, id: EntryId, arrival: Arrival);

    /// An object was used by a request.
    fn touch(&mut self, id: EntryId);

    /// The request that uses an object goes on: it is recent, but not used once more.
    fn refresh(&mut self, id: EntryId) {
        self.touch(id);
    }

    /// An object is gone.
    fn remove(&mut self, id: EntryId, removal: Removal);

    /// Up to `want` objects to evict now, first to leave first, all of them `evictable`. Nothing changes
    /// until the caller removes them.
    ///
    /// Objects that are not evictable are passed over. A policy bounds how many it looks at in one call, and
    /// does not begin each call with the same ones.
    fn victims(&mut self, evictable: &mut dyn FnMut(EntryId) -> bool, want: usize) -> Vec<EntryId>;

    /// As [`Self::victims`], all of them of one tenant; `evictable` says no to objects of others.
    ///
    /// A policy without an order per tenant looks through the objects of all of them;
    /// [`PerTenant`](super::PerTenant) adds that order to any.
    fn victims_of(
        &mut self,
        _tenant: TenantId,
        evictable: &mut dyn FnMut(EntryId) -> bool,
        want: usize,
    ) -> Vec<EntryId> {
        self.victims(evictable, want)
    }

    /// Whether [`Self::victims_of`] finds a tenant's objects without looking at those of others.
    fn orders_tenants(&self) -> bool {
        false
    }

    /// Sets how many bytes a tenant may have; `None` is no limit, which every tenant begins with. For
    /// policies that compare tenants.
    fn set_quota(&mut self, _tenant: TenantId, _limit_bytes: Option<u64>) {}

    /// All objects, the first to leave first, as far as the policy knows an order; what it knows none of is
    /// left out. Takes time in proportion to their number.
    fn cold_to_hot(&mut self) -> Vec<EntryId>;

    /// Objects in the order.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
