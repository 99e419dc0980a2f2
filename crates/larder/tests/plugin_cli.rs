//! `larder plugin` from outside: against a real server, and the author's tools without one.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod plugin_rig;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Output, Stdio};

use plugin_rig::{Place, Running, Server, WAITER, eventually, larder, masked, text, with};

/// Standard output of a command that has to succeed.
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn complained(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stderr)
}

#[test]
fn a_server_s_plugins_are_listed() {
    let place = Place::new();
    place.plugin("beat.sh", WAITER).plugin("long_name.sh", "exit 3\n").plugin("_x.py", "");
    let server = Server::start(&place);
    server.process.line("beat.sh] up");
    server.until("long_name", "failed");
    let dir = format!("{}/", place.plugins.display());
    let list = said(&server.plugin(&["ls"])).replace(&dir, "");
    let lines: Vec<String> =
        list.lines().map(|line| masked(&line.split_whitespace().collect::<Vec<_>>().join(" "))).collect();
    assert_eq!(
        lines,
        [
            "NAME STATE SINCE PID STARTS LAST EXIT LINES SUPPRESSED PATH",
            "beat ready # s # # - # # beat.sh",
            "long_name failed (exit) # s - # # # # long_name.sh",
            "",
            "not run:",
            "_x.py name begins with an underscore",
        ]
    );
    let json: serde_json::Value = serde_json::from_str(&said(&server.plugin(&["ls", "--json"]))).unwrap();
    assert_eq!(json["plugins"][0]["name"], "beat");
    let shown = said(&server.plugin(&["show", "beat"]));
    assert!(shown.contains("\nstate: ready\n") && shown.contains("\n  restart = never\n"), "{shown}");
}

#[test]
fn commands_print_the_state_they_led_to() {
    let place = Place::new();
    place.plugin("a.sh", WAITER).plugin("audit.sh", WAITER);
    let server = Server::start(&place);
    server.process.line("audit.sh] up");
    for (action, state) in
        [("stop", "stopped"), ("start", "ready"), ("restart", "ready"), ("disable", "disabled")]
    {
        // A plugin named like a route of its own is reached all the same.
        assert_eq!(said(&server.plugin(&[action, "audit"])), format!("audit: {state}\n"));
    }
    assert_eq!(said(&server.plugin(&["enable", &with(&place.plugins, "audit.sh")])), "audit: ready\n");
    assert_eq!(said(&server.plugin(&["reload"])), "nothing changed\n");
    let trail = said(&server.plugin(&["audit"]));
    assert_eq!(trail.lines().count(), 7, "{trail}");

    place.plugin("a.sh", "#!/no/such/program\n").plugin("a.sh.plugin.toml", "restart = 7\n");
    let output = server.plugin(&["restart", "a"]);
    assert_eq!(text(&output.stdout), "a: failed (launch)\n");
    assert!(complained(&output, 1).contains("a.sh.plugin.toml: line 1: "));
}

#[test]
fn mistakes_name_a_way_out() {
    let place = Place::new();
    place.plugin("a.sh", WAITER);
    let server = Server::start(&place);
    server.process.line("a.sh] up");
    let error = complained(&server.plugin(&["stop", "b"]), 1);
    assert_eq!(error, "error: no plugin named `b`\nhint: there are `a`\n");
    assert!(complained(&server.plugin(&["--nonsense"]), 2).contains("--nonsense"));
    assert!(
        complained(&server.plugin(&["ls", "--url", "localhost"]), 1).contains("hint: write it as `http://")
    );
    let url = server.url.clone();
    drop(server);
    let error = complained(&larder(["plugin", "ls", "--url", &url]).output().unwrap(), 1);
    assert!(
        error.starts_with(&format!("error: no server at `{url}`: ")) && error.contains("\nhint: "),
        "{error}"
    );
}

