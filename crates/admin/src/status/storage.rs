//! Both tiers, which the peer calls the storage manager.

use larder_admin_api::storage::{
    AdapterEviction, AdapterStatus, Dram, L1EvictionController, L1Manager, L2EvictionController, OfTheL1,
    PrefetchController, StorageManager, StoreController,
};
use larder_config::ServerConfig;
use larder_engine::EngineStatus;
use larder_tier::{Attached, EvictionReport, Phase};

use crate::adapters::late_with;
use crate::state::Admin;

/// The peer's word for the share of a capacity that is not known.
const NO_CAPACITY: f64 = -1.0;

/// Both tiers now.
pub(super) fn manager(
    admin: &Admin,
    config: &ServerConfig,
    status: &EngineStatus,
    is_healthy: bool,
) -> StorageManager {
    let attached = admin.tier.adapters();
    let in_phase = |phase| attached.iter().filter(|adapter| adapter.phase() == phase).count();
    let (num_l2_adapters, num_active_adapters, num_draining_adapters) =
        (attached.len(), in_phase(Phase::Active), in_phase(Phase::Draining));
    let is_alive = |task: &str| num_l2_adapters == 0 || admin.tasks.is_alive(task);
    let (waiting_stores, waiting_lookups) = admin.engine.tier_backlog();
    let l1_manager = l1_manager(config, status, is_healthy);
    let l1_eviction_controller = l1_eviction(config, admin.tasks.is_alive("l1-eviction"));
    let store_controller = StoreController {
        is_healthy: is_alive("l2-store"),
        thread_alive: is_alive("l2-store"),
        pending_keys_count: waiting_stores,
        in_flight_task_count: 0,
        num_l2_adapters,
        num_active_adapters,
        num_draining_adapters,
    };
    StorageManager {
        is_healthy,
        l1_managers: OfTheL1 { default: l1_manager },
        store_controllers: OfTheL1 { default: store_controller },
        l1_eviction_controllers: OfTheL1 { default: l1_eviction_controller.clone() },
        prefetch_controller: PrefetchController {
            is_healthy: is_alive("l2-prefetch"),
            thread_alive: is_alive("l2-prefetch"),
            max_in_flight: config.l2.prefetch_max_in_flight,
            submission_queue_size: waiting_lookups,
            pending_queue_size: waiting_lookups,
            in_flight_request_count: status.prefetching,
            lookup_phase_count: 0,
            load_phase_count: 0,
            completed_results_count: 0,
            num_l2_adapters,
            num_active_adapters,
            num_draining_adapters,
        },
        l2_eviction_controller: L2EvictionController {
            is_healthy: is_alive("l2-eviction"),
            thread_alive: is_alive("l2-eviction"),
            adapters: attached.iter().filter_map(|adapter| l2_eviction(adapter)).collect(),
        },
        l2_adapters: attached.iter().map(|adapter| l2_adapter(adapter)).collect(),
        num_l2_adapters,
        l1_usage: [status.cache.used_bytes, status.cache.capacity_bytes],
        l1_capacity_bytes_by_backend: Dram { dram: status.cache.capacity_bytes },
        l1_manager,
        store_controller,
        l1_eviction_controller,
    }
}

fn l1_manager(config: &ServerConfig, status: &EngineStatus, is_healthy: bool) -> L1Manager {
    let cache = &status.cache;
    L1Manager {
        is_healthy,
        total_object_count: cache.resident_objects + cache.staging_objects,
        write_locked_count: cache.staging_objects,
        read_locked_count: cache.leased_objects,
        temporary_count: 0,
        staging_object_count: cache.staging_objects,
        staging_bytes: cache.staging_bytes,
        memory_used_bytes: cache.used_bytes,
        memory_total_bytes: cache.capacity_bytes,
        memory_configured_bytes: config.l1.size_bytes,
        capacity_bytes_by_backend: Dram { dram: cache.capacity_bytes },
        memory_usage_ratio: cache.used_bytes as f64 / cache.capacity_bytes.max(1) as f64,
        write_ttl_seconds: config.l1.write_ttl_seconds,
        read_ttl_seconds: config.l1.read_ttl_seconds,
    }
}

fn l1_eviction(config: &ServerConfig, is_alive: bool) -> L1EvictionController {
    L1EvictionController {
        is_healthy: is_alive,
        thread_alive: is_alive,
        eviction_policy: config.eviction.policy.as_str().into(),
        trigger_watermark: config.eviction.trigger_watermark,
        eviction_ratio: config.eviction.ratio,
    }
}

fn l2_adapter(attached: &Attached) -> AdapterStatus {
    let adapter = &attached.built().adapter;
    let (usage, health) = (adapter.usage(), attached.health());
    AdapterStatus {
        kind: adapter.kind().into(),
        id: attached.id().to_owned(),
        phase: attached.phase().label().into(),
        state: health.state.label().into(),
        reason: health.reason,
        late_with: late_with(attached),
        details: health.details,
        objects: usage.objects,
        bytes_used: usage.bytes_used,
        bytes_capacity: usage.bytes_capacity,
        is_complete: usage.is_complete,
    }
}

/// An adapter that evicts.
fn l2_eviction(attached: &Attached) -> Option<AdapterEviction> {
    let config = attached.eviction()?;
    let usage = attached.built().adapter.usage();
    let report = attached.eviction_report();
    let count = |count: fn(&EvictionReport) -> u64| report.as_ref().map_or(0, count);
    Some(AdapterEviction {
        eviction_policy: config.policy.as_str().into(),
        trigger_watermark: config.trigger_watermark,
        eviction_ratio: config.eviction_ratio,
        current_usage: usage.fraction().unwrap_or(NO_CAPACITY),
        total_bytes_used: usage.bytes_used,
        total_capacity_bytes: usage.bytes_capacity.unwrap_or_default(),
        num_cache_salt_buckets: usage.bytes_by_salt.len(),
        id: attached.id().to_owned(),
        indexed_objects: count(|report| report.objects),
        indexed_bytes: count(|report| report.bytes),
        index_complete: report.as_ref().is_some_and(|report| report.is_indexed),
        passes: count(|report| report.passes),
        evicted_objects: count(|report| report.evicted_objects),
        evicted_bytes: count(|report| report.evicted_bytes),
        locked_objects: count(|report| report.locked_objects),
        failed_objects: count(|report| report.failed_objects),
        refused_objects: count(|report| report.refused_objects),
    })
}
