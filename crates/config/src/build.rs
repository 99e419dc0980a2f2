//! From checked settings to the typed configuration. Decides nothing but the automatic values.

use std::path::PathBuf;

use larder_core::eviction::PolicyKind;
use larder_core::modes::{ChecksumMode, HashName, PrefetchPolicy, StorePolicy};
use larder_core::units::{GIB, gib_to_bytes};
use larder_telemetry::{LogConfig, LogFormat, LogLevel};

use super::environment::Environment;
use super::model::{
    CoordinatorConfig, EngineType, EvictionConfig, GcMonitorConfig, HttpConfig, L1Config, L2Config,
    LookupHashLogConfig, MpConfig, ObservabilityConfig, P2pConfig, ServerConfig, SharedMemory, TransferMode,
};
use super::plugins;
use super::quotas;
use super::settings::Settings;

/// The peer's defaults behind coordinator flags that are absent (spec/config-and-cli.md 5).
const HEARTBEAT_INTERVAL_SECONDS: f64 = 5.0;
const EVENT_FLUSH_INTERVAL_SECONDS: f64 = 1.0;

pub(crate) fn server_config(settings: &Settings, environment: &Environment) -> ServerConfig {
    let mp = mp(settings, environment);
    ServerConfig {
        plugins: plugins::plugins(settings),
        l1: l1(settings, &mp),
        eviction: EvictionConfig {
            policy: settings.choice("eviction-policy", PolicyKind::parse),
            trigger_watermark: settings.number("eviction-trigger-watermark"),
            ratio: settings.number("eviction-ratio"),
        },
        quotas: quotas::quotas(settings).unwrap_or_default(),
        l2: L2Config {
            adapters: settings.objects("l2-adapter").to_vec(),
            store_policy: settings.choice("l2-store-policy", StorePolicy::parse),
            prefetch_policy: settings.choice("l2-prefetch-policy", PrefetchPolicy::parse),
            prefetch_max_in_flight: settings.narrow("l2-prefetch-max-in-flight"),
            prefetch_bytes_max: settings
                .float("l2-prefetch-max-gb")
                .map_or(gib_to_bytes(settings.number("l1-size-gb")) / 2, gib_to_bytes),
            patience_seconds: settings.number("l2-patience-seconds"),
            periodic_notifier_interval_ms: settings.narrow("periodic-notifier-interval-ms"),
        },
        http: HttpConfig {
            allowed_hosts: settings.list("http-allowed-hosts"),
            host: settings.string("http-host"),
            port: settings.narrow("http-port"),
        },
        observability: observability(settings),
        p2p: P2pConfig {
            advertise_url: settings.string("p2p-advertise-url"),
            listen_url: settings.string("p2p-listen-url"),
            lookup_timeout_seconds: settings.number("p2p-lookup-timeout"),
            load_timeout_seconds: settings.number("p2p-load-timeout"),
            transfer_engine: settings.string("p2p-transfer-engine"),
        },
        coordinator: coordinator(settings),
        log: LogConfig {
            level: settings.choice("log-level", LogLevel::parse),
            format: settings.choice("log-format", LogFormat::parse),
            config_file: settings.text("config").filter(|path| !path.is_empty()).map(PathBuf::from),
        },
        mp,
    }
}

fn mp(settings: &Settings, environment: &Environment) -> MpConfig {
    let max_workers = settings.narrow("max-workers");
    let workers = |name| if settings.int(name).is_some() { settings.narrow(name) } else { max_workers };
    MpConfig {
        instance_id: settings.text("instance-id").map_or_else(random_uuid, str::to_owned),
        transport: settings.string("transport"),
        host: settings.string("host"),
        port: settings.narrow("port"),
        chunk_size: settings.narrow("chunk-size"),
        null_block_id: settings.narrow("null-block-id"),
        max_workers,
        max_gpu_workers: workers("max-gpu-workers"),
        max_cpu_workers: workers("max-cpu-workers"),
        grpc_server_workers: settings.narrow("grpc-server-workers"),
        hash_algorithm: settings.choice("hash-algorithm", HashName::parse),
        python_hash_seed: environment.get("PYTHONHASHSEED").cloned(),
        engine_type: settings.choice("engine-type", EngineType::parse),
        supported_transfer_mode: settings.choice("supported-transfer-mode", TransferMode::parse),
        isolated_ipc: settings.bool("isolated-ipc"),
        separate_object_groups: settings.bool("separate-object-groups"),
        enable_segmented_prefix: settings.bool("enable-segmented-prefix"),
        enable_dedup_content: settings.bool("enable-dedup-content"),
        enable_blend_reorder: settings.bool("enable-blend-reorder"),
        script_allowed_imports: settings.list("script-allowed-imports"),
        run_script_api_enabled: settings.bool("run-script-api-enabled"),
        worker_reap_timeout_seconds: settings.number("worker-reap-timeout-seconds"),
        worker_registration_grace_seconds: settings.number("worker-registration-grace-seconds"),
        session_ttl_seconds: settings.number("session-ttl-seconds"),
        enable: settings.list("enable"),
        kv_event_log_size: settings.narrow("kv-event-log-size"),
        server_modules: settings.objects("server-module").to_vec(),
    }
}

