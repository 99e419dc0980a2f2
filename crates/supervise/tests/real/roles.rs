//! The examples for processes with a role run where their names say.

use std::path::Path;

use crate::support::Plugins;

/// The examples of the naming scheme, with their manifests.
const NAMES: [&str; 7] = [
    "scheduler_foo_plugin.py",
    "worker_0_test.sh",
    "all_plugin.sh",
    "watch_evictions.py",
    "watch_evictions.py.plugin.toml",
    "event_log.sh",
    "event_log.sh.plugin.toml",
];

fn launched(role: &str, worker: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/runtime_plugins");
    let plugins = Plugins::new();
    for name in NAMES {
        std::fs::copy(folder.join(name), plugins.path(name)).unwrap();
    }
    let mut host = plugins.host().env("HOST_ROLE", role).env("HOST_WORKER_ID", worker).start();
    let all = host.ask("status");
    let names: Vec<_> =
        all.as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap().to_owned()).collect();
    for name in &names {
        host.wait_until(name, |s| s["state"] == "ready" || s["state"] == "exited");
    }
    host.wait_for_all(&[&format!("[all_plugin] role {role}, worker {worker} of 8")]);
    let (report, _) = host.end();
    assert_eq!(report["killed"], serde_json::json!([]));
    names
}

#[test]
fn examples_run_where_their_names_say() {
    assert_eq!(
        launched("SCHEDULER", "-1"),
        ["scheduler_foo_plugin", "watch_evictions", "all_plugin", "event_log"]
    );
    assert_eq!(launched("WORKER", "0"), ["watch_evictions", "all_plugin", "event_log", "worker_0_test"]);
    assert_eq!(launched("worker", "1"), ["watch_evictions", "all_plugin", "event_log"]);
}
