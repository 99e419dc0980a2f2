//! Quotas of tenants in memory, and what they use.

use std::collections::BTreeMap;

use larder_core::quota::Quotas;

use crate::faces::Operator;

impl Operator {
    /// Takes over quotas that hold from the start.
    pub fn set_quotas(&self, quotas: &Quotas) {
        let mut state = self.state();
        if *state.cache.quotas() == *quotas {
            return;
        }
        state.cache.set_default_quota(quotas.default_limit());
        for (cache_salt, limit_bytes) in quotas.iter() {
            state.cache.set_quota(cache_salt, limit_bytes);
        }
    }

    /// Limits the memory of a tenant; `None` leaves it to the default. What it has beyond that is evicted in
    /// the background.
    pub fn set_quota(&self, cache_salt: &str, limit_bytes: Option<u64>) {
        let mut state = self.state();
        match limit_bytes {
            Some(limit_bytes) => state.cache.set_quota(cache_salt, limit_bytes),
            None => state.cache.remove_quota(cache_salt),
        };
        drop(state);
        self.wake_eviction.notify_one();
    }

    /// Bytes of memory that each tenant's objects take.
    #[must_use]
    pub fn bytes_by_salt(&self) -> BTreeMap<Box<str>, u64> {
        self.state().cache.usage_by_salt().map(|(salt, bytes)| (salt.into(), bytes)).collect()
    }

    /// Bytes of memory that one tenant's objects take.
    #[must_use]
    pub fn bytes_of_salt(&self, cache_salt: &str) -> u64 {
        self.state().cache.usage_of_salt(cache_salt)
    }
}
