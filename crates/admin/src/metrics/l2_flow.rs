//! The traffic between memory and the second tier. Names, labels and bounds are the peer's.

use larder_tier::{FlowCounts, KindFlow, SaltFlow};

use super::text::Kind::{Counter, Gauge};
use super::text::{Histograms, Labelled, Scrape, Table};

const ALL: &Table<FlowCounts> = &[
    (
        "lmcache_mp_l2_store_submitted_requests_total",
        Counter,
        "Batches handed to adapters to be stored.",
        |flow| flow.stores_submitted,
    ),
    ("lmcache_mp_l2_prefetch_lookup_requests_total", Counter, "Lookups that asked L2.", |flow| flow.lookups),
    ("lmcache_mp_l2_prefetch_load_submitted_requests_total", Counter, "Batches asked of adapters.", |flow| {
        flow.loads_submitted
    }),
    ("lmcache_mp_num_inflight_l2_stores", Gauge, "Batches being stored.", |flow| flow.stores_in_flight),
    ("lmcache_mp_num_inflight_l2_loads", Gauge, "Batches being loaded.", |flow| flow.loads_in_flight),
];

const BY_SALT: &Table<SaltFlow> = &[
    (
        "lmcache_mp_l2_store_submitted_objects_chunks_total",
        Counter,
        "Objects handed to adapters to be stored.",
        |flow| flow.store_submitted,
    ),
    ("lmcache_mp_l2_store_completed_objects_chunks_total", Counter, "Objects stored in adapters.", |flow| {
        flow.store_completed
    }),
    ("lmcache_mp_l2_prefetch_lookup_objects_chunks_total", Counter, "Objects looked for in L2.", |flow| {
        flow.looked_up
    }),
    (
        "lmcache_mp_l2_prefetch_load_submitted_objects_chunks_total",
        Counter,
        "Objects asked of adapters.",
        |flow| flow.load_submitted,
    ),
    (
        "lmcache_mp_l2_prefetch_load_completed_chunks_total",
        Counter,
        "Objects brought from adapters.",
        |flow| flow.load_completed,
    ),
];

const BY_KIND: &Table<KindFlow> = &[
    (
        "lmcache_mp_l2_store_completed_requests_total",
        Counter,
        "Batches adapters of a type answered, stored or not.",
        |flow| flow.stores_completed,
    ),
    (
        "lmcache_mp_l2_load_completed_requests_total",
        Counter,
        "Batches adapters of a type answered, brought or not.",
        |flow| flow.loads_completed,
    ),
];

const THROUGHPUTS: &Histograms<KindFlow> = &[
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

/// All families of the flow.
pub(super) fn metrics(scrape: &mut Scrape, flow: &FlowCounts) {
    scrape.all(ALL, flow);
    for (name, kind, help, value) in BY_SALT {
        let mut family = scrape.family(name, *kind, help);
        for (salt, flow) in flow.by_salt.iter().filter(|(_, flow)| value(flow) > 0) {
            family.sample(&[("cache_salt", salt)], value(flow));
        }
    }
    let by_kind: Vec<Labelled<'_, KindFlow>> =
        flow.by_kind.iter().map(|(kind, flow)| (vec![("l2_name", &**kind)], flow)).collect();
    scrape.each(BY_KIND, &by_kind);
    scrape.each_histogram(THROUGHPUTS, &by_kind);
    let name = "lmcache_mp_l2_prefetch_failure_chunks_total";
    let mut family =
        scrape.family(name, Counter, "Objects that an adapter claimed to have and that did not come.");
    for ((why, model_name), objects) in &flow.shortfalls {
        family.sample(&[("model_name", model_name), ("reason", why.label())], objects);
    }
}
