//! The configuration as plugins and `GET /config` see it: the peer's keys in the peer's order, with both
//! generations of the plugin section (spec/config-and-cli.md 4 and 5).

use serde_json::{Value as Json, json};

use super::python::{Layout, to_python_json};
use crate::model::{L1Config, ServerConfig};
use larder_telemetry::redaction::redact;

/// What is only known once memory has been prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Name under which the pool is really shared, without the peer's prefix; empty when it is not.
    pub shm_name: String,
    /// Whether pages are really prepared in the background.
    pub use_lazy: bool,
}

impl Resolved {
    /// What the configuration asks for.
    #[must_use]
    pub fn requested(config: &ServerConfig) -> Self {
        Self {
            shm_name: config.l1.shared_memory.name().unwrap_or_default().to_owned(),
            use_lazy: config.l1.use_lazy && !config.l1.use_hugepages,
        }
    }
}

/// The document handed to plugins, as one line of text. Credentials of storage adapters are left out; the
/// plugins' own settings are not touched.
#[must_use]
pub fn plugin_config_json(config: &ServerConfig, resolved: &Resolved) -> String {
    to_python_json(&plugin_config(config, resolved), Layout::Line)
}

/// The document handed to plugins.
#[must_use]
pub fn plugin_config(config: &ServerConfig, resolved: &Resolved) -> Json {
    let mut document = json!({
        "mp_config": mp(config, resolved),
        "storage_manager_config": storage_manager(config, resolved),
        "obs_config": observability(config),
        "http_config": http(config),
    });
    let extra = &config.plugins.extra_config;
    if is_truthy(extra) {
        document["runtime_plugin_extra_config"] = extra.clone();
    }
    document
}

/// The plugins' own settings as one line of text; `None` when there are none.
#[must_use]
pub fn plugin_extra_config_json(config: &ServerConfig) -> Option<String> {
    let extra = &config.plugins.extra_config;
    is_truthy(extra).then(|| to_python_json(extra, Layout::Line))
}

/// The body of `GET /config`, with every credential redacted.
#[must_use]
pub fn http_config_json(config: &ServerConfig, resolved: &Resolved) -> String {
    let mut document = json!({
        "mp": mp(config, resolved),
        "storage_manager": storage_manager(config, resolved),
        "observability": observability(config),
        "http": http(config),
        "coordinator": coordinator(config),
    });
    redact(&mut document);
    to_python_json(&document, Layout::Indented)
}

/// Python's notion: the peer leaves an empty value out of the document.
fn is_truthy(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(value) => *value,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::String(text) => !text.is_empty(),
        Json::Array(items) => !items.is_empty(),
        Json::Object(entries) => !entries.is_empty(),
    }
}

fn mp(config: &ServerConfig, resolved: &Resolved) -> Json {
    let mp = &config.mp;
    json!({
        "transport": mp.transport,
        "host": mp.host,
        "port": mp.port,
        "chunk_size": mp.chunk_size,
        "max_workers": mp.max_workers,
        "max_gpu_workers": mp.max_gpu_workers,
        "max_cpu_workers": mp.max_cpu_workers,
        "grpc_server_workers": mp.grpc_server_workers,
        "hash_algorithm": mp.hash_algorithm.as_str(),
        "engine_type": mp.engine_type.as_str(),
        "separate_object_groups": mp.separate_object_groups,
        "enable_segmented_prefix": mp.enable_segmented_prefix,
        "enable_dedup_content": mp.enable_dedup_content,
        "enable_blend_reorder": mp.enable_blend_reorder,
        "supported_transfer_mode": mp.supported_transfer_mode.as_str(),
        "isolated_ipc": mp.isolated_ipc,
        "runtime_plugin_locations": config.plugins.locations,
        "runtime_plugin_config": {
            "locations": config.plugins.locations,
            "extra_config": config.plugins.extra_config,
        },
        "p2p_config": {
            "advertise_url": config.p2p.advertise_url,
            "listen_url": config.p2p.listen_url,
            "lookup_timeout": config.p2p.lookup_timeout_seconds,
            "load_timeout": config.p2p.load_timeout_seconds,
            "transfer_engine": config.p2p.transfer_engine,
        },
        "shm_name": resolved.shm_name,
        "script_allowed_imports": mp.script_allowed_imports,
        "run_script_api_enabled": mp.run_script_api_enabled,
        "instance_id": mp.instance_id,
        "worker_reap_timeout_seconds": mp.worker_reap_timeout_seconds,
        "session_ttl_seconds": mp.session_ttl_seconds,
        "worker_registration_grace_seconds": mp.worker_registration_grace_seconds,
        "enable": mp.enable,
        "kv_event_log_size": mp.kv_event_log_size,
        "null_block_id": mp.null_block_id,
        "server_modules": mp.server_modules,
    })
}

