//! Keeping tenants within their quotas.

use super::table::Cache;
use crate::eviction::{PerTenant, TenantId};
use crate::quota::Quotas;

/// Objects of a tenant evicted for one of its stores, at most: one is enough where objects have one size.
const OWN_VICTIMS_MAX: usize = 64;

impl Cache {
    /// Who may have how much.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        self.tenants.quotas()
    }

    /// Limits the memory of a salt's objects to `limit_bytes`, those being written included, and returns its
    /// own limit before.
    ///
    /// What it has beyond that stays until [`Self::evict_over_quota`] or its own stores evict it. The first
    /// quota of all takes time in proportion to the number of objects, a tenth of a second for a million;
    /// every other in proportion to the number of salts.
    pub fn set_quota(&mut self, salt: &str, limit_bytes: u64) -> Option<u64> {
        self.change_quotas(|quotas| quotas.set(salt, limit_bytes))
    }

    /// Takes a salt's own limit away and returns it; the default holds from then on.
    pub fn remove_quota(&mut self, salt: &str) -> Option<u64> {
        self.change_quotas(|quotas| quotas.remove(salt))
    }

    /// Sets the limit of salts without their own; `None` is no limit. Takes as long as [`Self::set_quota`].
    pub fn set_default_quota(&mut self, limit_bytes: Option<u64>) {
        self.change_quotas(|quotas| quotas.set_default(limit_bytes));
    }

    /// Each salt that has objects, with the bytes they take, those being written included. The sum is the
    /// pool's use.
    pub fn usage_by_salt(&self) -> impl Iterator<Item = (&str, u64)> {
        self.tenants.usage()
    }

    /// Bytes that the objects of one salt take.
    #[must_use]
    pub fn usage_of_salt(&self, salt: &str) -> u64 {
        self.tenants.usage_of(salt)
    }

    /// Evicts up to `step` objects, the coldest without leases, of salts that have more than their quota
    /// since it was lowered, and returns how many went; 0 when nothing more can go now.
    pub fn evict_over_quota(&mut self, step: usize) -> usize {
        let mut evicted = 0;
        for _ in 0..self.tenants.over_len() {
            let Some(tenant) = self.tenants.next_over() else { break };
            while evicted < step && self.tenants.excess_bytes(tenant, 0) > 0 && self.evict_of(tenant) {
                evicted += 1;
            }
            if self.tenants.excess_bytes(tenant, 0) > 0 {
                self.tenants.note_over(tenant);
            }
            if evicted >= step {
                break;
            }
        }
        evicted
    }

    /// Makes room for `bytes` more within a tenant's quota, from its own objects alone; false if that can't
    /// be had. `spare` is called before anything is evicted, to hold on to what must stay.
    pub(super) fn fit_quota(&mut self, tenant: TenantId, bytes: u64, spare: impl FnOnce(&mut Self)) -> bool {
        if self.tenants.excess_bytes(tenant, bytes) == 0 {
            return true;
        }
        if self.tenants.limit_bytes(tenant).is_some_and(|limit| bytes > limit) {
            return false;
        }
        spare(self);
        for _ in 0..OWN_VICTIMS_MAX {
            if !self.evict_of(tenant) {
                return false;
            }
            if self.tenants.excess_bytes(tenant, bytes) == 0 {
                return true;
            }
        }
        false
    }

    fn evict_of(&mut self, tenant: TenantId) -> bool {
        let Some(victim) = self.coldest_of(tenant) else { return false };
        self.evict_for_quota(victim);
        true
    }

    fn change_quotas<T>(&mut self, change: impl FnOnce(&mut Quotas) -> T) -> T {
        let answer = self.tenants.change_quotas(change);
        if !self.quotas().is_unlimited() && !self.policy.orders_tenants() {
            let objects: Vec<_> =
                self.cold_to_hot().into_iter().map(|id| (id, self.arrival(id).tenant)).collect();
            let policy = std::mem::replace(&mut self.policy, Box::new(crate::eviction::Noop::new()));
            self.policy = PerTenant::over(policy, objects);
        }
        self.tell_limits();
        answer
    }

    /// Tells the policy about limits it does not know yet.
    pub(super) fn tell_limits(&mut self) {
        if self.tenants.has_changed() {
            for (tenant, limit_bytes) in self.tenants.take_changed() {
                self.policy.set_quota(tenant, limit_bytes);
            }
        }
    }
}
