//! Eviction from adapters: capacities, quotas, and what stays.

use larder_core::quota::Quotas;
use larder_engine::QuotaTable;

use super::*;

const GIB: f64 = 1_073_741_824.0;

fn mock(pages: u64) -> Value {
    json!({
        "type": "mock", "max_size_gb": (pages * PAGE) as f64 / GIB, "mock_bandwidth_gb": 1000,
        "eviction": { "eviction_policy": "LRU", "trigger_watermark": 0.8, "eviction_ratio": 0.2 },
    })
}

fn fs(directory: &tempfile::TempDir, pages: u64) -> Value {
    json!({
        "type": "fs", "base_path": directory.path(), "max_capacity_gb": (pages * PAGE) as f64 / GIB,
        "eviction": { "eviction_policy": "LRU", "trigger_watermark": 0.8, "eviction_ratio": 0.2 },
    })
}

fn tier_with(engine: &Arc<Engine>, adapter: Value, quotas: Arc<QuotaTable>) -> Tier {
    let config = TierConfig {
        adapters: vec![adapter],
        store_policy: StorePolicy::Default,
        prefetches_max: 4,
        prefetch_bytes_max: 1 << 30,
        patience: PATIENCE,
        quotas,
    };
    Tier::start(&config, engine.tiers(), &Tasks::default()).unwrap()
}

/// Stores a prompt of a tenant and waits until the tier has it.
async fn store_for(engine: &Arc<Engine>, seed: u32, chunks: u32, salt: &str) {
    let tokens = prompt(seed, chunks);
    let key = PromptKey { cache_salt: salt, ..key("store", &tokens, Some(0)) };
    for slot in engine.requests().prepare_store(&key, WORKER, 1).unwrap().slots {
        engine.pool().write_at(slot.offset, &bytes(seed, slot.index)).unwrap();
    }
    assert!(engine.requests().commit_store(&key, WORKER, 1, None).unwrap());
    while engine.operator().status().cache.leases > 0 {
        tokio::task::yield_now().await;
    }
}

fn used(tier: &Tier) -> u64 {
    tier.adapters()[0].built().adapter.usage().bytes_used
}

fn failed_stores(tier: &Tier) -> u64 {
    tier.adapters()[0].built().counters.of(larder_storage::Op::Store).failed_total()
}

