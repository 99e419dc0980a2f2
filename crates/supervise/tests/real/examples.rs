//! The shipped examples print what their README shows.

use std::path::Path;

use crate::support::{Host, Plugins};

fn examples() -> Plugins {
    let plugins = Plugins::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/mp_runtime_plugins");
    for name in ["mp_plugin.py", "mp_heartbeat.sh"] {
        std::fs::copy(folder.join(name), plugins.path(name)).unwrap();
    }
    plugins
}

fn host(plugins: &Plugins, path: Option<&Path>) -> (tempfile::TempDir, Host) {
    let config = serde_json::json!({
        "mp_config": {"host": "localhost", "port": 5555, "chunk_size": 256, "instance_id": "n1"},
        "storage_manager_config": {
            "l1_manager_config": {"memory_config": {"size_in_bytes": 10_737_418_240_u64}},
            "eviction_config": {"eviction_policy": "LRU", "trigger_watermark": 0.8},
        },
        "runtime_plugin_extra_config":
            {"plugin.mp_plugin.interval": 0.1, "plugin.mp_heartbeat.interval": 0.1, "api_key": "hush"},
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.json"), config.to_string()).unwrap();
    let mut host = plugins.host().env("HOST_CONFIG_FILE", dir.path().join("c.json"));
    if let Some(path) = path {
        host = host.env("PATH", path);
    }
    (dir, host.start())
}

#[test]
fn examples_print_what_their_readme_shows() {
    let plugins = examples();
    let (_dir, mut host) = host(&plugins, None);
    let line = |file: &str, text: &str| format!("INFO [{}] {text}", plugins.label(file));
    host.wait_for_all(&[
        &line("mp_plugin.py", "[mp_plugin] Started"),
        &line("mp_plugin.py", "[mp_plugin] MP server: host=localhost port=5555 chunk_size=256"),
        &line("mp_plugin.py", "[mp_plugin] Storage: L1=10.0GB eviction=LRU watermark=0.8"),
        &line("mp_plugin.py", "[mp_plugin] heartbeat #0"),
        &line("mp_plugin.py", "[mp_plugin] heartbeat #1"),
        &line("mp_heartbeat.sh", "[mp_heartbeat] Started"),
        &line("mp_heartbeat.sh", "[mp_heartbeat] heartbeat #0"),
        &line("mp_heartbeat.sh", "[mp_heartbeat] heartbeat #1"),
    ]);
    let names: Vec<_> = host.ask("status").as_array().unwrap().iter().map(|p| p["name"].clone()).collect();
    assert_eq!(names, ["mp_plugin", "mp_heartbeat"], "in the order in which they start");
    let (report, log) = host.end();
    assert_eq!(report["killed"], serde_json::json!([]));
    assert!(log.iter().all(|l| !l.contains("hush")), "a secret in the log: {log:?}");
    for name in ["mp_plugin", "mp_heartbeat"] {
        assert!(
            log.iter().any(|l| l.ends_with(&format!("[{name}] Stopped"))),
            "{name} did not end by itself: {log:?}"
        );
    }
}

#[test]
fn the_shell_example_works_without_jq() {
    let plugins = examples();
    std::fs::remove_file(plugins.path("mp_plugin.py")).unwrap();
    let bin = tempfile::tempdir().unwrap();
    for tool in ["bash", "cat", "sleep"] {
        std::os::unix::fs::symlink(format!("/bin/{tool}"), bin.path().join(tool)).unwrap();
    }
    let (_dir, mut host) = host(&plugins, Some(bin.path()));
    host.wait_for("jq not found");
    host.wait_for("heartbeat #0");
    host.end();
}

#[test]
fn an_example_watches_through_the_control_channel() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/runtime_plugins");
    let plugins = Plugins::new();
    for name in ["watch_evictions.py", "watch_evictions.py.plugin.toml"] {
        std::fs::copy(folder.join(name), plugins.path(name)).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let config = serde_json::json!({"runtime_plugin_extra_config": {"plugin.watch_evictions.evictions_per_minute": 3}});
    std::fs::write(dir.path().join("c.json"), config.to_string()).unwrap();
    let mut host = plugins.host().env("HOST_CONFIG_FILE", dir.path().join("c.json")).start();
    host.wait_for("[watch_evictions] hello: ['config', 'alert', 'status', 'subscribe']");
    host.wait_for("[watch_evictions] subscribed: ['evict']");
    for n in 0..3 {
        assert_eq!(host.ask(&format!("evict {{\"n\": {n}}}")), true);
    }
    host.wait_until("watch_evictions", |s| s["alert"]["text"] == "3 evictions within a minute");
    host.wait_for("ERROR [");
    let status = host.status("watch_evictions");
    assert_eq!((&status["alert"]["severity"], &status["control"]["events"]), (&"error".into(), &3.into()));
    let (_, log) = host.end();
    assert!(
        log.iter().any(|l| l.starts_with("ERROR [") && l.ends_with("alert: 3 evictions within a minute")),
        "{log:?}"
    );
}
