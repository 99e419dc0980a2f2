//! `GET /status`: the node now, key by key as the peer's, with `larder` for what only this server knows.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::Word;
use crate::storage::StorageManager;

/// The node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Whether everything critical runs.
    pub is_healthy: bool,
    /// The peer's name for this kind of server.
    pub engine_type: Word,
    /// Tokens in a chunk.
    pub chunk_size: u32,
    /// What names chunks.
    pub hash_algorithm: Word,
    /// Requests in flight.
    pub active_sessions: usize,
    /// The tiers.
    pub storage_manager: StorageManager,
    /// Lookups that wait for L2.
    pub active_prefetch_jobs: usize,
    /// None here.
    pub active_p2p_lookup_jobs: u64,
    /// Never here.
    pub p2p_enabled: bool,
    /// `unregistered`.
    pub p2p_state: Word,
    /// None here.
    pub p2p_peer_count: u64,
    /// None here.
    pub p2p_peers: Vec<String>,
    /// Which workers are looked after.
    pub worker_liveness: WorkerLiveness,
    /// The KV event log.
    pub kv_events: KvEvents,
    /// None here.
    pub registered_gpu_ids: Vec<i64>,
    /// None here.
    pub cache_context_meta: IndexMap<String, Instance>,
    /// Registered workers.
    pub registered_non_cuda_instance_ids: Vec<i64>,
    /// The same with particulars, by id.
    pub non_cuda_context_meta: IndexMap<String, Instance>,
    /// What only this server knows.
    pub larder: Larder,
}

/// Which workers are looked after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerLiveness {
    /// Whether silent workers are unregistered.
    pub enabled: bool,
    /// After how long a silence.
    pub reap_timeout_seconds: f64,
    /// After how long a silence if they have not pinged yet.
    pub registration_grace_seconds: f64,
    /// Registered workers.
    pub tracked_instances: usize,
}

/// The KV event log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KvEvents {
    /// Whether there is one.
    pub enabled: bool,
    /// Which one: another after every start.
    pub incarnation: u64,
    /// Records in it.
    pub log_depth: usize,
    /// Records it can hold.
    pub log_capacity: usize,
    /// The number of the next record.
    pub next_seq: u64,
    /// None here.
    pub lost_markers: u64,
    /// None here.
    pub unbound_stores: u64,
    /// Readers that want tokens.
    pub subscribers: u8,
}

/// A registered worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    /// The model.
    pub model_name: String,
    /// Its ranks.
    pub world_size: u32,
    /// Tokens per block of the engine's cache.
    pub block_size: u32,
    /// One plane instead of two.
    pub use_mla: bool,
    /// Transfers between prepare and commit.
    pub pending_transfers: usize,
    /// Bytes of the pool that it was told to write and has not committed.
    pub reserved_bytes: u64,
    /// Open connections.
    pub connections: usize,
    /// Its process, if that is known.
    pub process: Option<u32>,
    /// Seconds since it was last heard of.
    pub silent_seconds: f64,
}

/// What only this server knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Larder {
    /// The release.
    pub version: Word,
    /// What does not run though it should.
    pub missing_tasks: Vec<Word>,
    /// Where engines are served.
    pub endpoints: Vec<String>,
    /// What was asked for and found.
    pub lookups: Lookups,
    /// The pool.
    pub pool: Pool,
    /// What the server before left.
    pub adoption: Adoption,
    /// What checksums found.
    pub checksum: Checksum,
    /// Leases.
    pub leases: LeaseCounts,
    /// Requests in flight.
    pub sessions: Sessions,
    /// What workers may still touch though their registration is over.
    pub set_aside: SetAside,
    /// Objects that could not be reserved.
    pub refused_chunks_total: u64,
    /// Objects that a store had to evict itself.
    pub evicted_for_store_total: u64,
}

/// What was asked for and found, over all models and salts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lookups {
    /// Lookups.
    pub total: u64,
    /// Tokens in whole chunks looked up.
    pub requested_tokens: u64,
    /// Of those, found.
    pub hit_tokens: u64,
}

/// The pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// Bytes whose pages are there.
    pub prepared_bytes: u64,
    /// Whether more could not be had.
    pub preparation_failed: bool,
    /// Longest allocation possible without eviction.
    pub largest_free_bytes: u64,
    /// Objects cleared by force and still in use.
    pub condemned_objects: u64,
}

/// What became of what the server before left in the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Adoption {
    /// Objects found and possible.
    pub adopted: u64,
    /// Of those, published.
    pub verified: u64,
    /// Of those, dropped: their bytes were not theirs.
    pub mismatched: u64,
    /// Records that made no sense.
    pub dropped: u64,
    /// Objects still to be looked at.
    pub waiting: u64,
    /// Bytes that clients of the server before may still be writing.
    pub held_bytes: u64,
    /// Bytes that clients of the server before may still be reading.
    pub leased_bytes: u64,
}

/// What checksums found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checksum {
    /// What they are used for.
    pub mode: Word,
    /// Objects that wait to be sealed.
    pub waiting_objects: usize,
    /// Objects sealed.
    pub sealed_total: u64,
    /// Objects not sealed at their commit because too many waited.
    pub shed_total: u64,
    /// Objects served that nobody had sealed.
    pub unverified_total: u64,
    /// Objects that were right, by where they were looked at.
    pub verified_total: IndexMap<Word, u64>,
    /// Objects that were wrong, by where they were looked at.
    pub mismatches_total: IndexMap<Word, u64>,
}

/// Leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseCounts {
    /// All.
    pub total: u64,
    /// Those of requests that have not retrieved yet.
    pub held_by_sessions: u64,
}

/// Requests in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sessions {
    /// Memory they take, outside the pool.
    pub bytes: usize,
}

/// What workers may still touch though their registration is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SetAside {
    /// Registrations that left something.
    pub registrations: usize,
    /// Bytes that they may still write.
    pub reserved_bytes: u64,
    /// Leases that they may still read under.
    pub leases: u64,
}
