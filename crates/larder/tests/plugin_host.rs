//! The role mode: plugins beside a process that is no server (spec/runtime-plugins.md 3.1 and 9).

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod plugin_rig;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use plugin_rig::{Place, Running, WAITER, eventually, larder, text, with};

/// A command that ends with this code as soon as the file `go` is there.
fn until_go(place: &Place, code: u8) -> [String; 3] {
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done; exit {code}", place.path("go").display());
    ["bash".into(), "-c".into(), script]
}

fn go(place: &Place) {
    fs::write(place.path("go"), "").unwrap();
}

fn host(words: &[&str], place: &Place, command: &[String]) -> Command {
    let mut host = larder([&["plugin", "host"], words].concat());
    host.arg("--location").arg(&place.plugins);
    if !command.is_empty() {
        host.arg("--").args(command);
    }
    host.stdin(Stdio::null()).stdout(Stdio::null());
    host
}

/// Files by every rule of the naming scheme.
const NAMES: [&str; 10] = [
    "scheduler_foo_plugin.sh",
    "worker_0_test.sh",
    "worker_1_test.sh",
    "worker_x_test.sh",
    "worker_1.sh",
    "WoRKeR_0_case.sh",
    "all_plugin.sh",
    "all_1_plugin.sh",
    "event_log.sh",
    "plain.sh",
];

/// Which of [`NAMES`] run beside such a process.
fn chosen(words: &[&str]) -> Vec<&'static str> {
    let place = Place::new();
    for name in NAMES {
        place.plugin(name, &format!("echo \"I am {name}\"\n{WAITER}"));
    }
    let mut running = Running::start(host(words, &place, &until_go(&place, 0)));
    // Every file is launched or skipped, and said to be.
    let decided = || {
        let log = running.log();
        log.matches("] I am ").count() + log.matches("Skipping ").count() == NAMES.len()
    };
    eventually("every file is decided on", decided);
    let log = running.log();
    go(&place);
    assert!(running.wait().success());
    running.wait_for_silence();
    NAMES.into_iter().filter(|name| log.contains(&format!("I am {name}"))).collect()
}

#[test]
fn names_say_where_a_plugin_runs() {
    let everywhere = ["all_plugin.sh", "event_log.sh", "plain.sh"];
    let with_everywhere = |own: &[&'static str]| {
        let mut all = [own, &everywhere].concat();
        all.sort_by_key(|name| NAMES.iter().position(|known| known == name));
        all
    };
    // A worker is named only where there are three parts and the second is a number.
    assert_eq!(
        chosen(&["--role", "worker", "--worker-id", "0", "--worker-count", "8"]),
        with_everywhere(&["worker_0_test.sh", "worker_x_test.sh", "worker_1.sh", "WoRKeR_0_case.sh"])
    );
    assert_eq!(
        chosen(&["--role", "WORKER", "--worker-id", "1"]),
        with_everywhere(&["worker_1_test.sh", "worker_x_test.sh", "worker_1.sh", "all_1_plugin.sh"])
    );
    assert_eq!(chosen(&["--role", "Scheduler"]), with_everywhere(&["scheduler_foo_plugin.sh"]));
}

#[test]
fn plugins_get_the_engine_s_configuration_and_the_role() {
    let place = Place::new();
    let config = place.path("lmcache.yaml");
    let plugins = place.plugins.display();
    fs::write(
        &config,
        format!("chunk_size: 256\nruntime_plugin_locations: [\"{plugins}\"]\nextra_config: {{a: 1}}\n"),
    )
    .unwrap();
    let (blob, words) = (place.path("blob"), place.path("words"));
    let script = format!(
        "printf %s \"$LMCACHE_RUNTIME_PLUGIN_CONFIG\" > {}\n\
         echo \"$LMCACHE_RUNTIME_PLUGIN_ROLE $LMCACHE_PLUGIN_ROLE $LMCACHE_RUNTIME_PLUGIN_WORKER_ID \
         $LMCACHE_RUNTIME_PLUGIN_WORKER_COUNT $LMCACHE_RUNTIME_PLUGIN_EXTRA_CONFIG\" > {}\n{WAITER}",
        blob.display(),
        words.display()
    );
    place.plugin("a.sh", &script);
    let mut command =
        larder(["plugin", "host", "--role", "WORKER", "--worker-id", "3", "--worker-count", "8"]);
    command.arg("--config").arg(&config).arg("--").args(until_go(&place, 7)).env("LMCACHE_CHUNK_SIZE", "64");
    let mut running = Running::start(command);
    running.line("a.sh] up");
    let seen = fs::read_to_string(blob).unwrap();
    assert!(seen.starts_with("{\n  \"chunk_size\": 64,\n"), "over several lines: {seen}");
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["runtime_plugin_locations"], json!([place.plugins]));
    assert_eq!((&seen["extra_config"], &seen["cache_policy"]), (&json!({ "a": 1 }), &json!("LRU")));
    assert!(seen.get("mp_config").is_none());
    assert_eq!(fs::read_to_string(words).unwrap(), "WORKER WORKER 3 8 {\"a\": 1}\n");
    go(&place);
    assert_eq!(running.wait().code(), Some(7));
    running.wait_for_silence();
}

