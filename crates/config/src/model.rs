//! The typed configuration: every value checked, every unit in its name.
//!
//! Fields carry the peer's names (spec/config-and-cli.md 4), so that the document given to plugins and `GET
//! /config` follow from them; Larder's additions are [`LogConfig`](larder_telemetry::LogConfig) and
//! [`PluginsConfig`].

use std::time::Duration;

use larder_core::eviction::PolicyKind;
use larder_core::modes::{ChecksumMode, HashName, PrefetchPolicy, StorePolicy};
use larder_core::quota::Quotas;
use larder_supervise::{Interpreters, Manifest, WritableByOthers};
use serde_json::Value as Json;

/// Configuration of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Cache server and transfer.
    pub mp: MpConfig,
    /// Runtime plugins.
    pub plugins: PluginsConfig,
    /// Memory of the first tier.
    pub l1: L1Config,
    /// Eviction from the first tier.
    pub eviction: EvictionConfig,
    /// Bytes each tenant may have in either tier.
    pub quotas: Quotas,
    /// Second tier.
    pub l2: L2Config,
    /// Admin HTTP server.
    pub http: HttpConfig,
    /// Metrics, traces, extra logs.
    pub observability: ObservabilityConfig,
    /// Peer-to-peer transfer.
    pub p2p: P2pConfig,
    /// Fleet coordinator.
    pub coordinator: CoordinatorConfig,
    /// Larder's own: the log.
    pub log: larder_telemetry::LogConfig,
}

/// Cache server and transfer.
#[derive(Clone, Debug, PartialEq)]
pub struct MpConfig {
    /// Stable identity; a fresh UUID unless given.
    pub instance_id: String,
    /// Request transport, `zmq`.
    pub transport: String,
    /// Address or name to serve engines on.
    pub host: String,
    /// Port to serve engines on; 0 takes a free one.
    pub port: u16,
    /// Tokens in one chunk, 1 to 65536.
    pub chunk_size: u32,
    /// Engine block id that stands for absent data.
    pub null_block_id: i64,
    /// Accepted for the peer's sake.
    pub max_workers: u32,
    /// Accepted for the peer's sake.
    pub max_gpu_workers: u32,
    /// Accepted for the peer's sake.
    pub max_cpu_workers: u32,
    /// Accepted for the peer's sake.
    pub grpc_server_workers: u32,
    /// The chunk hash as it was given.
    pub hash_algorithm: HashName,
    /// PYTHONHASHSEED of this process, on which `sha256_cbor` depends.
    pub python_hash_seed: Option<String>,
    /// Kind of reuse.
    pub engine_type: EngineType,
    /// Who copies KV data.
    pub supported_transfer_mode: TransferMode,
    /// Always false in this build.
    pub isolated_ipc: bool,
    /// One object group per attention window.
    pub separate_object_groups: bool,
    /// Always false in this build.
    pub enable_segmented_prefix: bool,
    /// Always false in this build.
    pub enable_dedup_content: bool,
    /// Always false in this build.
    pub enable_blend_reorder: bool,
    /// Accepted for the peer's sake.
    pub script_allowed_imports: Vec<String>,
    /// Always false in this build.
    pub run_script_api_enabled: bool,
    /// Silence of a worker that has pinged before it is unregistered; 0 never.
    pub worker_reap_timeout_seconds: f64,
    /// Silence of a worker that has not pinged yet before it is unregistered.
    pub worker_registration_grace_seconds: f64,
    /// Idle time of a request session before it is dropped.
    pub session_ttl_seconds: f64,
    /// Always empty in this build.
    pub enable: Vec<String>,
    /// Records kept for KV event subscribers; 0 switches the stream off.
    pub kv_event_log_size: usize,
    /// Always empty in this build.
    pub server_modules: Vec<Json>,
}

impl MpConfig {
    /// Silence after which a worker is unregistered; `None` when it never is.
    #[must_use]
    pub fn worker_reap_timeout(&self) -> Option<Duration> {
        (self.worker_reap_timeout_seconds > 0.0).then(|| seconds(self.worker_reap_timeout_seconds))
    }

