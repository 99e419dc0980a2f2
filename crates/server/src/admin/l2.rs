//! What status pages and metrics say of the second tier.

use std::collections::BTreeMap;
use std::sync::Arc;

use larder_storage::{Built, Op};
use serde_json::{Value, json};

use super::routes::Admin;
use super::text::{Kind, Scrape};
use crate::controllers::l2::{Attached, Phase};

/// An adapter in `/config/adapters`: the peer's keys, then ours.
pub(super) fn listed(index: usize, attached: &Attached) -> Value {
    let built = attached.built();
    let health = built.adapter.health();
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
        "state": health.state.label(),
        "reason": health.reason,
        "breaker": built.breaker.as_ref().map(|breaker| json!({
            "state": breaker.state().label(),
            "openings": breaker.openings(),
        })),
        "config": attached.config(),
    })
}

/// An adapter in `/status`.
pub(super) fn status(attached: &Attached) -> Value {
    let adapter = &attached.built().adapter;
    let (usage, health) = (adapter.usage(), adapter.health());
    json!({
        "type": adapter.kind(),
        "id": attached.id(),
        "phase": attached.phase().label(),
        "state": health.state.label(),
        "reason": health.reason,
        "details": health.details,
        "objects": usage.objects,
        "bytes_used": usage.bytes_used,
        "bytes_capacity": usage.bytes_capacity,
        "is_complete": usage.is_complete,
    })
}

type Count = fn(&Built, Op) -> u64;

/// The peer's families for L2, and ours by operation.
pub(super) fn metrics(scrape: &mut Scrape, admin: &Admin) {
    let counters = admin.engine.counters();
    let loaded = counters.l2_loaded_chunks.get();
    scrape.single(
        "lmcache_mp_l2_prefetch_load_completed_chunks_total",
        Kind::Counter,
        "Chunks brought from L2.",
        loaded,
    );
    let shed = counters.l2_shed_chunks.get();
    scrape.single("larder_l2_shed_chunks_total", Kind::Counter, "Chunks L2 could not keep up with.", shed);
    let (stores, lookups) = admin.engine.tier_backlog();
    scrape.single("larder_l2_waiting_stores", Kind::Gauge, "Objects waiting to be stored in L2.", stores);
    scrape.single("larder_l2_waiting_lookups", Kind::Gauge, "Lookups waiting to ask L2.", lookups);
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
    let families: [(&'static str, &str, Count); 5] = [
        ("larder_l2_keys_total", "Keys an adapter was asked for.", |built, op| built.counters.of(op).keys),
        ("larder_l2_ok_keys_total", "Keys that went well.", |built, op| built.counters.of(op).ok),
        ("larder_l2_failed_keys_total", "Keys that failed.", |built, op| {
            built.counters.of(op).failed_total()
        }),
        ("larder_l2_declined_keys_total", "Keys that admission kept out.", |built, op| {
            built.counters.of(op).declined
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
}
