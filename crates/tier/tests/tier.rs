//! The second tier behind the engine: a cache that outlives its memory, with a real directory.

#![expect(clippy::unwrap_used, reason = "a test may stop at a failed step")]

use std::sync::Arc;
use std::time::Duration;

use larder_core::key::TokenRange;
use larder_core::modes::{ChecksumMode, StorePolicy};
use larder_engine::fixtures::{
    CHUNK, PAGE, WORKER, bare_engine, config, engine, geometry, key, prompt, register, unprepared_engine,
};
use larder_engine::{
    Engine, EngineConfig, Geometry, LeaseTotals, PromptKey, StoreLane, WarmError, WarmStatus,
};
use larder_telemetry::tasks::Tasks;
use larder_tier::{Tier, TierConfig};
use serde_json::{Value, json};

#[path = "tier/alone.rs"]
mod alone;
#[path = "tier/attach.rs"]
mod attach;
#[path = "tier/checksum.rs"]
mod checksum;
#[path = "tier/eviction.rs"]
mod eviction;
#[path = "tier/hints.rs"]
mod hints;
#[path = "tier/waiting.rs"]
mod waiting;

/// How long lookups wait for a silent adapter, where a test is not about that.
const PATIENCE: Duration = Duration::from_secs(20);

fn checking_engine(pages: u64, checksum: ChecksumMode, dtype: &str) -> Arc<Engine> {
    let engine = bare_engine(pages, EngineConfig { checksum, ..config() });
    register(&engine, Geometry { dtype, ..geometry(1) });
    engine
}

fn tier(engine: &Arc<Engine>, adapters: Vec<Value>, store_policy: StorePolicy) -> Tier {
    let config = TierConfig {
        adapters,
        store_policy,
        prefetches_max: 4,
        prefetch_bytes_max: 1 << 30,
        patience: PATIENCE,
        quotas: Arc::default(),
    };
    Tier::start(&config, engine.tiers(), &Tasks::default()).unwrap()
}

/// Stores a prompt whose chunk bytes are made from its seed.
fn store(engine: &Arc<Engine>, seed: u32, chunks: u32) {
    let tokens = prompt(seed, chunks);
    let key = key("store", &tokens, Some(0));
    for slot in engine.requests().prepare_store(&key, WORKER, 1).unwrap().slots {
        engine.pool().write_at(slot.offset, &bytes(seed, slot.index)).unwrap();
    }
    assert!(engine.requests().commit_store(&key, WORKER, 1, None).unwrap());
}

fn bytes(seed: u32, chunk: usize) -> Vec<u8> {
    vec![(seed as usize * 16 + chunk) as u8; PAGE as usize]
}

/// Looks a prompt up, waits for the answer, checks the bytes and returns the number of chunks.
async fn read_back(engine: &Arc<Engine>, seed: u32, chunks: u32) -> usize {
    let tokens = prompt(seed, chunks);
    engine.requests().lookup(&key("read", &tokens, None), 1).unwrap();
    let hit =
        tokio::time::timeout(Duration::from_secs(20), engine.requests().collect_when_answered("read", 1))
            .await
            .unwrap();
    if hit > 0 {
        let end = hit as u64 * u64::from(CHUNK);
        let key = PromptKey { range: TokenRange { start: 0, end }, ..key("read", &tokens, Some(0)) };
        for slot in engine.requests().prepare_retrieve(&key, WORKER, 1).unwrap().unwrap().slots {
            let mut read = vec![0; PAGE as usize];
            engine.pool().read_at(slot.offset, &mut read).unwrap();
            assert_eq!(read, bytes(seed, slot.index), "chunk {}", slot.index);
        }
        engine.requests().commit_retrieve(&key, WORKER, 1).unwrap();
    }
    engine.requests().end_session("read", 1);
    hit
}

#[tokio::test]
async fn a_cache_outlives_its_server() {
    outlives_its_server(false).await;
}

