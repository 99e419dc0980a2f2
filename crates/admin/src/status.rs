//! The body of `/status`, key by key as the peer's (`spec/http-api.md` 2), with `larder` for what only this
//! server knows.

use larder_supervise::ControlHost;
use serde_json::{Value, json};

use super::l2;
use super::plugins::hints;
use super::routes::Admin;
use larder_engine::{CheckPoint, ChecksumCounters, EngineStatus, LookupCounts};
use larder_tier::Phase;

/// What plugins are told on their control channels is what anybody is told.
impl ControlHost for Admin {
    fn status(&self, _plugin: &str) -> Value {
        body(self)
    }

    fn hint(&self, plugin: &str, hooks: &[String], params: &Value) -> Result<Value, String> {
        hints::take(&self.engine, plugin, hooks, params)
    }

    fn run_over(&self, plugin: &str) {
        self.engine.withdraw_hints(plugin);
    }
}

/// The node now.
pub(super) fn body(admin: &Admin) -> Value {
    let status = admin.engine.status();
    let missing = admin.tasks.missing();
    json!({
        "is_healthy": missing.is_empty(),
        "engine_type": "MPCacheServer",
        "chunk_size": admin.config().mp.chunk_size,
        "hash_algorithm": admin.config().mp.hash_algorithm,
        "active_sessions": status.sessions,
        "storage_manager": storage_manager(admin, &status, missing.is_empty()),
        "active_prefetch_jobs": status.prefetching,
        "active_p2p_lookup_jobs": 0,
        "p2p_enabled": false,
        "p2p_state": "unregistered",
        "p2p_peer_count": 0,
        "p2p_peers": [],
        "worker_liveness": {
            "enabled": admin.config().mp.worker_reap_timeout_seconds > 0.0,
            "reap_timeout_seconds": admin.config().mp.worker_reap_timeout_seconds,
            "registration_grace_seconds": admin.config().mp.worker_registration_grace_seconds,
            "tracked_instances": status.instances.len(),
        },
        "kv_events": kv_events(admin, &status),
        "registered_gpu_ids": [],
        "cache_context_meta": {},
        "registered_non_cuda_instance_ids":
            status.instances.iter().map(|instance| instance.instance_id).collect::<Vec<_>>(),
        "non_cuda_context_meta": instances(&status),
        "larder": larder(admin, &status),
    })
}

fn storage_manager(admin: &Admin, status: &EngineStatus, healthy: bool) -> Value {
    let l1 = l1_manager(admin, status, healthy);
    let eviction = json!({
        "is_healthy": admin.tasks.is_alive("l1-eviction"),
        "thread_alive": admin.tasks.is_alive("l1-eviction"),
        "eviction_policy": admin.config().eviction.policy.as_str(),
        "trigger_watermark": admin.config().eviction.trigger_watermark,
        "eviction_ratio": admin.config().eviction.ratio,
    });
    let attached = admin.tier.adapters();
    let in_phase = |phase| attached.iter().filter(|adapter| adapter.phase() == phase).count();
    let (adapters, active, draining) = (attached.len(), in_phase(Phase::Active), in_phase(Phase::Draining));
    let alive = |task: &str| adapters == 0 || admin.tasks.is_alive(task);
    let (waiting_stores, waiting_lookups) = admin.engine.tier_backlog();
    let store = json!({
        "is_healthy": alive("l2-store"), "thread_alive": alive("l2-store"), "pending_keys_count": waiting_stores,
        "in_flight_task_count": 0, "num_l2_adapters": adapters, "num_active_adapters": active,
        "num_draining_adapters": draining,
    });
    json!({
        "is_healthy": healthy,
        "l1_managers": { "_default": l1 },
        "store_controllers": { "_default": store },
        "l1_eviction_controllers": { "_default": eviction },
        "prefetch_controller": {
            "is_healthy": alive("l2-prefetch"), "thread_alive": alive("l2-prefetch"),
            "max_in_flight": admin.config().l2.prefetch_max_in_flight, "submission_queue_size": waiting_lookups,
            "pending_queue_size": waiting_lookups, "in_flight_request_count": status.prefetching,
            "lookup_phase_count": 0, "load_phase_count": 0, "completed_results_count": 0,
            "num_l2_adapters": adapters, "num_active_adapters": active,
            "num_draining_adapters": draining,
        },
        "l2_eviction_controller": {
            "is_healthy": alive("l2-eviction"),
            "thread_alive": alive("l2-eviction"),
            "adapters": attached.iter().filter_map(|adapter| l2::eviction(adapter)).collect::<Vec<_>>(),
        },
        "l2_adapters": attached.iter().map(|adapter| l2::status(adapter)).collect::<Vec<_>>(),
        "num_l2_adapters": adapters,
        "l1_usage": [status.cache.used_bytes, status.cache.capacity_bytes],
        "l1_capacity_bytes_by_backend": { "dram": status.cache.capacity_bytes },
        "l1_manager": l1,
        "store_controller": store,
        "l1_eviction_controller": eviction,
    })
}

