//! Who holds how much: salts that have objects, their bytes and their limits.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::eviction::TenantId;
use crate::interner::Interner;
use crate::quota::Quotas;

/// Tenants with objects, by salt; what is counted of each are its scopes.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    quotas: Quotas,
    salts: Interner<Arc<str>, Tenant>,
    /// Tenants that were over their limit when it was set, or when they were adopted.
    over: VecDeque<TenantId>,
    /// Tenants whose limit the policy does not know yet.
    changed: Vec<TenantId>,
}

#[derive(Debug)]
struct Tenant {
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
        for (id, salt, tenant) in self.salts.iter_mut() {
            let limit_bytes = self.quotas.limit_for(salt);
            if tenant.limit_bytes != limit_bytes {
                tenant.limit_bytes = limit_bytes;
                self.changed.push(TenantId(id));
            }
            if limit_bytes.is_some_and(|limit| tenant.bytes > limit) {
                self.over.push_back(TenantId(id));
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
        self.changed = self.salts.iter().map(|(id, ..)| TenantId(id)).collect();
    }

    /// Counts one more scope of a salt and returns its tenant.
    pub(crate) fn acquire(&mut self, salt: &Arc<str>) -> TenantId {
        let mut is_new = false;
        let id = self.salts.acquire(&**salt, || {
            is_new = true;
            (Arc::clone(salt), Tenant { bytes: 0, limit_bytes: self.quotas.limit_for(salt) })
        });
        if is_new {
            self.changed.push(TenantId(id));
        }
        TenantId(id)
    }

    /// Counts one scope less; the last one takes the tenant with it.
    pub(crate) fn release(&mut self, id: TenantId) {
        let gone = self.salts.release(id.0);
        debug_assert!(gone.is_none_or(|tenant| tenant.bytes == 0), "who has no objects has no memory");
    }

    /// Counts memory that a tenant's object takes.
    pub(crate) fn charge(&mut self, id: TenantId, bytes: u64) {
        self.salts[id.0].bytes += bytes;
    }

    /// Counts memory that a tenant's object gave back.
    pub(crate) fn discharge(&mut self, id: TenantId, bytes: u64) {
        let tenant = &mut self.salts[id.0];
        debug_assert!(bytes <= tenant.bytes, "only what was charged is discharged");
        tenant.bytes -= bytes;
    }

    /// The bytes a tenant may have.
    pub(crate) fn limit_bytes(&self, id: TenantId) -> Option<u64> {
        self.salts.get(id.0)?.limit_bytes
    }

    /// Bytes of a tenant beyond its limit once it has `more`.
    pub(crate) fn excess_bytes(&self, id: TenantId, more: u64) -> u64 {
        let Some(tenant) = self.salts.get(id.0) else { return 0 };
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
        self.salts.iter().map(|(_, salt, tenant)| (&**salt, tenant.bytes))
    }

    /// Bytes of one salt.
    pub(crate) fn usage_of(&self, salt: &str) -> u64 {
        self.salts.find(salt).map_or(0, |id| self.salts[id].bytes)
    }
}
