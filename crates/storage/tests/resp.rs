//! The `resp` adapter against real servers; skipped where `redis-server` is not installed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests report by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use larder_storage::adapters::TlsOptions;
use larder_storage::adapters::resp::{Node, RespAdapter, RespOptions};
use larder_storage::conformance::{self, load_items, object_bytes, object_key, store_items};
use larder_storage::decorators::{Checksum, Retry, RetryPolicy};
use larder_storage::{
    Adapter, DeleteMode, Error, Failure, FailureKind, HealthState, HeapBuffer, Secret, StoreItem, wire_name,
};

/// A server of its own, killed when dropped.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Server {
    /// None when there is no such program.
    fn start(args: &[&str]) -> Option<Self> {
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            match Self::start_at(port, args) {
                Ok(server) => return Some(server),
                Err(Some(_taken)) => {}
                Err(None) => {
                    eprintln!("skipped: `redis-server` is not installed");
                    return None;
                }
            }
        }
        panic!("no free port in 20 attempts");
    }

    /// `Err(None)` when the program is missing, `Err(Some(..))` when it ended early.
    fn start_at(port: u16, args: &[&str]) -> Result<Self, Option<String>> {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(args)
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|_| None)?;
        let mut log = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line.contains("Ready to accept connections") {
                return Ok(Self { child, port, _dir: dir });
            }
            log.push_str(&line);
        }
        _ = child.wait();
        Err(Some(log))
    }

    fn node(&self) -> Node {
        Node { host: "127.0.0.1".into(), port: self.port }
    }

    /// Sends an inline command and returns the first line of the reply.
    fn say(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn say_all(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn options(server: &Server) -> RespOptions {
    RespOptions { workers: 2, ..RespOptions::new(server.node()) }
}

fn adapter(options: RespOptions) -> RespAdapter {
    RespAdapter::new(options).unwrap()
}

fn failure<T: std::fmt::Debug>(result: &Result<T, Error>) -> &Failure {
    match result {
        Err(Error::Failed(failure)) => failure,
        other => panic!("not a failure: {other:?}"),
    }
}

#[tokio::test]
async fn resp_conforms() {
    let Some(server) = Server::start(&[]) else { return };
    conformance::run(|| async {
        server.say("FLUSHALL");
        Arc::new(adapter(options(&server))) as Arc<dyn Adapter>
    })
    .await;
}

#[tokio::test]
async fn values_are_raw_under_the_peers_names() {
    let Some(server) = Server::start(&[]) else { return };
    let options = RespOptions { key_prefix: "site[1]".into(), ttl_s: Some(1000), ..options(&server) };
    let adapter = adapter(options);
    assert!(adapter.store(store_items(2..3, 5)).await[0].is_ok());
    let name = format!("site[1]@{}", wire_name(&object_key(2)));
    assert_eq!(server.say(&format!("STRLEN \"{name}\"")), ":5");
    assert!(server.say(&format!("TTL \"{name}\"")).starts_with(':'));
    assert_ne!(server.say(&format!("TTL \"{name}\"")), ":-1", "it expires");
    let listed =
        adapter.list(larder_storage::ListRequest { entries_max: 100, ..Default::default() }).await.unwrap();
    assert_eq!(listed.entries.len(), 1);
    assert_eq!(listed.entries[0].key, object_key(2));
}

#[tokio::test]
async fn large_objects_come_back() {
    let Some(server) = Server::start(&[]) else { return };
    let adapter = adapter(options(&server));
    const LEN: usize = 33_000_001;
    assert!(adapter.store(store_items(0..3, LEN)).await.iter().all(Result::is_ok));
    let (items, buffers) = load_items(0..3, LEN);
    assert!(adapter.load(items).await.iter().all(Result::is_ok));
    for (index, buffer) in buffers.iter().enumerate() {
        assert!(buffer.to_vec() == object_bytes(index, LEN), "object {index}");
    }
}

#[tokio::test]
async fn a_server_that_needs_a_password_gets_it() {
    let Some(server) = Server::start(&["--requirepass", "s3cret"]) else { return };
    let with = |password: &str| adapter(RespOptions { password: Secret::new(password), ..options(&server) });
    assert!(with("s3cret").store(store_items(0..1, 10)).await[0].is_ok());
    let wrong = with("wrong");
    let result = wrong.store(store_items(0..1, 10)).await;
    assert!(!failure(&result[0]).retryable && failure(&result[0]).text.contains("WRONGPASS"), "{result:?}");
    assert!(failure(&with("").store(store_items(0..1, 10)).await[0]).text.contains("NOAUTH"));
    assert_eq!(wrong.health().state, HealthState::Refused);
}

#[tokio::test]
async fn a_probe_says_whether_objects_would_be_taken_and_leaves_nothing() {
    let Some(server) =
        Server::start(&["--requirepass", "s3cret", "--user", "reader", "on", ">pw", "~*", "+@read"])
    else {
        return;
    };
    let with = |username: &str, password: &str| {
        let (username, password) = (username.to_owned(), Secret::new(password));
        adapter(RespOptions { username, password, ..options(&server) })
    };
    let mut other = options(&server);
    other.nodes[0].port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(adapter(other).probe().await.unwrap_err().kind, FailureKind::Unavailable);
    for (username, password, reason) in
        [("", "", "NOAUTH"), ("", "wrong", "WRONGPASS"), ("reader", "pw", "NOPERM")]
    {
        let adapter = with(username, password);
        let failure = adapter.probe().await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        assert!(failure.text.contains(reason) && !failure.text.contains("wrong"), "{failure}");
        assert_eq!(adapter.health().state, HealthState::Refused);
    }
    let reader = with("reader", "pw");
    reader.probe().await.unwrap_err();
    assert_eq!(reader.lookup_and_lock(vec![object_key(0)]).await, [Err(Error::Absent)]);
    assert_eq!(reader.health().state, HealthState::Refused, "that it may read is no permission to write");
    let owner = with("", "s3cret");
    owner.probe().await.unwrap();
    assert_eq!(owner.health().state, HealthState::Ready);
    let listed = owner.list(larder_storage::ListRequest { entries_max: 9, ..Default::default() }).await;
    assert!(listed.unwrap().entries.is_empty());
}

#[tokio::test]
async fn a_server_that_is_gone_fails_and_one_that_returns_works() {
    let Some(mut server) = Server::start(&[]) else { return };
    let adapter = adapter(options(&server));
    assert!(adapter.store(store_items(0..1, 10)).await[0].is_ok());
    server.kill();
    let result = adapter.lookup_and_lock(vec![object_key(0)]).await;
    assert_eq!((failure(&result[0]).kind, failure(&result[0]).retryable), (FailureKind::Unavailable, true));
    assert_eq!(adapter.health().state, HealthState::Unavailable);
    let Ok(_again) = Server::start_at(server.port, &[]) else { return };
    // Kept connections are found stale before they are used: nothing fails.
    let stored = adapter.store(store_items(0..8, 10)).await;
    assert!(stored.iter().all(Result::is_ok), "{stored:?}");
    assert_eq!(adapter.health().state, HealthState::Ready);
}

#[tokio::test]
async fn a_server_without_room_says_full() {
    let Some(server) = Server::start(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]) else {
        return;
    };
    let adapter = adapter(options(&server));
    let stored = adapter.store(store_items(0..8, 1 << 20)).await;
    let failed: Vec<_> = stored.iter().filter(|stored| stored.is_err()).collect();
    assert!(!failed.is_empty());
    assert!(failed.iter().all(|stored| failure(stored).kind == FailureKind::Full), "{failed:?}");
}

/// Keys and certificates for `localhost`, and the authority that signed them. None without `openssl`.
fn certificates(dir: &std::path::Path) -> Option<()> {
    let openssl = |args: &str| {
        let done =
            Command::new("openssl").args(args.split(' ')).current_dir(dir).stderr(Stdio::null()).status();
        done.ok().filter(std::process::ExitStatus::success).map(drop)
    };
    std::fs::write(dir.join("san"), "subjectAltName=DNS:localhost").unwrap();
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem")?;
    openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out request.pem")?;
    openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out cert.pem",
    )
}

