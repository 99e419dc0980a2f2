//! A real server or host with real plugins, for the tests beside this folder.

#![expect(dead_code, unreachable_pub, reason = "every test binary uses a part of this module")]
#![expect(clippy::panic, reason = "a wait that fails fails its test")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Longest wait for anything; only a failing test reaches it.
const PATIENCE: Duration = Duration::from_secs(60);
/// The variable by which processes of one test are found.
const MARK: &str = "LARDER_TEST_MARK";

/// A folder for plugins and one for everything else.
pub struct Place {
    root: tempfile::TempDir,
    pub plugins: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let plugins = root.path().join("plugins");
        fs::create_dir(&plugins).unwrap();
        Self { root, plugins }
    }

    pub fn plugin(&self, name: &str, text: &str) -> &Self {
        fs::write(self.plugins.join(name), text).unwrap();
        self
    }

    /// A path outside the plugins' folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }
}

/// `larder` with these words and an environment of its own.
pub fn larder(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    let kept = ["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.args(words).env_clear().envs(kept);
    command
}

/// A `larder` process whose log is read as it comes.
pub struct Running {
    pub child: Child,
    mark: String,
    log: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mark = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut child = command.env(MARK, &mark).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log: Arc<(Mutex<Vec<String>>, Condvar)> = Arc::default();
        let shared = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                shared.0.lock().unwrap().push(line);
                shared.1.notify_all();
            }
        });
        Self { child, mark, log }
    }

    /// The first line of the log that contains `text`, now or later.
    pub fn line(&self, text: &str) -> String {
        self.lines(text, 1).remove(0)
    }

    /// The first `count` lines of the log that contain `text`.
    pub fn lines(&self, text: &str, count: usize) -> Vec<String> {
        let (lines, grown) = &*self.log;
        let found = |lines: &Vec<String>| -> Vec<String> {
            lines.iter().filter(|line| line.contains(text)).take(count).cloned().collect()
        };
        let guard = lines.lock().unwrap();
        let (guard, waited) =
            grown.wait_timeout_while(guard, PATIENCE, |lines| found(lines).len() < count).unwrap();
        assert!(!waited.timed_out(), "no {count} lines with `{text}` in\n{}", guard.join("\n"));
        found(&guard)
    }

    pub fn log(&self) -> String {
        self.log.0.lock().unwrap().join("\n")
    }

    /// Processes of this test other than `larder` itself and its guardian.
    pub fn plugins_alive(&self) -> Vec<String> {
        let entry = format!("{MARK}={}", self.mark);
        let processes = fs::read_dir("/proc").unwrap().filter_map(|process| {
            let folder = process.ok()?.path();
            let environment = fs::read(folder.join("environ")).ok()?;
            let plugin = environment
                .split(|byte| *byte == 0)
                .any(|have| have.starts_with(b"LMCACHE_RUNTIME_PLUGIN_ROLE="));
            let ours = environment.split(|byte| *byte == 0).any(|have| have == entry.as_bytes());
            (plugin && ours).then(|| fs::read_to_string(folder.join("comm")).unwrap_or_default())
        });
        processes.collect()
    }

    /// Waits until no plugin process of this test is left.
    pub fn wait_for_silence(&self) {
        eventually("all plugin processes are gone", || self.plugins_alive().is_empty());
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Waits for a condition that nothing announces.
pub fn eventually(what: &str, mut met: impl FnMut() -> bool) {
    let rounds = PATIENCE.as_millis() / 10;
    for _ in 0..rounds {
        if met() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// A server with plugins.
pub struct Server {
    pub process: Running,
    pub url: String,
    authority: String,
}

impl Server {
    pub fn start(place: &Place) -> Self {
        Self::start_with(place, &[], &[])
    }

    pub fn start_with(place: &Place, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command =
            larder(["server", "--l1-size-gb", "0.01", "--eviction-policy", "LRU", "--shm-name", ""]);
        command.args(["--port", "0", "--http-port", "0"]).args(flags).envs(variables.iter().copied());
        command
            .arg("--runtime-plugin-locations")
            .arg(&place.plugins)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let process = Running::start(command);
        let line = process.line("(HTTP on http://");
        let authority = line.split("http://").nth(1).unwrap().split(')').next().unwrap().to_owned();
        Self { process, url: format!("http://{authority}"), authority }
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, text) = self.request("GET", path, &[]);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    pub fn post(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.request("POST", path, &[]);
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Status and body.
    pub fn request(&self, method: &str, path: &str, headers: &[&str]) -> (u16, String) {
        self.request_at(&self.authority, method, path, headers)
    }

    /// Status and body of a request with a JSON body.
    pub fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.authority).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.authority,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// As [`Server::request`], at another address of the server.
    pub fn request_at(&self, authority: &str, method: &str, path: &str, headers: &[&str]) -> (u16, String) {
        let mut stream = open(authority, method, path, headers);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// A request whose answer is read by the test.
    pub fn stream(&self, method: &str, path: &str, headers: &[&str]) -> BufReader<TcpStream> {
        BufReader::new(open(&self.authority, method, path, headers))
    }

    pub fn port(&self) -> &str {
        self.authority.rsplit(':').next().unwrap()
    }

    /// `larder plugin` with this server as its target.
    pub fn plugin(&self, words: &[&str]) -> Output {
        larder([&["plugin"], words].concat()).env("LARDER_URL", &self.url).output().unwrap()
    }

    /// Waits until the plugin is in this state.
    pub fn until(&self, name: &str, state: &str) {
        eventually(&format!("{name} is {state}"), || {
            let all = self.get("/plugins");
            let plugin =
                all["plugins"].as_array().unwrap().iter().find(|plugin| plugin["name"] == name).cloned();
            plugin.is_some_and(|plugin| plugin["state"] == state)
        });
    }
}

fn open(authority: &str, method: &str, path: &str, headers: &[&str]) -> TcpStream {
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{headers}Content-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// The next line that begins with `start`.
pub fn next_line(stream: &mut impl BufRead, start: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "the stream ended without `{start}`");
        if line.starts_with(start) {
            return line.trim_end().to_owned();
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The text with every number replaced, so that it can be compared.
pub fn masked(text: &str) -> String {
    let mut masked = String::new();
    for c in text.chars() {
        if !c.is_ascii_digit() {
            masked.push(c);
        } else if !masked.ends_with('#') {
            masked.push('#');
        }
    }
    masked
}

/// A plugin that waits for its end and says `up` first.
pub const WAITER: &str = "echo up\nread -r _\n";

pub fn with(place: &Path, name: &str) -> String {
    place.join(name).to_str().unwrap().to_owned()
}
