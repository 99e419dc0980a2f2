//! What `/metrics` says of the traffic between memory and the second tier. Names, labels and bounds are the
//! peer's.

use super::text::{Kind, Scrape};
use larder_telemetry::Histogram;
use larder_tier::{FlowCounts, KindFlow, SaltFlow};

use Kind::{Counter, Gauge};

type OfSalt = fn(&SaltFlow) -> u64;
type OfKind = fn(&KindFlow) -> u64;
type Throughput = fn(&KindFlow) -> &Histogram;

/// All families of the flow.
pub(super) fn metrics(scrape: &mut Scrape, flow: &FlowCounts) {
    let singles = [
        (
            "lmcache_mp_l2_store_submitted_requests_total",
            Counter,
            "Batches handed to adapters to be stored.",
            flow.stores_submitted,
        ),
        ("lmcache_mp_l2_prefetch_lookup_requests_total", Counter, "Lookups that asked L2.", flow.lookups),
        (
            "lmcache_mp_l2_prefetch_load_submitted_requests_total",
            Counter,
            "Batches asked of adapters.",
            flow.loads_submitted,
        ),
        ("lmcache_mp_num_inflight_l2_stores", Gauge, "Batches being stored.", flow.stores_in_flight),
        ("lmcache_mp_num_inflight_l2_loads", Gauge, "Batches being loaded.", flow.loads_in_flight),
    ];
    for (name, kind, help, value) in singles {
        scrape.single(name, kind, help, value);
    }
    let by_salt: [(&'static str, &str, OfSalt); 5] = [
        (
            "lmcache_mp_l2_store_submitted_objects_chunks_total",
            "Objects handed to adapters to be stored.",
            |flow| flow.store_submitted,
        ),
        ("lmcache_mp_l2_store_completed_objects_chunks_total", "Objects stored in adapters.", |flow| {
            flow.store_completed
        }),
        ("lmcache_mp_l2_prefetch_lookup_objects_chunks_total", "Objects looked for in L2.", |flow| {
            flow.looked_up
        }),
        (
            "lmcache_mp_l2_prefetch_load_submitted_objects_chunks_total",
            "Objects asked of adapters.",
            |flow| flow.load_submitted,
        ),
        ("lmcache_mp_l2_prefetch_load_completed_chunks_total", "Objects brought from adapters.", |flow| {
            flow.load_completed
        }),
    ];
    for (name, help, value) in by_salt {
        let mut family = scrape.family(name, Counter, help);
        for (salt, flow) in flow.by_salt.iter().filter(|(_, flow)| value(flow) > 0) {
            family.sample(&[("cache_salt", salt)], value(flow));
        }
    }
    let by_kind: [(&'static str, &str, OfKind); 2] = [
        (
            "lmcache_mp_l2_store_completed_requests_total",
            "Batches adapters of a type answered, stored or not.",
            |flow| flow.stores_completed,
        ),
        (
            "lmcache_mp_l2_load_completed_requests_total",
            "Batches adapters of a type answered, brought or not.",
            |flow| flow.loads_completed,
        ),
    ];
    for (name, help, value) in by_kind {
        let mut family = scrape.family(name, Counter, help);
        for (kind, flow) in &flow.by_kind {
            family.sample(&[("l2_name", kind)], value(flow));
        }
    }
    let throughputs: [(&'static str, &str, Throughput); 2] = [
        (
            "lmcache_mp_l2_store_throughput_GB_per_second",
            "GB/s of stored batches, from the call to its answer.",
            |flow| &flow.store_throughput,
        ),
        (
            "lmcache_mp_l2_load_throughput_GB_per_second",
            "GB/s of loaded batches, from the call to its answer.",
            |flow| &flow.load_throughput,
        ),
    ];
    for (name, help, histogram) in throughputs {
        let mut family = scrape.family(name, Kind::Histogram, help);
        for (kind, flow) in &flow.by_kind {
            family.histogram(&[("l2_name", kind)], histogram(flow));
        }
    }
    let name = "lmcache_mp_l2_prefetch_failure_chunks_total";
    let mut family =
        scrape.family(name, Counter, "Objects that an adapter claimed to have and that did not come.");
    for ((why, model_name), objects) in &flow.shortfalls {
        family.sample(&[("model_name", model_name), ("reason", why.label())], objects);
    }
}
