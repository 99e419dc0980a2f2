//! The plugins' HTTP API (`docs/reference/plugins-http.md`) of a real server with real plugins.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod plugin_rig;

use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::net::UdpSocket;

use plugin_rig::{Place, Running, Server, WAITER, eventually, larder, next_line, with};
use serde_json::{Value, json};

#[test]
fn plugins_and_what_is_not_run_are_listed() {
    let place = Place::new();
    place.plugin("beat.sh", WAITER).plugin("_helper.py", "").plugin("notes.txt", "");
    let server = Server::start(&place);
    server.process.line("beat.sh] up");
    let all = server.get("/plugins");
    let beat = &all["plugins"][0];
    assert_eq!(
        (&beat["name"], &beat["state"], &beat["starts"]),
        (&json!("beat"), &json!("ready"), &json!(1))
    );
    assert_eq!(beat["path"], with(&place.plugins, "beat.sh"));
    assert!(beat["pid"].as_u64().unwrap() > 0 && beat["resources"]["processes"] == 1, "{beat}");
    let skipped = |name: &str| {
        let path = with(&place.plugins, name);
        all["skipped"].as_array().unwrap().iter().find(|skip| skip["path"] == path).cloned().unwrap()
    };
    assert_eq!(skipped("_helper.py")["reason"], "underscore");
    assert_eq!(skipped("_helper.py")["text"], "name begins with an underscore");
    assert_eq!(skipped("notes.txt")["reason"], "not_a_program");
}

#[test]
fn one_plugin_shows_its_manifest_and_a_redacted_environment() {
    let place = Place::new();
    place.plugin("a.sh", WAITER).plugin(
        "a.sh.plugin.toml",
        "stop_timeout_s = 9\ninherit_secrets = [\"SOME_API_TOKEN\"]\nenvironment = { OWN = \"1\" }\n",
    );
    place.plugin("broken.sh", WAITER).plugin("broken.sh.plugin.toml", "\nrestrat = 1\n");
    let server = Server::start_with(&place, &[], &[("SOME_API_TOKEN", "t0k3n"), ("PLAIN", "seen")]);
    server.process.line("a.sh] up");
    let plugin = server.get("/plugins/a");
    assert_eq!(plugin["manifest"]["stop_timeout_s"], 9);
    assert_eq!(plugin["manifest"]["file"], with(&place.plugins, "a.sh.plugin.toml"));
    assert_eq!(plugin["environment"]["PLAIN"], "seen");
    assert_eq!(plugin["environment"]["OWN"], "1");
    assert_eq!(plugin["environment"]["SOME_API_TOKEN"], "<redacted>");
    assert!(!plugin.to_string().contains("t0k3n"));
    server.until("broken", "failed");
    let broken = server.get("/plugins/broken");
    assert_eq!((&broken["cause"], &broken["manifest"]["mistake"]["line"]), (&json!("launch"), &json!(2)));
}