/// The kernel moves bytes between the device and the pool, with nothing in between.
#[tokio::test]
async fn a_cache_outlives_its_server_without_the_page_cache() {
    outlives_its_server(true).await;
}

async fn outlives_its_server(use_odirect: bool) {
    let directory = tempfile::tempdir().unwrap();
    let fs = json!({ "type": "fs", "base_path": directory.path(), "use_odirect": use_odirect });
    let first = engine(32);
    let running = tier(&first, vec![fs.clone()], StorePolicy::Default);
    store(&first, 1, 3);
    running.stop();
    assert_eq!(first.operator().status().cache.leases, 0);

    let second = engine(32);
    let running = tier(&second, vec![fs], StorePolicy::Default);
    assert_eq!(read_back(&second, 1, 5).await, 3);
    assert_eq!(read_back(&second, 2, 5).await, 0);
    assert_eq!(second.counters().l2_loaded_chunks.get(), 3);
    assert_eq!(read_back(&second, 1, 3).await, 3);
    assert_eq!(second.counters().l2_loaded_chunks.get(), 3, "the second time it is in memory");
    let status = second.operator().status();
    assert_eq!((status.cache.leases, status.cache.staging_objects, status.prefetching), (0, 0, 0));
    running.stop();
}

#[tokio::test]
async fn what_memory_has_evicted_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(12);
    let running =
        tier(&engine, vec![json!({ "type": "fs", "base_path": directory.path() })], StorePolicy::Default);
    for seed in 1..=6 {
        store(&engine, seed, 3);
        while engine.operator().status().cache.leases > 0 {
            tokio::task::yield_now().await;
        }
    }
    for seed in 1..=6 {
        assert_eq!(read_back(&engine, seed, 3).await, 3, "prompt {seed}");
    }
    assert_eq!(engine.counters().refused_chunks.get(), 0);
    running.stop();
}

#[tokio::test]
async fn a_failing_adapter_shortens_the_hit_and_hangs_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let fs = json!({ "type": "fs", "base_path": directory.path() });
    let first = engine(32);
    let running = tier(&first, vec![fs.clone()], StorePolicy::Default);
    store(&first, 1, 4);
    running.stop();

    let second = engine(32);
    let gaps = json!({ "type": "fault_inject", "inner": fs, "gap_indices": [2] });
    let running = tier(&second, vec![gaps], StorePolicy::Default);
    assert_eq!(read_back(&second, 1, 4).await, 2);
    let status = second.operator().status();
    assert_eq!((status.cache.leases, status.cache.staging_objects), (0, 0));
    running.stop();
}

#[tokio::test]
async fn a_tier_may_replace_memory() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(32);
    let running =
        tier(&engine, vec![json!({ "type": "fs", "base_path": directory.path() })], StorePolicy::SkipL1);
    store(&engine, 1, 3);
    while engine.operator().status().cache.resident_objects > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(read_back(&engine, 1, 3).await, 3);
    running.stop();
}

#[test]
fn a_backlog_keeps_everything_while_memory_has_room() {
    let engine = engine(64);
    let lane = StoreLane::new(&engine.tiers());
    lane.set_open(true);
    for seed in 0..24 {
        store(&engine, seed, 2);
    }
    assert_eq!((engine.operator().tier_backlog().0, engine.counters().l2_shed_chunks.get()), (48, 0));
    for seed in 24..60 {
        store(&engine, seed, 2);
    }
    assert!(engine.operator().tier_backlog().0 <= 16, "{:?}", engine.operator().tier_backlog());
    assert_eq!(engine.counters().refused_chunks.get(), 0);
}

#[test]
fn a_backlog_sheds_the_oldest_instead_of_pinning_memory() {
    let engine = engine(16);
    let lane = StoreLane::new(&engine.tiers());
    lane.set_open(true);
    for seed in 0..40 {
        store(&engine, seed, 2);
    }
    let (waiting, _) = engine.operator().tier_backlog();
    assert_eq!(waiting as u64, engine.operator().status().cache.leases);
    assert!(waiting <= 4, "{waiting} of 16 pages are pinned");
    assert_eq!(engine.counters().l2_shed_chunks.get(), 80 - waiting as u64);
}

