//! Nothing outlives the server: stops and hard deaths with children that resist.

use std::time::Duration;

use crate::support::{Host, Plugins, wait_gone};

/// How long after a hard death everything must be gone.
const HARD_DEATH_MAX: Duration = Duration::from_secs(2);

/// Ignores SIGTERM, and so do its children: one in its group, one in a session of its own, one daemon forked twice
/// without its mark.
const STUBBORN: &str = "import os, signal, subprocess, sys, time\n\
    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
    def hold(tag):\n\
    \x20   while True: time.sleep(1)\n\
    if os.fork() == 0: hold('group')\n\
    if os.fork() == 0:\n\
    \x20   os.setsid(); hold('session')\n\
    middle = os.fork()\n\
    if middle == 0:\n\
    \x20   os.setsid()\n\
    \x20   if os.fork() == 0: hold('daemon')\n\
    \x20   os._exit(0)\n\
    os.waitpid(middle, 0)\n\
    subprocess.Popen(['env', '-i', 'setsid', 'sh', '-c', \"trap '' TERM; while :; do sleep 1; done\"], start_new_session=True)\n\
    print('armed')\n\
    hold('leader')\n";

fn stubborn() -> (Plugins, Host) {
    let plugins = Plugins::new();
    plugins.add("stubborn.py", STUBBORN);
    let mut host = plugins.host().env("HOST_STOP_TIMEOUT_MS", "200").start();
    host.wait_for("armed");
    host.wait_for_family(5);
    (plugins, host)
}

#[test]
fn a_gentle_plugin_ends_at_once_and_its_children_too() {
    let plugins = Plugins::new();
    plugins.add("x.sh", "sleep 1000 &\necho up\nwait\n");
    let mut host = plugins.host().start();
    host.wait_for("up");
    let family = host.wait_for_family(2);
    let (report, log) = host.end();
    assert_eq!((&report["stopped"], &report["killed"]), (&serde_json::json!(["x"]), &serde_json::json!([])));
    assert!(log.iter().any(|l| l.ends_with("exited with code -15") && l.starts_with("INFO")), "{log:?}");
    wait_gone(&family, Duration::ZERO);
}

#[test]
fn stop_kills_what_ignores_it() {
    let (_plugins, host) = stubborn();
    let family = host.wait_for_family(5);
    let (report, _) = host.end();
    assert_eq!(report["killed"], serde_json::json!(["stubborn"]));
    assert_eq!(report["remaining"], serde_json::json!([]));
    wait_gone(&family, Duration::ZERO);
}

#[test]
fn a_leader_that_ends_does_not_hide_its_children() {
    let plugins = Plugins::new();
    plugins
        .add("x.sh", "(trap '' TERM; echo child; while :; do sleep 1; done) &\ntrap 'exit 0' TERM\nwait\n");
    let mut host = plugins.host().env("HOST_STOP_TIMEOUT_MS", "200").start();
    host.wait_for("child");
    let family = host.wait_for_family(2);
    let status = host.ask("stop x");
    assert_eq!((&status["state"], &status["kills"]), (&"stopped".into(), &1.into()));
    assert_eq!(host.family().iter().filter(|p| !p.zombie).count(), 1, "only the guardian");
    host.end();
    wait_gone(&family, Duration::ZERO);
}

#[test]
fn restart_waits_for_all_of_the_previous_run() {
    let (_plugins, mut host) = stubborn();
    let before = host.wait_for_family(5);
    let guardian = host.guardian();
    let status = host.ask("restart stubborn");
    assert_eq!((&status["state"], &status["starts"]), (&"ready".into(), &2.into()));
    let mut previous = before.clone();
    previous.remove(&guardian);
    // The daemon without any tie to its run is the guardian's to find at the end; all others are gone before the new run.
    let left = host.family().iter().filter(|p| previous.contains(&p.pid) && !p.zombie).count();
    assert!(left <= 2, "{left} of the previous run are left");
    host.end();
    wait_gone(&before, Duration::ZERO);
}

#[test]
fn server_killed_hard() {
    let (_plugins, host) = stubborn();
    let family = host.wait_for_family(5);
    let scratch = host.runtime.path().to_path_buf();
    host.kill(HARD_DEATH_MAX);
    wait_gone(&family, HARD_DEATH_MAX);
    drop(scratch);
}

#[test]
fn server_aborts() {
    let (_plugins, mut host) = stubborn();
    let family = host.wait_for_family(5);
    host.command("abort");
    wait_gone(&family, HARD_DEATH_MAX);
}

#[test]
fn guardian_killed_hard() {
    let (_plugins, mut host) = stubborn();
    let mut family = host.wait_for_family(5);
    let guardian = host.guardian();
    family.remove(&guardian);
    Host::kill_process(guardian);
    host.wait_for("plugin guardian died");
    host.wait_for("restarts in");
    wait_gone(&family, Duration::ZERO);
    host.wait_for("armed");
    let status = host.status("stubborn");
    assert_eq!((&status["state"], &status["starts"]), (&"ready".into(), &2.into()));
    assert_ne!(host.guardian(), guardian);
    host.end();
}

#[test]
fn a_plugin_notices_the_end_of_its_input() {
    let plugins = Plugins::new();
    plugins.add("x.sh", "#!/bin/sh\ntrap '' TERM\necho up\nread line\necho input closed\n");
    let mut host = plugins.host().start();
    host.wait_for("up");
    let (report, log) = host.end();
    assert_eq!(report["killed"], serde_json::json!([]));
    assert!(log.iter().any(|l| l.contains("input closed")), "{log:?}");
}