#[test]
fn logs_are_printed_and_followed() {
    let place = Place::new();
    let pipe = place.fifo("pipe");
    let script = format!(
        "exec 3<>{}\necho up\necho oops >&2\nwhile read -r -u 3 line; do echo \"$line\"; done\n",
        pipe.display()
    );
    place.plugin("parrot.sh", &script);
    let server = Server::start(&place);
    server.process.line("parrot.sh] up");
    server.process.line("parrot.sh] oops");
    let output = server.plugin(&["logs", "--raw", "parrot"]);
    assert_eq!((said(&output), text(&output.stderr)), ("up\n".into(), "oops\n".into()));

    let mut command = larder(["plugin", "logs", "-f", "--raw", "-n", "0", "parrot"]);
    let mut following =
        command.env("LARDER_URL", &server.url).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let writer = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    // Nothing says when the follower has arrived, so lines are sent until one comes through.
    let (sender, arrived) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        let first = lines.next().map(Result::unwrap);
        sender.send(()).unwrap();
        (first, lines.next().map(Result::unwrap))
    });
    eventually("a line comes through", || {
        std::io::Write::write_all(&mut &writer, b"word\n").unwrap();
        arrived.try_recv().is_ok()
    });
    std::io::Write::write_all(&mut &writer, b"word\n").unwrap();
    assert_eq!(reading.join().unwrap(), (Some("word".into()), Some("word".into())));
    drop(server);
    following.wait().unwrap();
}

#[test]
fn validate_explains_without_running() {
    let place = Place::new();
    let witness = place.path("ran");
    place.plugin("a.sh", &format!("touch {}\n", witness.display()));
    let dir = place.plugins.to_str().unwrap();
    let fine = larder(["plugin", "validate", dir]).output().unwrap();
    assert!(said(&fine).ends_with("1 to run, 0 with mistakes\n"));
    place.plugin("a.sh.plugin.toml", "restart = \"sometimes\"\n");
    let wrong = larder(["plugin", "validate", dir]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stdout).contains("mistake: "), "{}", text(&wrong.stdout));
    place.plugin("a.sh.plugin.toml", "user = \"nosuchuser\"\nread_paths = [\"/no/such/path\"]\n");
    let wrong = larder(["plugin", "validate", dir]).output().unwrap();
    let report = text(&wrong.stdout);
    assert!(report.contains("user `nosuchuser`: not in `/etc/passwd`"), "{report}");
    assert!(report.contains("`/no/such/path` in `read_paths`: No such file"), "{report}");
    assert!(!witness.exists());
}

#[test]
fn a_new_plugin_passes_its_own_drills() {
    let place = Place::new();
    let dir = place.plugins.to_str().unwrap();
    for (lang, extension) in [("bash", "sh"), ("python", "py")] {
        said(&larder(["plugin", "new", "--lang", lang, "--dir", dir, "fresh"]).output().unwrap());
        let file = with(&place.plugins, &format!("fresh.{extension}"));
        let report = said(&larder(["plugin", "test", &file, "--seconds", "1"]).output().unwrap());
        assert!(report.ends_with("10 drills, 0 failed\n"), "{report}");
        let words: Vec<&str> = report.lines().filter_map(|line| line.get(8..27)).map(str::trim).collect();
        assert_eq!(
            words[..9],
            [
                "manifest",
                "start",
                "output",
                "load",
                "stop",
                "empty configuration",
                "bad configuration",
                "fast stop",
                "hanging"
            ]
        );
    }
    let again = larder(["plugin", "new", "--lang", "bash", "--dir", dir, "fresh"]).output().unwrap();
    assert!(complained(&again, 1).ends_with("is there already\n"));
}