fn storage_manager(config: &ServerConfig, resolved: &Resolved) -> Json {
    let l1 = l1_manager(config, resolved);
    let mut adapters = Json::from(config.l2.adapters.clone());
    redact(&mut adapters);
    json!({
        "l1_manager_config": l1,
        "eviction_config": eviction(config),
        "l2_adapter_config": { "adapters": adapters },
        "store_policy": config.l2.store_policy.as_str(),
        "prefetch_policy": config.l2.prefetch_policy.as_str(),
        "prefetch_max_in_flight": config.l2.prefetch_max_in_flight,
        "periodic_notifier_interval_ms": config.l2.periodic_notifier_interval_ms,
        "l1_manager_configs": [l1],
    })
}

fn l1_manager(config: &ServerConfig, resolved: &Resolved) -> Json {
    let L1Config { size_bytes, init_size_bytes, align_bytes, use_hugepages, .. } = config.l1;
    json!({
        "memory_config": {
            "size_in_bytes": size_bytes,
            "use_lazy": resolved.use_lazy,
            "init_size_in_bytes": init_size_bytes,
            "align_bytes": align_bytes,
            "shm_name": resolved.shm_name,
            "use_hugepages": use_hugepages,
            "devdax_path": null,
            "devdax_size_in_bytes": 0,
        },
        "gds_l1_config": null,
        "write_ttl_seconds": config.l1.write_ttl_seconds,
        "read_ttl_seconds": config.l1.read_ttl_seconds,
        "tag": "_default",
        "eviction": eviction(config),
    })
}

fn eviction(config: &ServerConfig) -> Json {
    json!({
        "eviction_policy": config.eviction.policy.as_str(),
        "trigger_watermark": config.eviction.trigger_watermark,
        "eviction_ratio": config.eviction.ratio,
        "extra_logging_enabled": config.observability.extra_logging_enabled,
        "extra_logging_interval": config.observability.extra_logging_interval_seconds,
    })
}

fn observability(config: &ServerConfig) -> Json {
    let observability = &config.observability;
    let lookup_log = &observability.lookup_hash_log;
    json!({
        "enabled": observability.enabled,
        "max_queue_size": observability.event_bus_queue_size,
        "metrics_enabled": observability.metrics_enabled,
        "grpc_metrics_enabled": observability.grpc_metrics_enabled,
        "logging_enabled": observability.logging_enabled,
        "tracing_enabled": observability.tracing_enabled,
        "otlp_endpoint": observability.otlp_endpoint,
        "prometheus_port": observability.prometheus_port,
        "metrics_sample_rate": observability.metrics_sample_rate,
        "lookup_hash_log": {
            "output_dir": lookup_log.output_dir,
            "rotation_interval_sec": lookup_log.rotation_interval_seconds,
            "rotation_max_size": lookup_log.rotation_max_size_bytes,
            "max_files": lookup_log.max_files,
        },
        "gc_monitor": {
            "enabled": observability.gc_monitor.enabled,
            "min_pause_ms": observability.gc_monitor.min_pause_ms,
            "top_objects": observability.gc_monitor.top_objects,
        },
        "extra_logging_enabled": observability.extra_logging_enabled,
        "extra_logging_interval": observability.extra_logging_interval_seconds,
        "trace_level": observability.trace_level,
        "trace_output": observability.trace_output,
        "service_instance_id": config.mp.instance_id,
    })
}

fn http(config: &ServerConfig) -> Json {
    json!({ "http_host": config.http.host, "http_port": config.http.port })
}

fn coordinator(config: &ServerConfig) -> Json {
    let coordinator = &config.coordinator;
    json!({
        "url": coordinator.url,
        "advertise_ip": coordinator.advertise_ip,
        "heartbeat_interval": coordinator.heartbeat_interval_seconds,
        "event_reporting": coordinator.event_reporting,
        "event_flush_interval": coordinator.event_flush_interval_seconds,
        "event_sink_config": {},
        "blend_timeout": coordinator.blend_timeout_seconds,
        "blend_match_concurrency": coordinator.blend_match_concurrency,
    })
}
