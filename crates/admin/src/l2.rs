//! What status pages and metrics say of the second tier.

use std::collections::BTreeMap;
use std::sync::Arc;

use larder_storage::{Built, Op};
use serde_json::{Value, json};

use super::l2_flow;
use super::routes::Admin;
use super::text::{Kind, Scrape};
use larder_tier::{Attached, EvictionReport, FlowCounts, LaneReport, Phase, Promptness, Pulse};

/// The peer's word for the share of a capacity that is not known.
const NO_CAPACITY: f64 = -1.0;

/// Tenants of an adapter that have a sample of their own: those that have most.
const SALTS_MAX: usize = 50;

/// The label of all others together.
const OTHER: &str = "(other)";

/// An adapter in `/config/adapters`: the peer's keys, then ours.
pub(super) fn listed(index: usize, attached: &Attached) -> Value {
    let built = attached.built();
    let health = attached.health();
    json!({
        "index": index,
        "type_name": built.adapter.kind(),
        "tier": "l2",
        "primary": index == 0,
        "reconfigurable": false,
        "id": attached.id(),
        "phase": attached.phase().label(),
        "paused": attached.phase() == Phase::Paused,
        "draining": attached.phase() == Phase::Draining,
        "in_use_by": attached.users(),
        "late_with": late_with(attached),
        "state": health.state.label(),
        "reason": health.reason,
        "breaker": built.breaker.as_ref().map(|breaker| json!({
            "state": breaker.state().label(),
            "openings": breaker.openings(),
        })),
        "config": attached.config(),
    })
}

/// What lookups do not wait for.
fn late_with(attached: &Attached) -> Vec<&'static str> {
    let late = Promptness::ALL.into_iter().filter(|with| attached.pulse().is_late(*with));
    late.map(Promptness::label).collect()
}

/// An adapter in `/status`.
pub(super) fn status(attached: &Attached) -> Value {
    let adapter = &attached.built().adapter;
    let (usage, health) = (adapter.usage(), attached.health());
    json!({
        "type": adapter.kind(),
        "id": attached.id(),
        "phase": attached.phase().label(),
        "state": health.state.label(),
        "reason": health.reason,
        "late_with": late_with(attached),
        "details": health.details,
        "objects": usage.objects,
        "bytes_used": usage.bytes_used,
        "bytes_capacity": usage.bytes_capacity,
        "is_complete": usage.is_complete,
    })
}

/// An adapter that evicts, in `/status`: the peer's keys, then ours.
pub(super) fn eviction(attached: &Attached) -> Option<Value> {
    let config = attached.eviction()?;
    let usage = attached.built().adapter.usage();
    let report = attached.eviction_report();
    let count = |count: fn(&EvictionReport) -> u64| report.as_ref().map_or(0, count);
    Some(json!({
        "eviction_policy": config.policy,
        "trigger_watermark": config.trigger_watermark,
        "eviction_ratio": config.eviction_ratio,
        "current_usage": usage.fraction().unwrap_or(NO_CAPACITY),
        "total_bytes_used": usage.bytes_used,
        "total_capacity_bytes": usage.bytes_capacity.unwrap_or_default(),
        "num_cache_salt_buckets": usage.bytes_by_salt.len(),
        "id": attached.id(),
        "indexed_objects": count(|report| report.objects),
        "indexed_bytes": count(|report| report.bytes),
        "index_complete": report.as_ref().is_some_and(|report| report.is_indexed),
        "passes": count(|report| report.passes),
        "evicted_objects": count(|report| report.evicted_objects),
        "evicted_bytes": count(|report| report.evicted_bytes),
        "locked_objects": count(|report| report.locked_objects),
        "failed_objects": count(|report| report.failed_objects),
        "refused_objects": count(|report| report.refused_objects),
    }))
}

type Count = fn(&Built, Op) -> u64;

