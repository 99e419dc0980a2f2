//! Live control: rescans, commands, events, resource use.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::{Plugins, wait_gone};

const UP: &str = "echo up $$\nread line\n";

#[test]
fn a_rescan_adds_restarts_and_removes() {
    let plugins = Plugins::new();
    plugins.add("keep.sh", UP).add("change.sh", UP).add("go.sh", UP);
    let mut host = plugins.host().start();
    for name in ["keep", "change", "go"] {
        host.wait_until(name, |s| s["state"] == "ready");
    }
    let keep = host.status("keep")["pid"].clone();
    let go = host.status("go")["pid"].as_i64().unwrap() as i32;
    assert_eq!(host.ask("reload"), serde_json::json!({"added": [], "changed": [], "removed": []}));

    plugins.add("change.sh", "echo changed\nread line\n").add("new.sh", UP);
    std::fs::remove_file(plugins.path("go.sh")).unwrap();
    let report = host.ask("reload");
    assert_eq!(report, serde_json::json!({"added": ["new"], "changed": ["change"], "removed": ["go"]}));
    host.wait_for("] changed");
    host.wait_until("new", |s| s["state"] == "ready");
    wait_gone(&HashSet::from([go]), Duration::from_secs(10));
    assert_eq!(host.status("keep")["pid"], keep, "who did not change was not touched");
    assert_eq!(host.status("go"), serde_json::Value::Null);
    host.end();
}

#[test]
fn a_new_manifest_counts_at_the_next_rescan() {
    let plugins = Plugins::new();
    plugins.add("x.sh", UP);
    let mut host = plugins.host().start();
    host.wait_until("x", |s| s["state"] == "ready");
    plugins.add("x.sh.plugin.toml", "enabled = false\n");
    assert_eq!(host.ask("reload")["changed"], serde_json::json!(["x"]));
    host.wait_until("x", |s| s["state"] == "disabled");
    plugins.add("x.sh.plugin.toml", "enabled = true\n");
    host.ask("reload");
    host.wait_until("x", |s| s["state"] == "ready");
    host.end();
}

#[test]
fn commands_have_their_effect_when_they_return() {
    let plugins = Plugins::new();
    plugins.add("x.sh", UP);
    let mut host = plugins.host().start();
    host.wait_for("] up");
    assert_eq!(host.ask("stop x")["state"], "stopped");
    assert_eq!(host.ask("start x")["state"], "ready");
    host.wait_for("] up");
    assert_eq!(host.ask("start x")["starts"], 2, "it runs already");
    assert_eq!(host.ask("disable x")["state"], "disabled");
    assert_eq!(host.ask("start x")["state"], "disabled");
    assert_eq!(host.ask("enable x")["state"], "ready");
    host.wait_for("] up");
    assert_eq!(host.ask("restart x")["starts"], 4);
    assert!(host.ask("restart y")["error"].as_str().unwrap().contains("no plugin named `y`"));
    host.wait_until("x", |s| s["lines"]["stdout"] == 4);
    let tail = host.ask("tail x");
    let said = tail.as_array().unwrap().iter().filter(|line| line["stream"] == "stdout");
    assert_eq!(said.count(), 4, "{tail}");
    let (_, log) = host.end();
    assert!(log.iter().all(|l| !l.starts_with("WARN")), "stops that were asked for are no trouble: {log:?}");
}

#[test]
fn a_ten_line_script_can_follow_events() {
    let plugins = Plugins::new();
    plugins
        .add("x.sh", "echo listening\nwhile read -r event; do echo \"got $event\"; done\necho over\n")
        .add("x.sh.plugin.toml", "events = [\"test\"]\n");
    plugins.add("deaf.sh", UP);
    let mut host = plugins.host().start();
    host.wait_for("listening");
    assert_eq!(host.ask("publish {\"n\": 1}"), true);
    host.wait_for("got {\"n\": 1}");
    let (_, log) = host.end();
    assert!(log.iter().filter(|l| l.contains("got")).count() == 1, "{log:?}");
}

#[test]
fn resource_use_counts_what_a_plugin_has_started() {
    let plugins = Plugins::new();
    // One below it, one orphan in its group, one that cut both ties.
    let script = "sleep 1000 &\n(sleep 1000 &)\n(setsid sleep 1000 &)\necho up\nread line\n";
    plugins.add("x.sh", script).add("y.sh", "echo up\nread line\n");
    let mut host = plugins.host().start();
    host.wait_for_all(&["x.sh] up", "y.sh] up"]);
    host.wait_for_family(5);
    let usage = host.ask("usage");
    assert_eq!((&usage[0][0], &usage[0][1]["processes"]), (&"x".into(), &4.into()), "{usage}");
    assert_eq!((&usage[1][0], &usage[1][1]["processes"]), (&"y".into(), &1.into()), "{usage}");
    assert!(usage[0][1]["resident_bytes"].as_u64().unwrap() > 100_000, "{usage}");
    host.end();
}

#[test]
fn a_dropped_supervisor_leaves_nothing() {
    let plugins = Plugins::new();
    plugins.add("x.sh", UP);
    let mut host = plugins.host().start();
    host.wait_for("] up");
    let family = host.wait_for_family(1);
    host.ask("drop");
    wait_gone(&family, Duration::from_secs(10));
}

#[test]
fn a_watched_folder_needs_no_command() {
    let plugins = Plugins::new();
    let mut host = plugins.host().env("HOST_WATCH", "1").start();
    plugins.add("first.sh", UP);
    host.wait_for("first.sh] up");
    std::fs::create_dir(plugins.path("sub")).unwrap();
    plugins.add("sub/second.sh", UP);
    host.wait_for("second.sh] up");
    plugins.add("sub/second.sh", "echo changed\nread line\n");
    host.wait_for("second.sh] changed");
    std::fs::remove_file(plugins.path("first.sh")).unwrap();
    host.wait_for("first.sh is gone");
    host.end();
}

#[test]
fn metrics_left_in_the_folder_are_collected() {
    let plugins = Plugins::new();
    plugins
        .add(
            "x.sh",
            "cd \"$LMCACHE_RUNTIME_PLUGIN_METRICS_DIR\" || exit 1\n\
             printf '# TYPE jobs counter\\njobs 3\\nlarder_up 1\\n' > new; mv new jobs.prom\necho written\nread line\n",
        )
        .add("x.sh.plugin.toml", "metrics = true\n");
    let mut host = plugins.host().start();
    host.wait_for("] written");
    assert_eq!(host.ask("metrics"), "# TYPE jobs counter\njobs{plugin=\"x\"} 3\n");
    host.end();
}
