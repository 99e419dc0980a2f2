//! The life of chunks.

use larder_engine::{LifetimeHistograms, Reuse};

use super::l1::L1;
use super::text::{Histograms, Labelled, Scrape};

const OF_LIFE: &Histograms<LifetimeHistograms> = &[
    (
        "lmcache_mp_l1_chunk_lifetime_seconds",
        "Seconds from the store of a chunk to its eviction, over a sample.",
        |seen| &seen.lifetime,
    ),
    (
        "lmcache_mp_l1_chunk_idle_before_evict_seconds",
        "Seconds from the last touch of a chunk to its eviction, over a sample.",
        |seen| &seen.idle_before_evict,
    ),
    (
        "lmcache_mp_l1_chunk_reuse_gap_seconds",
        "Seconds between two touches of a chunk in L1, over a sample.",
        |seen| &seen.reuse_gap,
    ),
    (
        "lmcache_mp_l1_chunk_evict_reuse_gap_seconds",
        "Seconds from the eviction of a chunk to its return, 300 for one that does not come back.",
        |seen| &seen.evict_reuse_gap,
    ),
];

const OF_REUSE: &Histograms<Reuse> = &[
    (
        "lmcache_mp_real_reuse_gap_seconds",
        "Seconds between the use of a chunk and its next read, over a sample.",
        |reuse| &reuse.seconds,
    ),
    (
        "lmcache_mp_real_reuse_gap_objects",
        "Chunks of the same salt that were used between the use of a chunk and its next read, over a sample.",
        |reuse| &reuse.uses,
    ),
];

/// Adds the families; there are none while no chunks are followed.
pub(super) fn metrics(scrape: &mut Scrape, seen: Option<&LifetimeHistograms>) {
    let Some(seen) = seen else { return };
    scrape.each_histogram(OF_LIFE, &[(vec![L1], seen)]);
    let mut by_salt: Vec<Labelled<'_, Reuse>> =
        seen.reuse.iter().map(|(salt, reuse)| (vec![("cache_salt", &**salt)], reuse)).collect();
    by_salt.sort_by_key(|(labels, _)| labels[0].1);
    scrape.each_histogram(OF_REUSE, &by_salt);
}
