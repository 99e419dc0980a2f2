//! The configuration from the outside: layers, mistakes, and the documents others read.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

use clap::Command;
use larder_config::json::{Resolved, http_config_json, plugin_config_json, plugin_extra_config_json};
use larder_config::{
    Environment, InvalidConfig, Loaded, Notice, ServerConfig, SharedMemory, Source, TransferMode, flags,
    load, with_server_flags,
};
use serde_json::{Value, json};

const REQUIRED: &[&str] = &["--l1-size-gb", "1", "--eviction-policy", "LRU"];

fn loaded(words: &[&str], environment: &[(&str, &str)]) -> Loaded {
    let matches = with_server_flags(Command::new("server").no_binary_name(true))
        .try_get_matches_from(words)
        .unwrap_or_else(|error| panic!("{error}"));
    let environment: Environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(&matches, &environment)
}

fn config(words: &[&str]) -> Result<ServerConfig, InvalidConfig> {
    let words: Vec<&str> = REQUIRED.iter().chain(words).copied().collect();
    loaded(&words, &[]).config
}

fn mistakes(words: &[&str]) -> Vec<String> {
    config(words)
        .err()
        .map_or_else(Vec::new, |error| error.mistakes.iter().map(ToString::to_string).collect())
}

/// Every flag of spec/config-and-cli.md 1 with a value the peer accepts.
const PEER_FLAGS: &[&[&str]] = &[
    &["--l1-manager", "{}"],
    &["--instance-id", "a"],
    &["--transport", "zmq"],
    &["--host", "0.0.0.0"],
    &["--port", "5556"],
    &["--chunk-size", "16"],
    &["--null-block-id", "0"],
    &["--max-workers", "2"],
    &["--max-gpu-workers", "2"],
    &["--max-cpu-workers", "2"],
    &["--grpc-server-workers", "8"],
    &["--hash-algorithm", "sha256_cbor"],
    &["--engine-type", "default"],
    &["--supported-transfer-mode", "engine_driven"],
    &["--isolated-ipc"],
    &["--no-isolated-ipc"],
    &["--runtime-plugin-locations", "a", "b"],
    &["--runtime-plugin-locations"],
    &["--runtime-plugin-config", "{\"a\": 1}"],
    &["--shm-name", "x"],
    &["--script-allowed-imports", "math", "numpy"],
    &["--run-script-api-enabled"],
    &["--no-run-script-api-enabled"],
    &["--separate-object-groups"],
    &["--no-separate-object-groups"],
    &["--worker-reap-timeout-seconds", "30"],
    &["--session-ttl-seconds", "300"],
    &["--worker-registration-grace-seconds", "120"],
    &["--enable-segmented-prefix"],
    &["--enable-dedup-content"],
    &["--enable-blend-reorder"],
    &["--enable", "transfer_query"],
    &["--kv-event-log-size", "0"],
    &["--server-module", "{}"],
    &["--p2p-advertise-url", "a:1"],
    &["--p2p-listen-url", "a:1"],
    &["--p2p-lookup-timeout", "1"],
    &["--p2p-load-timeout", "1"],
    &["--p2p-transfer-engine", "nixl"],
    &["--l1-size-gb", "0.5"],
    &["--l1-use-lazy"],
    &["--no-l1-use-lazy"],
    &["--l1-init-size-gb", "1"],
    &["--l1-align-bytes", "8192"],
    &["--l1-use-hugepages"],
    &["--no-l1-use-hugepages"],
    &["--l1-devdax-path", "/dev/dax0.0"],
    &["--gds-l1-path", "/nvme"],
    &["--gds-l1-use-direct-io"],
    &["--no-gds-l1-use-direct-io"],
    &["--gds-l1-backend", "cufile"],
    &["--l1-write-ttl-seconds", "60"],
    &["--l1-read-ttl-seconds", "60"],
    &["--eviction-policy", "noop"],
    &["--eviction-trigger-watermark", "0.7"],
    &["--eviction-ratio", "0.1"],
    &["--l2-store-policy", "skip_l1"],
    &["--l2-prefetch-policy", "retain"],
    &["--l2-prefetch-max-in-flight", "4"],
    &["--periodic-notifier-interval-ms", "10"],
    &["--l2-adapter", "{\"type\": \"fs\", \"base_path\": \"/kv\"}"],
    &["--http-host", "0.0.0.0"],
    &["--http-port", "8081"],
    &["--disable-observability"],
    &["--disable-metrics"],
    &["--disable-grpc-metrics"],
    &["--disable-logging"],
    &["--enable-tracing"],
    &["--otlp-endpoint", "http://c:4317"],
    &["--event-bus-queue-size", "5"],
    &["--prometheus-port", "9091"],
    &["--metrics-sample-rate", "1"],
    &["--lookup-hash-log-dir", "/tmp/x"],
    &["--lookup-hash-log-rotation-interval", "5"],
    &["--lookup-hash-log-rotation-max-size", "5"],
    &["--lookup-hash-log-max-files", "5"],
    &["--enable-gc-monitor"],
    &["--gc-monitor-min-pause-ms", "0"],
    &["--gc-monitor-top-objects", "5"],
    &["--enable-extra-logging"],
    &["--extra-logging-interval", "5"],
    &["--trace-level", "storage"],
    &["--trace-output", "x"],
    &["--coordinator-url", "http://c"],
    &["--coordinator-advertise-ip", "1.2.3.4"],
    &["--coordinator-heartbeat-interval", "1"],
    &["--coordinator-event-reporting"],
    &["--coordinator-event-flush-interval", "1"],
    &["--coordinator-event-transport", "kafka"],
    &["--coordinator-kafka-bootstrap-servers", "a:1"],
    &["--coordinator-kafka-topic", "t"],
    &["--coordinator-kafka-delivery-timeout", "5"],
    &["--coordinator-blend-timeout", "2"],
    &["--coordinator-blend-match-concurrency", "2"],
    &["--coordinator-l2-event-reporting"],
    &["--coordinator-l2-event-flush-interval", "1"],
    &["--format", "json"],
    &["--output", "x"],
    &["-q"],
    &["--quiet"],
];