#[test]
fn the_drills_find_what_is_wrong() {
    let place = Place::new();
    let cruel = "trap '' TERM\n(trap '' TERM; exec sleep 1000) &\nwhile :; do echo x; done\n";
    place.plugin("cruel.sh", cruel).plugin("dies.sh", "exit 4\n");
    place.plugin("cruel.sh.plugin.toml", "stop_timeout_s = 1\n");
    let output =
        larder(["plugin", "test", &with(&place.plugins, "cruel.sh"), "--seconds", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report = masked(&text(&output.stdout));
    for line in [
        "FAILED  output               # lines in # s, # of them suppressed\n",
        "FAILED  stop                 had to be killed: ",
        "FAILED  fast stop            had to be killed: ",
        "ok      hanging              killed, nothing left\n",
        "ok      killed server        nothing left after # ms\n",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    let output =
        larder(["plugin", "test", &with(&place.plugins, "dies.sh"), "--seconds", "1"]).output().unwrap();
    let expected = "\
ok      manifest             none
FAILED  start                ended with code 4
note    output               printed nothing: nobody can see what it does
FAILED  empty configuration  gives up with code 4 without a word
FAILED  bad configuration    gives up with code 4 without a word
5 drills, 3 failed
";
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), expected.into()));
}

#[test]
fn a_plugin_in_the_foreground_gets_a_server_s_configuration() {
    let place = Place::new();
    let seen = place.path("seen");
    let script =
        format!("printf %s \"$LMCACHE_RUNTIME_PLUGIN_CONFIG\" > {}\necho done\nexit 6\n", seen.display());
    place.plugin("a.sh", &script);
    let file = with(&place.plugins, "a.sh");
    let extra = "{\"plugin.a.url\": \"http://h\"}";
    let output = larder(["plugin", "run", &file, "--extra-config", extra]).output().unwrap();
    let log = complained(&output, 6);
    assert!(log.contains(&format!("[{file}] done")), "{log}");
    let config: serde_json::Value = serde_json::from_str(&fs::read_to_string(seen).unwrap()).unwrap();
    assert_eq!(config["runtime_plugin_extra_config"]["plugin.a.url"], "http://h");
    assert_eq!(config["mp_config"]["runtime_plugin_locations"][0], file.as_str());
    assert!(config["storage_manager_config"].is_object() && config["obs_config"].is_object());

    let missing = larder(["plugin", "run", "/no/such/plugin.sh"]).output().unwrap();
    assert!(complained(&missing, 1).contains("`/no/such/plugin.sh` is not run: location does not exist"));
    let bad = larder(["plugin", "run", &file, "--extra-config", "{"]).output().unwrap();
    assert!(complained(&bad, 1).contains("runtime-plugin-config"));
}

#[test]
fn a_plugin_in_the_foreground_hears_scripted_events() {
    let place = Place::new();
    place.plugin("ears.sh", "read -r a; read -r b; echo \"$a then $b\"\n");
    place.plugin("ears.sh.plugin.toml", "events = [\"store\", \"evict\"]\n");
    let script = place.path("events");
    fs::write(
        &script,
        "{\"event\":\"store\",\"n\":1}\n{\"event\":\"lookup\"}\n{\"event\":\"evict\",\"n\":2}\n",
    )
    .unwrap();
    let file = with(&place.plugins, "ears.sh");
    let words = ["plugin", "run", &file, "--event-interval-ms", "1", "--events", script.to_str().unwrap()];
    let output = larder(words).output().unwrap();
    assert!(output.status.success());
    let log = text(&output.stderr);
    assert!(log.contains("{\"event\":\"store\",\"n\":1} then {\"event\":\"evict\",\"n\":2}"), "{log}");
}

