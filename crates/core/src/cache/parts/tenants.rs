//! Who holds how much: salts that have objects, their bytes and their limits.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::eviction::TenantId;
use crate::quota::Quotas;

/// Tenants with objects; one without any is forgotten, so that hostile salts cost nothing.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    quotas: Quotas,
    ids: HashMap<Arc<str>, TenantId>,
    slots: Vec<Option<Tenant>>,
    free: Vec<u32>,
    /// Tenants that were over their limit when it was set, or when they were adopted.
    over: VecDeque<TenantId>,
    /// Tenants whose limit the policy does not know yet.
    changed: Vec<TenantId>,
}

#[derive(Debug)]
struct Tenant {
    salt: Arc<str>,
    scopes: u32,
    bytes: u64,
    limit_bytes: Option<u64>,
}

impl Tenants {
    pub(crate) fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Changes the quotas. Takes time in proportion to the number of tenants.
    pub(crate) fn change_quotas<T>(&mut self, change: impl FnOnce(&mut Quotas) -> T) -> T {
        let answer = change(&mut self.quotas);
        self.over.clear();
        for (id, tenant) in self.slots.iter_mut().enumerate() {
            let Some(tenant) = tenant else { continue };
            let limit_bytes = self.quotas.limit_for(&tenant.salt);
            if tenant.limit_bytes != limit_bytes {
                tenant.limit_bytes = limit_bytes;
                self.changed.push(TenantId(id as u32));
            }
            if limit_bytes.is_some_and(|limit| tenant.bytes > limit) {
                self.over.push_back(TenantId(id as u32));
            }
        }
        answer
    }

    /// Tenants whose limits changed since the last call, with their limits.
    pub(crate) fn take_changed(&mut self) -> Vec<(TenantId, Option<u64>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|id| (id, self.limit_bytes(id))).collect()
    }

    /// Whether [`Self::take_changed`] has something to give.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Has every tenant's limit told again, for a new policy.
    pub(crate) fn mark_all_changed(&mut self) {
        self.changed = self.ids.values().copied().collect();
    }

    /// Counts one more scope of a salt and returns its tenant.
    pub(crate) fn acquire(&mut self, salt: &Arc<str>) -> TenantId {
        if let Some(&id) = self.ids.get(salt) {
            if let Some(tenant) = &mut self.slots[id.0 as usize] {
                tenant.scopes += 1;
            }
            return id;
        }
        let limit_bytes = self.quotas.limit_for(salt);
        let tenant = Some(Tenant { salt: Arc::clone(salt), scopes: 1, bytes: 0, limit_bytes });
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = tenant;
                TenantId(id)
            }
            None => {
                self.slots.push(tenant);
                TenantId(self.slots.len() as u32 - 1)
            }
        };
        self.ids.insert(Arc::clone(salt), id);
        self.changed.push(id);
        id
    }

    /// Counts one scope less; the last one takes the tenant with it.
    pub(crate) fn release(&mut self, id: TenantId) {
        let Some(tenant) = &mut self.slots[id.0 as usize] else { return };
        tenant.scopes -= 1;
        if tenant.scopes == 0 {
            self.ids.remove(&*tenant.salt);
            self.slots[id.0 as usize] = None;
            self.free.push(id.0);
        }
    }

    /// Counts memory that a tenant's object takes.
    pub(crate) fn charge(&mut self, id: TenantId, bytes: u64) {
        if let Some(tenant) = &mut self.slots[id.0 as usize] {
            tenant.bytes += bytes;
        }
    }

    /// Counts memory that a tenant's object gave back.
    pub(crate) fn discharge(&mut self, id: TenantId, bytes: u64) {
        if let Some(tenant) = &mut self.slots[id.0 as usize] {
            tenant.bytes -= bytes;
        }
    }

    /// The bytes a tenant may have.
    pub(crate) fn limit_bytes(&self, id: TenantId) -> Option<u64> {
        self.slots[id.0 as usize].as_ref()?.limit_bytes
    }

    /// Bytes of a tenant beyond its limit once it has `more`.
    pub(crate) fn excess_bytes(&self, id: TenantId, more: u64) -> u64 {
        let Some(Some(tenant)) = self.slots.get(id.0 as usize) else { return 0 };
        tenant.limit_bytes.map_or(0, |limit| tenant.bytes.saturating_add(more).saturating_sub(limit))
    }

    /// The next tenant that may be over its limit.
    pub(crate) fn next_over(&mut self) -> Option<TenantId> {
        self.over.pop_front()
    }

    /// Notes that a tenant may be over its limit.
    pub(crate) fn note_over(&mut self, id: TenantId) {
        self.over.push_back(id);
    }

    /// How many tenants may be over their limit.
    pub(crate) fn over_len(&self) -> usize {
        self.over.len()
    }

    /// Each salt that has objects, and its bytes.
    pub(crate) fn usage(&self) -> impl Iterator<Item = (&str, u64)> {
        self.slots.iter().flatten().map(|tenant| (&*tenant.salt, tenant.bytes))
    }

    /// Bytes of one salt.
    pub(crate) fn usage_of(&self, salt: &str) -> u64 {
        let tenant = self.ids.get(salt).and_then(|id| self.slots[id.0 as usize].as_ref());
        tenant.map_or(0, |tenant| tenant.bytes)
    }
}
