//! What happens to a directory, or to the server, while objects are stored and loaded.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests report by panicking")]

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder_storage::adapters::fs::{FsAdapter, FsOptions};
use larder_storage::conformance::{load_items, object_bytes, object_key, store_items};
use larder_storage::decorators::BreakerState;
use larder_storage::{
    Adapter, AdapterConfig, Built, Busy, DeleteMode, Error, FailureKind, HealthState, HeapBuffer, LentBuffer,
    LoadItem, StoreItem, build, file_name,
};
use serde_json::{Value, json};

const LEN: usize = 64 * 1024;

/// Longest wait for what must happen at some time.
const PATIENCE: Duration = Duration::from_secs(60);

fn build_config(config: &Value) -> Built {
    build(&AdapterConfig::from_value(config, &|_| None).unwrap()).unwrap()
}

fn built(config: &Value) -> Arc<dyn Adapter> {
    build_config(config).adapter
}

fn open(dir: &Path) -> FsAdapter {
    FsAdapter::open(FsOptions { full_probe_ms: 0, ..FsOptions::new(dir) }).unwrap()
}

fn kind(result: &Result<impl std::fmt::Debug, Error>) -> FailureKind {
    match result {
        Err(Error::Failed(failure)) => failure.kind,
        other => panic!("not a failure: {other:?}"),
    }
}

/// Stores and loads on several tasks until the adapter is closed under them; returns what was reported
/// stored.
async fn work_until_closed(adapter: &Arc<dyn Adapter>) -> Vec<usize> {
    let rounds = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let (adapter, rounds) = (Arc::clone(adapter), Arc::clone(&rounds));
            tokio::spawn(async move { work(&*adapter, worker, &rounds).await })
        })
        .collect();
    while rounds.load(Ordering::Acquire) < 20 {
        tokio::task::yield_now().await;
    }
    adapter.close().await;
    let mut stored = Vec::new();
    for worker in workers {
        stored.extend(worker.await.unwrap());
    }
    stored
}

async fn work(adapter: &dyn Adapter, worker: usize, rounds: &AtomicUsize) -> Vec<usize> {
    let mut stored = Vec::new();
    for round in 0.. {
        let first = (round * 4 + worker) * 8;
        let items = store_items(first..first + 8, LEN);
        let buffers: Vec<_> = items.iter().map(|item| Arc::clone(&item.buffer)).collect();
        let outcomes = adapter.store(items).await;
        assert!(
            buffers.iter().all(|buffer| Arc::strong_count(buffer) == 1),
            "buffers come back with the outcome"
        );
        stored.extend(
            (first..first + 8).zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(index, _)| index),
        );
        let (items, buffers) = load_items(first..first + 8, LEN);
        let loaded = adapter.load(items).await;
        for (index, loaded) in loaded.iter().enumerate().filter(|(_, loaded)| loaded.is_ok()) {
            assert_eq!(buffers[index].to_vec(), object_bytes(first + index, LEN), "{loaded:?}");
        }
        assert!(buffers.iter().all(|buffer| Arc::strong_count(buffer) == 1));
        rounds.fetch_add(1, Ordering::Release);
        let closed =
            |error: &Error| matches!(error, Error::Failed(failure) if failure.kind == FailureKind::Closed);
        if outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(closed)) {
            break;
        }
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_under_load_loses_nothing_that_was_reported() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"type": "fs", "base_path": dir.path(), "relative_tmp_dir": "tmp"});
    let stored = work_until_closed(&built(&config)).await;
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "no write was cut off");
    let again = built(&config);
    for index in stored {
        let buffer = HeapBuffer::zeroed(LEN);
        let loaded = again
            .load(vec![LoadItem { key: object_key(index), buffer: Arc::<HeapBuffer>::clone(&buffer) }])
            .await;
        assert!(loaded[0].as_ref().is_ok_and(|loaded| loaded.seal.is_some()), "object {index}: {loaded:?}");
        assert_eq!(buffer.to_vec(), object_bytes(index, LEN));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_twice_at_once_ends_and_nothing_works_after() {
    let dir = tempfile::tempdir().unwrap();
    let adapter: Arc<dyn Adapter> = Arc::new(open(dir.path()));
    let other = Arc::clone(&adapter);
    let closing = tokio::spawn(async move { other.close().await });
    adapter.close().await;
    closing.await.unwrap();
    assert_eq!(kind(&adapter.store(store_items(0..1, LEN)).await[0]), FailureKind::Closed);
    assert_eq!(kind(&adapter.load(load_items(0..1, LEN).0).await[0]), FailureKind::Closed);
    assert_eq!(kind(&adapter.lookup_and_lock(vec![object_key(0)]).await[0]), FailureKind::Closed);
    assert_eq!(kind(&adapter.delete(vec![object_key(0)], DeleteMode::Forced).await[0]), FailureKind::Closed);
    assert_eq!(adapter.health().state, HealthState::Closed);
}

/// A remote that takes everything and never answers must not hold a close up for longer than its own
/// patience.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_a_silent_remote_no_longer_than_its_calls_do() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (arrived, has_arrived) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, arrived) = (stream.unwrap(), arrived.clone());
            std::thread::spawn(move || {
                let mut first = [0];
                _ = stream.read_exact(&mut first).map(|()| arrived.send(()));
                _ = std::io::copy(&mut stream, &mut std::io::sink());
            });
        }
    });
    let adapter = built(&json!({
        "type": "valkey", "startup_nodes": format!("127.0.0.1:{port}"), "num_workers": 2, "request_timeout": 0.2,
        "retry": false,
    }));
    let storing = {
        let adapter = Arc::clone(&adapter);
        tokio::spawn(async move { adapter.store(store_items(0..4, LEN)).await })
    };
    has_arrived.recv().unwrap();
    adapter.close().await;
    let outcomes = storing.await.unwrap();
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
}