/// The peer's families for L2, and ours by operation.
pub(super) fn metrics(scrape: &mut Scrape, admin: &Admin) {
    let counters = admin.engine.counters();
    let flow = admin.tier.flow();
    l2_flow::metrics(scrape, &flow);
    let shed = counters.l2_shed_chunks.get();
    scrape.single("larder_l2_shed_chunks_total", Kind::Counter, "Chunks L2 could not keep up with.", shed);
    let (stores, lookups) = admin.engine.tier_backlog();
    scrape.single("larder_l2_waiting_stores", Kind::Gauge, "Objects waiting to be stored in L2.", stores);
    scrape.single("larder_l2_waiting_lookups", Kind::Gauge, "Lookups waiting to ask L2.", lookups);
    let refused = counters.l2_refused_lookups.get();
    let name = "larder_l2_refused_lookups_total";
    scrape.single(name, Kind::Counter, "Lookups that did not ask L2, because too many waited.", refused);
    let misfits = counters.l2_misfit_objects.get();
    let name = "larder_l2_misfit_objects_total";
    scrape.single(name, Kind::Counter, "Objects found in another size than the model's.", misfits);
    let memory = admin.tier.prefetch_memory();
    let name = "lmcache_mp_inflight_load_memory_usage_bytes";
    scrape.single(name, Kind::Gauge, "Bytes of L1 that loads from L2 take.", memory.bytes_taken);
    let name = "larder_l2_prefetch_budget_bytes";
    scrape.single(name, Kind::Gauge, "Bytes of L1 that loads from L2 may take.", memory.bytes_max);
    scrape.single(
        "larder_l2_prefetch_shortened_chunks_total",
        Kind::Counter,
        "Chunks not loaded from L2 for lack of that budget.",
        memory.shortened_chunks,
    );
    let adapters = admin.tier.adapters();
    usage(scrape, &adapters);
    evictions(scrape, &adapters, &flow);
    phases(scrape, &adapters);
    lanes(scrape, admin);
    promptness(scrape, &adapters);
    let families: [(&'static str, &str, Count); 6] = [
        ("larder_l2_keys_total", "Keys an adapter was asked for.", |built, op| built.counters.of(op).keys),
        ("larder_l2_ok_keys_total", "Keys that went well.", |built, op| built.counters.of(op).ok),
        ("larder_l2_failed_keys_total", "Keys that failed.", |built, op| {
            built.counters.of(op).failed_total()
        }),
        ("larder_l2_declined_keys_total", "Keys that admission kept out.", |built, op| {
            built.counters.of(op).declined
        }),
        ("larder_l2_busy_keys_total", "Keys that an adapter had no time or room for yet.", |built, op| {
            built.counters.of(op).busy
        }),
        ("larder_l2_bytes_total", "Bytes moved.", |built, op| built.counters.of(op).bytes),
    ];
    for (name, help, value) in families {
        let mut family = scrape.family(name, Kind::Counter, help);
        for attached in adapters.iter() {
            let built = attached.built();
            for op in Op::ALL {
                let labels =
                    [("adapter", attached.id()), ("l2_name", built.adapter.kind()), ("op", op.label())];
                family.sample(&labels, value(built, op));
            }
        }
    }
}

type Load = fn(&LaneReport) -> u64;

/// What each adapter has still to store.
fn lanes(scrape: &mut Scrape, admin: &Admin) {
    let lanes = admin.tier.lanes();
    let families: [(&'static str, Kind, &str, Load); 5] = [
        ("larder_l2_adapter_waiting_stores", Kind::Gauge, "Objects that wait for an adapter.", |report| {
            report.waiting.objects as u64
        }),
        ("larder_l2_adapter_waiting_bytes", Kind::Gauge, "Their bytes.", |report| report.waiting.bytes),
        ("larder_l2_adapter_in_flight_bytes", Kind::Gauge, "Bytes an adapter is storing.", |report| {
            report.in_flight_bytes
        }),
        (
            "larder_l2_adapter_shed_objects_total",
            Kind::Counter,
            "Objects given up because an adapter could not keep up.",
            |report| report.shed_objects,
        ),
        (
            "larder_l2_adapter_put_back_objects_total",
            Kind::Counter,
            "Times an object waited again because an adapter was busy or down.",
            |report| report.put_back_objects,
        ),
    ];
    for (name, kind, help, value) in families {
        let mut family = scrape.family(name, kind, help);
        for (attached, report) in &lanes {
            family.sample(&[("adapter", attached.id())], value(report));
        }
    }
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
    each("larder_l2_late", Kind::Gauge, help, |pulse, with| u64::from(pulse.is_late(with)));
    let help = "Calls that lookups stopped waiting for.";
    each("larder_l2_late_calls_total", Kind::Counter, help, Pulse::late_total);
}

/// Bytes by type, as the peer has it, and by adapter: several may be of one type.
fn usage(scrape: &mut Scrape, adapters: &[Arc<Attached>]) {
    let used: Vec<_> = adapters.iter().map(|attached| attached.built().adapter.usage().bytes_used).collect();
    let mut by_type: BTreeMap<&str, u64> = BTreeMap::new();
    for (attached, used) in adapters.iter().zip(&used) {
        *by_type.entry(attached.built().adapter.kind()).or_default() += used;
    }
    let mut family =
        scrape.family("lmcache_mp_l2_usage_bytes", Kind::Gauge, "Bytes adapters of a type hold.");
    for (kind, used) in by_type {
        family.sample(&[("l2_name", kind)], used);
    }
    let mut family = scrape.family("larder_l2_adapter_usage_bytes", Kind::Gauge, "Bytes an adapter holds.");
    for (attached, used) in adapters.iter().zip(&used) {
        let labels = [("adapter", attached.id()), ("l2_name", attached.built().adapter.kind())];
        family.sample(&labels, used);
    }
    let mut family =
        scrape.family("larder_l2_adapter_active", Kind::Gauge, "Whether an adapter gets new work.");
    for attached in adapters {
        family.sample(&[("adapter", attached.id())], u8::from(attached.phase() == Phase::Active));
    }
    let mut family =
        scrape.family("larder_l2_adapter_state", Kind::Gauge, "1 for the state an adapter is in.");
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
        Kind::Gauge,
        "Adapters that objects are stored in, by phase.",
    );
    for (phase, count) in counts {
        stored_in.sample(&[("l1_tag", "_default"), ("state", phase)], count);
    }
    let mut asked = scrape.family(
        "lmcache_mp_l2_prefetch_adapters",
        Kind::Gauge,
        "Adapters that are asked for objects, by phase.",
    );
    for (phase, count) in counts {
        asked.sample(&[("state", phase)], count);
    }
}

type Tally = fn(&EvictionReport) -> u64;

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
    let mut family = scrape.family(name, Kind::Counter, "Objects evicted from L2.");
    for (salt, count) in evicted {
        family.sample(&[("cache_salt", salt)], count);
    }
    let families: [(&'static str, Kind, &str, Tally); 6] = [
        ("larder_l2_evicted_bytes_total", Kind::Counter, "Bytes evicted from an adapter.", |report| {
            report.evicted_bytes
        }),
        ("larder_l2_eviction_passes_total", Kind::Counter, "Times something had to leave.", |report| {
            report.passes
        }),
        ("larder_l2_eviction_locked_total", Kind::Counter, "Victims that a lookup held.", |report| {
            report.locked_objects
        }),
        ("larder_l2_eviction_failed_total", Kind::Counter, "Victims that could not be deleted.", |report| {
            report.failed_objects
        }),
        ("larder_l2_quota_refused_total", Kind::Counter, "Objects larger than their quota.", |report| {
            report.refused_objects
        }),
        ("larder_l2_indexed_objects", Kind::Gauge, "Objects eviction knows of.", |report| report.objects),
    ];
    for (name, kind, help, value) in families {
        let mut family = scrape.family(name, kind, help);
        for (id, report) in &reports {
            family.sample(&[("adapter", id)], value(report));
        }
    }
    let mut family =
        scrape.family("larder_l2_salt_usage_bytes", Kind::Gauge, "Bytes of the tenants that have most.");
    for (id, report) in &reports {
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
