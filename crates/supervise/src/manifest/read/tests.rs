//! What manifests mean, and how mistakes in them are shown.

use std::time::Duration;

use super::super::model::{Readiness, Watchdog};
use super::super::policy::{Restart, StopSignal};
use super::*;
use crate::output::Severity;

fn bare() -> Manifest {
    Manifest::default()
}

fn mistake(text: &str) -> ManifestError {
    Manifest::parse(text, &bare()).unwrap_err()
}

#[test]
fn an_empty_manifest_changes_nothing() {
    assert_eq!(Manifest::parse("", &bare()).unwrap(), bare());
    assert_eq!(Manifest::parse("# only words\n", &bare()).unwrap(), bare());
}

#[test]
fn every_key_has_its_effect() {
    let text = r#"
        description = "pushes metrics"
        enabled = false
        after = ["database"]
        restart = "on-failure"
        restart_delay_ms = 200
        restart_delay_max_ms = 5000
        restart_stable_after_s = 10
        start_limit_burst = 3
        start_limit_interval_s = 30
        run_timeout_s = 60
        ready = "log"
        ready_log = "listening on *"
        ready_timeout_s = 7
        watchdog = "output"
        watchdog_s = 9
        stop_signal = "SIGINT"
        stop_timeout_s = 2
        success_codes = [3]
        stderr_level = "info"
        lines_per_second = 5
        lines_burst = 6
        line_max_bytes = 100
        inherit = ["PATH"]
        environment = { A = "1" }
        user = "nobody"
        umask = 0o077
        nice = 5
        no_new_privs = true
        read_paths = ["/usr"]
        limits = { open_files = 64, memory_bytes = 1000000 }
    "#;
    let m = Manifest::parse(text, &bare()).unwrap();
    assert!(!m.enabled);
    assert_eq!(m.after, ["database"]);
    assert_eq!(m.policy.restart, Restart::OnFailure);
    assert_eq!((m.policy.delay, m.policy.delay_max), (Duration::from_millis(200), Duration::from_secs(5)));
    assert_eq!((m.policy.start_limit_burst, m.policy.run_timeout), (3, Some(Duration::from_secs(60))));
    assert_eq!((m.policy.awaits_ready, m.policy.ready_timeout), (true, Some(Duration::from_secs(7))));
    assert_eq!((m.policy.stop_signal, m.policy.stop_timeout), (StopSignal::SigInt, Duration::from_secs(2)));
    assert_eq!(m.policy.success_codes, [3]);
    assert_eq!(m.readiness, Readiness::Log("listening on *".into()));
    assert_eq!(m.watchdog, Watchdog::Output(Duration::from_secs(9)));
    assert_eq!((m.output.rate.per_second, m.output.rate.burst, m.output.line_max_bytes), (5, 6, 100));
    assert_eq!(m.output.stderr_severity, Severity::Info);
    assert_eq!((m.inherit, m.environment["A"].as_str()), (Some(vec!["PATH".into()]), "1"));
    assert_eq!((m.confinement.umask, m.confinement.nice), (Some(0o077), Some(5)));
    assert_eq!(m.confinement.limits.open_files, Some(64));
}

#[test]
fn mistakes_are_shown_with_line_and_remedy() {
    let error = mistake("restart = \"always\"\nrestrat_delay_ms = 3\n");
    assert_eq!(error.line, 2);
    assert!(error.message.contains("restrat_delay_ms"), "{error}");
    let error = mistake("\nrestart = \"sometimes\"\n");
    assert_eq!(error.line, 2);
    assert!(error.message.contains("on-failure"), "{error}");
    let error = mistake("after = []\n\nready = \"log\"\n");
    assert_eq!((error.line, error.hint.as_deref()), (3, Some("set `ready_log = \"listening\"`")));
    assert_eq!(mistake("x = ").line, 1);
    let error = mistake(&format!("ready_log = \"{}\"\nready = \"log\"\n", "x".repeat(300)));
    assert_eq!((error.line, error.hint.as_deref()), (1, Some("a part of the line is enough")));
}

#[test]
fn relations_between_keys() {
    for text in [
        "ready = \"http\"",
        "ready = \"http\"\nready_address = \"127.0.0.1:80\"",
        "watchdog = \"notify\"",
        "watchdog_s = 3",
        "watchdog = \"output\"\nwatchdog_s = 0",
        "watchdog = \"socket\"\nwatchdog_s = 1",
        "watchdog = \"output\"\nwatchdog_s = 1\nwatchdog_address = \"h:1\"",
        "watchdog = \"http\"\nwatchdog_s = 1\nwatchdog_address = \"h:1\"",
        "restart_delay_ms = 5\nrestart_delay_max_ms = 4",
        "interval_s = 5\nrestart = \"always\"",
        "cron = \"* * * * *\"\nrestart = \"always\"",
        "cron = \"* * * * *\"\ninterval_s = 5",
        "start_limit_burst = 0",
        "line_max_bytes = 3",
        "umask = 4095",
        "cgroup = { pids = 0 }",
        "nice = 40",
        "environment = { \"A=B\" = \"\" }",
    ] {
        let error = mistake(text);
        assert!(error.hint.is_some(), "{text}: {error}");
    }
}