#[tokio::test]
async fn a_directory_that_vanishes_is_a_failure_until_it_is_back() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("base");
    let adapter = open(&dir);
    assert!(adapter.store(store_items(0..2, LEN)).await.iter().all(Result::is_ok));
    let away = parent.path().join("away");
    fs::rename(&dir, &away).unwrap();
    assert_eq!(kind(&adapter.store(store_items(2..3, LEN)).await[0]), FailureKind::Unavailable);
    assert!(!dir.exists(), "what may be a missing mount is not written to");
    assert_eq!(kind(&adapter.load(load_items(0..1, LEN).0).await[0]), FailureKind::Unavailable);
    assert_eq!(kind(&adapter.lookup_and_lock(vec![object_key(0)]).await[0]), FailureKind::Unavailable);
    assert_eq!(adapter.health().state, HealthState::Unavailable);
    fs::rename(&away, &dir).unwrap();
    assert!(adapter.lookup_and_lock(vec![object_key(0)]).await[0].is_ok(), "found as soon as it is back");
    assert_ne!(adapter.health().state, HealthState::Unavailable);
    assert!(adapter.store(store_items(2..3, LEN)).await[0].is_ok());
    let (items, buffers) = load_items(0..3, LEN);
    assert!(adapter.load(items).await.iter().all(Result::is_ok));
    assert!((0..3).all(|index| buffers[index].to_vec() == object_bytes(index, LEN)));
    // The first look through the directory may have met it while it was away, and is repeated then.
    let is_ready = async {
        while adapter.health().state != HealthState::Ready {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, is_ready).await.unwrap();
}

#[tokio::test]
async fn a_sharded_directory_that_vanishes_is_not_made_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("base");
    for levels in [1, 2] {
        let adapter =
            built(&json!({"type": "fs", "base_path": dir, "path_shard_levels": levels, "retry": false}));
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(kind(&adapter.store(store_items(0..1, LEN)).await[0]), FailureKind::Unavailable);
        assert!(!dir.exists());
    }
}

