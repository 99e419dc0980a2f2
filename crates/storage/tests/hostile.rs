//! Backends that answer wrongly on purpose: no wrong byte, no secret told, no false word about how they fare.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests report by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use larder_storage::adapters::resp::{Node, RespAdapter, RespOptions};
use larder_storage::conformance::{load_items, object_key, store_items};
use larder_storage::{
    Adapter, AdapterConfig, Built, Error, Failure, FailureKind, HealthState, KeyResult, Secret, build,
    file_name,
};
use serde_json::{Value, json};

const PASSWORD: &str = "correct-horse-battery";

fn built(config: &Value) -> Built {
    build(&AdapterConfig::from_value(config, &|_| None).unwrap()).unwrap()
}

fn failure<T: std::fmt::Debug>(result: &KeyResult<T>) -> &Failure {
    match result {
        Err(Error::Failed(failure)) => failure,
        other => panic!("not a failure: {other:?}"),
    }
}

/// A server of the protocol whose answers are what `answer` makes of the words of each command.
fn redis(answer: impl Fn(&[String]) -> String + Send + Sync + 'static) -> RespOptions {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut source = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                while let Some(words) = command(&mut source) {
                    if stream.write_all(answer(&words).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    RespOptions { workers: 1, ..RespOptions::new(node) }
}

fn command(source: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut line = String::new();
    source.read_line(&mut line).ok()?;
    let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        line.clear();
        source.read_line(&mut line).ok()?;
        let mut word = vec![0; line.trim()[1..].parse::<usize>().ok()? + 2];
        source.read_exact(&mut word).ok()?;
        words.push(String::from_utf8_lossy(&word).trim_end().to_owned());
    }
    Some(words)
}

#[tokio::test]
async fn files_that_changed_places_are_not_served_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let Built { adapter, checksum, .. } = built(&json!({"type": "fs", "base_path": dir.path()}));
    assert!(adapter.store(store_items(0..2, 5000)).await.iter().all(Result::is_ok));
    if adapter.health().details["seals_kept"] == false {
        eprintln!("skipped: the file system has no extended attributes");
        return;
    }
    let [first, second] = [0, 1].map(|index| dir.path().join(file_name(&object_key(index)).unwrap()));
    let aside = dir.path().join("aside");
    fs::rename(&first, &aside).unwrap();
    fs::rename(&second, &first).unwrap();
    fs::rename(&aside, &second).unwrap();
    let (items, _buffers) = load_items(0..2, 5000);
    for loaded in adapter.load(items).await {
        assert_eq!(failure(&loaded).kind, FailureKind::Corrupt);
    }
    assert_eq!(checksum.unwrap().counts().corrupt, 2);
    assert!(!first.exists() && !second.exists(), "they are found no more");
}

#[tokio::test]
async fn no_object_is_swept_as_an_unfinished_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"type": "fs", "base_path": dir.path(), "relative_tmp_dir": "./"});
    let first = built(&config).adapter;
    assert!(first.store(store_items(0..3, 100)).await.iter().all(Result::is_ok));
    first.close().await;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let file = fs::File::open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    let again = built(&config).adapter;
    while !again.usage().is_complete {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    again.close().await;
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

/// Each try again would hold up the lookups of the healthy tiers as well.
#[tokio::test]
async fn a_directory_that_is_gone_is_not_tried_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let adapter = built(&json!({"type": "fs", "base_path": base})).adapter;
    assert!(adapter.store(store_items(0..1, 10)).await[0].is_ok());
    fs::rename(&base, dir.path().join("away")).unwrap();
    let is_noticed = async {
        while adapter.lookup_and_lock(vec![object_key(0)]).await[0].is_ok() {
            adapter.unlock(&[object_key(0)]);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_noticed).await.unwrap();
    assert_eq!(adapter.health().details["retried_keys"], 0);
}

/// As Redis answers a command that was renamed, and some proxies any that they don't know.
#[tokio::test]
async fn a_password_that_a_server_repeats_is_in_no_message() {
    let options = redis(|words| {
        format!("-ERR unknown command '{}', with args beginning with: '{}' \r\n", words[0], words[1])
    });
    let adapter = RespAdapter::new(RespOptions { password: Secret::new(PASSWORD), ..options }).unwrap();
    let found = adapter.lookup_and_lock(vec![object_key(0)]).await;
    assert_eq!(failure(&found[0]).kind, FailureKind::Refused);
    let health = adapter.health();
    assert_eq!(health.state, HealthState::Refused);
    for text in [failure(&found[0]).to_string(), format!("{health:?}")] {
        assert!(text.contains("unknown command 'AUTH'") && !text.contains("correct"), "{text}");
    }
}

#[tokio::test]
async fn what_a_server_says_is_quoted_on_one_line_and_short() {
    let options = redis(|_| format!("-ERR \u{1b}[31m{}\r\n", "x".repeat(60_000)));
    let adapter = RespAdapter::new(options).unwrap();
    let found = adapter.lookup_and_lock(vec![object_key(0)]).await;
    let loaded = adapter.load(load_items(0..1, 10).0).await;
    for text in [&failure(&found[0]).text, &failure(&loaded[0]).text] {
        assert!(text.len() < 500 && !text.contains('\u{1b}'), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_became_full_is_called_full_until_it_takes_an_object() {
    let is_full = Arc::new(AtomicBool::new(true));
    let full = Arc::clone(&is_full);
    let options = redis(move |words| match words[0].as_str() {
        "MSET" if full.load(Ordering::Relaxed) => "-OOM command not allowed\r\n".into(),
        "MSET" => "+OK\r\n".into(),
        _ => ":0\r\n".into(),
    });
    let adapter = RespAdapter::new(options).unwrap();
    assert_eq!(failure(&adapter.store(store_items(0..1, 10)).await[0]).kind, FailureKind::Full);
    let health = adapter.health();
    assert_eq!(health.state, HealthState::Full);
    assert!(health.reason.unwrap().contains("OOM"));
    is_full.store(false, Ordering::Relaxed);
    adapter.store(store_items(0..1, 10)).await[0].as_ref().unwrap();
    assert_eq!(adapter.health().state, HealthState::Ready);
}

/// Otherwise each object that ever was would be kept in mind for ever.
#[tokio::test]
async fn what_a_server_forgot_leaves_the_accounts_at_the_next_lookup() {
    let is_held = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&is_held);
    let options = redis(move |words| match words[0].as_str() {
        "MSET" => "+OK\r\n".into(),
        _ if held.load(Ordering::Relaxed) => ":10\r\n".into(),
        _ => ":0\r\n".into(),
    });
    let adapter = RespAdapter::new(options).unwrap();
    adapter.store(store_items(0..2, 10)).await;
    assert_eq!(adapter.usage().objects, 2);
    is_held.store(true, Ordering::Relaxed);
    assert!(adapter.lookup_and_lock(vec![object_key(0)]).await[0].is_ok());
    adapter.unlock(&[object_key(0)]);
    is_held.store(false, Ordering::Relaxed);
    assert_eq!(
        adapter.lookup_and_lock(vec![object_key(0), object_key(2)]).await,
        [Err(Error::Absent), Err(Error::Absent)]
    );
    assert_eq!((adapter.usage().objects, adapter.usage().bytes_used), (1, 10));
}