/// Waits until a condition holds, as it must soon.
async fn settles(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// Waits until so many bytes are left; a test that waits for ever is stopped by its runner.
async fn shrinks_to(tier: &Tier, bytes: u64) {
    while used(tier) > bytes {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_tier_takes_many_times_its_capacity_and_keeps_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    for adapter in [mock(20), fs(&directory, 20)] {
        let engine = engine(64);
        let tier = tier_with(&engine, adapter, Arc::default());
        for seed in 1..=30 {
            store_for(&engine, seed, 4, "").await;
            assert!(used(&tier) <= 20 * PAGE);
        }
        assert_eq!(failed_stores(&tier), 0);
        engine.operator().clear(false);
        assert_eq!((read_back(&engine, 30, 4).await, read_back(&engine, 1, 4).await), (4, 0));
        let report = tier.adapters()[0].eviction_report().unwrap();
        assert_eq!(report.bytes, used(&tier));
        assert!(report.evicted_objects >= 100 && report.passes > 0, "{report:?}");
        tier.stop();
    }
}

/// A conversation that goes on stays whole, although its beginning was stored first of all.
#[tokio::test]
async fn the_beginning_of_a_prompt_outlives_its_rivals() {
    let engine = engine(128);
    let tier = tier_with(&engine, mock(20), Arc::default());
    for turn in 1..=10 {
        store_for(&engine, 1, turn, "").await;
        for rival in 0..2 {
            store_for(&engine, 100 + 10 * turn + rival, 2, "").await;
        }
    }
    engine.operator().clear(false);
    assert_eq!(read_back(&engine, 1, 10).await, 10);
    tier.stop();
}

#[tokio::test]
async fn what_was_asked_for_outlives_what_was_only_stored() {
    let engine = engine(128);
    let tier = tier_with(&engine, mock(20), Arc::default());
    for seed in 1..=3 {
        store_for(&engine, seed, 4, "").await;
    }
    engine.operator().clear(false);
    assert_eq!(read_back(&engine, 1, 4).await, 4);
    for seed in 4..=5 {
        store_for(&engine, seed, 4, "").await;
    }
    shrinks_to(&tier, 15 * PAGE).await;
    engine.operator().clear(false);
    assert_eq!((read_back(&engine, 1, 4).await, read_back(&engine, 2, 4).await), (4, 0));
    tier.stop();
}

#[tokio::test]
async fn what_an_earlier_server_left_is_evicted_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let first = engine(64);
    let running = tier_with(&first, fs(&directory, 40), Arc::default());
    for seed in 1..=7 {
        store_for(&first, seed, 4, "").await;
    }
    running.stop();

    let second = engine(64);
    let tier = tier_with(&second, fs(&directory, 20), Arc::default());
    // Before the index is complete, little is known to be there.
    settles(|| tier.adapters()[0].built().adapter.usage().is_complete).await;
    shrinks_to(&tier, 16 * PAGE).await;
    store_for(&second, 50, 4, "").await;
    assert_eq!((failed_stores(&tier), read_back(&second, 50, 4).await), (0, 4));
    tier.stop();
}

#[tokio::test]
async fn a_quota_takes_from_its_tenant_alone() {
    let engine = engine(64);
    let mut limits = Quotas::default();
    limits.set("alice", 10 * PAGE);
    let quotas = Arc::new(QuotaTable::new(limits));
    let tier = tier_with(&engine, mock(1000), Arc::clone(&quotas));
    for seed in 1..=4 {
        store_for(&engine, seed, 4, "alice").await;
        store_for(&engine, seed, 4, "bob").await;
        store_for(&engine, seed, 4, "").await;
    }
    shrinks_to(&tier, (32 + 7) * PAGE).await;
    let bytes = || tier.adapters()[0].bytes_by_salt();
    // The adapter has deleted before the ledger knows.
    settles(|| (1..=7 * PAGE).contains(&bytes()["alice"])).await;
    assert_eq!((bytes()["bob"], bytes()[""]), (16 * PAGE, 16 * PAGE));

    quotas.set("bob", 0).unwrap();
    shrinks_to(&tier, (16 + 7) * PAGE).await;
    settles(|| !bytes().contains_key("bob")).await;
    store_for(&engine, 9, 4, "bob").await;
    assert!(!bytes().contains_key("bob"), "and lets nothing in");
    quotas.remove("bob");
    store_for(&engine, 10, 4, "bob").await;
    assert_eq!(bytes()["bob"], 4 * PAGE, "without a quota there is no limit");
    tier.stop();
}

#[tokio::test]
async fn a_default_of_zero_admits_only_those_with_a_quota() {
    let engine = engine(64);
    let mut limits = Quotas::default();
    limits.set_default(Some(0));
    limits.set("alice", 100 * PAGE);
    let mut adapter = mock(1000);
    adapter["eviction"]["eviction_policy"] = "IsolatedLRU".into();
    let tier = tier_with(&engine, adapter, Arc::new(QuotaTable::new(limits)));
    for salt in ["alice", "bob", ""] {
        store_for(&engine, 1, 4, salt).await;
    }
    let bytes = tier.adapters()[0].bytes_by_salt();
    assert_eq!(bytes.into_iter().collect::<Vec<_>>(), [("alice".into(), 4 * PAGE)]);
    tier.stop();
}

#[tokio::test]
async fn eviction_with_nothing_to_go_by_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(16);
    let config = |policy: &str| {
        let base_path = directory.path().join(policy);
        json!({ "type": "fs", "base_path": base_path, "eviction": { "eviction_policy": policy } })
    };
    let quotas = Arc::new(QuotaTable::default());
    let tier = tier_with(&engine, config("IsolatedLRU"), Arc::clone(&quotas));
    tier.attach(&config("noop"), None).unwrap();
    let refused = tier.attach(&config("LRU"), None).unwrap_err().to_string();
    assert!(refused.contains("`eviction` has nothing to go by"), "{refused}");
    quotas.set("alice", 1).unwrap();
    tier.attach(&config("LRU"), None).unwrap();
    tier.stop();
}