/// Nobody looks whether the directory is there: calls alone must notice, however the lookups in between went.
#[tokio::test]
async fn the_breaker_of_a_directory_that_vanished_opens_and_closes_when_it_is_back() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("base");
    let built = build_config(&json!({
        "type": "fs", "base_path": dir, "breaker": {"open_min_ms": 1, "open_max_ms": 1}, "retry": false,
    }));
    assert!(built.adapter.store(store_items(0..1, LEN)).await[0].is_ok());
    let away = parent.path().join("away");
    fs::rename(&dir, &away).unwrap();
    for _ in 0..50 {
        _ = built.adapter.lookup_and_lock(vec![object_key(0)]).await;
        assert!(built.adapter.load(load_items(0..1, LEN).0).await[0].is_err());
    }
    let breaker = built.breaker.as_ref().unwrap();
    assert!(breaker.openings() > 0);
    assert_ne!(breaker.state(), BreakerState::Closed);
    assert_eq!(built.adapter.health().state, HealthState::Unavailable);
    fs::rename(&away, &dir).unwrap();
    let works = async {
        while built.adapter.health().state != HealthState::Ready {
            _ = built.adapter.lookup_and_lock(vec![object_key(0)]).await;
            _ = built.adapter.load(load_items(0..1, LEN).0).await;
        }
    };
    tokio::time::timeout(PATIENCE, works).await.unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

/// A buffer that can't be filled, as if the file under it never answered.
#[derive(Debug)]
struct Hanging {
    len: usize,
    gate: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Hanging {
    /// The buffer, and what ends its hanging when dropped.
    fn new(len: usize) -> (Arc<Self>, std::sync::mpsc::Sender<()>) {
        let (open, gate) = std::sync::mpsc::channel();
        (Arc::new(Self { len, gate: Mutex::new(gate) }), open)
    }
}

impl LentBuffer for Hanging {
    fn len(&self) -> usize {
        self.len
    }
    fn read_at(&self, _: usize, _: &mut [u8]) -> std::io::Result<()> {
        Ok(())
    }
    fn write_at(&self, _: usize, _: &[u8]) -> std::io::Result<()> {
        _ = self.gate.lock().unwrap().recv();
        Err(std::io::ErrorKind::TimedOut.into())
    }
}

#[tokio::test]
async fn loads_that_hang_open_the_breaker_though_lookups_are_answered_from_memory() {
    let dir = tempfile::tempdir().unwrap();
    let built = build_config(&json!({
        "type": "fs", "base_path": dir.path(), "timeout": {"base_ms": 20}, "checksum": false,
        "breaker": {"failures_max": 3, "open_min_ms": 3_600_000},
    }));
    let stored = built.adapter.store(store_items(0..1, LEN)).await;
    // The time to store is limited as well; what is slow here is none of this test's business.
    let adapter = open(dir.path());
    assert!(stored[0].is_ok() || adapter.store(store_items(0..1, LEN)).await[0].is_ok());
    let mut gates = Vec::new();
    let mut lookups = 0;
    while built.breaker.as_ref().unwrap().openings() == 0 {
        lookups += usize::from(built.adapter.lookup_and_lock(vec![object_key(0)]).await[0].is_ok());
        let (buffer, gate) = Hanging::new(LEN);
        gates.push(gate);
        let loaded = built.adapter.load(vec![LoadItem { key: object_key(0), buffer }]).await;
        assert!(loaded[0].is_err());
        assert!(gates.len() < 100, "a hundred loads failed and the breaker did not open");
    }
    assert!(lookups > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_hang_cost_a_thread_each_and_no_other_file() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = built(&json!({
        "type": "fs", "base_path": dir.path(), "num_workers": 2, "timeout": {"base_ms": 200}, "breaker": false,
        "retry": false, "checksum": false,
    }));
    let mut gates = Vec::new();
    for round in 0..3 {
        let stores = async { while adapter.store(store_items(round..round + 1, LEN)).await[0].is_err() {} };
        tokio::time::timeout(PATIENCE, stores).await.unwrap();
        for _ in 0..2 {
            let (buffer, gate) = Hanging::new(LEN);
            gates.push(gate);
            let loaded = adapter.load(vec![LoadItem { key: object_key(round), buffer }]).await;
            assert_eq!(kind(&loaded[0]), FailureKind::Timeout);
        }
    }
    let (loads, buffers) = load_items(2..3, LEN);
    let works = async { while adapter.load(loads.clone()).await[0].is_err() {} };
    tokio::time::timeout(PATIENCE, works).await.unwrap();
    assert_eq!(buffers[0].to_vec(), object_bytes(2, LEN));
    assert!(adapter.health().details["stuck_threads"].as_u64() > Some(0));
    tokio::time::timeout(PATIENCE, adapter.close()).await.unwrap();
}

#[tokio::test]
async fn a_fifo_or_a_link_under_the_name_of_an_object_is_no_object() {
    let dir = tempfile::tempdir().unwrap();
    let built = build_config(&json!({"type": "fs", "base_path": dir.path(), "num_workers": 1}));
    let adapter = &built.adapter;
    assert!(adapter.store(store_items(0..3, LEN)).await.iter().all(Result::is_ok));
    let path = |index: usize| dir.path().join(file_name(&object_key(index)).unwrap());
    let fifo = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    fs::remove_file(path(0)).unwrap();
    fifo(&path(0));
    fs::remove_file(path(1)).unwrap();
    fifo(&dir.path().join("elsewhere"));
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), path(1)).unwrap();
    // Unfinished files are opened as well, when they are swept.
    fifo(&dir.path().join(".larder-1-1.tmp"));
    let (items, buffers) = load_items(0..3, LEN);
    let loaded = adapter.load(items).await;
    assert_eq!((kind(&loaded[0]), kind(&loaded[1])), (FailureKind::Invalid, FailureKind::Invalid));
    assert!(loaded[2].is_ok() && buffers[2].to_vec() == object_bytes(2, LEN), "{loaded:?}");
    for index in 0..2 {
        assert_eq!(adapter.lookup_and_lock(vec![object_key(index)]).await, [Err(Error::Absent)]);
    }
    assert_eq!(built.breaker.as_ref().unwrap().openings(), 0, "no fault of the directory");
    let again = open(dir.path());
    while again.health().details["index_complete"] != true {
        tokio::task::yield_now().await;
    }
    assert_eq!(again.usage().objects, 1);
    assert!(again.lookup_and_lock(vec![object_key(0)]).await[0].is_err());
    assert!(adapter.store(store_items(0..2, LEN)).await.iter().all(Result::is_ok));
    let (items, _buffers) = load_items(0..2, LEN);
    assert!(adapter.load(items).await.iter().all(Result::is_ok), "a store puts the object there again");
}

