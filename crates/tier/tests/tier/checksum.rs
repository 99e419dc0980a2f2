//! Wrong bytes are never served: what is checked where, and what becomes of an object that is not what it
//! was.

use std::path::Path;

use larder_engine::CheckPoint;
use larder_engine::RetrievePlan;
use larder_storage::conformance::FailingAdapter;
use larder_storage::{Adapter as _, Op};

use super::*;

fn counts(engine: &Arc<Engine>, at: CheckPoint) -> (u64, u64) {
    let counters = &engine.counters().checksum;
    (counters.verified(at).get(), counters.mismatches(at).get())
}

fn unverified(engine: &Arc<Engine>) -> u64 {
    engine.counters().checksum.unverified.get()
}

fn seal_all(engine: &Arc<Engine>) {
    while engine.upkeep().seal_waiting() {}
}

/// Where the chunks of a stored prompt lie, with their leases held until the session ends.
fn plan(engine: &Arc<Engine>, seed: u32, chunks: u32) -> Option<RetrievePlan> {
    let tokens = prompt(seed, chunks);
    engine.requests().lookup(&key("plan", &tokens, None), 1).unwrap();
    assert_eq!(engine.requests().collect("plan", 1), Some(chunks as usize));
    engine.requests().prepare_retrieve(&key("plan", &tokens, Some(0)), WORKER, 1).unwrap()
}

fn end_plan(engine: &Arc<Engine>, seed: u32, chunks: u32) {
    engine.requests().commit_retrieve(&key("plan", &prompt(seed, chunks), Some(0)), WORKER, 1).unwrap();
    engine.requests().end_session("plan", 1);
}

fn flip(engine: &Arc<Engine>, offset: u64) {
    let mut byte = [0];
    engine.pool().read_at(offset, &mut byte).unwrap();
    engine.pool().write_at(offset, &[byte[0] ^ 0x10]).unwrap();
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    paths
}

