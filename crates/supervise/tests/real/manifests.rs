//! Plugins with a manifest: what it asks for is what happens.

use crate::support::Plugins;

fn with(script: &str, manifest: &str) -> Plugins {
    let plugins = Plugins::new();
    plugins.add("x.sh", script).add("x.sh.plugin.toml", manifest);
    plugins
}

const QUICK: &str = "restart_delay_ms = 20\nrestart_delay_max_ms = 40\nstart_limit_burst = 3\n";

#[test]
fn failures_are_restarted_until_they_are_a_crash_loop() {
    let plugins = with("echo try\nexit 1\n", &format!("restart = \"on-failure\"\n{QUICK}"));
    let mut host = plugins.host().start();
    let status = host.wait_until("x", |s| s["state"] == "failed");
    assert_eq!((&status["cause"], &status["starts"]), (&"crash_loop".into(), &3.into()));
    let status = host.ask("start x");
    assert_eq!(status["starts"], 4, "an operator may try again");
    let (_, log) = host.end();
    assert!(log.iter().any(|l| l.contains("is not started again: it was started too often")), "{log:?}");
}

#[test]
fn success_codes_and_on_failure() {
    let plugins = with("exit 3\n", &format!("restart = \"on-failure\"\nsuccess_codes = [3]\n{QUICK}"));
    let mut host = plugins.host().start();
    let status = host.wait_until("x", |s| s["state"] == "exited");
    assert_eq!(status["starts"], 1);
    host.end();
}

#[test]
fn readiness_by_log_line() {
    let plugins = with(
        "echo booting\nread line\necho now listening on port 1\nread line\n",
        "ready = \"log\"\nready_log = \"listening on * 1\"\nready_timeout_s = 20\n",
    );
    plugins.add("y.sh", "echo y runs\nread line\n").add("y.sh.plugin.toml", "after = [\"x\"]\n");
    let mut host = plugins.host().start();
    host.wait_for("booting");
    assert_eq!(host.status("x")["state"], "starting");
    assert_eq!(host.status("y")["state"], "waiting");
    // The supervisor's end of standard input is not for tests; the plugin's own descriptor is.
    let pid = host.status("x")["pid"].as_i64().unwrap();
    std::fs::write(format!("/proc/{pid}/fd/0"), "go\n").unwrap();
    host.wait_until("x", |s| s["state"] == "ready");
    host.wait_for("y runs");
    host.end();
}

#[test]
fn readiness_and_status_by_notification() {
    let plugins = Plugins::new();
    plugins
        .add(
            "n.py",
            "import os, socket, sys\n\
             s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
             s.sendto(b'READY=1\\nSTATUS=all well', os.environ['NOTIFY_SOCKET'])\n\
             sys.stdin.read()\n",
        )
        .add("n.py.plugin.toml", "ready = \"notify\"\n");
    let mut host = plugins.host().start();
    let status = host.wait_until("n", |s| s["state"] == "ready");
    assert_eq!(status["status_text"], "all well");
    host.end();
}

#[test]
fn readiness_by_probe_and_not_for_ever() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let plugins = with("read line\n", &format!("ready = \"socket\"\nready_address = \"{address}\"\n"));
    plugins.add("late.sh", "read line\n").add(
        "late.sh.plugin.toml",
        "ready = \"socket\"\nready_address = \"/no/such/socket\"\nready_timeout_s = 1\n",
    );
    let mut host = plugins.host().start();
    host.wait_until("x", |s| s["state"] == "ready");
    let status = host.wait_until("late", |s| s["state"] == "failed");
    assert_eq!(status["cause"], "not_ready");
    host.end();
}

#[test]
fn silence_ends_a_plugin_that_promised_to_speak() {
    let plugins = with(
        "echo once\nread line\n",
        &format!("watchdog = \"output\"\nwatchdog_s = 1\nrestart = \"on-failure\"\n{QUICK}"),
    );
    let mut host = plugins.host().start();
    host.wait_for("gives no sign of life");
    host.wait_until("x", |s| s["starts"] == 2);
    host.end();
}