#[tokio::test]
async fn files_of_any_other_shape_are_failures_and_replaced_by_the_next_store() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = built(&json!({"type": "fs", "base_path": dir.path(), "breaker": false, "retry": false}));
    assert!(adapter.store(store_items(0..4, LEN)).await.iter().all(Result::is_ok));
    let path = |index| dir.path().join(file_name(&object_key(index)).unwrap());
    let resize =
        |index, len| fs::OpenOptions::new().write(true).open(path(index)).unwrap().set_len(len).unwrap();
    resize(0, 0);
    resize(1, LEN as u64 / 2);
    resize(2, LEN as u64 * 3);
    fs::remove_file(path(3)).unwrap();
    fs::create_dir(path(3)).unwrap();
    let loaded = adapter.load(load_items(0..4, LEN).0).await;
    assert!(loaded.iter().all(Result::is_err), "{loaded:?}");
    assert_eq!(kind(&loaded[2]), FailureKind::Mismatch, "a sealed object has exactly its length");
    let stored = adapter.store(store_items(0..4, LEN)).await;
    assert_eq!(stored.iter().filter(|stored| stored.is_ok()).count(), 3, "{stored:?}");
    let (items, buffers) = load_items(0..3, LEN);
    assert!(adapter.load(items).await.iter().all(Result::is_ok));
    assert!((0..3).all(|index| buffers[index].to_vec() == object_bytes(index, LEN)));
}

/// A small file system of its own, where the test may mount one.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", options, "tmpfs"], dir.path());
        if !mounted {
            eprintln!("skipped: mounting a file system takes root");
        }
        mounted.then_some(Self(dir))
    }

    fn remount(&self, how: &str) {
        assert!(mount(&["-o", &format!("remount,{how}")], self.0.path()));
    }
}

fn mount(args: &[&str], at: &Path) -> bool {
    Command::new("mount").args(args).arg(at).output().is_ok_and(|output| output.status.success())
}