fn quarantined(directory: &Path) -> usize {
    std::fs::read_dir(directory.join(".quarantine")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn bytes_that_changed_since_their_commit_are_not_stored() {
    let (engine, adapter) = (engine(32), FailingAdapter::new());
    let tier = alone::tier_of(&engine, PATIENCE, StorePolicy::Default);
    alone::attach(&tier, &adapter).await;
    adapter.hang(Op::Store, true);
    let calls = adapter.calls_seen(Op::Store);
    store(&engine, 9, 1);
    adapter.calls_reach(Op::Store, calls + 1).await;
    // What the adapter has in hand is all that it may have of a pool this small; the next ones wait unhashed.
    store(&engine, 1, 3);
    seal_all(&engine);
    let slots = plan(&engine, 1, 3).unwrap().slots;
    end_plan(&engine, 1, 3);
    flip(&engine, slots[1].offset + 77);
    adapter.hang(Op::Store, false);
    alone::soon(|| engine.operator().status().cache.leases == 0).await;
    assert_eq!(counts(&engine, CheckPoint::Store), (2, 1), "what was not sealed before is sealed on its way");
    assert_eq!(adapter.usage().objects, 3);
    let status = engine.operator().status().cache;
    assert_eq!((status.resident_objects, status.condemned_objects), (3, 0));

    let second = super::engine(32);
    let other = alone::tier_of(&second, PATIENCE, StorePolicy::Default);
    alone::attach(&other, &adapter).await;
    assert_eq!(read_back(&second, 1, 3).await, 1);
    other.stop();
    tier.stop();
}

#[tokio::test]
async fn what_was_not_sealed_is_sealed_at_its_store() {
    let directory = tempfile::tempdir().unwrap();
    let fs = json!({ "type": "fs", "base_path": directory.path() });
    let engine = engine(32);
    let running = tier(&engine, vec![fs.clone()], StorePolicy::Default);
    store(&engine, 1, 3);
    running.stop();
    assert_eq!(engine.counters().checksum.sealed.get(), 3);
    assert_eq!(counts(&engine, CheckPoint::Store), (0, 0));
    let second = super::engine(32);
    let running = tier(&second, vec![fs], StorePolicy::Default);
    assert_eq!(read_back(&second, 1, 3).await, 3);
    assert_eq!((counts(&second, CheckPoint::Load), unverified(&second)), ((3, 0), 0));
    let entries = plan(&second, 1, 3).unwrap().entries;
    assert!(
        entries.iter().all(|&entry| second.upkeep().seal_of(entry).is_some()),
        "a seal stays with its object"
    );
    running.stop();
}

#[tokio::test]
async fn a_file_whose_bytes_changed_is_a_miss_and_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let fs = json!({ "type": "fs", "base_path": directory.path() });
    let first = engine(32);
    let running = tier(&first, vec![fs.clone()], StorePolicy::Default);
    store(&first, 1, 1);
    running.stop();
    let file = files(directory.path()).remove(0);
    for position in [0, 1, 2048, PAGE as usize - 1] {
        for bit in [0, 7] {
            let intact = std::fs::read(&file).unwrap();
            let mut changed = intact.clone();
            changed[position] ^= 1 << bit;
            // In place, so that the file keeps its seal.
            std::io::Write::write_all(
                &mut std::fs::OpenOptions::new().write(true).open(&file).unwrap(),
                &changed,
            )
            .unwrap();
            let second = engine(32);
            let running = tier(&second, vec![fs.clone()], StorePolicy::Default);
            _ = std::fs::remove_dir_all(directory.path().join(".quarantine"));
            assert_eq!(read_back(&second, 1, 1).await, 0);
            assert_eq!(counts(&second, CheckPoint::Load), (0, 1));
            assert_eq!((quarantined(directory.path()), files(directory.path()).len()), (1, 0));
            assert_eq!(
                (second.operator().status().cache.leases, second.operator().status().cache.staging_objects),
                (0, 0)
            );
            store(&second, 1, 1);
            running.stop();
        }
    }
}

#[tokio::test]
async fn a_file_of_another_layout_is_a_miss_and_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let fs = json!({ "type": "fs", "base_path": directory.path() });
    let first = engine(32);
    let running = tier(&first, vec![fs.clone()], StorePolicy::Default);
    store(&first, 1, 2);
    running.stop();
    // As many bytes under the same name, to be read as something else.
    let second = checking_engine(32, ChecksumMode::Tiers, "int8");
    let running = tier(&second, vec![fs.clone()], StorePolicy::Default);
    assert_eq!(read_back(&second, 1, 2).await, 0);
    assert_eq!(counts(&second, CheckPoint::Load), (0, 2));
    store(&second, 1, 2);
    running.stop();
    let third = checking_engine(32, ChecksumMode::Tiers, "int8");
    let running = tier(&third, vec![fs], StorePolicy::Default);
    assert_eq!(read_back(&third, 1, 2).await, 2, "the place is free for what belongs there");
    running.stop();
}

#[tokio::test]
async fn files_of_the_peer_are_served_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let fs = json!({ "type": "fs", "base_path": directory.path() });
    let first = engine(32);
    let running = tier(&first, vec![fs.clone()], StorePolicy::Default);
    store(&first, 1, 3);
    running.stop();
    for file in files(directory.path()) {
        // A new file of the same bytes has no attributes.
        let bytes = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, bytes).unwrap();
    }
    let second = engine(32);
    let running = tier(&second, vec![fs], StorePolicy::Default);
    assert_eq!(read_back(&second, 1, 3).await, 3);
    assert_eq!((counts(&second, CheckPoint::Load), unverified(&second)), ((0, 0), 3));
    assert_eq!(second.seal_backlog(), 3, "from here on they are checked");
    running.stop();
}