#[test]
fn a_foreground_run_that_is_interrupted_or_killed_leaves_nothing() {
    for signal in ["INT", "TERM", "KILL"] {
        let place = Place::new();
        place.plugin("a.sh", "(trap '' TERM; exec sleep 1000) &\necho up\nread -r _\n");
        place.plugin("a.sh.plugin.toml", "stop_timeout_s = 0\n");
        let mut command = larder(["plugin", "run", &with(&place.plugins, "a.sh")]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut running = Running::start(command);
        running.line("a.sh] up");
        assert!(!running.plugins_alive().is_empty());
        running.signal(signal);
        let status = running.wait();
        assert_eq!(status.code(), (signal != "KILL").then_some(0), "{signal}");
        running.wait_for_silence();
    }
}

#[test]
fn a_scaffolded_plugin_hears_the_events_its_manifest_asks_for() {
    let place = Place::new();
    let dir = with(&place.plugins, "made/on/the/way");
    for (lang, extension) in [("bash", "sh"), ("python", "py")] {
        said(
            &larder(["plugin", "new", "--lang", lang, "--dir", &dir, "fresh", "--helper"]).output().unwrap(),
        );
        let file = format!("{dir}/fresh.{extension}");
        let manifest = format!("{file}.plugin.toml");
        let asked = fs::read_to_string(&manifest).unwrap().replace("# events", "events");
        fs::write(&manifest, asked).unwrap();
        let script = place.path("events");
        fs::write(&script, "{\"event\":\"store\",\"chunks\":17}\n").unwrap();
        let mut command = larder(["plugin", "run", &file, "--events", script.to_str().unwrap()]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut running = Running::start(command);
        let line = running.line("event: {");
        assert!(line.contains("\"chunks\":17") || line.contains("\"chunks\": 17"), "{line}");
        running.signal("TERM");
        running.wait();
    }
    assert!(fs::read_to_string(format!("{dir}/_plugin.py")).unwrap().contains("def settings"));
}

#[test]
fn the_author_s_tools_follow_the_server_s_rules_for_plugins() {
    let place = Place::new();
    place.plugin("a.xyz", "echo up\nread -r _\n").plugin("b.sh", WAITER);
    place.plugin("b.sh.plugin.toml", "events = [\"evcit\"]\n");
    let dir = place.plugins.to_str().unwrap();
    let table = r#"{"xyz": ["/bin/sh"]}"#;
    let words = [
        "plugin",
        "validate",
        dir,
        "--runtime-plugin-interpreters",
        table,
        "--runtime-plugin-defaults",
        r#"{"restart": "always"}"#,
    ];
    let output = larder(words).output().unwrap();
    let report = text(&output.stdout);
    assert!(
        report.contains("command: /bin/sh") && report.contains("no manifest: restarted whenever it ends"),
        "{report}"
    );
    assert!(report.contains("asks for `evcit`") && report.contains("hint: there are store, "), "{report}");
    let wrong = larder(["plugin", "validate", dir, "--runtime-plugin-defaults", r#"{"restrat": 1}"#])
        .output()
        .unwrap();
    assert!(complained(&wrong, 2).contains("restrat"));
    let folder = larder(["plugin", "run", dir]).output().unwrap();
    let expected = format!(
        "error: `{dir}` is a folder\nhint: name one of the files that `larder plugin validate {dir}` lists\n"
    );
    assert_eq!(complained(&folder, 1), expected);
}

#[test]
fn every_drill_runs_with_the_options_it_was_called_with() {
    let place = Place::new();
    place.plugin("worker_3_keyed.sh", WAITER);
    place.plugin("worker_3_keyed.sh.plugin.toml", "[config]\nurl = { type = \"string\", required = true }\n");
    let file = with(&place.plugins, "worker_3_keyed.sh");
    let extra = r#"{"plugin.worker_3_keyed.url": "http://h"}"#;
    let words = [
        "plugin",
        "test",
        &file,
        "--seconds",
        "1",
        "--role",
        "worker",
        "--worker-id",
        "3",
        "--extra-config",
        extra,
    ];
    let report = masked(&said(&larder(words).output().unwrap()));
    assert!(report.contains("ok      killed server        nothing left after # ms\n"), "{report}");
}

#[test]
fn the_guide_s_first_commands_work_as_they_stand() {
    let guide =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/plugins.md")).unwrap();
    let section = guide.split("\n## ").find(|section| section.starts_with("Five minutes")).unwrap();
    let commands = section.lines().filter_map(|line| line.strip_prefix("larder "));
    let commands: Vec<Vec<&str>> =
        commands.map(|line| line.split(" #").next().unwrap().split_whitespace().collect()).collect();
    let empty = tempfile::tempdir().unwrap();
    let mut server: Option<(Running, String)> = None;
    let mut seen = Vec::new();
    for words in &commands {
        let mut command = larder(words);
        command.current_dir(&empty);
        match words[..] {
            ["server", ..] => {
                // As it stands, but small and beside others.
                command.args(["--l1-size-gb", "0.01", "--shm-name", "", "--port", "0", "--http-port", "0"]);
                let running = Running::start({
                    command.stdin(Stdio::null()).stdout(Stdio::null());
                    command
                });
                let line = running.line("(HTTP on http://");
                let url = line.split_once("(HTTP on ").unwrap().1.split(')').next().unwrap().to_owned();
                running.line("Launched runtime plugin: plugins/heartbeat.sh with ");
                running.line("[plugins/heartbeat.sh] ");
                server = Some((running, url));
            }
            ["plugin", "logs", "-f", ..] => {
                let url = &server.as_ref().unwrap().1;
                let mut following = command.env("LARDER_URL", url).stdout(Stdio::piped()).spawn().unwrap();
                let first = BufReader::new(following.stdout.take().unwrap()).lines().next();
                following.kill().unwrap();
                following.wait().unwrap();
                assert!(first.unwrap().unwrap().contains(" -- started with "));
            }
            _ => {
                let url = server.as_ref().map_or("", |(_, url)| url);
                said(&command.env("LARDER_URL", url).output().unwrap());
            }
        }
        seen.push(words.iter().take(2).copied().collect::<Vec<_>>().join(" "));
    }
    assert_eq!(seen, ["plugin new", "plugin test", "server --l1-size-gb", "plugin ls", "plugin logs"]);
}

#[test]
fn what_became_of_a_plugin_is_told_with_times_and_reasons() {
    let place = Place::new();
    place.plugin("dies.sh", "echo going; exit 7\n");
    place.plugin(
        "dies.sh.plugin.toml",
        "restart = \"on-failure\"\nrestart_delay_ms = 0\nstart_limit_burst = 2\n",
    );
    place.plugin("beat.sh", WAITER);
    let server = Server::start(&place);
    server.until("dies", "failed");
    server.until("beat", "ready");
    // A state is known before the last output is read, and what became of the run is told after that.
    eventually("its log is complete", || {
        let log = server.get("/plugins/dies/logs");
        log["lines"]
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line["text"].as_str().is_some_and(|text| text.starts_with("is not started again")))
    });
    let list = said(&server.plugin(&["ls"]));
    let beat = list.lines().find(|line| line.starts_with("beat ")).unwrap();
    assert_eq!(
        masked(&beat.split_whitespace().take(5).collect::<Vec<_>>().join(" ")),
        "beat ready # s #",
        "{list}"
    );
    let shown = said(&server.plugin(&["show", "dies"]));
    assert!(shown.contains("last_error: it was started too often\n"), "{shown}");
    assert!(shown.contains("hint: `larder plugin start dies` after the fix, or save its file\n"), "{shown}");
    let runs: Vec<String> =
        shown.lines().skip_while(|line| !line.starts_with("RUN ")).take(3).map(masked).collect();
    // Columns are as wide as what is in them, which depends on how long the runs took.
    let words: Vec<&str> = runs[1].split_whitespace().collect();
    assert_eq!(words, ["#", "#-#-#T#:#:#.#Z", "#-#-#T#:#:#.#Z", "#", "s", "#", "failed"], "{runs:?}");
    assert!(!shown.contains("environment:") && !shown.contains("PYTHONUNBUFFERED"), "{shown}");
    assert!(said(&server.plugin(&["show", "beat", "--env"])).contains("  PYTHONUNBUFFERED = 1\n"));
    let log = masked(&said(&server.plugin(&["logs", "dies", "--since", "1h"])));
    let lines: Vec<&str> = log.lines().map(|line| line.split_once("Z ").unwrap().1).collect();
    let texts: Vec<&str> = lines.iter().map(|line| line.split(" with /").next().unwrap()).collect();
    for expected in
        ["going", "-- started", "-- exited with code #", "-- is not started again: it was started too often"]
    {
        assert!(texts.contains(&expected), "{expected} in {lines:?}");
    }
    assert_eq!(said(&server.plugin(&["logs", "--raw", "dies"])), "going\ngoing\n");
    assert_eq!(said(&server.plugin(&["logs", "dies", "--since", "2999-01-01T00:00:00Z"])), "");
    assert_eq!(said(&server.plugin(&["restart", "beat"])), "beat: ready\n");
    let runs = server.get("/plugins/beat")["runs"].clone();
    assert_eq!((&runs[0]["why"], &runs[0]["number"]), (&"restarted".into(), &1.into()));
    // A start that cannot succeed, whatever the plugin would do once it runs.
    place.plugin("dies.sh.plugin.toml", "restart = \"sometimes\"\n");
    let restarted = complained(&server.plugin(&["start", "dies"]), 1);
    assert!(restarted.contains("hint: `larder plugin start dies` after the fix"), "{restarted}");
}

#[test]
fn the_audit_names_users_and_changes_of_files() {
    let place = Place::new();
    place.plugin("a.sh", WAITER);
    let server = Server::start(&place);
    server.process.line("a.sh] up");
    assert_eq!(server.post("/plugins/a/restart").0, 200);
    let user = text(&std::process::Command::new("id").arg("-u").output().unwrap().stdout);
    let caller = server.get("/plugins/audit")["entries"][0]["caller"].as_str().unwrap().to_owned();
    assert!(caller.starts_with(&format!("uid {} at 127.0.0.1:", user.trim())), "{caller}");
    place.plugin("a.sh", &format!("# changed\n{WAITER}"));
    eventually("the change is in the trail", || {
        let trail = server.get("/plugins/audit")["entries"].clone();
        trail.as_array().unwrap().iter().any(|entry| {
            entry["caller"] == "file change" && entry["plugin"] == "a" && entry["outcome"] == "changed"
        })
    });
    for path in ["/plugins/a/logs?lines=x", "/plugins/a/logs?since=yesterday", "/events?cursor=x"] {
        let (status, body) = server.request("GET", path, &[]);
        let detail: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(status == 422 && detail["detail"].is_string(), "{path}: {status} {body}");
    }
}

#[test]
fn drills_can_be_chosen_and_their_results_read_by_programs() {
    let place = Place::new();
    let script = "echo started\nwhile read -r event; do case $event in *chunks*) heard=1;; esac; done\necho \"heard $heard\"\n";
    place.plugin("ears.sh", script).plugin("ears.sh.golden", "st*ted\n");
    place.plugin("ears.sh.plugin.toml", "events = [\"store\"]\n");
    let file = with(&place.plugins, "ears.sh");
    let report = place.path("results.xml");
    let words =
        ["plugin", "test", &file, "--seconds", "1", "--only", "golden-output,event-flood", "--report"];
    let output = larder(words).arg(&report).output().unwrap();
    let expected = "\
ok      golden output        1 lines as expected
ok      event flood          goes on through 10000 events
2 drills, 0 failed
";
    assert_eq!(said(&output), expected);
    let junit = fs::read_to_string(&report).unwrap();
    assert!(
        junit.contains("tests=\"2\" failures=\"0\"") && junit.contains("name=\"event flood\""),
        "{junit}"
    );
    place.plugin("ears.sh", "echo other\nread -r _\nexit 4\n");
    let output =
        larder(["plugin", "test", &file, "--seconds", "1", "--only", "golden-output"]).output().unwrap();
    let text = text(&output.stdout);
    assert!(
        text.starts_with(
            "FAILED  golden output        never said, or not in its place: st*ted\n        | other\n"
        ),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));
}