fn l1(settings: &Settings, mp: &MpConfig) -> L1Config {
    let size_bytes = gib_to_bytes(settings.number("l1-size-gb"));
    let use_hugepages = settings.bool("l1-use-hugepages");
    L1Config {
        size_bytes,
        use_lazy: settings.bool("l1-use-lazy"),
        init_size_bytes: settings.narrow::<u64>("l1-init-size-gb").saturating_mul(GIB).min(size_bytes),
        align_bytes: settings.narrow("l1-align-bytes"),
        use_hugepages,
        overcommit: settings.bool("l1-overcommit"),
        shared_memory: match settings.text("shm-name") {
            Some("") => SharedMemory::Off,
            Some(name) => SharedMemory::Named(name.to_owned()),
            None if use_hugepages => SharedMemory::Off,
            None => SharedMemory::Automatic(automatic_name(mp.port, &mp.instance_id)),
        },
        checksum: settings.choice("checksum", ChecksumMode::parse),
        warm_restart: settings.bool("l1-warm-restart"),
        write_ttl_seconds: settings.narrow("l1-write-ttl-seconds"),
        read_ttl_seconds: settings.narrow("l1-read-ttl-seconds"),
    }
}

/// At most 14 characters: with the peer's prefix and a slash it still fits the 31 that macOS allows.
fn automatic_name(port: u16, instance_id: &str) -> String {
    let fnv1a = instance_id
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{port}-{fnv1a:08x}")
}

fn observability(settings: &Settings) -> ObservabilityConfig {
    ObservabilityConfig {
        enabled: !settings.bool("disable-observability"),
        metrics_enabled: !settings.bool("disable-metrics"),
        grpc_metrics_enabled: false,
        logging_enabled: !settings.bool("disable-logging"),
        tracing_enabled: settings.bool("enable-tracing"),
        otlp_endpoint: settings.text("otlp-endpoint").map(str::to_owned),
        event_bus_queue_size: settings.narrow("event-bus-queue-size"),
        prometheus_port: settings.narrow("prometheus-port"),
        metrics_sample_rate: settings.number("metrics-sample-rate"),
        lookup_hash_log: LookupHashLogConfig {
            output_dir: settings.string("lookup-hash-log-dir"),
            rotation_interval_seconds: settings.narrow("lookup-hash-log-rotation-interval"),
            rotation_max_size_bytes: settings.narrow("lookup-hash-log-rotation-max-size"),
            max_files: settings.narrow("lookup-hash-log-max-files"),
        },
        gc_monitor: GcMonitorConfig {
            enabled: settings.bool("enable-gc-monitor"),
            min_pause_ms: settings.number("gc-monitor-min-pause-ms"),
            top_objects: settings.narrow("gc-monitor-top-objects"),
        },
        extra_logging_enabled: settings.bool("enable-extra-logging"),
        extra_logging_interval_seconds: settings.number("extra-logging-interval"),
        trace_level: settings.text("trace-level").map(str::to_owned),
        trace_output: settings.text("trace-output").map(str::to_owned),
    }
}

fn coordinator(settings: &Settings) -> CoordinatorConfig {
    CoordinatorConfig {
        url: settings.string("coordinator-url"),
        advertise_ip: settings.string("coordinator-advertise-ip"),
        heartbeat_interval_seconds: settings
            .float("coordinator-heartbeat-interval")
            .unwrap_or(HEARTBEAT_INTERVAL_SECONDS),
        event_reporting: settings.bool("coordinator-event-reporting"),
        event_flush_interval_seconds: settings
            .float("coordinator-event-flush-interval")
            .unwrap_or(EVENT_FLUSH_INTERVAL_SECONDS),
        blend_timeout_seconds: settings.number("coordinator-blend-timeout"),
        blend_match_concurrency: settings.narrow("coordinator-blend-match-concurrency"),
    }
}

/// A version 4 UUID. Without randomness from the kernel it falls back to the clock and the process id, which
/// keeps identities apart but not secret.
fn random_uuid() -> String {
    let mut bytes = [0_u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_nanos());
        bytes = (nanos ^ (u128::from(std::process::id()) << 96)).to_be_bytes();
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_id_is_a_version_4_uuid() {
        let (first, second) = (random_uuid(), random_uuid());
        assert_ne!(first, second);
        assert_eq!(first.len(), 36);
        assert_eq!(&first[14..15], "4");
        assert!("89ab".contains(&first[19..20]));
    }

    #[test]
    fn automatic_names_fit_the_shortest_limit() {
        let name = automatic_name(65535, "aff2228a-1a7f-493a-b057-6cf3586c5937");
        assert!(format!("/lmcache_l1_pool_{name}").len() <= 31, "{name}");
        assert_ne!(name, automatic_name(65535, "another"));
    }
}