    /// Silence allowed to a worker that has not pinged yet.
    #[must_use]
    pub fn worker_registration_grace(&self) -> Duration {
        seconds(self.worker_registration_grace_seconds)
    }

    /// Idle time of a request session before it is dropped.
    #[must_use]
    pub fn session_ttl(&self) -> Duration {
        seconds(self.session_ttl_seconds)
    }
}

/// More seconds than a `Duration` holds mean "never".
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)
}

/// Who copies KV data between engine and pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferMode {
    /// Whichever the engine asks for.
    Auto,
    /// The engine, into shared memory or by value.
    EngineDriven,
    /// The server, out of the engine's memory.
    LmcacheDriven,
}

impl TransferMode {
    /// The mode of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Auto, Self::EngineDriven, Self::LmcacheDriven].into_iter().find(|mode| mode.as_str() == word)
    }

    /// The word as typed and as plugins read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::EngineDriven => "engine_driven",
            Self::LmcacheDriven => "lmcache_driven",
        }
    }
}

/// Kind of reuse; the peer's other one, `blend`, is not part of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineType {
    /// Prefixes.
    Default,
}

impl EngineType {
    /// The type of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        (word == Self::Default.as_str()).then_some(Self::Default)
    }

    /// The word as typed and as plugins read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
        }
    }
}

/// Runtime plugins.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginsConfig {
    /// Scripts and directories as given, in order.
    pub locations: Vec<String>,
    /// Settings handed to every plugin: any JSON value, usually an object.
    pub extra_config: Json,
    /// What plugins get where their manifests are silent.
    pub defaults: Manifest,
    /// Programs for scripts without a `#!` line, by extension.
    pub interpreters: Interpreters,
    /// Whether secrets among the settings are masked for plugins that were not granted them.
    pub redact_secrets: bool,
    /// What follows when others than the server's user could change what is run.
    pub writable_by_others: WritableByOthers,
    /// The most time that the server's end waits for plugins.
    pub stop_budget: Duration,
}

/// Memory of the first tier.
#[derive(Clone, Debug, PartialEq)]
pub struct L1Config {
    /// Size of the pool, `int(l1_size_gb * 2^30)`, not rounded to the alignment.
    pub size_bytes: u64,
    /// Prepare pages in the background.
    pub use_lazy: bool,
    /// Bytes prepared first when lazy; never more than the pool.
    pub init_size_bytes: u64,
    /// Alignment of every object, a power of two.
    pub align_bytes: u64,
    /// Take the pool from reserved 2 MiB pages.
    pub use_hugepages: bool,
    /// Start although less memory is free than the pool takes.
    pub overcommit: bool,
    /// Whether and under which name the pool is shared with engines.
    pub shared_memory: SharedMemory,
    /// What checksums are used for.
    pub checksum: ChecksumMode,
    /// Whether the pool outlives the server, for the next one of its name to take over.
    pub warm_restart: bool,
    /// Longest time a writer may hold a reserved slot.
    pub write_ttl_seconds: u64,
    /// Longest time a silent reader keeps an object from eviction.
    pub read_ttl_seconds: u64,
}

/// Whether and under which name the pool is shared with engines. Names are as given, without the peer's
/// `lmcache_l1_pool_` prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedMemory {
    /// Private memory; engines send data by value.
    Off,
    /// Shared under a name the server chose; falling back to private memory is acceptable.
    Automatic(String),
    /// Shared under the name the operator gave.
    Named(String),
}

impl SharedMemory {
    /// The name, if the pool is to be shared.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Off => None,
            Self::Automatic(name) | Self::Named(name) => Some(name),
        }
    }
}

/// Eviction from the first tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvictionConfig {
    /// Which objects leave first.
    pub policy: PolicyKind,
    /// Share of the pool in use at which eviction starts, 0 to 1.
    pub trigger_watermark: f64,
    /// Share of the pool freed by one round, 0 to 1.
    pub ratio: f64,
}

