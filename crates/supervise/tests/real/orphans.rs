//! Nothing outlives the server: stops and hard deaths with children that resist.

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Host, Plugins, wait_gone};

/// How long after a hard death everything must be gone.
const HARD_DEATH_MAX: Duration = Duration::from_secs(2);

/// Ignores SIGTERM, and so do its children: one in its group, one in a session of its own, one daemon forked
/// twice without its mark.
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
    let left: Vec<_> = host.family().into_iter().filter(|p| previous.contains(&p.pid) && !p.zombie).collect();
    assert!(left.is_empty(), "of the previous run: {left:?}");
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

/// Starts a daemon that has cut every tie to it, and ends.
const DAEMONIZER: &str = "env -i setsid sh -c 'setsid sleep 1000 & setsid sleep 1000 &'\nexit 0\n";

#[test]
fn a_daemon_without_any_tie_ends_with_its_plugin_and_with_no_other() {
    let plugins = Plugins::new();
    plugins.add("x.sh", DAEMONIZER).add("y.sh", DAEMONIZER);
    let mut host = plugins.host().start();
    host.wait_until("x", |s| s["state"] == "exited");
    host.wait_until("y", |s| s["state"] == "exited");
    host.wait_for_family(4);
    assert_eq!(host.status("x")["lingering"], true);
    let status = host.ask("stop x");
    assert_eq!((&status["state"], &status["lingering"]), (&"stopped".into(), &false.into()));
    assert_eq!(host.family().iter().filter(|p| !p.zombie).count(), 3, "the guardian and two of the other");
    assert_eq!(host.wardens().len(), 1);
    host.end();
}