/// Those among them whose feature is not part of this build.
const REFUSED: &[&str] = &[
    "--l1-manager",
    "--isolated-ipc",
    "--run-script-api-enabled",
    "--enable-segmented-prefix",
    "--enable-dedup-content",
    "--enable-blend-reorder",
    "--enable",
    "--server-module",
    "--p2p-advertise-url",
    "--p2p-listen-url",
    "--l1-devdax-path",
    "--gds-l1-path",
    "--enable-tracing",
    "--otlp-endpoint",
    "--lookup-hash-log-dir",
    "--trace-level",
    "--trace-output",
    "--coordinator-url",
    "--coordinator-event-reporting",
    "--coordinator-event-transport",
    "--coordinator-l2-event-reporting",
];

#[test]
fn every_flag_of_the_peer_is_accepted_or_refused_by_name() {
    for words in PEER_FLAGS {
        let found = mistakes(words);
        if REFUSED.contains(&words[0]) {
            assert_eq!(found.len(), 1, "{words:?}: {found:#?}");
            assert!(found[0].starts_with(words[0]), "{words:?}: {found:#?}");
            assert!(found[0].contains("part of this build"), "{words:?}: {found:#?}");
        } else {
            assert_eq!(found, Vec::<String>::new(), "{words:?}");
        }
    }
}

#[test]
fn the_table_holds_the_peers_flags_and_ours_and_no_more() {
    for flag in flags::all() {
        let long = format!("--{}", flag.name);
        let ours = flag.origin == larder_config::flag::Origin::Larder;
        assert_eq!(PEER_FLAGS.iter().any(|words| words[0] == long), !ours, "{long}");
    }
}

#[test]
fn defaults_are_the_peers_but_for_two() {
    let config = config(&[]).unwrap();
    assert_eq!(config.mp.supported_transfer_mode, TransferMode::Auto);
    assert!(
        matches!(config.l1.shared_memory, SharedMemory::Automatic(ref name) if name.starts_with("5555-"))
    );
    assert_eq!((config.mp.port, config.http.port), (5555, 8080));
    assert_eq!(config.l1.size_bytes, 1 << 30);
    assert_eq!(config.l1.init_size_bytes, 1 << 30);
    assert_eq!(config.mp.worker_reap_timeout().unwrap().as_secs(), 120);
}

#[test]
fn shared_memory_can_be_named_or_switched_off() {
    assert_eq!(config(&["--shm-name", ""]).unwrap().l1.shared_memory, SharedMemory::Off);
    assert_eq!(config(&["--shm-name", "x"]).unwrap().l1.shared_memory, SharedMemory::Named("x".into()));
    assert_eq!(config(&["--l1-use-hugepages"]).unwrap().l1.shared_memory, SharedMemory::Off);
    assert_eq!(mistakes(&["--shm-name", "x", "--l1-use-hugepages"]).len(), 1);
    assert_eq!(mistakes(&["--shm-name", "a/b"]).len(), 1);
    assert_eq!(mistakes(&["--shm-name", "/a"]).len(), 0);
}