/// Second tier.
#[derive(Clone, Debug, PartialEq)]
pub struct L2Config {
    /// Adapter objects as given, in order; each has a text `type` this build can use.
    pub adapters: Vec<Json>,
    /// What happens to an object in memory once every adapter holds it.
    pub store_policy: StorePolicy,
    /// Whether objects read from adapters stay in memory after use.
    pub prefetch_policy: PrefetchPolicy,
    /// Prefetches that run at the same time.
    pub prefetch_max_in_flight: u32,
    /// Bytes of the pool that prefetches may fill at the same time.
    pub prefetch_bytes_max: u64,
    /// How long a lookup waits for an adapter that is silent.
    pub patience_seconds: f64,
    /// Accepted for the peer's sake.
    pub periodic_notifier_interval_ms: u32,
}

/// Admin HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Names under which it may be addressed, beside loopback, addresses, its own host and the machine's
    /// name; `*` is any.
    pub allowed_hosts: Vec<String>,
    /// Address to bind.
    pub host: String,
    /// Port to bind; 0 takes a free one.
    pub port: u16,
}

/// Metrics, traces, extra logs.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservabilityConfig {
    /// Anything below at all.
    pub enabled: bool,
    /// The cache's metrics.
    pub metrics_enabled: bool,
    /// The peer enables these only for its gRPC transport; always false here.
    pub grpc_metrics_enabled: bool,
    /// Log lines about single cache events.
    pub logging_enabled: bool,
    /// Always false in this build.
    pub tracing_enabled: bool,
    /// Always `None` in this build.
    pub otlp_endpoint: Option<String>,
    /// Accepted for the peer's sake.
    pub event_bus_queue_size: u64,
    /// Accepted for the peer's sake.
    pub prometheus_port: u16,
    /// Share of chunks followed for the life-cycle histograms, above 0 and up to 1.
    pub metrics_sample_rate: f64,
    /// Always switched off in this build.
    pub lookup_hash_log: LookupHashLogConfig,
    /// Accepted for the peer's sake.
    pub gc_monitor: GcMonitorConfig,
    /// Accepted for the peer's sake.
    pub extra_logging_enabled: bool,
    /// Accepted for the peer's sake.
    pub extra_logging_interval_seconds: f64,
    /// Always `None` in this build.
    pub trace_level: Option<String>,
    /// Always `None` in this build.
    pub trace_output: Option<String>,
}

/// Log of looked-up chunk hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupHashLogConfig {
    /// Directory; empty for none.
    pub output_dir: String,
    /// Seconds before a file rotates.
    pub rotation_interval_seconds: u64,
    /// Bytes before a file rotates.
    pub rotation_max_size_bytes: u64,
    /// Files kept.
    pub max_files: u64,
}

/// The peer's garbage-collection monitor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GcMonitorConfig {
    /// Switched on; there is nothing to monitor here.
    pub enabled: bool,
    /// Shortest pause logged.
    pub min_pause_ms: f64,
    /// Object types listed.
    pub top_objects: u64,
}

/// Peer-to-peer transfer; always switched off in this build.
#[derive(Clone, Debug, PartialEq)]
pub struct P2pConfig {
    /// host:port for other servers; empty for none.
    pub advertise_url: String,
    /// host:port to bind.
    pub listen_url: String,
    /// Until a lookup counts as a miss.
    pub lookup_timeout_seconds: f64,
    /// Until a load counts as failed.
    pub load_timeout_seconds: f64,
    /// Transfer library.
    pub transfer_engine: String,
}

/// Fleet coordinator; always switched off in this build.
#[derive(Clone, Debug, PartialEq)]
pub struct CoordinatorConfig {
    /// URL; empty for none.
    pub url: String,
    /// Address to join under; empty for automatic.
    pub advertise_ip: String,
    /// Between two heartbeats.
    pub heartbeat_interval_seconds: f64,
    /// Report cache events.
    pub event_reporting: bool,
    /// Between two reports.
    pub event_flush_interval_seconds: f64,
    /// Until a fleet-wide match counts as a miss.
    pub blend_timeout_seconds: f64,
    /// Fleet-wide matches at the same time.
    pub blend_match_concurrency: u64,
}