#[test]
fn calendar_times_are_checked_where_they_stand() {
    let text = |cron: &str| format!("restart = \"never\"\ncron = \"{cron}\"\n");
    let m = Manifest::parse(&text("*/5  8-18 * * mon-fri"), &bare()).unwrap();
    assert_eq!(m.policy.cron.unwrap().to_string(), "*/5 8-18 * * mon-fri");
    let error = mistake(&text("61 * * * *"));
    assert_eq!(error.line, 2);
    assert!(error.message.contains("`cron` has `61` as minute, which takes 0 to 59"), "{error}");
}

#[test]
fn rules_for_settings_are_checked_where_they_stand() {
    let m = Manifest::parse("[config]\nport = { type = \"integer\", default = 80 }\n", &bare()).unwrap();
    assert_eq!(m.config.unwrap().document("p")["properties"]["plugin.p.port"]["default"], 80);
    let error = mistake("nice = 1\n[config]\nport = { type = \"integer\", default = \"http\" }\n");
    assert_eq!(
        (error.line, error.message.as_str()),
        (3, "`port` has the default `\"http\"`, which it refuses")
    );
    assert_eq!(mistake("[config.a]\nenum = [1]\n[config.b]\nenum = []\n").line, 3);
    assert_eq!(mistake("[config]\nport = { typ = \"integer\" }\n").line, 2);
}

#[test]
fn defaults_hold_where_a_manifest_is_silent() {
    let defaults = serde_json::json!({
        "enabled": false, "restart": "always", "stop_timeout_s": 9, "inherit": ["PATH"], "environment": { "A": "1", "B": "1" },
        "limits": { "open_files": 64, "cpu_s": 5 }, "cgroup": { "pids": 9 }, "no_new_privs": true, "events": ["store"],
    });
    let bare = bare().with_defaults(&defaults).unwrap();
    assert_eq!(Manifest::parse("", &bare).unwrap(), bare);
    let text = "enabled = true\nenvironment = { B = \"2\" }\nlimits = { open_files = 8 }\nevents = []\nno_new_privs = false\n";
    let own = Manifest::parse(text, &bare).unwrap();
    assert!(own.enabled && !own.confinement.no_new_privs && own.events.is_empty());
    assert_eq!((own.policy.restart, own.policy.stop_timeout.as_secs()), (Restart::Always, 9));
    let limits = own.confinement.limits;
    assert_eq!((limits.open_files, limits.cpu_s, own.confinement.cgroup.pids), (Some(8), Some(5), Some(9)));
    assert_eq!(own.environment, [("A", "1"), ("B", "2")].map(|(n, v)| (n.into(), v.into())).into());
}

#[test]
fn a_schedule_goes_before_a_default_restart() {
    let bare = bare().with_defaults(&serde_json::json!({ "restart": "always" })).unwrap();
    let scheduled = Manifest::parse("interval_s = 5\n", &bare).unwrap();
    assert_eq!(scheduled.policy.restart, Restart::OnFailure);
}

#[test]
fn what_describes_one_plugin_is_no_default() {
    for key in ["description", "cron", "ready_log", "ready_address"] {
        let value = if key == "cron" { "* * * * *" } else { "x" };
        let error = bare().with_defaults(&serde_json::json!({ key: value })).unwrap_err();
        assert!(matches!(error, DefaultsError::OnePlugin(named) if named == key), "{error}");
    }
}

#[test]
fn an_endless_manifest_is_refused_and_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("p.sh");
    let text = format!("enabled = false\n{}", "#\n".repeat(200 * 1024));
    std::fs::write(Manifest::path_for(&plugin), text).unwrap();
    let error = Manifest::load(&plugin, &bare()).unwrap_err();
    assert!(error.message.starts_with("longer than "), "{error}");
}

#[test]
fn no_time_is_longer_than_a_lifetime() {
    let times = [
        "restart_stable_after_s",
        "start_limit_interval_s",
        "interval_s",
        "run_timeout_s",
        "ready_timeout_s",
        "stop_timeout_s",
        "dump_timeout_s",
        "watchdog = \"output\"\nwatchdog_s",
    ];
    for key in times {
        let last = Manifest::parse(&format!("{key} = 315360000\n"), &bare());
        assert!(last.is_ok(), "{key}: {last:?}");
        let error = mistake(&format!("{key} = 315360001\n"));
        assert!(error.message.ends_with("is longer than ten years"), "{key}: {error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("315360000")));
    }
    for key in ["restart_delay_max_ms", "restart_delay_ms"] {
        let text = format!("{key} = 9223372036854775807\n");
        assert!(mistake(&text).message.contains("ten years"), "{key}");
    }
}