#[tokio::test]
async fn encrypted_servers_conform_and_strangers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    if certificates(dir.path()).is_none() {
        eprintln!("skipped: `openssl` is not installed");
        return;
    }
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (cert, key, ca) = (file("cert.pem"), file("key.pem"), file("ca.pem"));
    let tls_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tls_port_text = tls_port.to_string();
    let args = ["--tls-port", &tls_port_text, "--tls-cert-file", &cert, "--tls-key-file", &key];
    let args = [&args[..], &["--tls-ca-cert-file", &ca, "--tls-auth-clients", "no"]].concat();
    let Some(server) = Server::start(&args) else { return };
    let node = Node { host: "localhost".into(), port: tls_port };
    let with = |ca_file| {
        let tls = Some(TlsOptions { ca_file });
        RespAdapter::new(RespOptions { workers: 2, tls, ..RespOptions::new(node.clone()) })
    };
    conformance::run(|| async {
        server.say("FLUSHALL");
        Arc::new(with(Some(ca.clone().into())).unwrap()) as Arc<dyn Adapter>
    })
    .await;
    // The server's own certificate signs nothing, and the system knows neither.
    if let Ok(stranger) = with(None) {
        let result = stranger.lookup_and_lock(vec![object_key(0)]).await;
        assert!(failure(&result[0]).text.contains("certificate"), "{result:?}");
    }
    assert_eq!(with(Some(file("missing").into())).unwrap_err().kind, FailureKind::Invalid);
}