#[tokio::test]
async fn nothing_is_hashed_where_checksums_are_off() {
    let directory = tempfile::tempdir().unwrap();
    let fs = json!({ "type": "fs", "base_path": directory.path() });
    let first = checking_engine(32, ChecksumMode::Off, "uint8");
    let running = tier(&first, vec![fs.clone()], StorePolicy::Default);
    store(&first, 1, 3);
    running.stop();
    assert_eq!((first.seal_backlog(), first.counters().checksum.sealed.get()), (0, 0));
    let second = engine(32);
    let running = tier(&second, vec![fs], StorePolicy::Default);
    assert_eq!(read_back(&second, 1, 3).await, 3);
    assert_eq!(unverified(&second), 3, "nothing was sealed");
    running.stop();
}

#[test]
fn without_anybody_who_checks_nothing_is_sealed() {
    let engine = engine(32);
    store(&engine, 1, 3);
    assert_eq!(engine.seal_backlog(), 0);
    engine.upkeep().require_seals();
    store(&engine, 2, 3);
    assert_eq!(engine.seal_backlog(), 3);
    seal_all(&engine);
    assert_eq!((engine.seal_backlog(), engine.counters().checksum.sealed.get()), (0, 3));
}

#[test]
fn an_object_that_left_before_it_was_hashed_gets_no_seal() {
    let engine = engine(32);
    engine.upkeep().require_seals();
    store(&engine, 1, 3);
    engine.operator().clear(false);
    store(&engine, 2, 1);
    seal_all(&engine);
    assert_eq!(engine.counters().checksum.sealed.get(), 1);
}

#[test]
fn every_changed_byte_is_found_before_a_retrieve() {
    let engine = checking_engine(32, ChecksumMode::Full, "uint8");
    for (round, at) in [0, 1, 63, 64, 65, 1000, PAGE - 1].into_iter().enumerate() {
        let seed = round as u32 + 1;
        store(&engine, seed, 3);
        seal_all(&engine);
        let intact = plan(&engine, seed, 3).unwrap();
        assert!(engine.requests().verify_retrieve(&intact));
        end_plan(&engine, seed, 3);
        let tampered = plan(&engine, seed, 3).unwrap();
        flip(&engine, tampered.slots[1].offset + at);
        assert!(!engine.requests().verify_retrieve(&tampered));
        let tokens = prompt(seed, 3);
        engine.requests().fail_retrieve(&key("plan", &tokens, Some(0)), WORKER, 1, &tampered).unwrap();
        engine.requests().end_session("plan", 1);
        let status = engine.operator().status().cache;
        assert_eq!((status.leases, status.condemned_objects), (0, 0));
        assert_eq!(counts(&engine, CheckPoint::Retrieve).1, u64::from(seed));
        engine.requests().lookup(&key("again", &tokens, None), 1).unwrap();
        assert_eq!(
            engine.requests().collect("again", 1),
            Some(1),
            "the changed chunk is gone, and only that"
        );
        engine.requests().end_session("again", 1);
    }
}

#[test]
fn a_changed_object_in_use_goes_when_its_readers_let_go() {
    let engine = checking_engine(32, ChecksumMode::Full, "uint8");
    store(&engine, 1, 1);
    seal_all(&engine);
    let tokens = prompt(1, 1);
    engine.requests().lookup(&key("holder", &tokens, None), 1).unwrap();
    let tampered = plan(&engine, 1, 1).unwrap();
    flip(&engine, tampered.slots[0].offset);
    assert!(!engine.requests().verify_retrieve(&tampered));
    engine.requests().fail_retrieve(&key("plan", &tokens, Some(0)), WORKER, 1, &tampered).unwrap();
    assert_eq!(engine.operator().status().cache.condemned_objects, 1, "somebody else may still read it");
    assert!(
        engine
            .requests()
            .prepare_retrieve(&key("holder", &tokens, Some(0)), WORKER, 1)
            .unwrap()
            .is_none_or(|plan| !engine.requests().verify_retrieve(&plan))
    );
    engine.requests().end_session("holder", 1);
    engine.requests().unregister(WORKER, 1);
    let status = engine.operator().status().cache;
    assert_eq!((status.condemned_objects, status.used_bytes), (0, 0));
}