fn l1_manager(admin: &Admin, status: &EngineStatus, healthy: bool) -> Value {
    let cache = &status.cache;
    json!({
        "is_healthy": healthy,
        "total_object_count": cache.resident_objects + cache.staging_objects,
        "write_locked_count": cache.staging_objects,
        "read_locked_count": cache.leased_objects,
        "temporary_count": 0,
        "staging_object_count": cache.staging_objects,
        "staging_bytes": cache.staging_bytes,
        "memory_used_bytes": cache.used_bytes,
        "memory_total_bytes": cache.capacity_bytes,
        "memory_configured_bytes": admin.config().l1.size_bytes,
        "capacity_bytes_by_backend": { "dram": cache.capacity_bytes },
        "memory_usage_ratio": cache.used_bytes as f64 / cache.capacity_bytes.max(1) as f64,
        "write_ttl_seconds": admin.config().l1.write_ttl_seconds,
        "read_ttl_seconds": admin.config().l1.read_ttl_seconds,
    })
}

fn kv_events(admin: &Admin, status: &EngineStatus) -> Value {
    let (enabled, incarnation) = admin.engine.event_log();
    json!({
        "enabled": enabled,
        "incarnation": incarnation,
        "log_depth": status.event_log_depth,
        "log_capacity": admin.config().mp.kv_event_log_size,
        "next_seq": status.event_next_seq,
        "lost_markers": 0,
        "unbound_stores": 0,
        "subscribers": u8::from(admin.engine.wants_tokens()),
    })
}

fn instances(status: &EngineStatus) -> Value {
    let entries = status.instances.iter().map(|instance| {
        let meta = json!({
            "model_name": &*instance.model_name,
            "world_size": instance.world_size,
            "block_size": instance.block_size,
            "use_mla": instance.use_mla,
            "pending_transfers": instance.pending_transfers,
            "reserved_bytes": instance.reserved_bytes,
            "connections": instance.connections,
            "process": instance.process,
            "silent_seconds": instance.silent_ms as f64 / 1000.0,
        });
        (instance.instance_id.to_string(), meta)
    });
    Value::Object(entries.collect())
}

fn larder(admin: &Admin, status: &EngineStatus) -> Value {
    let cache = &status.cache;
    let adoption = admin.engine.adoption_status();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "missing_tasks": admin.tasks.missing(),
        "endpoints": admin.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "lookups": lookups(admin),
        "pool": {
            "prepared_bytes": admin.preparation.prepared_bytes(),
            "preparation_failed": admin.preparation.has_failed(),
            "largest_free_bytes": cache.largest_free_bytes,
            "condemned_objects": cache.condemned_objects,
        },
        "adoption": {
            "adopted": adoption.adopted, "verified": adoption.verified, "mismatched": adoption.mismatched,
            "dropped": adoption.dropped, "waiting": adoption.waiting, "held_bytes": adoption.held_bytes,
            "leased_bytes": adoption.leased_bytes,
        },
        "checksum": checksum(admin),
        "leases": { "total": cache.leases, "held_by_sessions": status.session_leases },
        "sessions": { "bytes": status.session_bytes },
        "set_aside": {
            "registrations": status.set_aside.registrations,
            "reserved_bytes": status.set_aside.reserved_bytes,
            "leases": status.set_aside.leases,
        },
        "refused_chunks_total": cache.refused_total,
        "evicted_for_store_total": cache.evicted_for_store_total,
    })
}

/// What was asked for and found, over all models and salts.
fn lookups(admin: &Admin) -> Value {
    let counts = admin.engine.counters().lookups();
    let sum = |value: fn(&LookupCounts) -> u64| counts.iter().map(|(_, counts)| value(counts)).sum::<u64>();
    json!({
        "total": sum(|counts| counts.lookups),
        "requested_tokens": sum(|counts| counts.requested_tokens),
        "hit_tokens": sum(|counts| counts.hit_tokens),
    })
}

fn checksum(admin: &Admin) -> Value {
    let counts = &admin.engine.counters().checksum;
    let by_place = |count: fn(&ChecksumCounters, CheckPoint) -> u64| {
        let entries = CheckPoint::ALL.map(|at| (at.label().to_owned(), count(counts, at).into()));
        Value::Object(entries.into_iter().collect())
    };
    json!({
        "mode": admin.engine.checksum_mode().as_str(),
        "waiting_objects": admin.engine.seal_backlog(),
        "sealed_total": counts.sealed.get(),
        "shed_total": counts.shed.get(),
        "unverified_total": counts.unverified.get(),
        "verified_total": by_place(|counts, at| counts.verified(at).get()),
        "mismatches_total": by_place(|counts, at| counts.mismatches(at).get()),
    })
}