#[test]
fn layers_go_default_file_environment_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("larder.toml");
    std::fs::write(&file, "chunk_size = 1\nport = 1\nhttp_port = 2\nl1_size_gb = 3\n").unwrap();
    let file = file.to_str().unwrap();
    let environment = [("LARDER_CHUNK_SIZE", "2"), ("LARDER_PORT", "3"), ("LARDER_EVICTION_POLICY", "noop")];
    let loaded = loaded(&["--config", file, "--chunk-size", "4"], &environment);
    let config = loaded.config.unwrap();
    assert_eq!((config.mp.chunk_size, config.mp.port, config.http.port), (4, 3, 2));
    assert_eq!(config.l1.size_bytes, 3 << 30);
    assert_eq!(config.http.host, "127.0.0.1");
    assert_eq!(config.log.config_file.as_deref(), Some(file.as_ref()));
    let source = |name| loaded.settings.get(name).source.clone();
    assert_eq!(source("chunk-size"), Source::CommandLine);
    assert_eq!(source("port"), Source::Environment("LARDER_PORT".into()));
    assert_eq!(source("http-port"), Source::File { path: file.into(), line: 3 });
    assert_eq!(source("http-host"), Source::Default);
}

#[test]
fn the_file_can_be_named_by_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("larder.toml");
    std::fs::write(&file, "l1_size_gb = 1\neviction_policy = \"LRU\"\n").unwrap();
    let environment = [("LARDER_CONFIG", file.to_str().unwrap())];
    assert!(loaded(&[], &environment).config.is_ok());
}

#[test]
fn every_mistake_is_reported_at_once_with_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("larder.toml");
    std::fs::write(&file, "chunk_size = 0\nno_such_key = 1\nhost = \"http://x\"\n").unwrap();
    let environment = [("LARDER_EVICTION_RATIO", "1.5"), ("LMCACHE_COORDINATOR_URL", "http://c")];
    let words = [
        "--config",
        file.to_str().unwrap(),
        "--hash-algorithm",
        "builtin",
        "--supported-transfer-mode",
        "lmcache_driven",
        "--l1-align-bytes",
        "100",
        "--worker-registration-grace-seconds",
        "60",
        "--l2-adapter",
        "{}",
        "--runtime-plugin-config",
        "{'a': 1}",
    ];
    let error = loaded(&words, &environment).config.unwrap_err();
    let text = error.to_string();
    for part in [
        "invalid configuration: 13 mistakes",
        "chunk_size (file ",
        "larder.toml:1): `0` is out of range; accepted: a whole number from 1 to 65536",
        "larder.toml:2): no setting has this name",
        "larder.toml:3): `http://x` is not an address",
        "eviction_ratio (environment LARDER_EVICTION_RATIO): `1.5` is out of range; accepted: a number from 0 to 1",
        "coordinator_url (environment LMCACHE_COORDINATOR_URL): needs the fleet coordinator, which is not part of this build",
        "--hash-algorithm (command line): `builtin` cannot be used: Python's built-in hash differs",
        "--supported-transfer-mode (command line): `lmcache_driven` cannot be used",
        "LMCACHE_MP_TRANSFER_MODE) to `engine_driven`",
        "--l1-align-bytes (command line): `100` is not a power of two",
        "--worker-registration-grace-seconds (command line): `60` is shorter",
        "--l2-adapter[0].type (command line): required key is missing",
        "--runtime-plugin-config (command line): not valid JSON",
        "l1_size_gb: the size of the L1 pool is missing",
        "eviction_policy: the eviction policy is missing",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    assert!(!error.is_usage());
}

#[test]
fn one_port_cannot_serve_engines_and_http() {
    assert!(mistakes(&["--port", "8080"])[0].starts_with("http_port: engines and the admin HTTP server"));
    assert!(mistakes(&["--port", "8080", "--host", "0.0.0.0"])[0].starts_with("http_port"));
    assert_eq!(mistakes(&["--port", "8080", "--host", "10.0.0.1"]).len(), 0);
    assert_eq!(mistakes(&["--port", "0", "--http-port", "0"]).len(), 0);
}

#[test]
fn a_mistyped_flag_is_a_usage_error() {
    assert!(config(&["--port", "abc"]).unwrap_err().is_usage());
    assert!(config(&["--eviction-policy", "LFU"]).unwrap_err().is_usage());
    assert!(!config(&["--port", "70000"]).unwrap_err().is_usage());
}

