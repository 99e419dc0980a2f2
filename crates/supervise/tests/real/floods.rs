//! A plugin's output costs bounded memory and is accounted for; the guardian stays small.

use crate::support::{Plugins, status_field_kib};

/// 64 MiB in lines of one kilobyte, as fast as the pipe takes it.
const FLOOD: &str = "import os\n\
    block = (b'x' * 1023 + b'\\n') * 256\n\
    left = 256\n\
    while left:\n\
    \x20   view = memoryview(block)\n\
    \x20   while view: view = view[os.write(1, view):]\n\
    \x20   left -= 1\n";
const FLOOD_LINES: u64 = 256 * 256;

#[test]
fn a_flood_costs_bounded_memory_and_no_line_is_lost() {
    let plugins = Plugins::new();
    plugins.add("flood.py", FLOOD);
    let mut host = plugins.host().start();
    host.wait_for("Launched");
    let before = status_field_kib(host.pid(), "VmRSS:");
    let done = host.wait_until("flood", |s| s["state"] == "exited" && s["lines"]["stdout"] == FLOOD_LINES);
    let peak = status_field_kib(host.pid(), "VmHWM:");
    assert!(peak < before + 8 * 1024, "from {before} KiB to {peak} KiB");
    assert_eq!(done["lines"]["bytes"], FLOOD_LINES * 1024);
    let (_, log) = host.end();
    let logged = log.iter().filter(|l| l.contains("] xxx")).count() as u64;
    let suppressed = done["lines"]["suppressed"].as_u64().unwrap();
    assert_eq!(logged + suppressed, FLOOD_LINES);
    let mentioned =
        log.iter().filter_map(|l| l.split("suppressed ").nth(1)?.strip_suffix(" lines")?.parse::<u64>().ok());
    assert_eq!(mentioned.sum::<u64>(), suppressed);
}

#[test]
fn an_endless_line_costs_bounded_memory() {
    let plugins = Plugins::new();
    plugins.add("line.py", "import os\nfor _ in range(1024): os.write(1, b'y' * 65536)\n");
    let mut host = plugins.host().start();
    host.wait_for("Launched");
    let before = status_field_kib(host.pid(), "VmRSS:");
    host.wait_for("bytes cut]");
    let peak = status_field_kib(host.pid(), "VmHWM:");
    assert!(peak < before + 4 * 1024, "from {before} KiB to {peak} KiB");
    host.end();
}

#[test]
fn the_guardian_is_small_and_holds_nothing_of_the_server() {
    let plugins = Plugins::new();
    plugins.add("x.sh", "echo up\nread line\n");
    let mut host = plugins.host().start();
    host.wait_for("up");
    let guardian = host.guardian();
    let private = std::fs::read_to_string(format!("/proc/{guardian}/smaps_rollup")).unwrap();
    let private_kib: u64 = private
        .lines()
        .filter(|l| l.starts_with("Private_"))
        .filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum();
    assert!(private_kib < 2048, "{private_kib} KiB");
    let descriptors: Vec<_> = std::fs::read_dir(format!("/proc/{guardian}/fd")).unwrap().collect();
    assert!(descriptors.len() <= 9, "{descriptors:?}");
    // The numbers of plugins' further descriptors are kept free of anything that matters.
    for kept in [3, 4] {
        let target = std::fs::read_link(format!("/proc/{guardian}/fd/{kept}")).unwrap();
        assert_eq!(target.to_str(), Some("/dev/null"));
    }
    host.end();
}

#[test]
fn many_plugins_start_and_stop_together() {
    let plugins = Plugins::new();
    for i in 0..100 {
        plugins.add(&format!("p{i:03}.sh"), "echo up\nread line\n");
    }
    let mut host = plugins.host().start();
    for _ in 0..100 {
        host.wait_for("] up");
    }
    let idle = status_field_kib(host.pid(), "VmRSS:");
    let (report, _) = host.end();
    assert_eq!(report["stopped"].as_array().unwrap().len(), 100);
    assert_eq!(report["killed"], serde_json::json!([]));
    assert!(idle < 20 * 1024, "{idle} KiB");
}

/// Sends to a channel without end, while another plugin and the host's commands go on.
fn assert_nobody_waits_for(manifest: &str, channel: &str) {
    let plugins = Plugins::new();
    let script = format!("import os, socket\n{channel}print('floods', flush=True)\nwhile True: send()\n");
    plugins.add("flood.py", &script).add("flood.py.plugin.toml", manifest);
    plugins.add("calm.sh", "while read line; do echo $line; done\nwhile :; do echo tick; sleep 0.1; done\n");
    let mut host = plugins.host().start();
    host.wait_for("floods");
    for _ in 0..10 {
        host.status("flood");
    }
    assert_eq!(host.ask("stop calm")["state"], "stopped");
    assert_eq!(host.ask("stop flood")["state"], "stopped");
    host.end();
}

#[test]
fn nobody_waits_for_a_plugin_that_floods_its_control_channel() {
    for line in ["\\n", "x\\n", r#"{\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n"#] {
        let channel = format!(
            "fd = int(os.environ['LMCACHE_RUNTIME_PLUGIN_CONTROL_FD'])\n\
             def send(): os.write(fd, b'{line}' * 4096)\n"
        );
        assert_nobody_waits_for("control = true\n", &channel);
    }
}

#[test]
fn nobody_waits_for_a_plugin_that_floods_other_channels() {
    let notify = "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
        s.connect(os.environ['NOTIFY_SOCKET'])\n\
        def send(): s.send(b'STATUS=busy\\nWATCHDOG=1')\n";
    assert_nobody_waits_for("watchdog = \"notify\"\nwatchdog_s = 60\n", notify);
    let metrics = "fd = int(os.environ['LMCACHE_RUNTIME_PLUGIN_METRICS_FD'])\n\
        def send(): os.write(fd, b'\\n' * 65536)\n";
    assert_nobody_waits_for("metrics_fd = true\n", metrics);
    assert_nobody_waits_for("", "def send(): os.write(1, b'x' * 65536)\n");
}
