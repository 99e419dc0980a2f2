//! Any policy, with an order per tenant beside it.

use super::policy::{Arrival, EntryId, Policy, Removal, TenantId};
use super::tenant_lists::TenantLists;

/// Evicts as the policy inside, and finds the coldest objects of one tenant in constant time, by recency.
///
/// Twelve bytes per object on top of the policy's own.
pub struct PerTenant {
    policy: Box<dyn Policy>,
    tenants: TenantLists,
}

impl PerTenant {
    /// Adds the order to a policy that has none. `objects` are those the policy has, coldest first.
    #[must_use]
    pub fn over(
        policy: Box<dyn Policy>,
        objects: impl IntoIterator<Item = (EntryId, TenantId)>,
    ) -> Box<dyn Policy> {
        if policy.orders_tenants() {
            return policy;
        }
        let mut tenants = TenantLists::default();
        objects.into_iter().for_each(|(id, tenant)| tenants.insert(id, tenant));
        Box::new(Self { policy, tenants })
    }
}

impl Policy for PerTenant {
    fn name(&self) -> &'static str {
        self.policy.name()
    }

    fn insert(&mut self, id: EntryId, arrival: Arrival) {
        self.tenants.insert(id, arrival.tenant);
        self.policy.insert(id, arrival);
    }

    fn touch(&mut self, id: EntryId) {
        self.tenants.touch(id);
        self.policy.touch(id);
    }

    fn refresh(&mut self, id: EntryId) {
        self.tenants.touch(id);
        self.policy.refresh(id);
    }

    fn remove(&mut self, id: EntryId, removal: Removal) {
        self.tenants.remove(id);
        self.policy.remove(id, removal);
    }

    fn victims(&mut self, evictable: &mut dyn FnMut(EntryId) -> bool, want: usize) -> Vec<EntryId> {
        self.policy.victims(evictable, want)
    }

    fn victims_of(
        &mut self,
        tenant: TenantId,
        evictable: &mut dyn FnMut(EntryId) -> bool,
        want: usize,
    ) -> Vec<EntryId> {
        self.tenants.victims(tenant, evictable, want)
    }

    fn orders_tenants(&self) -> bool {
        true
    }

    fn set_quota(&mut self, tenant: TenantId, limit_bytes: Option<u64>) {
        self.policy.set_quota(tenant, limit_bytes);
    }

    fn cold_to_hot(&mut self) -> Vec<EntryId> {
        self.policy.cold_to_hot()
    }

    fn len(&self) -> usize {
        self.policy.len()
    }
}
