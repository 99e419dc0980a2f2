//! The node, but for its tiers.

use axum::Json;
use axum::extract::State;
use larder_admin_api::node::{
    Adoption, Checksum, Instance, KvEvents, Larder, LeaseCounts, Lookups, Node, Pool, Sessions, SetAside,
    WorkerLiveness,
};
use larder_admin_api::{IndexMap, Word};
use larder_config::ServerConfig;
use larder_engine::{CheckPoint, ChecksumCounters, EngineStatus, InstanceStatus, LookupCounts, Operator};

use super::storage;
use crate::state::Admin;

/// `GET /status`.
pub(crate) async fn show(State(admin): State<Admin>) -> Json<Node> {
    Json(body(&admin))
}

/// The node now.
pub(super) fn body(admin: &Admin) -> Node {
    let (config, status) = (admin.config(), admin.engine.status());
    let is_healthy = admin.tasks.missing().is_empty();
    Node {
        is_healthy,
        engine_type: "MPCacheServer".into(),
        chunk_size: config.mp.chunk_size,
        hash_algorithm: config.mp.hash_algorithm.as_str().into(),
        active_sessions: status.sessions,
        storage_manager: storage::manager(admin, &config, &status, is_healthy),
        active_prefetch_jobs: status.prefetching,
        active_p2p_lookup_jobs: 0,
        p2p_enabled: false,
        p2p_state: "unregistered".into(),
        p2p_peer_count: 0,
        p2p_peers: Vec::new(),
        worker_liveness: WorkerLiveness {
            enabled: config.mp.worker_reap_timeout_seconds > 0.0,
            reap_timeout_seconds: config.mp.worker_reap_timeout_seconds,
            registration_grace_seconds: config.mp.worker_registration_grace_seconds,
            tracked_instances: status.instances.len(),
        },
        kv_events: kv_events(&admin.engine, &config, &status),
        registered_gpu_ids: Vec::new(),
        cache_context_meta: IndexMap::new(),
        registered_non_cuda_instance_ids: status.instances.iter().map(|worker| worker.instance_id).collect(),
        non_cuda_context_meta: status.instances.iter().map(instance).collect(),
        larder: larder(admin, &status),
    }
}

fn kv_events(engine: &Operator, config: &ServerConfig, status: &EngineStatus) -> KvEvents {
    let (enabled, incarnation) = engine.event_log();
    KvEvents {
        enabled,
        incarnation,
        log_depth: status.event_log_depth,
        log_capacity: config.mp.kv_event_log_size,
        next_seq: status.event_next_seq,
        lost_markers: 0,
        unbound_stores: 0,
        subscribers: engine.wants_tokens().into(),
    }
}

fn instance(worker: &InstanceStatus) -> (String, Instance) {
    let particulars = Instance {
        model_name: worker.model_name.to_string(),
        world_size: worker.world_size,
        block_size: worker.block_size,
        use_mla: worker.use_mla,
        pending_transfers: worker.pending_transfers,
        reserved_bytes: worker.reserved_bytes,
        connections: worker.connections,
        process: worker.process,
        silent_seconds: worker.silent_ms as f64 / 1000.0,
    };
    (worker.instance_id.to_string(), particulars)
}

fn larder(admin: &Admin, status: &EngineStatus) -> Larder {
    let (cache, adoption) = (&status.cache, admin.engine.adoption_status());
    Larder {
        version: env!("CARGO_PKG_VERSION").into(),
        missing_tasks: admin.tasks.missing().into_iter().map(Word::from).collect(),
        endpoints: admin.endpoints.iter().map(ToString::to_string).collect(),
        lookups: lookups(&admin.engine),
        pool: Pool {
            prepared_bytes: admin.preparation.prepared_bytes(),
            preparation_failed: admin.preparation.has_failed(),
            largest_free_bytes: cache.largest_free_bytes,
            condemned_objects: cache.condemned_objects,
        },
        adoption: Adoption {
            adopted: adoption.adopted,
            verified: adoption.verified,
            mismatched: adoption.mismatched,
            dropped: adoption.dropped,
            waiting: adoption.waiting,
            held_bytes: adoption.held_bytes,
            leased_bytes: adoption.leased_bytes,
        },
        checksum: checksum(&admin.engine),
        leases: LeaseCounts { total: cache.leases, held_by_sessions: status.session_leases },
        sessions: Sessions { bytes: status.session_bytes },
        set_aside: SetAside {
            registrations: status.set_aside.registrations,
            reserved_bytes: status.set_aside.reserved_bytes,
            leases: status.set_aside.leases,
        },
        refused_chunks_total: cache.refused_total,
        evicted_for_store_total: cache.evicted_for_store_total,
    }
}

fn lookups(engine: &Operator) -> Lookups {
    let counts = engine.counters().lookups();
    let sum = |value: fn(&LookupCounts) -> u64| counts.iter().map(|(_, counts)| value(counts)).sum::<u64>();
    Lookups {
        total: sum(|counts| counts.lookups),
        requested_tokens: sum(|counts| counts.requested_tokens),
        hit_tokens: sum(|counts| counts.hit_tokens),
    }
}

fn checksum(engine: &Operator) -> Checksum {
    let counts = &engine.counters().checksum;
    let by_place = |count: fn(&ChecksumCounters, CheckPoint) -> u64| {
        CheckPoint::ALL.into_iter().map(|at| (Word::from(at.label()), count(counts, at))).collect()
    };
    Checksum {
        mode: engine.checksum_mode().as_str().into(),
        waiting_objects: engine.seal_backlog(),
        sealed_total: counts.sealed.get(),
        shed_total: counts.shed.get(),
        unverified_total: counts.unverified.get(),
        verified_total: by_place(|counts, at| counts.verified(at).get()),
        mismatches_total: by_place(|counts, at| counts.mismatches(at).get()),
    }
}
