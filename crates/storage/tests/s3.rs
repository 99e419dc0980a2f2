//! The `s3` adapter against a real server of the interface; skipped where `moto_server` is not installed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests report by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use larder_storage::adapters::s3::{Credentials, S3Adapter, S3Options};
use larder_storage::conformance::{self, load_items, object_bytes, object_key, store_items};
use larder_storage::{Adapter, Error, Failure, FailureKind, HealthState, ListRequest, Secret};

/// A server of its own, killed when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Server {
    /// None when there is no such program.
    fn start() -> Option<Self> {
        let spawned = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else {
            eprintln!("skipped: `moto_server` is not installed");
            return None;
        };
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let Some(line) = lines.find(|line| line.contains("Running on http://127.0.0.1:")) else {
            _ = child.wait();
            eprintln!("skipped: `moto_server` does not start");
            return None;
        };
        // Its log is read for as long as it runs, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let port = line.rsplit(':').next().unwrap().trim().parse().unwrap();
        Some(Self { child, port })
    }

    fn create(&self, bucket: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request =
            format!("PUT /{bucket} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
    }

    fn options(&self, bucket: &str) -> S3Options {
        options(self.port, bucket)
    }
}

fn options(port: u16, bucket: &str) -> S3Options {
    let credentials = Credentials {
        access_key_id: "id".into(),
        secret_access_key: Secret::new("secret"),
        session_token: Secret::default(),
    };
    S3Options {
        port,
        tls: None,
        bucket: Some(bucket.into()),
        workers: 4,
        part_bytes: 5 << 20,
        request_timeout_ms: 5000,
        ..S3Options::new("127.0.0.1", "us-east-1", credentials)
    }
}

fn failure<T: std::fmt::Debug>(result: &Result<T, Error>) -> &Failure {
    match result {
        Err(Error::Failed(failure)) => failure,
        other => panic!("not a failure: {other:?}"),
    }
}

#[tokio::test]
async fn s3_conforms() {
    let Some(server) = Server::start() else { return };
    let count = AtomicU32::new(0);
    conformance::run(|| async {
        let bucket = format!("bucket-{}", count.fetch_add(1, Ordering::Relaxed));
        server.create(&bucket);
        let options =
            S3Options { key_prefix: "pre/fix".into(), is_prefixed_by_salt: true, ..server.options(&bucket) };
        Arc::new(S3Adapter::new(options).unwrap()) as Arc<dyn Adapter>
    })
    .await;
}

#[tokio::test]
async fn large_objects_go_in_parts_and_come_in_ranges() {
    const LEN: usize = (12 << 20) + 17;
    let Some(server) = Server::start() else { return };
    server.create("large");
    let adapter = S3Adapter::new(server.options("large")).unwrap();
    let stored = adapter.store(store_items(0..2, LEN)).await;
    assert!(stored.iter().all(Result::is_ok), "{stored:?}");
    let (items, buffers) = load_items(0..2, LEN);
    let loaded = adapter.load(items).await;
    assert!(loaded.iter().all(Result::is_ok), "{loaded:?}");
    for (index, buffer) in buffers.iter().enumerate() {
        assert!(buffer.to_vec() == object_bytes(index, LEN), "object {index}");
    }
    let page = adapter.list(ListRequest { entries_max: 10, ..ListRequest::default() }).await.unwrap();
    assert!(page.entries.iter().all(|entry| entry.bytes == LEN as u64) && page.entries.len() == 2);
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_a_failure_for_good() {
    let Some(server) = Server::start() else { return };
    let adapter = S3Adapter::new(server.options("missing")).unwrap();
    let stored = adapter.store(store_items(0..1, 10)).await;
    assert!(
        !failure(&stored[0]).retryable && failure(&stored[0]).text.contains("NoSuchBucket"),
        "{stored:?}"
    );
    let loaded = adapter.load(load_items(0..1, 10).0).await;
    assert!(failure(&loaded[0]).text.contains("NoSuchBucket"), "{loaded:?}");
}

#[tokio::test]
async fn a_probe_tells_a_bucket_from_none() {
    let Some(server) = Server::start() else { return };
    let missing = S3Adapter::new(server.options("missing")).unwrap();
    let failure = missing.probe().await.unwrap_err();
    assert!(failure.kind == FailureKind::Refused && failure.text.contains("NoSuchBucket"), "{failure}");
    assert_eq!(missing.health().state, HealthState::Refused);
    server.create("there");
    let there = S3Adapter::new(server.options("there")).unwrap();
    there.probe().await.unwrap();
    assert_eq!(there.health().state, HealthState::Ready);
}

/// Answers each connection's first request with fixed bytes.
fn fixed(answer: &'static [u8]) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        _ = stream.read(&mut request);
        _ = stream.write_all(answer);
    });
    (port, serving)
}

/// Answers the requests of each connection one after the other, and notes them.
fn scripted(answers: Vec<&'static str>) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        for answer in answers {
            let mut request = vec![0; 8192];
            let count = stream.read(&mut request).unwrap();
            seen.push(String::from_utf8_lossy(&request[..count]).to_lowercase());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        seen
    });
    (port, serving)
}