#[test]
fn server_wide_defaults_hold_where_manifests_are_silent() {
    let place = Place::new();
    let report = "echo \"$(basename \"$0\") ${PLAIN-none} ${SHORT-none} $LMCACHE_RUNTIME_PLUGIN_EXTRA_CONFIG\"\nread -r _\n";
    place.plugin("bare.sh", report);
    place.plugin("own.sh", report);
    place.plugin(
        "own.sh.plugin.toml",
        "inherit = [\"PATH\", \"SHORT\"]\nsecrets = true\nrestart = \"never\"\n",
    );
    place.plugin("script.awk", "{ exit }\n");
    let server = Server::start_with(
        &place,
        &[
            "--runtime-plugin-defaults",
            r#"{"inherit": ["PATH", "PLAIN"], "restart": "on-failure", "stop_timeout_s": 9}"#,
            "--runtime-plugin-interpreters",
            r#"{"awk": "bash"}"#,
            "--runtime-plugin-config",
            r#"{"plugin.x.token": "t0k"}"#,
            "--runtime-plugin-redact-secrets",
        ],
        &[("PLAIN", "plain"), ("SHORT", "short")],
    );
    server.process.line(r#"bare.sh] bare.sh plain none {"plugin.x.token":"<redacted>"}"#);
    server.process.line(r#"own.sh] own.sh none short {"plugin.x.token": "t0k"}"#);
    server.process.line("script.awk with /");
    let manifest = |name: &str| server.get(&format!("/plugins/{name}"))["manifest"].take();
    let (bare, own) = (manifest("bare"), manifest("own"));
    assert_eq!((&bare["restart"], &own["restart"]), (&json!("on-failure"), &json!("never")));
    assert_eq!((&bare["stop_timeout_s"], &own["stop_timeout_s"]), (&json!(9), &json!(9)));
    assert_eq!(bare["lines_burst"], 250_000, "the server's own limit");
    assert_eq!((&bare["file"], &bare["inherit"]), (&Value::Null, &json!(["PATH", "PLAIN"])));
}

#[test]
fn secrets_of_the_server_s_environment_reach_only_plugins_that_name_them() {
    let place = Place::new();
    let report =
        "echo \"got $(env | grep -c t0k3n) ${NOTIFY_SOCKET-none} ${WATCHDOG_USEC-none} $PLAIN\"\nread -r _\n";
    place.plugin("bare.sh", report).plugin("granted.sh", report).plugin("all.sh", report);
    place.plugin("granted.sh.plugin.toml", "inherit_secrets = [\"AWS_SECRET_ACCESS_KEY\"]\n");
    place.plugin("all.sh.plugin.toml", "inherit_secrets = [\"*\"]\n");
    let variables = [
        ("AWS_SECRET_ACCESS_KEY", "t0k3n"),
        ("DATABASE_URL", "postgres://me:t0k3n@host/db"),
        ("NOTIFY_SOCKET", "/run/systemd/notify"),
        ("WATCHDOG_USEC", "1"),
        ("PLAIN", "seen"),
    ];
    let server = Server::start_with(&place, &[], &variables);
    server.process.line("bare.sh] got 0 none none seen");
    server.process.line("granted.sh] got 1 none none seen");
    server.process.line("all.sh] got 2 none none seen");
    server.process.line("do not inherit `AWS_SECRET_ACCESS_KEY`, `DATABASE_URL`");
}

#[test]
fn one_rule_masks_a_configuration_for_plugins_and_for_people() {
    let place = Place::new();
    place.plugin("a.sh", "echo \"got $LMCACHE_RUNTIME_PLUGIN_EXTRA_CONFIG\"\nread -r _\n");
    let secrets = r#"{"passphrase":"h1dden","sas":"h1dden","auth":"h1dden","pwd":"h1dden","tokens":["h1dden"],"key":"h1dden","password":"h1dden","url":"redis://u:h1dden@h/0","port":5}"#;
    let flags = ["--runtime-plugin-redact-secrets", "--runtime-plugin-config", secrets];
    let server = Server::start_with(&place, &flags, &[]);
    let line = server.process.line("a.sh] got ");
    let shown = server.get("/plugins/a").to_string() + &server.get("/config").to_string();
    for text in [&line, &shown] {
        assert!(!text.contains("h1dden") && text.contains("<redacted>"), "{text}");
    }
    assert!(line.contains(r#""port":5"#), "{line}");
}

#[test]
fn secrets_are_given_to_plugins_unless_the_operator_masks_them() {
    let place = Place::new();
    place.plugin("a.sh", "echo \"got $LMCACHE_RUNTIME_PLUGIN_EXTRA_CONFIG\"\nread -r _\n");
    let server = Server::start_with(&place, &["--runtime-plugin-config", r#"{"token": "t0k"}"#], &[]);
    server.process.line(r#"a.sh] got {"token": "t0k"}"#);
}

#[test]
fn events_come_complete_from_a_plugin_s_first_moment_and_over_a_restart() {
    let place = Place::new();
    let report = "echo up\nwhile read -r event; do echo \"heard $event\"; done\n";
    place.plugin("ears.sh", report).plugin("ears.sh.plugin.toml", "events = [\"clear\"]\n");
    place.plugin("once.sh", "read -r event\necho \"once $event\"\nexit 1\n");
    let manifest = "events = [\"clear\"]\nrestart = \"on-failure\"\nrestart_delay_ms = 60000\n";
    place.plugin("once.sh.plugin.toml", manifest);
    place.plugin("typo.sh", WAITER).plugin("typo.sh.plugin.toml", "\nevents = [\"claer\"]\n");
    let server = Server::start(&place);
    server.process.line("ears.sh] up");
    server.until("once", "ready");
    assert_eq!(server.post("/cache/clear").0, 200);
    server.until("once", "backoff");
    for _ in 0..2 {
        assert_eq!(server.post("/cache/clear").0, 200);
    }
    for (index, line) in server.process.lines("ears.sh] heard ", 3).iter().enumerate() {
        assert!(line.contains(&format!("\"seq\":{},", index + 1)), "{line}");
    }
    assert_eq!(server.post("/plugins/once/start").0, 200);
    let heard = server.process.lines("once.sh] once ", 2);
    assert!(heard[0].contains("\"seq\":1,") && heard[1].contains("\"seq\":2,"), "{heard:?}");
    server.until("typo", "failed");
    let typo = server.get("/plugins/typo");
    assert_eq!(typo["manifest"]["mistake"]["line"], 2);
    assert!(typo["last_error"].as_str().unwrap().contains("asks for `claer`"), "{typo}");
}

#[test]
fn a_changed_setting_is_in_what_starts_and_in_the_file_of_what_runs() {
    let place = Place::new();
    let report = "grep -o '\"trigger_watermark\": [0-9.]*' | head -1 | grep -o '[0-9.]*$'";
    let show = format!(
        "echo \"$1 $(printf %s \"$LMCACHE_RUNTIME_PLUGIN_CONFIG\" | {report}) $(cat $LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE | {report})\""
    );
    place.plugin(
        "a.sh",
        &format!("show() {{ {show}; }}\nshow start\nwhile read -r event; do show event; done\n"),
    );
    place.plugin("a.sh.plugin.toml", "events = [\"config\"]\n");
    place.plugin("anew.sh", &format!("show() {{ {show}; }}\nshow start\nread -r _\n"));
    place.plugin("anew.sh.plugin.toml", "restart_on_config = true\n");
    let server = Server::start(&place);
    server.process.line("a.sh] start 0.8 0.8");
    server.process.line("anew.sh] start 0.8 0.8");
    let change = json!({ "settings": { "eviction_trigger_watermark": 0.55 } }).to_string();
    let (status, answer) = server.send("PATCH", "/config/live", &change);
    assert_eq!(status, 200, "{answer}");
    server.process.line("a.sh] event 0.8 0.55");
    server.process.line("anew.sh] start 0.55 0.55");
    assert_eq!(server.post("/plugins/a/restart").0, 200);
    server.process.line("/a.sh] start 0.55 0.55");
}

/// Says what its control channel tells of the plugins' own configuration.
const LISTENER: &str = "import json, os, socket\n\
    channel = socket.socket(fileno=int(os.environ['LMCACHE_RUNTIME_PLUGIN_CONTROL_FD']))\n\
    def send(**request): channel.sendall(json.dumps({'jsonrpc': '2.0', 'id': 1, **request}).encode() + b'\\n')\n\
    send(method='hello', params={'versions': [1]})\n\
    for line in channel.makefile():\n\
    \x20   message = json.loads(line)\n\
    \x20   if message.get('method') == 'config':\n\
    \x20       print('told', message['params']['config']['runtime_plugin_extra_config'], flush=True)\n\
    \x20       send(method='config')\n\
    \x20   elif 'runtime_plugin_extra_config' in message.get('result', {}):\n\
    \x20       print('has', message['result']['runtime_plugin_extra_config'], flush=True)\n\
    \x20   else: print('greeted', flush=True)\n";

#[test]
fn the_configuration_file_is_read_again_on_sighup_and_plugins_are_told() {
    let place = Place::new();
    place.plugin("a.py", LISTENER).plugin("a.py.plugin.toml", "control = true\n");
    let file = place.path("larder.toml");
    fs::write(&file, "[runtime_plugin_config]\nstep = 1\n").unwrap();
    let flags = ["--config", file.to_str().unwrap(), "--runtime-plugin-redact-secrets"];
    let server = Server::start_with(&place, &flags, &[]);
    server.process.line("a.py] greeted");
    fs::write(&file, "l1_read_ttl_seconds = 5\nl1_align_bytes = 8192\n[runtime_plugin_config]\nstep = 2\ntoken = \"t0k3n\"\n").unwrap();
    server.process.signal("HUP");
    server.process.line("a.py] told {'step': 2, 'token': '<redacted>'}");
    server.process.line("a.py] has {'step': 2, 'token': '<redacted>'}");
    server
        .process
        .line("`l1_align_bytes` of the configuration file take effect when the server starts again");
    let live = server.get("/config/live");
    assert_eq!(live["settings"]["l1_read_ttl_seconds"]["value"], 5);
    assert_eq!(live["history"][1]["caller"], "SIGHUP");
    assert!(!(live.to_string() + &server.process.log()).contains("t0k3n"));
    fs::write(&file, "l1_read_ttl_seconds = \"x\"\n").unwrap();
    server.process.signal("HUP");
    server.process.line("SIGHUP: the configuration stays as it is");
}

#[test]
fn hints_of_a_plugin_hold_while_it_lives() {
    let place = Place::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/runtime_plugins/steer_cache.py");
    for suffix in ["", ".plugin.toml"] {
        let name = format!("steer_cache.py{suffix}");
        place.plugin(&name, &fs::read_to_string(format!("{example}{suffix}")).unwrap());
    }
    place.plugin("typo.sh", WAITER).plugin("typo.sh.plugin.toml", "control = true\nhooks = [\"evicton\"]\n");
    place.plugin("mute.sh", WAITER).plugin("mute.sh.plugin.toml", "hooks = [\"eviction\"]\n");
    let chunks = [format!("{:064x}", 1), format!("{:064x}", 2)];
    let settings =
        json!({ "plugin.steer_cache.keep_chunks": chunks, "plugin.steer_cache.bulk_salts": ["bulk"] });
    let server = Server::start_with(&place, &["--runtime-plugin-config", &settings.to_string()], &[]);
    server.process.line("hooks: ['admission', 'eviction']");
    let held = || {
        let text = server.request("GET", "/metrics", &[]).1;
        ["protect", "evict_first", "scopes"].map(|what| {
            let line = format!("larder_hints{{what=\"{what}\"}} ");
            text.lines().find_map(|l| l.strip_prefix(&line)).unwrap().parse::<u64>().unwrap()
        })
    };
    eventually("the hints hold", || held() == [2, 0, 2]);
    assert_eq!(server.post("/plugins/steer_cache/stop").0, 200);
    eventually("they are gone with it", || held() == [0, 0, 0]);
    server.until("typo", "failed");
    for (name, mistake) in [("typo", "asks for `evicton`"), ("mute", "has no channel for hints")] {
        server.until(name, "failed");
        let error = server.get(&format!("/plugins/{name}"))["last_error"].as_str().unwrap().to_owned();
        assert!(error.contains(mistake), "{error}");
    }
}

#[test]
fn no_plugin_makes_the_scrape_unreadable() {
    let place = Place::new();
    let hostile = "printf 'up 1\\nx -nan\\ny ++5\\nz{a=\"1\",a=\"2\"} 1\\nq{plugin=\"a\",exported_plugin=\"b\"} 1\\nprocess_cpu_seconds_total 1\\n\
        # TYPE h histogram\\nh 1\\nh_bucket{le=\"+1\"} 1\\nlmcache:x 1\\n' > \"$LMCACHE_RUNTIME_PLUGIN_METRICS_DIR/x.tmp\"\n\
        mv \"$LMCACHE_RUNTIME_PLUGIN_METRICS_DIR/x.tmp\" \"$LMCACHE_RUNTIME_PLUGIN_METRICS_DIR/x.prom\"\n";
    place
        .plugin("hostile.sh", &format!("{hostile}{WAITER}"))
        .plugin("hostile.sh.plugin.toml", "metrics = true\n");
    let endpoint = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", endpoint.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in endpoint.incoming().flatten() {
            let mut request = [0; 1024];
            _ = stream.read(&mut request);
            _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n# TYPE served gauge\nserved inf\n");
        }
    });
    place.plugin("serves.sh", WAITER).plugin("serves.sh.plugin.toml", &format!("metrics_url = \"{url}\"\n"));
    let server = Server::start(&place);
    server.process.line("hostile.sh] up");
    let mut text = String::new();
    eventually("the endpoint was asked", || {
        text = server.request("GET", "/metrics", &[]).1;
        text.contains("\nserved{plugin=\"serves\"} +Inf\n")
    });
    let families = larder_testkit::exposition::parse(&text).unwrap();
    let of = |name: &str| {
        families.iter().filter(|family| family.name == name).flat_map(|family| &family.samples).count()
    };
    assert_eq!(
        (of("x"), of("h"), of("y"), of("z"), of("q"), of("up"), of("lmcache:x")),
        (1, 1, 0, 0, 0, 0, 0),
        "{text}"
    );
}

#[test]
fn every_plugin_can_be_addressed() {
    let place = Place::new();
    place.plugin("same.py", "input()\n").plugin("same.sh", WAITER).plugin("audit.sh", WAITER);
    place.plugin("odd name?.sh", WAITER);
    let server = Server::start(&place);
    server.until("same.sh", "ready");
    let all = server.get("/plugins");
    let mut names = Vec::new();
    for plugin in all["plugins"].as_array().unwrap() {
        names.push(plugin["name"].as_str().unwrap());
        let shown = server.get(plugin["url"].as_str().unwrap());
        assert_eq!(shown["path"], plugin["path"]);
    }
    assert_eq!(names, ["same", "audit", "odd name?", "same.sh"]);
    let path = with(&place.plugins, "same.sh").replace('/', "%2F");
    assert_eq!(server.get(&format!("/plugins/{path}"))["name"], "same.sh");
    assert_eq!(server.get("/plugins/audit")["total"], 0);
    assert_eq!(server.request("GET", "/plugins/none", &[]).0, 404);
    assert_eq!(server.get("/plugins/same/schema"), Value::Null);
}

#[test]
fn schemas_of_manifests_and_of_own_keys_are_served() {
    let place = Place::new();
    place
        .plugin("a.sh", WAITER)
        .plugin("a.sh.plugin.toml", "[config]\nurl = { type = \"string\", required = true }\n");
    let server = Server::start(&place);
    server.until("a", "failed");
    assert!(server.get("/plugins/schema")["properties"]["restart"].is_object());
    let own = server.get("/plugins/a/schema").to_string();
    assert!(own.contains("plugin.a.url") && own.contains("required"), "{own}");
    let plugin = server.get("/plugins/a");
    assert_eq!(
        (&plugin["cause"], &plugin["manifest"]["config"]["url"]["type"]),
        (&json!("config"), &json!("string"))
    );
    assert!(plugin["last_error"].as_str().unwrap().contains("`plugin.a.url` is missing"), "{plugin}");
}

#[test]
fn commands_take_effect_before_they_answer_and_are_recorded() {
    let place = Place::new();
    place.plugin("a.sh", WAITER);
    let server = Server::start(&place);
    server.process.line("a.sh] up");
    for (action, state, starts) in [
        ("stop", "stopped", 1),
        ("start", "ready", 2),
        ("restart", "ready", 3),
        ("disable", "disabled", 3),
        ("start", "disabled", 3),
        ("enable", "ready", 4),
    ] {
        let (status, plugin) = server.post(&format!("/plugins/a/{action}"));
        assert_eq!(
            (status, &plugin["state"], &plugin["starts"]),
            (200, &json!(state), &json!(starts)),
            "{action}"
        );
        assert_eq!(plugin["pid"].is_null(), state != "ready", "{action}");
    }
    assert_eq!(server.post("/plugins/none/stop").0, 404);
    assert_eq!(server.post("/plugins/a/explode").0, 404);
    assert_eq!(server.request("GET", "/plugins/a/stop", &[]).0, 405);

    let trail = server.get("/plugins/audit");
    assert_eq!(trail["total"], 7);
    let entries = trail["entries"].as_array().unwrap();
    let short: Vec<String> = entries
        .iter()
        .map(|entry| format!("{} {} {}", entry["action"], entry["plugin"], entry["outcome"]).replace('"', ""))
        .collect();
    assert_eq!(short[..2], ["stop a stopped", "start a ready"]);
    assert_eq!(short[6], "stop none no plugin named `none`");
    assert_eq!(entries[6]["done"], false);
    assert!(entries[0]["caller"].as_str().unwrap().contains("127.0.0.1:"));
    server.process.line("plugin stop of `a` for uid ");
}

#[test]
fn web_pages_may_not_change_anything() {
    let place = Place::new();
    place.plugin("a.sh", WAITER);
    let server = Server::start(&place);
    server.process.line("a.sh] up");
    for path in ["/plugins/a/stop", "/plugins/a/restart", "/plugins/reload"] {
        let (status, body) = server.request("POST", path, &["Origin: http://127.0.0.1:8080"]);
        assert_eq!(status, 403, "{path}: {body}");
    }
    assert_eq!(server.get("/plugins/audit")["total"], 0);
    assert_eq!(server.get("/plugins/a")["starts"], 1);
    let (_, body) = server.request("GET", "/plugins/a", &["Origin: http://x"]);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["environment"], Value::Null);
}

#[test]
fn other_machines_may_only_look() {
    // The address this machine would use to reach others; nothing is sent.
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    let Some(address) = probe.connect("192.0.2.1:9").ok().and_then(|()| probe.local_addr().ok()) else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let place = Place::new();
    place.plugin("a.sh", WAITER);
    let server = Server::start_with(&place, &["--http-host", "0.0.0.0"], &[]);
    server.process.line("a.sh] up");
    let outside = format!("{}:{}", address.ip(), server.port());
    let (status, body) = server.request_at(&outside, "POST", "/plugins/a/stop", &[]);
    assert_eq!(status, 403, "{body}");
    let (status, body) = server.request_at(&outside, "GET", "/plugins/a", &[]);
    let plugin: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &plugin["state"], &plugin["environment"]), (200, &json!("ready"), &Value::Null));
}

#[test]
fn a_command_goes_on_when_its_caller_leaves() {
    let place = Place::new();
    let release = place.path("release");
    let script = format!(
        "trap 'echo stopping; while [ ! -e {} ]; do sleep 0.02; done; exit 0' TERM\necho up\n\
         while :; do sleep 0.02; done\n",
        release.display()
    );
    place.plugin("slow.sh", &script).plugin("slow.sh.plugin.toml", "stop_timeout_s = 120\n");
    let server = Server::start(&place);
    server.process.line("slow.sh] up");
    let caller = server.stream("POST", "/plugins/slow/stop", &[]);
    server.process.line("slow.sh] stopping");
    let stopping = server.get("/plugins/slow");
    assert_eq!(stopping["state"], "stopping");
    assert!(stopping["due_in_ms"].as_u64().unwrap() <= 120_000, "{stopping}");
    drop(caller);
    fs::write(release, "").unwrap();
    assert!(server.process.line("plugin stop of `slow`").contains(": stopped"));
    assert_eq!(server.get("/plugins/audit")["entries"][0]["outcome"], "stopped");
}

/// A plugin that prints what comes through a pipe, and the pipe's writing end.
fn parrot(place: &Place) -> fs::File {
    let pipe = place.fifo("pipe");
    let script =
        format!("exec 3<>{}\necho up\nwhile read -r -u 3 line; do echo \"$line\"; done\n", pipe.display());
    place.plugin("parrot.sh", &script);
    fs::OpenOptions::new().read(true).write(true).open(pipe).unwrap()
}

#[test]
fn a_log_is_followed_as_events() {
    let place = Place::new();
    let mut pipe = parrot(&place);
    let server = Server::start(&place);
    server.process.line("parrot.sh] up");
    let mut events = server.stream("GET", "/plugins/parrot/logs?follow=1&lines=1", &[]);
    assert!(next_line(&mut events, "content-type").contains("text/event-stream"));
    assert_eq!(next_line(&mut events, "id:"), "id: 2");
    assert_eq!(next_line(&mut events, "event:"), "event: line");
    assert!(next_line(&mut events, "data:").contains("\"text\":\"up\""));
    writeln!(pipe, "one").unwrap();
    assert_eq!(next_line(&mut events, "id:"), "id: 3");
    assert!(next_line(&mut events, "data:").contains("\"text\":\"one\""));
    drop(events);
    writeln!(pipe, "two\nthree").unwrap();
    server.process.line("parrot.sh] three");

    let mut resumed = server.stream("GET", "/plugins/parrot/logs?follow=1", &["Last-Event-ID: 3"]);
    assert_eq!(next_line(&mut resumed, "id:"), "id: 4");
    assert!(next_line(&mut resumed, "data:").contains("\"text\":\"two\""));
}

#[test]
fn a_log_is_read_as_json_and_as_text() {
    let place = Place::new();
    let mut pipe = parrot(&place);
    place.plugin("err.sh", "echo out; echo bad >&2; read -r _\n");
    let server = Server::start(&place);
    server.process.line("err.sh] bad");
    server.process.line("err.sh] out");
    let log = server.get("/plugins/err/logs");
    assert_eq!((&log["counts"]["stdout"], &log["counts"]["stderr"]), (&json!(1), &json!(1)));
    let bad = log["lines"].as_array().unwrap().iter().find(|line| line["stream"] == "stderr").unwrap();
    assert_eq!((&bad["text"], &bad["severity"]), (&json!("bad"), &json!("warn")));

    writeln!(pipe, "a\nb").unwrap();
    server.process.line("parrot.sh] b");
    assert_eq!(server.request("GET", "/plugins/parrot/logs?format=text&lines=2", &[]).1, "a\nb\n");
    assert_eq!(server.get("/plugins/parrot/logs?lines=0")["lines"], json!([]));
    for query in ["lines=x", "lines=-1", "format=xml", "follow=yes"] {
        let (status, _) = server.request("GET", &format!("/plugins/parrot/logs?{query}"), &[]);
        assert_eq!(status, 422, "{query}");
    }
    let mut text = server.stream("GET", "/plugins/parrot/logs?follow=1&format=text&lines=0", &[]);
    assert!(next_line(&mut text, "content-type").contains("text/plain"));
    next_line(&mut text, "\r\n");
    writeln!(pipe, "later").unwrap();
    assert_eq!(next_line(&mut text, "later"), "later");
}

#[test]
fn following_ends_when_the_plugin_is_removed() {
    let place = Place::new();
    place.plugin("a.sh", WAITER);
    let server = Server::start(&place);
    server.process.line("a.sh] up");
    let mut events: BufReader<_> = server.stream("GET", "/plugins/a/logs?follow=1", &[]);
    next_line(&mut events, "data:");
    fs::remove_file(place.plugins.join("a.sh")).unwrap();
    eventually("the plugin is gone", || server.get("/plugins")["plugins"] == json!([]));
    assert_eq!(server.request("GET", "/plugins/a/logs", &[]).0, 404);
    let mut rest = String::new();
    events.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest:?}");
}

