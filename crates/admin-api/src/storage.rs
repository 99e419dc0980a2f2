//! The part of `GET /status` that the peer calls the storage manager: both tiers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Word;

/// Both tiers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageManager {
    /// Whether everything critical runs.
    pub is_healthy: bool,
    /// Memory, by the tag of the one L1 there is.
    pub l1_managers: OfTheL1<L1Manager>,
    /// Stores to L2.
    pub store_controllers: OfTheL1<StoreController>,
    /// Eviction from memory.
    pub l1_eviction_controllers: OfTheL1<L1EvictionController>,
    /// Loads from L2.
    pub prefetch_controller: PrefetchController,
    /// Eviction from L2.
    pub l2_eviction_controller: L2EvictionController,
    /// The adapters, in order of priority.
    pub l2_adapters: Vec<AdapterStatus>,
    /// How many.
    pub num_l2_adapters: usize,
    /// Bytes of memory handed out, and all there are.
    pub l1_usage: [u64; 2],
    /// All bytes of memory.
    pub l1_capacity_bytes_by_backend: Dram,
    /// As in `l1_managers`, where the peer had it before.
    pub l1_manager: L1Manager,
    /// As in `store_controllers`.
    pub store_controller: StoreController,
    /// As in `l1_eviction_controllers`.
    pub l1_eviction_controller: L1EvictionController,
}

/// What the peer has for each L1; here there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OfTheL1<T: Default> {
    /// Its tag.
    #[serde(rename = "_default")]
    pub default: T,
}

/// What the peer has for each kind of memory; here there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dram {
    /// Bytes.
    pub dram: u64,
}

/// Memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct L1Manager {
    /// Whether everything critical runs.
    pub is_healthy: bool,
    /// Objects in it, those being written included.
    pub total_object_count: u64,
    /// Objects being written.
    pub write_locked_count: u64,
    /// Objects under a lease.
    pub read_locked_count: u64,
    /// None here.
    pub temporary_count: u64,
    /// Objects being written.
    pub staging_object_count: u64,
    /// Their bytes.
    pub staging_bytes: u64,
    /// Bytes handed out.
    pub memory_used_bytes: u64,
    /// Bytes that may be handed out now.
    pub memory_total_bytes: u64,
    /// Bytes that were asked for.
    pub memory_configured_bytes: u64,
    /// Bytes that may be handed out now.
    pub capacity_bytes_by_backend: Dram,
    /// Share of them that is.
    pub memory_usage_ratio: f64,
    /// Longest time a writer may hold a reserved slot.
    pub write_ttl_seconds: u64,
    /// Longest time a silent reader keeps an object.
    pub read_ttl_seconds: u64,
}

/// Stores to L2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreController {
    /// Whether it runs.
    pub is_healthy: bool,
    /// The same, in the peer's other word.
    pub thread_alive: bool,
    /// Objects that wait.
    pub pending_keys_count: usize,
    /// Not counted here.
    pub in_flight_task_count: u64,
    /// Adapters.
    pub num_l2_adapters: usize,
    /// Those that get new work.
    pub num_active_adapters: usize,
    /// Those on their way out.
    pub num_draining_adapters: usize,
}

/// Eviction from memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct L1EvictionController {
    /// Whether it runs.
    pub is_healthy: bool,
    /// The same, in the peer's other word.
    pub thread_alive: bool,
    /// Which objects leave first.
    pub eviction_policy: Word,
    /// Share in use at which eviction starts.
    pub trigger_watermark: f64,
    /// Share freed by one round.
    pub eviction_ratio: f64,
}

/// Loads from L2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefetchController {
    /// Whether it runs.
    pub is_healthy: bool,
    /// The same, in the peer's other word.
    pub thread_alive: bool,
    /// Lookups that load at the same time, at most.
    pub max_in_flight: u32,
    /// Lookups that wait.
    pub submission_queue_size: usize,
    /// The same, in the peer's other word.
    pub pending_queue_size: usize,
    /// Lookups that load.
    pub in_flight_request_count: usize,
    /// Not counted here.
    pub lookup_phase_count: u64,
    /// Not counted here.
    pub load_phase_count: u64,
    /// Not counted here.
    pub completed_results_count: u64,
    /// Adapters.
    pub num_l2_adapters: usize,
    /// Those that get new work.
    pub num_active_adapters: usize,
    /// Those on their way out.
    pub num_draining_adapters: usize,
}

/// Eviction from L2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct L2EvictionController {
    /// Whether it runs.
    pub is_healthy: bool,
    /// The same, in the peer's other word.
    pub thread_alive: bool,
    /// The adapters that evict.
    pub adapters: Vec<AdapterEviction>,
}

/// An adapter that evicts: the peer's keys, then ours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdapterEviction {
    /// Which objects leave first.
    pub eviction_policy: Word,
    /// Share of its capacity from which eviction starts.
    pub trigger_watermark: f64,
    /// Share of what it holds that one round evicts.
    pub eviction_ratio: f64,
    /// Share of its capacity in use; -1 where that is not known.
    pub current_usage: f64,
    /// Bytes it holds.
    pub total_bytes_used: u64,
    /// Bytes it may hold; 0 without a limit.
    pub total_capacity_bytes: u64,
    /// Tenants that have something.
    pub num_cache_salt_buckets: usize,
    /// Its id.
    pub id: String,
    /// Objects that eviction knows of.
    pub indexed_objects: u64,
    /// Their bytes.
    pub indexed_bytes: u64,
    /// Whether it knows of all.
    pub index_complete: bool,
    /// Times something had to leave.
    pub passes: u64,
    /// Objects that left.
    pub evicted_objects: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Victims that a lookup held.
    pub locked_objects: u64,
    /// Victims that could not be deleted.
    pub failed_objects: u64,
    /// Objects larger than their quota.
    pub refused_objects: u64,
}

/// An adapter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdapterStatus {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Word,
    /// Its id.
    pub id: String,
    /// Whether it gets new work.
    pub phase: Word,
    /// How it does.
    pub state: Word,
    /// Why it does not do well.
    pub reason: Option<String>,
    /// Calls that lookups do not wait for.
    pub late_with: Vec<Word>,
    /// Particulars of it and of each decorator around it.
    pub details: Map<String, Value>,
    /// Objects it holds.
    pub objects: u64,
    /// Their bytes.
    pub bytes_used: u64,
    /// Bytes it may hold; none without a limit.
    pub bytes_capacity: Option<u64>,
    /// Whether the numbers cover everything it holds.
    pub is_complete: bool,
}
