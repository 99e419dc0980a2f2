//! The second tier.

use std::collections::BTreeMap;
use std::sync::Arc;

use larder_engine::Operator;
use larder_storage::Op;
use larder_storage::decorators::OpCounts;
use larder_tier::{
    Attached, EvictionReport, FlowCounts, LaneReport, Phase, PrefetchMemory, Promptness, Pulse, Tier,
};

use super::l1::L1;
use super::l2_flow;
use super::text::Kind::{Counter, Gauge};
use super::text::{Labelled, Scrape, Table};

/// Tenants of an adapter that have a sample of their own: those that have most.
const SALTS_MAX: usize = 50;

/// The label of all others together.
const OTHER: &str = "(other)";

const LANES: &Table<LaneReport> = &[
    ("larder_l2_adapter_waiting_stores", Gauge, "Objects that wait for an adapter.", |report| {
        report.waiting.objects as u64
    }),
    ("larder_l2_adapter_waiting_bytes", Gauge, "Their bytes.", |report| report.waiting.bytes),
    ("larder_l2_adapter_in_flight_bytes", Gauge, "Bytes an adapter is storing.", |report| {
        report.in_flight_bytes
    }),
    (
        "larder_l2_adapter_shed_objects_total",
        Counter,
        "Objects given up because an adapter could not keep up.",
        |report| report.shed_objects,
    ),
    (
        "larder_l2_adapter_put_back_objects_total",
        Counter,
        "Times an object waited again because an adapter was busy or down.",
        |report| report.put_back_objects,
    ),
];

const OPERATIONS: &Table<OpCounts> = &[
    ("larder_l2_keys_total", Counter, "Keys an adapter was asked for.", |counts| counts.keys),
    ("larder_l2_ok_keys_total", Counter, "Keys that went well.", |counts| counts.ok),
    ("larder_l2_failed_keys_total", Counter, "Keys that failed.", OpCounts::failed_total),
    ("larder_l2_declined_keys_total", Counter, "Keys that admission kept out.", |counts| counts.declined),
    ("larder_l2_busy_keys_total", Counter, "Keys that an adapter had no time or room for yet.", |counts| {
        counts.busy
    }),
    ("larder_l2_bytes_total", Counter, "Bytes moved.", |counts| counts.bytes),
];

const EVICTIONS: &Table<EvictionReport> = &[
    ("larder_l2_evicted_bytes_total", Counter, "Bytes evicted from an adapter.", |report| {
        report.evicted_bytes
    }),
    ("larder_l2_eviction_passes_total", Counter, "Times something had to leave.", |report| report.passes),
    ("larder_l2_eviction_locked_total", Counter, "Victims that a lookup held.", |report| {
        report.locked_objects
    }),
    ("larder_l2_eviction_failed_total", Counter, "Victims that could not be deleted.", |report| {
        report.failed_objects
    }),
    ("larder_l2_quota_refused_total", Counter, "Objects larger than their quota.", |report| {
        report.refused_objects
    }),
    ("larder_l2_indexed_objects", Gauge, "Objects eviction knows of.", |report| report.objects),
];

/// The peer's families for L2, and ours by operation.
pub(super) fn metrics(scrape: &mut Scrape, engine: &Operator, tier: &Tier) {
    let flow = tier.flow();
    l2_flow::metrics(scrape, &flow);
    queues(scrape, engine);
    budget(scrape, &tier.prefetch_memory());
    let adapters = tier.adapters();
    usage(scrape, &adapters);
    evictions(scrape, &adapters, &flow);
    phases(scrape, &adapters);
    let lanes = tier.lanes();
    let by_adapter: Vec<Labelled<'_, LaneReport>> =
        lanes.iter().map(|(attached, report)| (vec![("adapter", attached.id())], report)).collect();
    scrape.each(LANES, &by_adapter);
    promptness(scrape, &adapters);
    operations(scrape, &adapters);
}

fn queues(scrape: &mut Scrape, engine: &Operator) {
    let counters = engine.counters();
    let shed = counters.l2_shed_chunks.get();
    scrape.single("larder_l2_shed_chunks_total", Counter, "Chunks L2 could not keep up with.", shed);
    let (stores, lookups) = engine.tier_backlog();
    scrape.single("larder_l2_waiting_stores", Gauge, "Objects waiting to be stored in L2.", stores);
    scrape.single("larder_l2_waiting_lookups", Gauge, "Lookups waiting to ask L2.", lookups);
    let refused = counters.l2_refused_lookups.get();
    let name = "larder_l2_refused_lookups_total";
    scrape.single(name, Counter, "Lookups that did not ask L2, because too many waited.", refused);
    let misfits = counters.l2_misfit_objects.get();
    let name = "larder_l2_misfit_objects_total";
    scrape.single(name, Counter, "Objects found in another size than the model's.", misfits);
}

fn budget(scrape: &mut Scrape, memory: &PrefetchMemory) {
    let name = "lmcache_mp_inflight_load_memory_usage_bytes";
    scrape.single(name, Gauge, "Bytes of L1 that loads from L2 take.", memory.bytes_taken);
    let name = "larder_l2_prefetch_budget_bytes";
    scrape.single(name, Gauge, "Bytes of L1 that loads from L2 may take.", memory.bytes_max);
    let name = "larder_l2_prefetch_shortened_chunks_total";
    let help = "Chunks not loaded from L2 for lack of that budget.";
    scrape.single(name, Counter, help, memory.shortened_chunks);
}