#[test]
fn the_locations_are_followed() {
    let place = Place::new();
    place.plugin("a.sh", WAITER);
    let mut server = Server::start(&place);
    server.process.line("a.sh] up");
    place.plugin("b.sh", WAITER);
    server.process.line("b.sh] up");
    fs::remove_file(place.plugins.join("a.sh")).unwrap();
    eventually("only b is left", || {
        let all = server.get("/plugins");
        all["plugins"].as_array().unwrap().len() == 1 && all["plugins"][0]["name"] == "b"
    });
    let (status, report) = server.post("/plugins/reload");
    assert_eq!((status, report), (200, json!({"added": [], "changed": [], "removed": []})));
    server.process.signal("HUP");
    server.process.line("plugin reload for SIGHUP: 0 added, 0 changed, 0 removed");
    let trail = server.get("/plugins/audit")["entries"].clone();
    assert_eq!(trail.as_array().unwrap().last().unwrap()["caller"], "SIGHUP");
    server.process.signal("TERM");
    assert!(server.process.wait().success());
    server.process.wait_for_silence();
}

#[test]
fn metrics_count_what_plugins_do() {
    let place = Place::new();
    let pushing = "echo \"queue_depth 7\" > \"$LMCACHE_RUNTIME_PLUGIN_METRICS_DIR/x.tmp\"\n\
                   echo \"larder_plugin_up 5\" >> \"$LMCACHE_RUNTIME_PLUGIN_METRICS_DIR/x.tmp\"\n\
                   mv \"$LMCACHE_RUNTIME_PLUGIN_METRICS_DIR/x.tmp\" \"$LMCACHE_RUNTIME_PLUGIN_METRICS_DIR/x.prom\"\n";
    place.plugin("push.sh", &format!("{pushing}{WAITER}")).plugin("push.sh.plugin.toml", "metrics = true\n");
    place.plugin("once.sh", "echo x; exit 3\n");
    place.plugin("flood.sh", "for i in {1..300}; do echo $i; done; echo end >&2\nread -r _\n");
    place.plugin("flood.sh.plugin.toml", "lines_per_second = 1\nlines_burst = 10\n");
    place.plugin("_x.py", "");
    let server = Server::start(&place);
    server.process.line("push.sh] up");
    server.until("once", "failed");
    let count = |text: &str, name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
    };
    let mut text = String::new();
    eventually("the flood has been counted", || {
        text = server.request("GET", "/metrics", &[]).1;
        count(&text, "larder_plugin_lines_total{plugin=\"flood\",stream=\"stdout\"}") == 300.0
    });
    for (name, value) in [
        ("larder_plugin_up{plugin=\"push\"}", 1.0),
        ("larder_plugin_up{plugin=\"once\"}", 0.0),
        ("larder_plugin_state{plugin=\"once\",state=\"failed\"}", 1.0),
        ("larder_plugin_starts_total{plugin=\"once\"}", 1.0),
        ("larder_plugin_last_exit_code{plugin=\"once\"}", 3.0),
        ("larder_plugin_lines_total{plugin=\"once\",stream=\"stdout\"}", 1.0),
        ("larder_plugin_processes{plugin=\"push\"}", 1.0),
        ("larder_plugin_metric_lines_dropped{plugin=\"push\"}", 1.0),
        ("queue_depth{plugin=\"push\"}", 7.0),
        ("larder_plugins_skipped", 1.0),
        ("larder_plugin_commands_total", 0.0),
    ] {
        assert_eq!(count(&text, name), value, "{name}");
    }
    assert!(count(&text, "larder_plugin_suppressed_lines_total{plugin=\"flood\"}") >= 280.0);
    assert!(count(&text, "larder_plugin_resident_bytes{plugin=\"push\"}") > 0.0);
}

