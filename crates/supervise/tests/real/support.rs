//! Starts the host binary, reads what it prints, and checks at the end that nothing of it is left.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use larder_supervise::{Process, descendants, has_mark, process_table};
use serde_json::Value;

/// Longest wait for anything; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory for plugins.
pub struct Plugins {
    pub dir: tempfile::TempDir,
}

impl Plugins {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a plugin; its shebang decides what it is.
    pub fn add(&self, name: &str, script: &str) -> &Self {
        std::fs::write(self.path(name), script).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    pub fn label(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn host(&self) -> HostBuilder {
        self.host_at(&[self.dir.path()])
    }

    pub fn host_at(&self, locations: &[&Path]) -> HostBuilder {
        let mut command = Command::new(env!("CARGO_BIN_EXE_supervise-host"));
        command.args(locations);
        HostBuilder { command }
    }
}

pub struct HostBuilder {
    command: Command,
}

impl HostBuilder {
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub fn start(self) -> Host {
        self.start_below(|_| ())
    }

    /// As `start`, with the folder of the private directory prepared.
    pub fn start_below(mut self, prepare: impl FnOnce(&Path)) -> Host {
        let runtime = tempfile::tempdir().unwrap();
        prepare(runtime.path());
        self.command.env("HOST_RUNTIME_DIR", runtime.path());
        let mut child = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take();
        Host { child, stdin, lines, log: Vec::new(), seen: 0, runtime }
    }
}

pub struct Host {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    pub log: Vec<String>,
    /// Log lines that `wait_for` has passed.
    seen: usize,
    pub runtime: tempfile::TempDir,
}

impl Host {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for the next line that contains `text` and returns it.
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while self.seen < self.log.len() {
                self.seen += 1;
                if self.log[self.seen - 1].contains(text) {
                    return self.log[self.seen - 1].clone();
                }
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.log.push(line),
                Err(_) => panic!("no line with {text:?} in:\n{}", self.log.join("\n")),
            }
        }
    }

    /// Waits for all of `texts`, in any order, from the beginning of the log.
    pub fn wait_for_all(&mut self, texts: &[&str]) {
        for text in texts {
            self.seen = 0;
            self.wait_for(text);
        }
    }

    pub fn ask(&mut self, command: &str) -> Value {
        writeln!(self.stdin.as_mut().unwrap(), "{command}").unwrap();
        let line = self.wait_for_answer();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// Sends a command without waiting for an answer.
    pub fn command(&mut self, command: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    fn wait_for_answer(&mut self) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no answer in:\n{}", self.log.join("\n")));
            match line.strip_prefix("= ") {
                Some(answer) => return answer.to_owned(),
                None => self.log.push(line),
            }
        }
    }

    /// The status of the only plugin, or of the one named.
    pub fn status(&mut self, name: &str) -> Value {
        let all = self.ask("status");
        all.as_array().unwrap().iter().find(|p| p["name"] == name).cloned().unwrap_or(Value::Null)
    }

    /// Asks for the status until it satisfies `wanted`.
    pub fn wait_until(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status(name);
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "last status {status}, log:\n{}", self.log.join("\n"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn guardian(&mut self) -> i32 {
        self.ask("guardian").as_i64().expect("a guardian") as i32
    }

    /// All processes below the host, the guardian included, its wardens not.
    pub fn family(&self) -> Vec<Process> {
        let warden = |process: &Process| comm(process.pid) == "larder-warden";
        descendants(&process_table(), self.pid()).into_iter().filter(|process| !warden(process)).collect()
    }

    /// Wardens of runs that are not over.
    pub fn wardens(&self) -> Vec<i32> {
        let below = descendants(&process_table(), self.pid());
        below.into_iter().map(|process| process.pid).filter(|pid| comm(*pid) == "larder-warden").collect()
    }

    /// Waits until the family has at least `count` members that are not the guardian itself.
    pub fn wait_for_family(&self, count: usize) -> HashSet<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let family = self.family();
            if family.len() > count {
                return family.into_iter().map(|p| p.pid).collect();
            }
            assert!(Instant::now() < deadline, "only {family:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the host in good order and returns its report.
    pub fn end(mut self) -> (Value, Vec<String>) {
        let report = self.ask("end");
        assert!(self.child.wait().unwrap().success());
        self.log.extend(self.lines.iter());
        self.assert_nothing_left(Duration::ZERO);
        assert_eq!(
            std::fs::read_dir(self.runtime.path()).unwrap().count(),
            0,
            "the private directory is left"
        );
        (report, std::mem::take(&mut self.log))
    }

    /// Kills the host with SIGKILL and checks that everything below it goes within `limit`.
    pub fn kill(mut self, limit: Duration) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.assert_nothing_left(limit);
    }

    pub fn kill_process(pid: i32) {
        Self::signal_process(pid, rustix::process::Signal::KILL);
    }

    pub fn signal_process(pid: i32, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Keeps the host, and nothing else, from running for a while, as a debugger or a freezer would.
    pub fn pause(&self, time: Duration) {
        Self::signal_process(self.pid(), rustix::process::Signal::STOP);
        std::thread::sleep(time);
        Self::signal_process(self.pid(), rustix::process::Signal::CONT);
    }

    /// Checks that no process of the host's plugins is left, zombies included, after at most `limit`.
    pub fn assert_nothing_left(&self, limit: Duration) {
        let mark = format!("LARDER_PLUGIN_RUN={}:{}", self.pid(), self.runtime.path().display());
        let deadline = Instant::now() + limit;
        loop {
            let table = process_table();
            let left: Vec<_> = table.iter().filter(|p| has_mark(p.pid, mark.as_bytes())).collect();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left: {left:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Waits until none of `pids` is a process any more.
pub fn wait_gone(pids: &HashSet<i32>, limit: Duration) {
    let deadline = Instant::now() + limit;
    loop {
        let left: Vec<_> =
            process_table().into_iter().filter(|p| pids.contains(&p.pid) && !p.zombie).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left: {left:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A size from `/proc/<pid>/status`.
pub fn status_field_kib(pid: i32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn comm(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}