#[test]
fn a_plugin_that_does_not_answer_is_ended_or_only_mentioned() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let plugins = with(
        "read line\n",
        &format!(
            "watchdog = \"http\"\nwatchdog_s = 1\nwatchdog_address = \"http://{address}/\"\nrestart = \"on-failure\"\n{QUICK}"
        ),
    );
    // Accepts connections, which satisfies this one; the other wants an answer.
    let held = format!("watchdog = \"socket\"\nwatchdog_s = 1\nwatchdog_address = \"{address}\"\n");
    plugins.add("held.sh", "read line\n").add("held.sh.plugin.toml", &held);
    let mentioned = "watchdog = \"output\"\nwatchdog_s = 1\nwatchdog_action = \"log\"\n";
    plugins.add("mute.sh", "read line\n").add("mute.sh.plugin.toml", mentioned);
    let mut host = plugins.host().start();
    host.wait_until("x", |s| s["starts"] == 3);
    let status = host.ask("status");
    for (name, state) in [("held", "ready"), ("mute", "degraded")] {
        let plugin = status.as_array().unwrap().iter().find(|p| p["name"] == name).unwrap();
        assert_eq!((&plugin["state"], &plugin["starts"]), (&state.into(), &1.into()), "{name}");
    }
    host.wait_for(&format!("Runtime plugin {} gives no sign of life", plugins.label("mute.sh")));
    host.end();
}

#[test]
fn limits_and_privileges_are_in_force() {
    let plugins = with(
        "ulimit -n\numask\ngrep NoNewPrivs /proc/self/status\nnice\ncat /etc/hostname || echo refused\nid -u\n",
        "umask = 0o077\nnice = 7\nno_new_privs = true\nread_paths = [\"/usr\", \"/bin\", \"/lib\", \"/lib64\", \"/proc\", \"/dev\", \"/tmp\", \"/etc/ld.so.cache\"]\n\
         write_paths = [\"/dev/null\"]\nlimits = { open_files = 77 }\n",
    );
    let mut host = plugins.host().start();
    host.wait_for_all(&["] 77", "] 0077", "NoNewPrivs:\t1", "] 7", "refused", "exited with code 0"]);
    host.end();
}

#[test]
fn inherited_variables_can_be_limited() {
    let plugins = with("env\n", "inherit = [\"PATH\"]\nenvironment = { EXTRA = \"1\" }\n");
    let mut host = plugins.host().env("TOKEN", "hush").start();
    host.wait_for("exited with code 0");
    let has = |text: &str| host.log.iter().any(|l| l.contains(text));
    assert!(
        has("] EXTRA=1") && has("] PATH=") && has("] LMCACHE_RUNTIME_PLUGIN_CONFIG=") && !has("hush"),
        "{:?}",
        host.log
    );
    host.end();
}

#[test]
fn intervals_repeat() {
    let plugins = with("echo tick\n", "interval_s = 1\n");
    let mut host = plugins.host().start();
    host.wait_for("tick");
    host.wait_until("x", |s| s["state"] == "scheduled");
    host.wait_for("tick");
    host.end();
}

#[test]
fn a_wrong_manifest_is_explained_and_corrected_by_a_restart() {
    let plugins = with("echo ran\nread line\n", "restart = \"often\"\n");
    plugins.add("off.sh", "echo unwanted\n").add("off.sh.plugin.toml", "enabled = false\n");
    let mut host = plugins.host().start();
    let status = host.wait_until("x", |s| s["state"] == "failed");
    let error = status["last_error"].as_str().unwrap();
    assert!(error.contains("x.sh.plugin.toml: line 1") && error.contains("on-failure"), "{error}");
    assert_eq!(host.status("off")["state"], "disabled");
    plugins.add("x.sh.plugin.toml", "restart = \"never\"\n");
    assert_eq!(host.ask("restart x")["state"], "ready");
    host.wait_for("ran");
    let (_, log) = host.end();
    assert!(!log.iter().any(|l| l.contains("unwanted")), "{log:?}");
}

#[test]
fn what_others_come_after_ends_last() {
    let plugins = Plugins::new();
    for (name, after) in [("a", "b"), ("b", "c"), ("c", "nobody")] {
        plugins
            .add(&format!("{name}.sh"), "echo up\nread line\n")
            .add(&format!("{name}.sh.plugin.toml"), &format!("after = [\"{after}\"]\n"));
    }
    let mut host = plugins.host().start();
    for name in ["a", "b", "c"] {
        host.wait_until(name, |s| s["state"] == "ready");
    }
    let launched: Vec<_> = host.log.iter().filter(|l| l.contains("Launched")).cloned().collect();
    let (report, _) = host.end();
    assert!(launched[0].contains("c.sh") && launched[2].contains("a.sh"), "{launched:?}");
    assert_eq!(report["stopped"], serde_json::json!(["a", "b", "c"]));
}

