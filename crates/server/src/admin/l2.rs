//! What status pages and metrics say of the second tier.

use larder_storage::{Built, Op};
use serde_json::{Value, json};

use super::routes::Admin;
use super::text::{Kind, Scrape};

/// The body of `/config/adapters`.
pub(super) fn list(admin: &Admin) -> Value {
    let adapters = admin.adapters.iter().enumerate().map(|(index, built)| {
        json!({
            "index": index,
            "type_name": built.adapter.kind(),
            "tier": "l2",
            "primary": index == 0,
            "reconfigurable": false,
        })
    });
    json!({ "adapters": adapters.collect::<Vec<_>>() })
}

/// The adapters in `/status`.
pub(super) fn status(admin: &Admin) -> Vec<Value> {
    admin.adapters.iter().map(adapter_status).collect()
}

fn adapter_status(built: &Built) -> Value {
    let (usage, health) = (built.adapter.usage(), built.adapter.health());
    json!({
        "type": built.adapter.kind(),
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
    let mut family = scrape.family("lmcache_mp_l2_usage_bytes", Kind::Gauge, "Bytes an adapter holds.");
    for built in admin.adapters.iter() {
        family.sample(&[("l2_name", built.adapter.kind())], built.adapter.usage().bytes_used);
    }
    let families: [(&'static str, &str, Count); 4] = [
        ("larder_l2_keys_total", "Keys an adapter was asked for.", |built, op| built.counters.of(op).keys),
        ("larder_l2_ok_keys_total", "Keys that went well.", |built, op| built.counters.of(op).ok),
        ("larder_l2_failed_keys_total", "Keys that failed.", |built, op| {
            built.counters.of(op).failed_total()
        }),
        ("larder_l2_bytes_total", "Bytes moved.", |built, op| built.counters.of(op).bytes),
    ];
    for (name, help, value) in families {
        let mut family = scrape.family(name, Kind::Counter, help);
        for (index, built) in admin.adapters.iter().enumerate() {
            let index = index.to_string();
            for op in Op::ALL {
                let labels =
                    [("adapter_index", &*index), ("l2_name", built.adapter.kind()), ("op", op.label())];
                family.sample(&labels, value(built, op));
            }
        }
    }
}
