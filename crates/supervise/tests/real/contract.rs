//! The bare contract with real processes: what a script without a manifest gets and how it appears in the
//! log.

use std::collections::HashMap;

use crate::support::Plugins;

#[test]
fn log_lines_have_the_documented_shape() {
    let plugins = Plugins::new();
    plugins.add("x.sh", "#!/bin/sh\necho hello\necho '  indented  '\nprintf unfinished\nexit 3\n");
    let mut host = plugins.host().start();
    let label = plugins.label("x.sh");
    assert_eq!(host.wait_for("Launched"), format!("INFO Launched runtime plugin: {label} with /bin/sh"));
    assert_eq!(host.wait_for("hello"), format!("INFO [{label}] hello"));
    assert_eq!(host.wait_for("indented"), format!("INFO [{label}]   indented"));
    assert_eq!(host.wait_for("unfinished"), format!("INFO [{label}] unfinished"));
    assert_eq!(host.wait_for("exited"), format!("WARN Runtime plugin {label} exited with code 3"));
    let status = host.wait_until("x", |s| s["state"] == "failed");
    assert_eq!(status["last_exit"], serde_json::json!({"kind": "code", "number": 3}));
    assert_eq!(status["lines"]["stdout"], 3);
    host.end();
}

#[test]
fn environment_and_working_directory() {
    let plugins = Plugins::new();
    plugins.add("env.sh", "#!/bin/sh\npwd\nenv\n");
    let config_dir = tempfile::tempdir().unwrap();
    let config = "{\"mp_config\": {\"port\": 5555}, \"obs_config\": {}}";
    std::fs::write(config_dir.path().join("c.json"), config).unwrap();
    let host = plugins.host().env("HOST_CONFIG_FILE", config_dir.path().join("c.json")).env("PLAIN", "kept");
    let mut host = host.current_dir(config_dir.path()).start();
    host.wait_for("exited with code 0");
    let label = plugins.label("env.sh");
    let prefix = format!("INFO [{label}] ");
    let lines: Vec<_> = host.log.iter().filter_map(|l| l.strip_prefix(&prefix)).map(str::to_owned).collect();
    assert_eq!(lines[0], config_dir.path().canonicalize().unwrap().display().to_string());
    let env: HashMap<_, _> = lines.iter().filter_map(|l| l.split_once('=')).collect();
    for generation in ["LMCACHE_RUNTIME_PLUGIN", "LMCACHE_PLUGIN"] {
        assert_eq!(env[format!("{generation}_ROLE").as_str()], "");
        assert_eq!(env[format!("{generation}_CONFIG").as_str()], config);
        assert_eq!(env[format!("{generation}_WORKER_ID").as_str()], "0");
        assert_eq!(env[format!("{generation}_WORKER_COUNT").as_str()], "1");
    }
    assert_eq!((env["PYTHONUNBUFFERED"], env["PLAIN"]), ("1", "kept"));
    host.end();
}

#[test]
fn a_configuration_too_large_for_a_variable_comes_as_a_file() {
    let plugins = Plugins::new();
    plugins.add(
        "big.py",
        "import json, os, stat\n\
         path = os.environ['LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE']\n\
         whole = json.load(open(path))\n\
         part = json.loads(os.environ['LMCACHE_RUNTIME_PLUGIN_CONFIG'])\n\
         print('mode', oct(stat.S_IMODE(os.stat(path).st_mode)))\n\
         print('whole', len(whole['extra']['big']), 'part', part['mp_config']['port'], part['larder_reduced']['omitted'])\n",
    );
    let dir = tempfile::tempdir().unwrap();
    let config = serde_json::json!({"mp_config": {"port": 7}, "extra": {"big": "x".repeat(300_000)}});
    std::fs::write(dir.path().join("c.json"), config.to_string()).unwrap();
    let mut host = plugins.host().env("HOST_CONFIG_FILE", dir.path().join("c.json")).start();
    host.wait_for("mode 0o600");
    host.wait_for("whole 300000 part 7 ['/extra/big']");
    host.end();
}

