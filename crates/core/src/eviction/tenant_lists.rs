//! One list by recency per tenant.

use super::list::{Links, List};
use super::policy::{EntryId, TenantId};

/// The objects of each tenant, least recently used first. Twelve bytes per object.
#[derive(Debug, Default)]
pub(super) struct TenantLists {
    links: Links,
    tenants: Vec<TenantId>,
    lists: Vec<List>,
}

impl TenantLists {
    pub(super) fn insert(&mut self, id: EntryId, tenant: TenantId) {
        if self.tenants.len() <= id as usize {
            self.tenants.resize(id as usize + 1, TenantId::default());
        }
        if self.lists.len() <= tenant.0 as usize {
            self.lists.resize_with(tenant.0 as usize + 1, List::default);
        }
        self.tenants[id as usize] = tenant;
        self.lists[tenant.0 as usize].insert(&mut self.links, id);
    }

    pub(super) fn touch(&mut self, id: EntryId) {
        let tenant = self.tenant(id).0;
        self.lists[tenant as usize].touch(&mut self.links, id);
    }

    pub(super) fn remove(&mut self, id: EntryId) {
        let tenant = self.tenant(id).0;
        self.lists[tenant as usize].remove(&mut self.links, id);
    }

    /// Whose object it is.
    pub(super) fn tenant(&self, id: EntryId) -> TenantId {
        self.tenants[id as usize]
    }

    /// Up to `want` evictable objects of a tenant, coldest first.
    pub(super) fn victims(
        &mut self,
        tenant: TenantId,
        evictable: &mut dyn FnMut(EntryId) -> bool,
        want: usize,
    ) -> Vec<EntryId> {
        let Some(list) = self.lists.get_mut(tenant.0 as usize) else { return Vec::new() };
        list.victims(&self.links, evictable, want)
    }
}