impl Drop for Mounted {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_disk_that_is_really_full_keeps_what_it_holds_and_takes_more_when_there_is_room() {
    let Some(disk) = Mounted::new("size=1m") else { return };
    let adapter = open(disk.0.path());
    let mut stored = adapter.store(store_items(0..32, LEN)).await;
    // Two that took the last room from each other leave it to one that comes alone.
    loop {
        stored.extend(adapter.store(store_items(stored.len()..stored.len() + 1, LEN)).await);
        if stored.last().is_some_and(Result::is_err) {
            break;
        }
    }
    let held: Vec<usize> = (0..stored.len()).filter(|index| stored[*index].is_ok()).collect();
    assert!((8..=16).contains(&held.len()), "{stored:?}");
    assert!(stored.iter().filter(|stored| stored.is_err()).all(|stored| kind(stored) == FailureKind::Full));
    assert_eq!(adapter.health().state, HealthState::Full);
    for index in &held {
        let buffer = HeapBuffer::zeroed(LEN);
        let item = LoadItem { key: object_key(*index), buffer: Arc::<HeapBuffer>::clone(&buffer) };
        assert!(adapter.load(vec![item]).await[0].is_ok());
        assert_eq!(buffer.to_vec(), object_bytes(*index, LEN));
    }
    assert_eq!(fs::read_dir(disk.0.path()).unwrap().count(), held.len(), "nothing half-written is left");
    adapter.delete(held[..4].iter().map(|index| object_key(*index)).collect(), DeleteMode::IfUnlocked).await;
    assert!(adapter.store(store_items(60..62, LEN)).await.iter().all(Result::is_ok));
    assert_eq!(adapter.health().state, HealthState::Ready);
}

#[tokio::test]
async fn a_disk_that_becomes_read_only_still_serves() {
    let Some(disk) = Mounted::new("size=4m") else { return };
    let adapter = open(disk.0.path());
    assert!(adapter.store(store_items(0..2, LEN)).await.iter().all(Result::is_ok));
    disk.remount("ro");
    let stored = adapter.store(store_items(2..3, LEN)).await;
    assert_eq!(kind(&stored[0]), FailureKind::Refused);
    assert!(matches!(&stored[0], Err(Error::Failed(failure)) if !failure.retryable), "{stored:?}");
    assert_eq!(
        kind(&adapter.delete(vec![object_key(0)], DeleteMode::IfUnlocked).await[0]),
        FailureKind::Refused
    );
    assert_eq!(adapter.probe().await.unwrap_err().kind, FailureKind::Refused);
    assert_eq!(adapter.health().state, HealthState::Refused);
    let (items, buffers) = load_items(0..1, LEN);
    assert!(adapter.load(items).await[0].is_ok());
    assert_eq!(buffers[0].to_vec(), object_bytes(0, LEN));
    disk.remount("rw");
    adapter.probe().await.unwrap();
    assert_eq!(adapter.health().state, HealthState::Ready);
    assert!(adapter.store(store_items(2..3, LEN)).await[0].is_ok());
}

/// A delete that comes while an object is stored or loaded either waits its turn or is refused; nobody sees a
/// torn object.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storing_loading_and_deleting_one_object_at_once_never_tears_it() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = built(&json!({"type": "fs", "base_path": dir.path()}));
    let tasks: Vec<_> = (0..3)
        .map(|role| {
            let adapter = Arc::clone(&adapter);
            tokio::spawn(async move {
                for _ in 0..200 {
                    match role {
                        0 => {
                            let buffer = HeapBuffer::copy_of(&object_bytes(0, LEN));
                            let item = StoreItem { key: object_key(0), buffer, seal: None };
                            assert!(adapter.store(vec![item]).await[0].is_ok());
                        }
                        1 => {
                            let deleted = adapter.delete(vec![object_key(0)], DeleteMode::IfUnlocked).await;
                            let refused =
                                [Error::Absent, Error::Busy(Busy::Locked), Error::Busy(Busy::Deleting)];
                            assert!(
                                deleted[0].as_ref().map_or_else(|error| refused.contains(error), |_| true)
                            );
                        }
                        _ => {
                            let (items, buffers) = load_items(0..1, LEN);
                            match &adapter.load(items).await[0] {
                                Ok(_) => assert_eq!(buffers[0].checksum().unwrap(), checksum_of_first()),
                                Err(error) => assert_eq!(*error, Error::Absent),
                            }
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn checksum_of_first() -> u64 {
    HeapBuffer::copy_of(&object_bytes(0, LEN)).checksum().unwrap()
}
