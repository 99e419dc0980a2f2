//! Numbers about the object table, for status pages and metrics.

/// A snapshot of the table. Counters run from the start of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes the pool may hand out now; grows while a lazy pool is being prepared.
    pub capacity_bytes: u64,
    /// Bytes handed out, rounded up to the alignment.
    pub used_bytes: u64,
    /// Bytes of `used_bytes` that a writer holds.
    pub staging_bytes: u64,
    /// Longest allocation that would succeed without eviction.
    pub largest_free_bytes: u64,
    /// Objects that can be read.
    pub resident_objects: u64,
    /// Objects being written.
    pub staging_objects: u64,
    /// Objects cleared by force that wait for a reader or writer to let go.
    pub condemned_objects: u64,
    /// Objects under at least one lease.
    pub leased_objects: u64,
    /// Leases on all objects together.
    pub leases: u64,
    /// Scopes (model, rank, group, salt, layout) that have objects.
    pub scopes: u64,
    /// Objects committed.
    pub stored_total: u64,
    /// Commits dropped because another writer had committed the same object before.
    pub duplicates_total: u64,
    /// Reservations taken back without a commit.
    pub aborted_total: u64,
    /// Objects evicted by the policy, in the background or for a store.
    pub evicted_total: u64,
    /// Those of `evicted_total` that a store had to evict itself.
    pub evicted_for_store_total: u64,
    /// Those of `evicted_total` that left because their salt was at its quota.
    pub evicted_for_quota_total: u64,
    /// Objects that could not be reserved, because nothing more could be evicted or because of a quota.
    pub refused_total: u64,
    /// Those of `refused_total` that their salt's quota did not allow.
    pub refused_by_quota_total: u64,
    /// Objects taken over from a server before this one.
    pub adopted_total: u64,
}