#[test]
fn every_mistake_in_an_adapter_stands_alone_with_its_key_and_hint() {
    let adapters = [r#"{"type":"fs"}"#, r#"{"type":"s4"}"#, r#"{"type":"resp"}"#, r#"{"base_path":"x"}"#];
    let words: Vec<&str> = adapters.iter().flat_map(|adapter| ["--l2-adapter", *adapter]).collect();
    let told = mistakes(&words);
    let keys = ["[0].base_path", "[1].type", "[2].host", "[2].port", "[3].type"];
    assert_eq!(told.len(), keys.len(), "{told:#?}");
    for (text, key) in told.iter().zip(keys) {
        assert!(text.starts_with(&format!("--l2-adapter{key} (command line): ")), "{text}");
        assert_eq!(text.matches("\n    hint: ").count(), 1, "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}

#[test]
fn what_adapters_do_not_know_is_told_before_they_are_attached() {
    let words = ["--l2-adapter", r#"{"type":"fs","base_path":"/x","max_capacity_gib":5}"#];
    let words: Vec<&str> = REQUIRED.iter().copied().chain(words).collect();
    let loaded = loaded(&words, &[]);
    assert!(loaded.config.is_ok() && loaded.notices.is_empty());
    assert_eq!(
        loaded.adapter_warnings,
        [Notice::new(
            "--l2-adapter[0] (command line): key `max_capacity_gib` is not known and ignored: did you mean `max_capacity_gb`?"
        )]
    );
}

#[test]
fn a_server_for_everybody_is_said_to_be_one() {
    let words: Vec<&str> =
        REQUIRED.iter().copied().chain(["--host", "0.0.0.0", "--http-host", "0.0.0.0"]).collect();
    let notices = loaded(&words, &[]).notices;
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices.iter().all(|notice| notice.text.contains("authentication")), "{notices:?}");
}

#[test]
fn the_missing_policy_could_be_any_there_is() {
    let told = loaded(&["--l1-size-gb", "1"], &[]).config.unwrap_err().to_string();
    for name in larder_core::eviction::NAMES {
        assert!(told.contains(&format!("`{name}`")), "{name}: {told}");
    }
}

#[test]
fn what_stands_for_a_credential_is_none() {
    for words in [
        &["--runtime-plugin-config", r#"{"plugin.x.token": "<redacted>"}"#][..],
        &["--l2-adapter", r#"{"type":"resp","host":"h","port":1,"password":"<redacted>"}"#],
    ] {
        let told = mistakes(words);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("stands for a credential"), "{told:?}");
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let words: Vec<&str> =
        REQUIRED.iter().copied().chain(["--enable-gc-monitor", "--max-workers", "1"]).collect();
    let notices = loaded(&words, &[]).notices;
    let text = "--enable-gc-monitor (command line) has no effect: there is no garbage collector";
    assert_eq!(notices, [Notice::new(text)]);
}

// The documents others read, against captures of the peer.

fn vector(name: &str) -> Value {
    let path = format!("{}/../../spec/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The configuration behind the first capture. The transfer mode is put in afterwards, since it is refused.
fn captured_default() -> (ServerConfig, Resolved) {
    let mut config = config(&[
        "--port",
        "5601",
        "--http-port",
        "8601",
        "--runtime-plugin-locations",
        "<PLUGIN_DIR>",
        "--shm-name",
        "",
        "--instance-id",
        "aff2228a-1a7f-493a-b057-6cf3586c5937",
    ])
    .unwrap();
    config.mp.supported_transfer_mode = TransferMode::LmcacheDriven;
    (config, Resolved { shm_name: String::new(), use_lazy: false })
}

fn captured_many() -> (ServerConfig, Resolved) {
    let line = "--instance-id spec-node-1 --host 127.0.0.1 --port 5602 --http-port 8602 --chunk-size 16 --max-workers 2 \
                --max-gpu-workers 3 --supported-transfer-mode auto --shm-name spwpool --no-l1-use-lazy --l1-size-gb 0.25 \
                --l1-read-ttl-seconds 60 --l1-write-ttl-seconds 120 --eviction-trigger-watermark 0.7 --eviction-ratio 0.1 \
                --l2-prefetch-policy retain --script-allowed-imports math numpy --worker-reap-timeout-seconds 30 \
                --worker-registration-grace-seconds 60 --session-ttl-seconds 300 --separate-object-groups \
                --kv-event-log-size 100 --metrics-sample-rate 1.0 --enable-gc-monitor --extra-logging-interval 5 \
                --runtime-plugin-locations <PLUGIN_DIR>";
    let extra = r#"{"plugin.frontend.heartbeat_url":"http://127.0.0.1:5000/hb","n":3}"#;
    let words: Vec<&str> = line.split_whitespace().chain(["--runtime-plugin-config", extra]).collect();
    let mut config = config(&words).unwrap();
    config.mp.run_script_api_enabled = true;
    config.l2.adapters = vec![
        json!({"type": "fs", "base_path": "<L2_DIR>", "password": "hunter2"}),
        json!({"type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 10}),
    ];
    let resolved = Resolved::requested(&config);
    (config, resolved)
}

/// Takes out the two things in which the document may differ, and checks them.
fn take_differences(document: &mut Value, storage: &str, mp: &str, adapters: usize) {
    let removed = document[mp].as_object_mut().unwrap().shift_remove("runtime_plugin_locations");
    assert_eq!(removed, Some(json!(["<PLUGIN_DIR>"])));
    let list = document[storage]["l2_adapter_config"]["adapters"].take();
    assert_eq!(list.as_array().unwrap().len(), adapters);
    assert!(list.as_array().unwrap().iter().all(Value::is_object));
    assert!(!list.to_string().contains("hunter2"));
}

fn assert_same_text(mut ours: Value, mut theirs: Value, storage: &str, mp: &str, adapters: usize) {
    take_differences(&mut ours, storage, mp, adapters);
    theirs[storage]["l2_adapter_config"]["adapters"].take();
    assert_eq!(ours.to_string(), theirs.to_string(), "same keys, order and values");
}

#[test]
fn the_plugin_document_is_the_peers() {
    let captures = vector("plugin_config.json");
    for (name, (config, resolved), adapters) in
        [("default", captured_default(), 0), ("set", captured_many(), 2)]
    {
        let theirs = captures[name].clone();
        let text = plugin_config_json(&config, &resolved);
        assert!(!text.contains('\n') && text.is_ascii());
        let ours = serde_json::from_str(&text).unwrap();
        assert_same_text(ours, theirs, "storage_manager_config", "mp_config", adapters);
    }
}

#[test]
fn the_http_document_is_the_peers() {
    for (name, (config, resolved), adapters) in
        [("http_config_default.json", captured_default(), 0), ("http_config_set.json", captured_many(), 2)]
    {
        let ours = serde_json::from_str(&http_config_json(&config, &resolved)).unwrap();
        assert_same_text(ours, vector(name), "storage_manager", "mp", adapters);
    }
}

#[test]
fn the_plugin_document_is_text_as_python_writes_it() {
    let (config, resolved) = captured_default();
    let text = plugin_config_json(&config, &resolved);
    assert!(text.starts_with(
        r#"{"mp_config": {"transport": "zmq", "host": "localhost", "port": 5601, "chunk_size": 256, "#
    ));
    assert!(text.contains(r#""worker_reap_timeout_seconds": 120.0, "session_ttl_seconds": 600.0"#));
    assert!(text.contains(r#""runtime_plugin_config": {"locations": ["<PLUGIN_DIR>"], "extra_config": {}}"#));
    assert!(text.ends_with(r#""http_config": {"http_host": "127.0.0.1", "http_port": 8601}}"#));
}

#[test]
fn plugin_settings_reach_plugins_as_given_and_http_redacted() {
    let config = config(&["--runtime-plugin-config", r#"{"token": "t0k", "é": 1}"#]).unwrap();
    let resolved = Resolved::requested(&config);
    assert_eq!(plugin_extra_config_json(&config).as_deref(), Some(r#"{"token": "t0k", "\u00e9": 1}"#));
    assert!(
        plugin_config_json(&config, &resolved)
            .ends_with(r#""runtime_plugin_extra_config": {"token": "t0k", "\u00e9": 1}}"#)
    );
    assert!(!http_config_json(&config, &resolved).contains("t0k"));
}

#[test]
fn empty_plugin_settings_are_left_out() {
    for empty in ["{}", "[]", "0", "0.0", "\"\"", "null", "false"] {
        let config = config(&["--runtime-plugin-config", empty]).unwrap();
        assert_eq!(plugin_extra_config_json(&config), None, "{empty}");
        assert!(
            !plugin_config_json(&config, &Resolved::requested(&config))
                .contains("runtime_plugin_extra_config")
        );
    }
}

#[test]
fn numbers_of_plugin_settings_keep_every_digit() {
    let numbers = "[0.46553161784373165, -5.338310994848547e-17, 1e+22, 18446744073709551615, 2.0]";
    let config = config(&["--runtime-plugin-config", numbers]).unwrap();
    assert_eq!(plugin_extra_config_json(&config).as_deref(), Some(numbers));
}