#[test]
fn a_hangup_ends_no_server() {
    let place = Place::new();
    place.plugin("x.sh", WAITER);
    let mut server = Server::start(&place);
    server.process.line("x.sh] up");
    place.plugin("y.sh", WAITER);
    server.process.signal("HUP");
    server.process.line("y.sh] up");
    let mut bare = larder(["server", "--l1-size-gb", "0.01", "--eviction-policy", "LRU", "--shm-name", ""]);
    bare.args(["--port", "0", "--http-port", "0"]);
    let mut bare = Running::start(bare);
    bare.line("(HTTP on http://");
    bare.signal("HUP");
    bare.line("SIGHUP: there are no plugins to reload");
    for process in [&mut server.process, &mut bare] {
        process.signal("TERM");
        assert!(process.wait().success());
    }
}

#[test]
fn plugins_that_are_slow_to_end_are_waited_for_and_no_longer_than_the_budget() {
    let place = Place::new();
    let slow = "trap 'sleep 2; echo flushed; exit 0' TERM\necho up\nwhile :; do sleep 0.05; done\n";
    place.plugin("slow.sh", slow).plugin("slow.sh.plugin.toml", "stop_timeout_s = 20\n");
    let mut server = Server::start(&place);
    server.process.line("slow.sh] up");
    server.process.signal("TERM");
    server.process.line("flushed");
    assert!(server.process.wait().success());
    let mut server = Server::start_with(&place, &["--runtime-plugin-stop-budget", "0.5"], &[]);
    server.process.line("its manifest gives it 20s to end, but the server's end waits 500ms at most");
    server.process.line("slow.sh] up");
    server.process.signal("TERM");
    server.process.line("did not stop in time, killing it");
    assert!(server.process.wait().success());
    assert!(!server.process.log().contains("flushed"));
}