/// A part of one version and a part of another make an object that never was.
#[tokio::test]
async fn all_ranges_of_an_object_are_of_one_version() {
    let first =
        "HTTP/1.1 206 OK\r\netag: \"v1\"\r\ncontent-range: bytes 0-3/8\r\ncontent-length: 4\r\n\r\nabcd";
    let gone = "HTTP/1.1 412 Precondition Failed\r\ncontent-length: 0\r\n\r\n";
    let (port, serving) = scripted(vec![first, gone]);
    let options = S3Options { part_bytes: 4, workers: 1, ..options(port, "b") };
    let adapter = S3Adapter::new(options).unwrap();
    let loaded = adapter.load(load_items(0..1, 8).0).await;
    assert!(failure(&loaded[0]).retryable && failure(&loaded[0]).text.contains("replaced"), "{loaded:?}");
    let seen = serving.join().unwrap();
    assert!(!seen[0].contains("if-match"), "{}", seen[0]);
    assert!(seen[1].contains("if-match: \"v1\"") && seen[1].contains("range: bytes=4-7"), "{}", seen[1]);
}

#[tokio::test]
async fn a_part_of_another_version_is_refused_even_if_the_store_does_not() {
    let first =
        "HTTP/1.1 206 OK\r\netag: \"v1\"\r\ncontent-range: bytes 0-3/8\r\ncontent-length: 4\r\n\r\nabcd";
    let other =
        "HTTP/1.1 206 OK\r\netag: \"v2\"\r\ncontent-range: bytes 4-7/8\r\ncontent-length: 4\r\n\r\nefgh";
    let (port, serving) = scripted(vec![first, other]);
    let options = S3Options { part_bytes: 4, workers: 1, ..options(port, "b") };
    let loaded = S3Adapter::new(options).unwrap().load(load_items(0..1, 8).0).await;
    assert!(failure(&loaded[0]).text.contains("replaced"), "{loaded:?}");
    serving.join().unwrap();
}

#[tokio::test]
async fn another_part_than_the_one_asked_for_is_not_taken_for_it() {
    let first = "HTTP/1.1 206 OK\r\ncontent-range: bytes 0-3/8\r\ncontent-length: 4\r\n\r\nabcd";
    let (port, serving) = scripted(vec![first, first]);
    let options = S3Options { part_bytes: 4, workers: 1, ..options(port, "b") };
    let loaded = S3Adapter::new(options).unwrap().load(load_items(0..1, 8).0).await;
    assert!(failure(&loaded[0]).text.contains("another part"), "{loaded:?}");
    serving.join().unwrap();
}

/// The answer to a `HEAD` has no body, and with some stores the status of a bad request.
#[tokio::test]
async fn a_lookup_with_an_expired_token_is_a_refusal_that_says_so() {
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let get =
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 40\r\n\r\n<Error><Code>ExpiredToken</Code></Error>";
    let (port, serving) = scripted(vec![head, get]);
    let adapter = S3Adapter::new(options(port, "b")).unwrap();
    let found = adapter.lookup_and_lock(vec![object_key(0)]).await;
    assert_eq!(failure(&found[0]).kind, FailureKind::Refused, "{found:?}");
    assert!(failure(&found[0]).text.contains("`ExpiredToken`\nhint: "), "{found:?}");
    assert!(serving.join().unwrap()[1].starts_with("get "));
}

#[tokio::test]
async fn a_store_that_drips_holds_nobody_for_long() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ");
        while stream.write_all(b"1").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    let options = S3Options { workers: 1, request_timeout_ms: 50, ..options(port, "b") };
    let adapter = S3Adapter::new(options).unwrap();
    let load = adapter.load(load_items(0..1, 8).0);
    let loaded = tokio::time::timeout(std::time::Duration::from_secs(60), load).await.unwrap();
    assert!(failure(&loaded[0]).kind.blames_backend(), "{loaded:?}");
}

#[tokio::test]
async fn strange_and_overloaded_servers_are_failures_not_hangs() {
    let cases: [(&[u8], FailureKind, bool); 7] = [
        (b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\n\r\n", FailureKind::Unavailable, true),
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", FailureKind::Refused, false),
        (b"HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n", FailureKind::Invalid, false),
        (b"HTTP/1.1 414 Too Long\r\ncontent-length: 0\r\n\r\n", FailureKind::Invalid, false),
        (b"-ERR unknown command\r\n", FailureKind::Io, true),
        (b"", FailureKind::Unavailable, true),
        (
            b"HTTP/1.1 206 OK\r\ncontent-range: bytes 0-9/10\r\ncontent-length: 10\r\n\r\nabc",
            FailureKind::Unavailable,
            true,
        ),
    ];
    for (answer, kind, retryable) in cases {
        let (port, serving) = fixed(answer);
        let adapter = S3Adapter::new(options(port, "b")).unwrap();
        let loaded = adapter.load(load_items(0..1, 10).0).await;
        let text = String::from_utf8_lossy(answer).into_owned();
        assert_eq!(
            (failure(&loaded[0]).kind, failure(&loaded[0]).retryable),
            (kind, retryable),
            "{text}: {loaded:?}"
        );
        serving.join().unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_seen() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let adapter = S3Adapter::new(options(port, "b")).unwrap();
    assert_eq!(adapter.health().state, HealthState::Ready, "not used yet");
    let found = adapter.lookup_and_lock(vec![object_key(0)]).await;
    assert_eq!(failure(&found[0]).kind, FailureKind::Unavailable);
    assert_eq!(adapter.health().state, HealthState::Unavailable);
}