#[test]
fn what_is_given_up_of_a_prompt_is_its_end() {
    let engine = engine(32);
    let lane = StoreLane::new(&engine.tiers());
    lane.set_open(true);
    for seed in 0..12 {
        store(&engine, seed, 3);
    }
    let waiting = lane.backlog().objects;
    assert_eq!(waiting, 8, "a quarter of the pool: two prompts, and a third that was cut");
    let taken = lane.take(u64::MAX);
    assert_eq!(taken.len(), waiting);
    for prompt in taken.chunk_by(|left, right| Arc::ptr_eq(&left.work().prompt, &right.work().prompt)) {
        let hashes: Vec<_> = prompt.iter().map(|taken| taken.work().hash).collect();
        assert_eq!(hashes, prompt[0].work().prompt[..hashes.len()]);
    }
    drop(taken);
    assert_eq!(engine.operator().status().cache.leases, 0);
}

#[test]
fn a_void_prefetch_answers_no_newer_lookup() {
    let engine = engine(32);
    engine.tiers().set_enabled(true);
    let (first, second) = (prompt(1, 3), prompt(2, 3));
    engine.requests().lookup(&key("r", &first, None), 1).unwrap();
    let void = engine.tiers().take_prefetch().unwrap();
    engine.requests().lookup(&key("r", &second, None), 1).unwrap();
    let newer = engine.tiers().take_prefetch().unwrap();
    drop(void);
    assert_eq!(engine.requests().collect("r", 1), None, "the newer one is still waited for");
    drop(newer);
    assert_eq!(engine.requests().collect("r", 1), Some(0));
}

#[test]
fn a_lookup_that_too_many_wait_before_is_answered_from_memory_and_counted() {
    let engine = engine(32);
    engine.tiers().set_enabled(true);
    let tokens = prompt(1, 3);
    let mut refused = Vec::new();
    for request in 0..1_030 {
        let id = request.to_string();
        engine.requests().lookup(&key(&id, &tokens, None), 1).unwrap();
        refused.extend(engine.requests().collect(&id, 1));
    }
    assert_eq!((refused.len(), engine.operator().tier_backlog().1), (6, 1_024));
    assert_eq!(engine.counters().l2_refused_lookups.get(), 6);
}

#[tokio::test]
async fn a_warm_prefetch_leaves_objects_without_leases() {
    let directory = tempfile::tempdir().unwrap();
    let fs = json!({ "type": "fs", "base_path": directory.path() });
    let first = engine(32);
    let running = tier(&first, vec![fs.clone()], StorePolicy::Default);
    store(&first, 1, 3);
    running.stop();
    let second = engine(32);
    let running = tier(&second, vec![fs], StorePolicy::Default);
    let id = second.operator().warm("m", 1, "", key("", &prompt(1, 4), None).hashes, &prompt(1, 4)).unwrap();
    let finished = async {
        loop {
            match second.operator().warm_status(&id) {
                Some(WarmStatus::Pending) => tokio::time::sleep(Duration::from_millis(1)).await,
                status => break status,
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(20), finished).await.unwrap();
    assert_eq!(status, Some(WarmStatus::Completed { found_keys: 3, total_keys: 4 }));
    assert_eq!(second.operator().warm_status(&id), None, "the end is told once");
    assert_eq!(second.operator().lease_totals(), LeaseTotals::default());
    assert_eq!(second.operator().status().cache.resident_objects, 3);
    let unknown = second.operator().warm("nobody", 1, "", key("", &prompt(1, 4), None).hashes, &prompt(1, 4));
    assert!(matches!(unknown, Err(WarmError::NoLayout { .. })));
    running.stop();
}