#[tokio::test]
async fn what_a_load_does_not_find_leaves_the_accounts() {
    let Some(server) = Server::start(&[]) else { return };
    let adapter = adapter(options(&server));
    assert!(adapter.store(store_items(0..3, 10)).await.iter().all(Result::is_ok));
    assert_eq!(adapter.usage().objects, 3);
    server.say(&format!("UNLINK {}", wire_name(&object_key(1))));
    assert_eq!(adapter.load(load_items(1..2, 10).0).await, [Err(Error::Absent)]);
    assert_eq!((adapter.usage().objects, adapter.usage().bytes_used), (2, 20));
}

/// Two writers of one object, and a reader that checks: bytes and seal are always of the same writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_and_its_seal_are_written_and_read_as_one() {
    let Some(server) = Server::start(&[]) else { return };
    let checked = |options| Arc::new(Checksum::new(Arc::new(adapter(options)), 1).unwrap());
    let (first, second) = (checked(options(&server)), checked(options(&server)));
    let item = |bytes: u8| {
        let buffer = HeapBuffer::copy_of(&[bytes; 100]);
        vec![StoreItem { key: object_key(0), buffer, seal: None }]
    };
    let writing = tokio::spawn(async move {
        for round in 0..200 {
            first.delete(vec![object_key(0)], DeleteMode::Forced).await;
            first.store(item(round)).await;
        }
    });
    while !writing.is_finished() {
        let loaded = second.load(load_items(0..1, 100).0).await;
        assert!(matches!(loaded[0], Ok(_) | Err(Error::Absent)), "{loaded:?}");
    }
    writing.await.unwrap();
    assert_eq!(second.counts().corrupt, 0);
}

#[tokio::test]
async fn what_is_stored_without_a_seal_takes_away_the_one_of_its_predecessor() {
    let Some(server) = Server::start(&[]) else { return };
    let plain = Arc::new(adapter(options(&server)));
    let checked = Checksum::new(Arc::<RespAdapter>::clone(&plain), 1).unwrap();
    assert!(checked.store(store_items(0..1, 10)).await[0].is_ok());
    assert!(plain.store(store_items(0..1, 20)).await[0].is_ok());
    assert!(checked.load(load_items(0..1, 20).0).await[0].is_ok());
    assert_eq!((checked.counts().corrupt, checked.counts().unverified), (0, 1));
}

/// A server that sends something every now and then, and never ends.
#[tokio::test]
async fn a_server_that_drips_holds_nobody_for_long() {
    for beginning in [&b""[..], b"*2\r\n$100\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let node = Node { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            _ = stream.write_all(beginning);
            while stream.write_all(b"1").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let adapter = adapter(RespOptions { workers: 1, request_timeout_ms: 50, ..RespOptions::new(node) });
        let load = adapter.load(load_items(0..1, 1 << 20).0);
        let loaded = tokio::time::timeout(Duration::from_secs(60), load).await.unwrap();
        assert!(failure(&loaded[0]).kind.blames_backend(), "{loaded:?}");
    }
}

#[tokio::test]
async fn a_single_server_that_names_another_is_not_followed() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node { host: "127.0.0.1".into(), port: server.local_addr().unwrap().port() };
    let moved = format!("-MOVED 1 127.0.0.1:{}\r\n", stranger.local_addr().unwrap().port());
    std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut request = [0; 4096];
        while stream.read(&mut request).is_ok_and(|count| count > 0)
            && stream.write_all(moved.as_bytes()).is_ok()
        {}
    });
    let adapter = adapter(RespOptions::new(node));
    let found = adapter.lookup_and_lock(vec![object_key(0)]).await;
    assert!(failure(&found[0]).text.contains("cluster_mode"), "{found:?}");
    stranger.set_nonblocking(true).unwrap();
    assert_eq!(stranger.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody went there");
}