#[test]
fn a_stop_does_not_reach_whoever_has_got_the_id_of_the_first_process_since() {
    let plugins = Plugins::new();
    let kept = plugins.path("pid").display().to_string();
    plugins
        .add("x.sh", &format!("echo $$ > {kept}.part\nmv {kept}.part {kept}\nsetsid sleep 1000 &\nexit 0\n"));
    let mut host = plugins.host().start();
    host.wait_until("x", |s| s["state"] == "exited" && s["lingering"] == true);
    let leader: i32 = std::fs::read_to_string(kept).unwrap().trim().parse().unwrap();
    let Some(mut stranger) = process_with_id(leader) else {
        return eprintln!("not tested: this machine does not let ids be chosen");
    };
    assert_eq!(host.ask("stop x")["lingering"], false);
    assert_eq!(stranger.try_wait().unwrap(), None, "the stranger was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    host.end();
}

/// A process outside that leads a group of this id.
fn process_with_id(id: i32) -> Option<std::process::Child> {
    use std::os::unix::process::CommandExt;
    for _ in 0..200 {
        // Somebody else may fork in between, so it takes a few attempts.
        std::fs::write("/proc/sys/kernel/ns_last_pid", (id - 1).to_string()).ok()?;
        let mut child = std::process::Command::new("sleep").arg("1000").process_group(0).spawn().ok()?;
        if child.id() == id.unsigned_abs() {
            return Some(child);
        }
        child.kill().ok()?;
        child.wait().ok()?;
    }
    None
}

#[test]
fn a_guardian_that_stops_answering_is_replaced() {
    let (_plugins, mut host) = stubborn();
    let mut family = host.wait_for_family(5);
    let guardian = host.guardian();
    family.remove(&guardian);
    Host::signal_process(guardian, rustix::process::Signal::STOP);
    host.wait_for("does not answer");
    wait_gone(&family, HARD_DEATH_MAX);
    host.wait_for("armed");
    assert_ne!(host.guardian(), guardian);
    host.end();
}

#[test]
fn a_server_whose_guardian_was_stopped_leaves_nothing() {
    let (_plugins, mut host) = stubborn();
    let family = host.wait_for_family(5);
    let guardian = host.guardian();
    Host::signal_process(guardian, rustix::process::Signal::STOP);
    let (report, log) = host.end();
    assert_eq!(report["remaining"], serde_json::json!([]));
    assert!(log.iter().filter(|l| l.contains("did not stop")).count() <= 1, "said once: {log:?}");
    wait_gone(&family, Duration::ZERO);
}

#[test]
fn a_run_ends_with_its_warden_whatever_becomes_of_that() {
    for signal in [rustix::process::Signal::KILL, rustix::process::Signal::STOP] {
        let (_plugins, mut host) = stubborn();
        let mut family = host.wait_for_family(5);
        let guardian = host.guardian();
        family.remove(&guardian);
        Host::signal_process(host.wardens()[0], signal);
        assert_eq!(host.ask("stop stubborn")["lingering"], false);
        wait_gone(&family, Duration::ZERO);
        assert_eq!(host.guardian(), guardian, "others go on");
        host.end();
    }
}

#[test]
fn server_and_guardian_killed_at_once() {
    let (_plugins, mut host) = stubborn();
    let family = host.wait_for_family(5);
    let guardian = host.guardian();
    Host::signal_process(guardian, rustix::process::Signal::STOP);
    Host::signal_process(host.pid(), rustix::process::Signal::KILL);
    Host::kill_process(guardian);
    wait_gone(&family, HARD_DEATH_MAX);
}

#[test]
fn a_guardian_that_is_frozen_goes_on_when_the_server_is_killed() {
    let (_plugins, mut host) = stubborn();
    let family = host.wait_for_family(5);
    Host::signal_process(host.guardian(), Signal::STOP);
    for warden in host.wardens() {
        Host::signal_process(warden, Signal::STOP);
    }
    host.kill(HARD_DEATH_MAX);
    wait_gone(&family, HARD_DEATH_MAX);
}

#[test]
fn a_plugin_that_freezes_its_warden_hides_nothing() {
    let plugins = Plugins::new();
    plugins.add("x.sh", "kill -STOP $PPID\nexit 3\n");
    let mut host = plugins.host().start();
    // The exit may be told before the last of the family is seen to be gone.
    let status = host.wait_until("x", |status| status["state"] == "failed" && status["lingering"] == false);
    assert_eq!(status["last_exit"]["number"], 3);
    host.end();
}

#[test]
fn a_plugin_that_kills_its_warden_is_told_of_as_ended() {
    let plugins = Plugins::new();
    plugins.add("x.sh", "setsid sleep 1000 &\necho up\nread line\nkill -9 $PPID\nsleep 1000\n");
    plugins.add(
        "x.sh.plugin.toml",
        "restart = \"on-failure\"\nrestart_delay_ms = 600000\nevents = [\"test\"]\n",
    );
    let mut host = plugins.host().start();
    host.wait_for("up");
    let family = host.wait_for_family(2);
    let guardian = host.guardian();
    host.ask("publish {}");
    let status = host.wait_until("x", |status| status["state"] == "backoff");
    assert_eq!((&status["pid"], &status["uptime_ms"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&status["last_exit"]["kind"], &status["runs"][0]["why"]),
        (&"lost".into(), &"nobody saw its end".into())
    );
    let left: HashSet<i32> = family.into_iter().filter(|pid| *pid != guardian).collect();
    wait_gone(&left, HARD_DEATH_MAX);
    host.wait_for("x.sh exited with code -9");
    host.end();
}

#[test]
fn a_guardian_that_is_killed_again_and_again_costs_no_plugin_its_life() {
    let plugins = Plugins::new();
    plugins.add("x.sh", "echo up\nread line\n");
    plugins.add(
        "x.sh.plugin.toml",
        "restart = \"on-failure\"\nrestart_delay_ms = 1\nrestart_delay_max_ms = 1\nstart_limit_burst = 2\n",
    );
    let mut host = plugins.host().start();
    for _ in 0..5 {
        host.wait_for("] up");
        Host::kill_process(host.guardian());
    }
    host.wait_for("] up");
    host.end();
}
