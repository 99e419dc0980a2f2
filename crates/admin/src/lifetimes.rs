//! What `/metrics` says of the life of chunks, in the peer's names (`spec/http-api.md` 3).

use super::text::{Kind, Scrape};
use larder_engine::{LifetimeHistograms, Reuse};
use larder_telemetry::Histogram;

type OfLife = fn(&LifetimeHistograms) -> &Histogram;
type OfReuse = fn(&Reuse) -> &Histogram;

const OF_LIFE: [(&str, &str, OfLife); 4] = [
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

const OF_REUSE: [(&str, &str, OfReuse); 2] = [
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
pub(super) fn metrics(scrape: &mut Scrape, seen: Option<&LifetimeHistograms>, l1: (&str, &str)) {
    let Some(seen) = seen else { return };
    for (name, help, histogram) in OF_LIFE {
        scrape.family(name, Kind::Histogram, help).histogram(&[l1], histogram(seen));
    }
    let mut salts: Vec<_> = seen.reuse.iter().collect();
    salts.sort_by_key(|(salt, _)| *salt);
    for (name, help, histogram) in OF_REUSE {
        let mut family = scrape.family(name, Kind::Histogram, help);
        for (salt, reuse) in &salts {
            family.histogram(&[("cache_salt", salt)], histogram(reuse));
        }
    }
}