#[test]
fn shebangs_with_arguments_and_fallbacks() {
    let plugins = Plugins::new();
    plugins
        .add(
            "a.py",
            "#!/usr/bin/env -S python3 -B -u\nimport sys\nprint('flags', sys.flags.dont_write_bytecode)\n",
        )
        .add("b.py", "import sys\nprint('plain python', sys.argv[0])\n")
        .add("c.sh", "[ -n \"$BASH_VERSION\" ] && echo plain bash\n")
        .add("d.sh", "#!/no/such/shell\necho fell back\n")
        .add("e.pl", "#!/bin/sh\necho any program\n")
        .add("with space.sh", "#!/bin/sh\necho spaced\n")
        .add("new\nline.sh", "#!/bin/sh\necho forged\n")
        .add("-dash.sh", "echo dashed\n");
    let mut host = plugins.host().start();
    host.wait_for_all(&[
        "flags 1",
        &format!("plain python {}", plugins.label("b.py")),
        "plain bash",
        "interpreter `/no/such/shell` not found",
        "fell back",
        "any program",
        "with space.sh] spaced",
        "new\\nline.sh] forged",
        "-dash.sh] dashed",
    ]);
    host.end();
}

#[test]
fn no_plugin_can_forge_or_break_the_log() {
    let plugins = Plugins::new();
    plugins.add(
        "x.py",
        "import sys\n\
         sys.stdout.buffer.write(b'\\x1b[2Jclear\\n\\xff\\xfe\\n' + b'y' * 100_000 + b'\\nafter\\n')\n",
    );
    let mut host = plugins.host().start();
    let label = plugins.label("x.py");
    host.wait_for(&format!("[{label}] \\x1b[2Jclear"));
    host.wait_for(&format!("[{label}] \u{fffd}\u{fffd}"));
    let long = host.wait_for("yyy");
    assert!(
        long.ends_with(&format!(" ...[{} bytes cut]", 100_000 - 16 * 1024)),
        "{}",
        &long[long.len() - 50..]
    );
    host.wait_for("after");
    host.end();
}

#[test]
fn no_plugins_means_no_guardian() {
    let plugins = Plugins::new();
    let mut host = plugins.host().start();
    assert_eq!(host.ask("status"), serde_json::json!([]));
    assert_eq!(host.ask("guardian"), serde_json::Value::Null);
    host.end();
}

#[test]
fn a_program_that_cannot_run_is_reported_and_harms_nobody() {
    let plugins = Plugins::new();
    // The interpreter is there and executable, but its own interpreter is not.
    let tools = Plugins::new();
    tools.add("interpreter", "#!/no/such/program\n");
    plugins.add("bad", &format!("#!{}\n", tools.label("interpreter")));
    plugins.add("good.sh", "#!/bin/sh\necho fine\n");
    let mut host = plugins.host().start();
    host.wait_for_all(&["Failed to launch plugin", "fine"]);
    let status = host.status("bad");
    assert_eq!((&status["state"], &status["cause"]), (&"failed".into(), &"launch".into()));
    assert!(status["last_error"].as_str().unwrap().contains("cannot run"), "{status}");
    host.end();
}

#[test]
fn secrets_are_for_those_who_were_granted_them() {
    let plugins = Plugins::new();
    let script =
        "#!/bin/sh\necho \"$LMCACHE_RUNTIME_PLUGIN_CONFIG\"\ncat \"$LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE\"\n";
    plugins
        .add("bare.sh", script)
        .add("trusted.sh", script)
        .add("trusted.sh.plugin.toml", "secrets = true\n");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.json"), "{\"l2\": {\"secret_access_key\": \"hush\"}}").unwrap();
    let mut host = plugins.host().env("HOST_CONFIG_FILE", dir.path().join("c.json")).start();
    for name in ["bare", "trusted"] {
        host.wait_until(name, |s| s["state"] == "exited" && s["lines"]["stdout"] == 2);
    }
    let (_, log) = host.end();
    let seen = |name: &str, text: &str| log.iter().filter(|l| l.contains(name) && l.contains(text)).count();
    assert_eq!((seen("bare.sh]", "hush"), seen("bare.sh]", "<redacted>")), (0, 2), "{log:?}");
    assert_eq!((seen("trusted.sh]", "hush"), seen("trusted.sh]", "<redacted>")), (2, 0), "{log:?}");
}

#[test]
fn a_private_directory_that_was_removed_is_made_anew() {
    let plugins = Plugins::new();
    plugins.add("x.sh", "echo \"has $(cat $LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE)\"\nread line\n");
    plugins.add("x.sh.plugin.toml", "metrics = true\nwatchdog = \"notify\"\nwatchdog_s = 60\n");
    let mut host = plugins.host().start();
    let before = host.wait_for("has {");
    for entry in std::fs::read_dir(host.runtime.path()).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    assert_eq!(host.ask("restart x")["state"], "ready");
    assert_eq!(host.wait_for("has {"), before);
    host.wait_for_all(&["was emptied by somebody"]);
    host.end();
}