#[test]
fn a_server_without_plugins_says_so() {
    let place = Place::new();
    let server = Server::start(&place);
    assert_eq!(server.get("/plugins"), json!({"plugins": [], "skipped": []}));
    assert_eq!(server.post("/plugins/a/stop").0, 404);
    assert_eq!(server.request("GET", "/plugins/a/logs", &[]).0, 404);
    let (_, metrics) = server.request("GET", "/metrics", &[]);
    assert!(!metrics.contains("larder_plugin"));
}

#[test]
fn a_pipe_among_the_plugins_stops_neither_http_nor_a_signal() {
    let place = Place::new();
    place.plugin("x.sh", WAITER);
    fs::rename(place.fifo("pipe"), place.plugins.join(".pluginignore")).unwrap();
    let mut server = Server::start(&place);
    server.process.line("x.sh] up");
    fs::rename(place.fifo("pipe"), place.plugins.join("x.sh.plugin.toml")).unwrap();
    server.until("x", "failed");
    let plugin = server.get("/plugins/x");
    let mistake = &plugin["manifest"]["mistake"]["message"];
    assert!(mistake.as_str().unwrap().contains("not a regular file"), "{plugin}");
    assert_eq!(server.request("GET", "/plugins/x/schema", &[]).0, 500);
    server.process.signal("TERM");
    assert!(server.process.wait().success());
}

#[test]
fn a_folder_full_of_data_is_not_listed_in_full() {
    let place = Place::new();
    place.plugin("x.sh", WAITER);
    for index in 0..500 {
        place.plugin(&format!("data-{index}"), "");
    }
    let server = Server::start(&place);
    server.process.line("x.sh] up");
    let all = server.get("/plugins");
    let skipped = all["skipped"].as_array().unwrap();
    let more = skipped.last().unwrap();
    assert_eq!((&more["reason"], &more["text"]), (&json!("more"), &json!("and 400 more that are not run")));
    assert_eq!(skipped.len(), 101);
}