fn operations(scrape: &mut Scrape, adapters: &[Arc<Attached>]) {
    let mut counts = Vec::new();
    for attached in adapters {
        let built = attached.built();
        for op in Op::ALL {
            let labels =
                vec![("adapter", attached.id()), ("l2_name", built.adapter.kind()), ("op", op.label())];
            counts.push((labels, built.counters.of(op)));
        }
    }
    let by_operation: Vec<Labelled<'_, OpCounts>> =
        counts.iter().map(|(labels, counts)| (labels.clone(), counts)).collect();
    scrape.each(OPERATIONS, &by_operation);
}

/// Whether lookups wait for each adapter.
fn promptness(scrape: &mut Scrape, adapters: &[Arc<Attached>]) {
    let mut each = |name, kind, help, value: fn(&Pulse, Promptness) -> u64| {
        let mut family = scrape.family(name, kind, help);
        for attached in adapters {
            for with in Promptness::ALL {
                let labels = [("adapter", attached.id()), ("op", with.label())];
                family.sample(&labels, value(attached.pulse(), with));
            }
        }
    };
    let help = "Whether lookups do not wait for an adapter, because it was silent.";
    each("larder_l2_late", Gauge, help, |pulse, with| u64::from(pulse.is_late(with)));
    let help = "Calls that lookups stopped waiting for.";
    each("larder_l2_late_calls_total", Counter, help, Pulse::late_total);
}

/// Bytes by type, as the peer has it, and by adapter: several may be of one type.
fn usage(scrape: &mut Scrape, adapters: &[Arc<Attached>]) {
    let used: Vec<_> = adapters.iter().map(|attached| attached.built().adapter.usage().bytes_used).collect();
    let mut by_type: BTreeMap<&str, u64> = BTreeMap::new();
    for (attached, used) in adapters.iter().zip(&used) {
        *by_type.entry(attached.built().adapter.kind()).or_default() += used;
    }
    let mut family = scrape.family("lmcache_mp_l2_usage_bytes", Gauge, "Bytes adapters of a type hold.");
    for (kind, used) in by_type {
        family.sample(&[("l2_name", kind)], used);
    }
    let mut family = scrape.family("larder_l2_adapter_usage_bytes", Gauge, "Bytes an adapter holds.");
    for (attached, used) in adapters.iter().zip(&used) {
        let labels = [("adapter", attached.id()), ("l2_name", attached.built().adapter.kind())];
        family.sample(&labels, used);
    }
    let mut family = scrape.family("larder_l2_adapter_active", Gauge, "Whether an adapter gets new work.");
    for attached in adapters {
        family.sample(&[("adapter", attached.id())], u8::from(attached.phase() == Phase::Active));
    }
    let mut family = scrape.family("larder_l2_adapter_state", Gauge, "1 for the state an adapter is in.");
    for attached in adapters {
        let labels = [("adapter", attached.id()), ("state", attached.health().state.label())];
        family.sample(&labels, 1);
    }
}

/// How many adapters are in which phase, as the peer has it for its two controllers.
fn phases(scrape: &mut Scrape, adapters: &[Arc<Attached>]) {
    let counts = [Phase::Active, Phase::Paused, Phase::Draining]
        .map(|phase| (phase.label(), adapters.iter().filter(|attached| attached.phase() == phase).count()));
    let mut stored_in = scrape.family(
        "lmcache_mp_l2_store_adapters",
        Gauge,
        "Adapters that objects are stored in, by phase.",
    );
    for (phase, count) in counts {
        stored_in.sample(&[L1, ("state", phase)], count);
    }
    let mut asked = scrape.family(
        "lmcache_mp_l2_prefetch_adapters",
        Gauge,
        "Adapters that are asked for objects, by phase.",
    );
    for (phase, count) in counts {
        asked.sample(&[("state", phase)], count);
    }
}

/// What left, and who has what: by tenant as the peer has it, but never by all of them.
fn evictions(scrape: &mut Scrape, adapters: &[Arc<Attached>], flow: &FlowCounts) {
    let reports: Vec<_> =
        adapters.iter().filter_map(|attached| Some((attached.id(), attached.eviction_report()?))).collect();
    let retired = flow.by_salt.iter().filter(|(_, salt)| salt.evicted > 0);
    let mut evicted: BTreeMap<&str, u64> = retired.map(|(salt, flow)| (&**salt, flow.evicted)).collect();
    for (salt, count) in reports.iter().flat_map(|(_, report)| &report.evicted_by_salt) {
        *evicted.entry(salt).or_default() += count;
    }
    let name = "lmcache_mp_l2_evicted_objects_chunks_total";
    let mut family = scrape.family(name, Counter, "Objects evicted from L2.");
    for (salt, count) in evicted {
        family.sample(&[("cache_salt", salt)], count);
    }
    let by_adapter: Vec<Labelled<'_, EvictionReport>> =
        reports.iter().map(|(id, report)| (vec![("adapter", *id)], report)).collect();
    scrape.each(EVICTIONS, &by_adapter);
    salts(scrape, &reports);
}

fn salts(scrape: &mut Scrape, reports: &[(&str, EvictionReport)]) {
    let mut family =
        scrape.family("larder_l2_salt_usage_bytes", Gauge, "Bytes of the tenants that have most.");
    for (id, report) in reports {
        let mut salts: Vec<(&str, u64)> =
            report.bytes_by_salt.iter().map(|(salt, bytes)| (&**salt, *bytes)).collect();
        salts.sort_unstable_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
        let rest = salts.split_off(salts.len().min(SALTS_MAX));
        if !rest.is_empty() {
            salts.push((OTHER, rest.iter().map(|(_, bytes)| bytes).sum()));
        }
        for (salt, bytes) in salts {
            family.sample(&[("adapter", id), ("cache_salt", salt)], bytes);
        }
    }
}