#[test]
fn locations_come_from_variables_too() {
    for name in ["LMCACHE_RUNTIME_PLUGIN_LOCATIONS", "LMCACHE_PLUGIN_LOCATIONS"] {
        let place = Place::new();
        place.plugin("a.sh", WAITER);
        let mut command = larder(["plugin", "host", "--role", "scheduler", "--"]);
        command.args(until_go(&place, 0)).env(name, &place.plugins);
        let mut running = Running::start(command);
        running.line("a.sh] up");
        go(&place);
        assert!(running.wait().success());
    }
}

#[test]
fn a_stubborn_plugin_ends_with_the_command_all_the_same() {
    let place = Place::new();
    place.plugin("a.sh", "trap '' TERM\n(setsid sleep 1000 &)\necho up\nwhile :; do sleep 0.1; done\n");
    place.plugin("a.sh.plugin.toml", "stop_timeout_s = 0\n");
    let mut running = Running::start(host(&["--role", "worker"], &place, &until_go(&place, 5)));
    running.line("a.sh] up");
    assert!(running.plugins_alive().len() >= 2);
    go(&place);
    assert_eq!(running.wait().code(), Some(5));
    running.wait_for_silence();
}

#[test]
fn signals_reach_the_command_and_its_end_is_passed_on() {
    let place = Place::new();
    place.plugin("a.sh", WAITER);
    let script = "trap 'exit 9' TERM; echo ready >&2; while :; do sleep 0.02; done";
    let command = ["bash", "-c", script].map(str::to_owned);
    let mut running = Running::start(host(&["--role", "worker"], &place, &command));
    running.line("ready");
    running.line("a.sh] up");
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(9));
    running.wait_for_silence();

    let died = host(&["--role", "worker"], &place, &["bash", "-c", "kill -KILL $$"].map(str::to_owned))
        .output()
        .unwrap();
    assert_eq!(died.status.code(), Some(128 + 9), "{}", text(&died.stderr));
}

#[test]
fn a_process_that_was_there_before_is_accompanied_and_left_alone() {
    let place = Place::new();
    place.plugin("a.sh", WAITER);
    let mut other = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let pid = other.id().to_string();

    let mut running = Running::start(host(&["--role", "worker", "--pid", &pid], &place, &[]));
    running.line("a.sh] up");
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(0));
    running.wait_for_silence();
    assert!(other.try_wait().unwrap().is_none(), "the process goes on");

    let mut running = Running::start(host(&["--role", "worker", "--pid", &pid], &place, &[]));
    running.line("a.sh] up");
    drop(other.stdin.take());
    other.wait().unwrap();
    assert_eq!(running.wait().code(), Some(0));
    running.wait_for_silence();

    let gone = host(&["--role", "worker", "--pid", &pid], &place, &[]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(
        text(&gone.stderr).contains(&format!("process {pid} cannot be accompanied")),
        "{}",
        text(&gone.stderr)
    );
}

#[test]
fn a_host_that_is_killed_takes_its_plugins_along_and_leaves_the_command() {
    let place = Place::new();
    place.plugin(
        "a.sh",
        "trap '' TERM\n(trap '' TERM; exec sleep 1000) &\necho up\nwhile :; do sleep 0.1; done\n",
    );
    let (over, waiting) = (place.path("over"), until_go(&place, 0)[2].replace("exit 0", ""));
    let command = ["bash".into(), "-c".into(), format!("{waiting} echo over > {}", over.display())];
    let mut running = Running::start(host(&["--role", "worker"], &place, &command));
    running.line("a.sh] up");
    running.signal("KILL");
    running.wait();
    running.wait_for_silence();
    go(&place);
    eventually("the command went on to its own end", || over.exists());
}

#[test]
fn what_cannot_be_started_is_said_as_a_shell_would() {
    let place = Place::new();
    let plain = with(&place.plugins, "notes.txt");
    fs::write(&plain, "text").unwrap();
    for (program, code) in [("/no/such/engine".to_owned(), 127), (plain, 126)] {
        let output = host(&["--role", "worker"], &place, std::slice::from_ref(&program)).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(&format!("`{program}` cannot be started: ")));
    }
    let neither = larder(["plugin", "host", "--role", "worker"]).output().unwrap();
    assert_eq!(neither.status.code(), Some(2));
    let config = place.path("bad.yaml");
    fs::write(&config, "- no\n- settings\n").unwrap();
    let words = ["plugin", "host", "--role", "worker", "--config", config.to_str().unwrap(), "--", "true"];
    let output = larder(words).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("holds no settings\nhint: "), "{}", text(&output.stderr));
}

#[test]
fn without_plugins_the_command_runs_all_the_same() {
    let output =
        larder(["plugin", "host", "--role", "worker", "--", "bash", "-c", "exit 3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("no plugin locations are configured"));
}
