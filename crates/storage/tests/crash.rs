//! A writer killed at any moment leaves whole objects and nothing else.
#![expect(clippy::unwrap_used, reason = "helpers of tests report by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use larder_storage::Adapter;
use larder_storage::adapters::fs::{FsAdapter, FsOptions};
use larder_storage::conformance::{load_items, object_bytes, object_key, store_items};

const DIR: &str = "LARDER_TEST_CRASH_DIR";
const FIRST: &str = "LARDER_TEST_CRASH_FIRST";
const LEN: usize = 200_000;
/// Rounds of storing and killing; `LARDER_CRASH_ROUNDS` asks for more.
const ROUNDS: usize = 10;

/// The writer: stores one object after the other and says so, until it is killed. A test by name only, so
/// that the test program can start itself as one.
#[tokio::test]
async fn writer_process() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let first: usize = std::env::var(FIRST).unwrap().parse().unwrap();
    let adapter = FsAdapter::open(FsOptions::new(dir)).unwrap();
    for index in first.. {
        // Three at a time, so that some are under way at every moment.
        let stored = adapter.store(store_items(index * 3..index * 3 + 3, LEN)).await;
        assert!(stored.iter().all(Result::is_ok), "{stored:?}");
        println!("\nstored {index}");
    }
}

/// Starts a writer, kills it after `rounds` batches and returns the last one it reported.
fn write_and_kill(dir: &Path, first: usize, batches: usize) -> usize {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_process", "--nocapture"])
        .env(DIR, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let reported = lines.filter_map(|line| line.strip_prefix("stored ").map(|index| index.parse().unwrap()));
    let last = reported.take(batches).last().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    last
}

#[tokio::test]
async fn killed_writers_lose_nothing_they_reported() {
    let dir = tempfile::tempdir().unwrap();
    let rounds =
        std::env::var("LARDER_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let mut next = 0;
    for round in 0..rounds {
        let first = next;
        let last = write_and_kill(dir.path(), first, 1 + round % 4);
        next = last + 2;
        let adapter = FsAdapter::open(FsOptions::new(dir.path())).unwrap();
        while adapter.health().details["index_complete"] != true {
            tokio::task::yield_now().await;
        }
        let reported = first * 3..last * 3 + 3;
        let found = adapter.lookup_and_lock(reported.clone().map(object_key).collect()).await;
        assert!(found.iter().all(Result::is_ok), "round {round}: {found:?}");
        // Also what was under way: whole or absent.
        for index in reported.start..reported.end + 3 {
            let (items, buffers) = load_items(index..index + 1, LEN);
            let loaded = adapter.load(items).await;
            let is_whole = loaded[0].is_ok() && buffers[0].to_vec() == object_bytes(index, LEN);
            assert!(
                is_whole || loaded[0] == Err(larder_storage::Error::Absent),
                "object {index}: {loaded:?}"
            );
        }
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| !name.to_string_lossy().ends_with(".data")).collect();
        assert!(left.is_empty(), "round {round}: {left:?} is left behind");
    }
}