/// A peer that is silent, or talks nonsense.
#[tokio::test]
async fn a_strange_server_is_a_failure_not_a_hang() {
    for reply in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$5\r\nab", b"*1\r\n:1\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                _ = stream.write_all(reply);
                held.push(stream);
            }
        });
        let node = Node { host: "127.0.0.1".into(), port };
        let adapter = adapter(RespOptions { workers: 1, request_timeout_ms: 100, ..RespOptions::new(node) });
        let found = adapter.lookup_and_lock(vec![object_key(0)]).await;
        assert!(failure(&found[0]).kind.blames_backend(), "{found:?}");
        let loaded = adapter.load(load_items(0..1, 100).0).await;
        assert!(failure(&loaded[0]).kind.blames_backend(), "{loaded:?}");
        drop(TcpStream::connect(("127.0.0.1", port)));
        serving.join().unwrap();
    }
}

/// Three servers that share the slots.
fn cluster() -> Option<Vec<Server>> {
    let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];
    let servers: Vec<Server> = (0..3).map(|_| Server::start(&args)).collect::<Option<_>>()?;
    for (server, range) in servers.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
        assert_eq!(server.say(&format!("CLUSTER ADDSLOTSRANGE {range}")), "+OK");
        assert_eq!(server.say(&format!("CLUSTER MEET 127.0.0.1 {}", servers[0].port)), "+OK");
    }
    let is_ready = |server: &Server| {
        let info = server.say_all("CLUSTER INFO");
        info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
    };
    while !servers.iter().all(is_ready) {
        std::thread::yield_now();
    }
    Some(servers)
}

#[tokio::test]
async fn a_cluster_conforms_from_any_seed() {
    let Some(servers) = cluster() else { return };
    conformance::run(|| async {
        for server in &servers {
            server.say("FLUSHALL");
        }
        let options = RespOptions { is_cluster: true, ..options(&servers[1]) };
        Arc::new(adapter(options)) as Arc<dyn Adapter>
    })
    .await;
}

#[tokio::test]
async fn a_slot_that_moves_is_followed() {
    let Some(servers) = cluster() else { return };
    let adapter = adapter(RespOptions { is_cluster: true, ..options(&servers[0]) });
    let key = object_key(0);
    // Learn the map, then move the key's slot to another server while it holds nothing.
    assert_eq!(adapter.lookup_and_lock(vec![key.clone()]).await, [Err(Error::Absent)]);
    let slot = servers[0].say(&format!("CLUSTER KEYSLOT {}", wire_name(&key)));
    let slot: u16 = slot.trim_start_matches(':').parse().unwrap();
    let home = usize::from(slot / 5461);
    let target = (home + 1) % 3;
    let id = servers[target].say_all("CLUSTER MYID").lines().nth(1).unwrap().to_owned();
    for server in [target, home, (home + 2) % 3] {
        assert_eq!(servers[server].say(&format!("CLUSTER SETSLOT {slot} NODE {id}")), "+OK");
    }
    let buffer = HeapBuffer::copy_of(&object_bytes(0, 100));
    let stored = adapter.store(vec![StoreItem { key: key.clone(), buffer, seal: None }]).await;
    assert!(stored[0].is_ok(), "{stored:?}");
    assert_eq!(servers[target].say(&format!("STRLEN {}", wire_name(&key))), ":100");
}

#[tokio::test]
async fn a_dead_member_fails_its_keys_only() {
    let Some(mut servers) = cluster() else { return };
    let options = RespOptions { is_cluster: true, ..options(&servers[0]) };
    let adapter = Arc::new(adapter(options));
    assert!(adapter.store(store_items(0..60, 10)).await.iter().all(Result::is_ok));
    servers[2].kill();
    let retry = Retry::new(adapter, RetryPolicy { backoff_min_ms: 0, ..RetryPolicy::default() });
    let (items, _buffers) = load_items(0..60, 10);
    let loaded = retry.load(items).await;
    let held = loaded.iter().filter(|loaded| loaded.is_ok()).count();
    assert!((1..60).contains(&held), "{held} of 60 keys are on two of three servers");
    for result in loaded.iter().filter(|loaded| loaded.is_err()) {
        assert_eq!(failure(result).kind, FailureKind::Unavailable);
    }
}
