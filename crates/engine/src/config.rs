//! What the engine is told at its start, and what of it may change.

use larder_core::hash::{HashAlgorithm, Sample};
use larder_core::modes::ChecksumMode;

/// Watermarks and times, which may change while the engine runs. Durations are in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Share of the pool in use above which eviction starts, 0 to 1.
    pub eviction_watermark: f64,
    /// Share of the objects evicted in one pass, 0 to 1.
    pub eviction_ratio: f64,
    /// How long a writer may hold memory it does not commit.
    pub write_ttl_ms: u64,
    /// How long a lease outlives the last sign of life of its holder.
    pub read_ttl_ms: u64,
    /// How long a session outlives its last use, unless its holder is alive.
    pub session_ttl_ms: u64,
    /// Silence after which the registration of a worker that pinged ends; 0 for never.
    pub reap_timeout_ms: u64,
    /// The same for a worker that never pinged.
    pub registration_grace_ms: u64,
}

impl Limits {
    /// Whether that much of the pool is in use that eviction is due.
    pub(crate) fn is_above_watermark(&self, used: u64, capacity: u64) -> bool {
        capacity > 0 && used as f64 >= capacity as f64 * self.eviction_watermark
    }
}

/// What the engine needs to know at start. Durations are in milliseconds.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Tokens per chunk.
    pub chunk_size: u32,
    /// How chunks are named.
    pub hash_algorithm: HashAlgorithm,
    /// Alignment of allocations in the pool, in bytes.
    pub align_bytes: u64,
    /// What checksums are used for.
    pub checksum: ChecksumMode,
    /// What may change while it runs, as it is at first.
    pub limits: Limits,
    /// Records kept for KV event subscribers; 0 switches the stream off.
    pub kv_event_log_size: usize,
    /// Identifies this run of the server to KV event subscribers, in nanoseconds since 1970.
    pub incarnation_ns: u64,
    /// Chunks whose life is followed for histograms.
    pub sample: Sample,
}
