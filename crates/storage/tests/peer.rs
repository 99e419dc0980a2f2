//! Objects written by the peer's adapters are ours to read, and the reverse.
//!
//! Runs where `LARDER_PYTHON` names an interpreter that has lmcache installed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests report by panicking")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use larder_core::key::ObjectKey;
use larder_storage::conformance::{load_items, object_bytes, object_key, store_items};
use larder_storage::{Adapter, AdapterConfig, Backend, build};
use serde_json::{Value, json};

const LEN: usize = 12_345;
const COUNT: usize = 6;

/// Has the peer store or load objects `0..COUNT`, with bytes in files of `dir`. None where there is no peer.
fn peer(operation: &str, config: &Value, dir: &Path) -> Option<Vec<bool>> {
    let Ok(python) = std::env::var("LARDER_PYTHON") else {
        eprintln!("skipped: `LARDER_PYTHON` is not set");
        return None;
    };
    let objects: Vec<Value> = (0..COUNT).map(|index| object(&object_key(index), &path(dir, index))).collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peer/adapter.py");
    let mut child = Command::new(python)
        .args([script, operation, &config.to_string()])
        .env("LMCACHE_TRACK_USAGE", "false")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(json!(objects).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the peer failed");
    let text = String::from_utf8(output.stdout).unwrap();
    let answer = text.lines().rev().find(|line| line.starts_with('[') && line.ends_with(']')).unwrap();
    Some(serde_json::from_str(answer).unwrap())
}

fn object(key: &ObjectKey, path: &Path) -> Value {
    let ObjectKey { chunk_hash, namespace } = key;
    json!({"hash": chunk_hash.to_string(), "model": &**namespace.model_name(), "rank": namespace.kv_rank(),
           "group": namespace.object_group_id(), "salt": &**namespace.cache_salt(), "path": path, "bytes": LEN})
}

fn path(dir: &Path, index: usize) -> std::path::PathBuf {
    dir.join(format!("bytes-{index}"))
}

fn ours(config: &Value) -> std::sync::Arc<dyn Adapter> {
    let config = AdapterConfig::from_value(config, &|_| None).unwrap();
    assert!(!matches!(config.backend, Backend::Mock(_)));
    build(&config).unwrap().adapter
}

async fn both_ways(config_of: impl Fn(&str) -> Value) {
    let files = tempfile::tempdir().unwrap();
    for index in 0..COUNT {
        std::fs::write(path(files.path(), index), object_bytes(index, LEN)).unwrap();
    }
    let Some(stored) = peer("store", &config_of("peer-first"), files.path()) else { return };
    assert_eq!(stored, [true; COUNT], "the peer holds what it stored");
    let adapter = ours(&config_of("peer-first"));
    let found = adapter.lookup_and_lock((0..COUNT).map(object_key).collect()).await;
    assert!(found.iter().all(Result::is_ok), "{found:?}");
    let (items, buffers) = load_items(0..COUNT, LEN);
    let loaded = adapter.load(items).await;
    assert!(
        loaded.iter().all(|loaded| loaded.as_ref().is_ok_and(|loaded| loaded.seal.is_none())),
        "{loaded:?}"
    );
    for (index, buffer) in buffers.iter().enumerate() {
        assert!(buffer.to_vec() == object_bytes(index, LEN), "object {index} of the peer");
    }

    let adapter = ours(&config_of("ours-first"));
    assert!(adapter.store(store_items(0..COUNT, LEN)).await.iter().all(Result::is_ok));
    adapter.close().await;
    for index in 0..COUNT {
        std::fs::write(path(files.path(), index), b"").unwrap();
    }
    let loaded = peer("load", &config_of("ours-first"), files.path()).unwrap();
    assert_eq!(loaded, [true; COUNT], "the peer loads what we stored");
    for index in 0..COUNT {
        assert!(
            std::fs::read(path(files.path(), index)).unwrap() == object_bytes(index, LEN),
            "object {index} of ours"
        );
    }
}

#[tokio::test]
async fn files_of_fs() {
    let dir = tempfile::tempdir().unwrap();
    both_ways(|name| json!({"type": "fs", "base_path": dir.path().join(name)})).await;
}

#[tokio::test]
async fn files_of_fs_native() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["peer-first", "ours-first"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    both_ways(|name| json!({"type": "fs_native", "base_path": dir.path().join(name)})).await;
}

#[tokio::test]
async fn values_of_resp() {
    let (Some(first), Some(second)) = (redis(), redis()) else { return };
    both_ways(|name| {
        let port = if name == "peer-first" { first.1 } else { second.1 };
        json!({"type": "resp", "host": "127.0.0.1", "port": port, "num_workers": 2})
    })
    .await;
}

struct Redis(std::process::Child, u16);

impl Drop for Redis {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn redis() -> Option<Redis> {
    use std::io::BufRead as _;
    for _ in 0..20 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let Ok(mut child) = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .stdout(Stdio::piped())
            .spawn()
        else {
            eprintln!("skipped: `redis-server` is not installed");
            return None;
        };
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        if lines.map_while(Result::ok).any(|line| line.contains("Ready to accept connections")) {
            return Some(Redis(child, port));
        }
        _ = child.wait();
    }
    panic!("no free port in 20 attempts");
}