#[test]
fn a_configuration_that_does_not_fit_is_explained_and_the_plugin_not_run() {
    let plugins = with(
        "echo \"got $LMCACHE_RUNTIME_PLUGIN_SETTINGS\"\nread line\n",
        "restart = \"always\"\n[config]\nport = { type = \"integer\", required = true }\nhost = { default = \"localhost\" }\n\
         api_key = { type = \"string\" }\n",
    );
    plugins.add("y.sh", "echo ran\n").add(
        "y.sh.plugin.toml",
        "restart = \"always\"\n[config]\nmode = { enum = [\"a\"] }\nurl = { required = true }\n",
    );
    let dir = tempfile::tempdir().unwrap();
    let config = serde_json::json!({"runtime_plugin_extra_config":
        {"plugin.x.port": 81, "plugin.x.api_key": "hush", "plugin.y.mode": "b"}});
    std::fs::write(dir.path().join("c.json"), config.to_string()).unwrap();
    let mut host = plugins.host().env("HOST_CONFIG_FILE", dir.path().join("c.json")).start();
    host.wait_for_all(&[r#"got {"port":81,"api_key":"<redacted>","host":"localhost"}"#]);
    let status = host.wait_until("y", |s| s["state"] == "failed");
    assert_eq!((&status["cause"], &status["starts"]), (&"config".into(), &1.into()));
    let error = status["last_error"].as_str().unwrap();
    assert_eq!(
        error,
        "its configuration does not fit: `plugin.y.mode` is `\"b\"`, wanted one of `\"a\"`; `plugin.y.url` is missing, wanted a value"
    );
    let schema = host.ask("schema x");
    assert_eq!(schema["required"], serde_json::json!(["plugin.x.port"]));
    let (_, log) = host.end();
    assert!(
        log.iter().any(|l| l.contains("plugin.y.url")) && !log.iter().any(|l| l.contains("ran")),
        "{log:?}"
    );
}

#[test]
fn metrics_on_a_descriptor() {
    let plugins = with(
        "fd=$LMCACHE_RUNTIME_PLUGIN_METRICS_FD\n\
         echo 'jobs_total{kind=\"a\"} 1' >&$fd\necho 'jobs_total{kind=\"a\"} 2' >&$fd\necho 'larder_up 7' >&$fd\n\
         echo garbage >&$fd\necho done\nread line\n",
        "metrics_fd = true\n",
    );
    plugins.add("y.sh", "ls /proc/self/fd | tr '\\n' ' '; echo fds\n");
    let mut host = plugins.host().start();
    host.wait_until("x", |s| s["metric_lines"] == serde_json::json!({"taken": 3, "dropped": 1}));
    assert_eq!(host.ask("metrics"), "jobs_total{plugin=\"x\",kind=\"a\"} 2\n");
    // 3 is the listing itself: a plugin that asks for no descriptor gets none.
    host.wait_for_all(&["] 0 1 2 3 fds"]);
    host.end();
}

#[test]
fn control_group_limits_are_in_force_or_said_not_to_be() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
    let limits = "cgroup = { memory_bytes = 1048576, pids = 9 }\nstop_timeout_s = 0\n";
    let plugins = with("trap '' TERM\necho up\nread line\nexec sleep 1000\n", limits);
    let mut host = plugins.host().env("HOST_CGROUP_ROOT", root.path()).start();
    host.wait_for("up");
    let status = host.wait_until("x", |s| s["state"] == "ready");
    assert_eq!(
        (&status["cgroup"]["in_force"]["pids"], &status["cgroup"]["notices"]),
        (&9.into(), &serde_json::json!([]))
    );
    let group = std::path::PathBuf::from(status["cgroup"]["path"].as_str().unwrap());
    let text = |file: &str| std::fs::read_to_string(group.join(file)).unwrap();
    assert_eq!(
        (text("memory.max").as_str(), text("cgroup.procs").as_str()),
        ("1048576", "0"),
        "it joined by itself"
    );
    host.ask("stop x");
    assert!(text("cgroup.kill").starts_with('1'));
    host.end();

    let mut host = plugins.host().env("HOST_CGROUP_ROOT", "/no/such/group").start();
    host.wait_for("no control group is delegated to this process: `/no/such/group/cgroup.controllers`");
    assert_eq!(host.wait_until("x", |s| s["state"] == "ready")["cgroup"]["path"], serde_json::Value::Null);
    host.end();
}

#[test]
fn what_cannot_be_had_is_named() {
    let plugins = Plugins::new();
    for (name, manifest) in [
        ("user", "user = \"nosuchuser\"\n"),
        ("group", "group = \"nosuchgroup\"\n"),
        ("path", "read_paths = [\"/no/such/path\"]\n"),
        ("limit", "limits = { open_files = 18446744073709551615 }\n"),
    ] {
        plugins.add(&format!("{name}.sh"), "read line\n").add(&format!("{name}.sh.plugin.toml"), manifest);
    }
    let mut host = plugins.host().start();
    for (name, expected) in [
        ("user", "user `nosuchuser`: not in `/etc/passwd`"),
        ("group", "group `nosuchgroup`: not in `/etc/group`"),
        ("path", "`/no/such/path` in `read_paths`: No such file or directory"),
        ("limit", "`limits`: "),
    ] {
        let status = host.wait_until(name, |s| s["state"] == "failed");
        let error = status["last_error"].as_str().unwrap();
        assert!(error.contains(expected), "{error}");
    }
    host.end();
}

#[test]
fn the_end_of_a_run_is_told_before_what_follows_it() {
    let plugins =
        with("(sleep 0.1; echo last words) &\nexit 7\n", &format!("restart = \"on-failure\"\n{QUICK}"));
    let mut host = plugins.host().start();
    host.wait_for("restarts in");
    let position = |text: &str| host.log.iter().position(|line| line.contains(text)).unwrap();
    assert!(position("exited with code 7") < position("restarts in"), "{:?}", host.log);
    host.end();
}

#[test]
fn silence_can_make_a_plugin_degraded_until_it_speaks_again() {
    let plugins = with(
        "read line\necho back\nread line\n",
        "watchdog = \"output\"\nwatchdog_s = 1\nwatchdog_action = \"alert\"\n",
    );
    let mut host = plugins.host().start();
    let status = host.wait_until("x", |s| s["state"] == "degraded");
    assert_eq!(status["alert"]["text"], "gives no sign of life");
    assert_eq!(host.ask("start x")["starts"], 1, "it runs");
    let pid = status["pid"].as_i64().unwrap();
    std::fs::write(format!("/proc/{pid}/fd/0"), "go\n").unwrap();
    host.wait_for("is well again");
    host.wait_until("x", |s| s["state"] == "degraded" && s["control"]["alerts"] == 2);
    host.end();
}

#[test]
fn a_pause_of_the_server_is_not_a_plugin_s_silence() {
    let plugins = with("while :; do echo tick; sleep 0.2; done\n", "watchdog = \"output\"\nwatchdog_s = 4\n");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    plugins.add("probed.sh", "read line\n").add(
        "probed.sh.plugin.toml",
        &format!("watchdog = \"socket\"\nwatchdog_s = 4\nwatchdog_address = \"{address}\"\n"),
    );
    let mut host = plugins.host().start();
    host.wait_for("tick");
    host.pause(std::time::Duration::from_secs(6));
    let before = host.log.len();
    for _ in 0..10 {
        host.wait_for("tick");
    }
    assert!(!host.log.iter().any(|line| line.contains("no sign of life")), "{:?}", &host.log[before..]);
    for name in ["x", "probed"] {
        assert_eq!((&host.status(name)["state"], &host.status(name)["starts"]), (&"ready".into(), &1.into()));
    }
    host.end();
}

#[test]
fn a_plugin_may_announce_its_end() {
    let plugins = Plugins::new();
    plugins
        .add(
            "n.py",
            "import os, socket, sys\n\
             s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
             s.sendto(b'READY=1\\nSTOPPING=1\\nSTATUS=packing', os.environ['NOTIFY_SOCKET'])\n\
             sys.stdin.readline()\n",
        )
        .add("n.py.plugin.toml", "ready = \"notify\"\nstop_timeout_s = 60\n");
    let mut host = plugins.host().start();
    let status = host.wait_until("n", |s| s["state"] == "stopping");
    assert_eq!((&status["killed"], &status["status_text"]), (&false.into(), &"packing".into()));
    std::fs::write(format!("/proc/{}/fd/0", status["pid"]), "go\n").unwrap();
    host.wait_until("n", |s| s["state"] == "exited");
    host.end();
}

#[test]
fn what_hangs_leaves_a_trace_before_it_is_killed() {
    let plugins = with(
        "trap '' TERM\ntrap 'echo trace' QUIT\necho up\nwhile :; do sleep 0.05; done\n",
        "stop_timeout_s = 0\ndump_signal = \"SIGQUIT\"\ndump_timeout_s = 1\n",
    );
    let mut host = plugins.host().start();
    host.wait_for("] up");
    let status = host.ask("stop x");
    assert_eq!((&status["state"], &status["kills"]), (&"stopped".into(), &1.into()));
    host.wait_for_all(&["] trace"]);
    host.end();
}

#[test]
fn readiness_by_a_file_that_is_not_the_one_from_before() {
    let plugins = Plugins::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ready");
    std::fs::write(&file, "of an earlier run").unwrap();
    let shown = file.display();
    plugins
        .add("x.sh", &format!("echo up\nread line\necho again > {shown}\nread line\n"))
        .add("x.sh.plugin.toml", &format!("ready = \"file\"\nready_file = \"{shown}\"\n"));
    let mut host = plugins.host().start();
    host.wait_for("] up");
    let pid = host.status("x")["pid"].clone();
    assert_eq!(host.status("x")["state"], "starting");
    std::fs::write(format!("/proc/{pid}/fd/0"), "go\n").unwrap();
    host.wait_until("x", |s| s["state"] == "ready");
    host.end();
}

#[test]
fn another_user_has_what_is_meant_for_it() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("not tested: only root can run plugins as another user");
    }
    let plugins = Plugins::new();
    let open = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    open(plugins.dir.path());
    plugins
        .add(
            "n.py",
            "import json, os, socket, sys\n\
             whole = json.load(open(os.environ['LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE']))\n\
             open(os.environ['LMCACHE_RUNTIME_PLUGIN_METRICS_DIR'] + '/x.prom', 'w').write('jobs 3\\n')\n\
             s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
             s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\n\
             print('user', os.getuid(), 'group', os.getgid(), 'knows', whole['mp_config']['port'])\n\
             sys.stdin.read()\n",
        )
        .add(
            "n.py.plugin.toml",
            "user = \"54321\"\ngroup = \"54322\"\nready = \"notify\"\nmetrics = true\n\
             environment = { PATH = \"/usr/bin:/bin\" }\n",
        );
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.json"), "{\"mp_config\": {\"port\": 7}}").unwrap();
    let host = plugins.host().env("HOST_CONFIG_FILE", dir.path().join("c.json"));
    let mut host = host.start_below(|runtime| open(runtime));
    host.wait_for("user 54321 group 54322 knows 7");
    host.wait_until("n", |s| s["state"] == "ready");
    assert_eq!(host.ask("metrics"), "jobs{plugin=\"n\"} 3\n");
    host.end();
}

#[test]
fn a_plugin_that_others_could_change_is_mentioned_or_refused() {
    let plugins = with("echo ran\nread line\n", "");
    std::fs::set_permissions(plugins.path("x.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    let mut host = plugins.host().start();
    host.wait_for("can be changed by everybody (mode 0777)");
    let status = host.wait_until("x", |s| s["state"] == "ready");
    assert!(status["notices"][0].as_str().unwrap().contains("mode 0777"), "{status}");
    host.end();
    let mut host = plugins.host().env("HOST_REFUSES_WRITABLE", "1").start();
    let status = host.wait_until("x", |s| s["state"] == "failed");
    assert_eq!(status["cause"], "config");
    assert!(status["last_error"].as_str().unwrap().contains("mode 0777"), "{status}");
    let (_, log) = host.end();
    assert!(!log.iter().any(|line| line.contains("ran")), "{log:?}");
}

#[test]
fn a_turn_at_the_disk_is_as_asked_for() {
    let plugins = with("ionice -p $$\nread line\n", "io_class = \"best-effort\"\nio_priority = 6\n");
    let mut host = plugins.host().start();
    host.wait_for("] best-effort: prio 6");
    host.end();
}
