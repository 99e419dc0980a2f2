//! The list of adapters, changed while the tier runs.

use larder_tier::{Phase, RosterError, TierError};

use super::*;

const DRAIN_PATIENCE: Duration = Duration::from_secs(20);

fn fs(directory: &tempfile::TempDir) -> Value {
    json!({ "type": "fs", "base_path": directory.path() })
}

/// A mock whose every transfer takes longer than any test.
fn stuck_mock() -> Value {
    json!({ "type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 1e-9 })
}

fn files(directory: &tempfile::TempDir) -> usize {
    std::fs::read_dir(directory.path()).unwrap().count()
}

async fn settled(engine: &Arc<Engine>) {
    while engine.operator().status().cache.leases > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_first_adapter_may_come_while_the_server_runs() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(32);
    let tasks = Tasks::default();
    let config = TierConfig {
        adapters: Vec::new(),
        store_policy: StorePolicy::Default,
        prefetches_max: 4,
        prefetch_bytes_max: 1 << 30,
        patience: PATIENCE,
        quotas: Arc::default(),
    };
    let tier = Tier::start(&config, engine.tiers(), &tasks).unwrap();
    store(&engine, 1, 3);
    assert_eq!(read_back(&engine, 2, 3).await, 0, "nobody is asked");
    assert!(
        tasks.list().is_empty() && engine.operator().status().cache.leases == 0,
        "no tier, no task, nothing queued"
    );

    let attached = tier.attach(&fs(&directory), None).unwrap();
    store(&engine, 2, 3);
    settled(&engine).await;
    assert_eq!(files(&directory), 3);
    engine.operator().clear(false);
    assert_eq!((read_back(&engine, 2, 3).await, read_back(&engine, 1, 3).await), (3, 0));

    let detachment = tier.detach(attached.id(), DRAIN_PATIENCE).await.unwrap();
    assert!(detachment.is_drained && detachment.is_closed && detachment.users_left == 0);
    engine.operator().clear(false);
    assert_eq!(read_back(&engine, 2, 3).await, 0);
    store(&engine, 3, 2);
    settled(&engine).await;
    assert_eq!((files(&directory), tier.adapters().len()), (3, 0));
    tier.stop();
    assert!(matches!(tier.attach(&fs(&directory), None), Err(TierError::Stopping)));
}

#[tokio::test]
async fn a_paused_adapter_gets_no_work_and_keeps_its_place() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = engine(32);
    let tier = tier(&engine, vec![fs(&first), fs(&second)], StorePolicy::Default);
    tier.set_paused("fs-0", true).unwrap();
    store(&engine, 1, 2);
    settled(&engine).await;
    assert_eq!((files(&first), files(&second)), (0, 2));
    tier.set_paused("fs-1", true).unwrap();
    engine.operator().clear(false);
    assert_eq!(read_back(&engine, 1, 2).await, 0, "nobody is asked");
    tier.set_paused("0", false).unwrap();
    tier.set_paused("1", false).unwrap();
    assert_eq!(read_back(&engine, 1, 2).await, 2);
    store(&engine, 2, 2);
    settled(&engine).await;
    assert_eq!((files(&first), files(&second)), (2, 4));
    assert_eq!(tier.adapters()[0].phase(), Phase::Active);
    tier.stop();
}

#[tokio::test]
async fn with_every_adapter_paused_memory_keeps_what_skip_l1_would_drop() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(32);
    let tier = tier(&engine, vec![fs(&directory)], StorePolicy::SkipL1);
    engine.tiers().set_enabled(true);
    tier.set_paused("fs-0", true).unwrap();
    store(&engine, 1, 3);
    engine.tiers().set_enabled(true);
    store(&engine, 2, 1);
    settled(&engine).await;
    assert_eq!(engine.operator().status().cache.resident_objects, 4);
    tier.stop();
}

#[tokio::test]
async fn what_cannot_work_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(16);
    let tier = tier(&engine, vec![fs(&directory)], StorePolicy::Default);
    let attach = |config: Value, index| tier.attach(&config, index).map(|attached| attached.id().to_owned());
    assert!(matches!(attach(json!({ "type": "fs" }), None), Err(TierError::Config(_))));
    let no_directory = json!({ "type": "fs", "base_path": "/proc/version/x" });
    assert!(matches!(attach(no_directory, None), Err(TierError::Adapter(_))));
    let place = attach(stuck_mock(), Some(2));
    assert!(matches!(place, Err(TierError::Roster(RosterError::Place { index: 2, len: 1 }))));
    assert!(matches!(
        tier.detach("fs-9", DRAIN_PATIENCE).await,
        Err(TierError::Roster(RosterError::Unknown(_)))
    ));
    let unbroken = json!({ "type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 1, "breaker": false });
    assert_eq!(attach(unbroken, Some(0)).unwrap(), "mock-1");
    assert!(matches!(tier.reset_breaker("mock-1"), Err(TierError::NoBreaker(_))));
    tier.reset_breaker("fs-0").unwrap();
    let ids: Vec<_> = tier.adapters().iter().map(|attached| attached.id().to_owned()).collect();
    assert_eq!(ids, ["mock-1", "fs-0"]);
    tier.stop();
}

#[tokio::test]
async fn two_adapters_share_no_directory() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(16);
    let tier = tier(&engine, vec![fs(&directory)], StorePolicy::Default);
    let other_name = json!({ "type": "fs", "base_path": directory.path().join(".") });
    let wrapped = json!({ "type": "fault_inject", "inner": fs(&directory), "gap_indices": [1] });
    for config in [fs(&directory), other_name, wrapped] {
        let refused = tier.attach(&config, None);
        assert!(
            matches!(&refused, Err(TierError::Roster(RosterError::Directory { id, .. })) if id == "fs-0"),
            "{refused:?}"
        );
    }
    tier.detach("fs-0", DRAIN_PATIENCE).await.unwrap();
    tier.attach(&fs(&directory), None).unwrap();
    tier.stop();
}

#[tokio::test]
async fn a_detachment_waits_no_longer_than_it_is_told() {
    let engine = engine(16);
    let tier = tier(&engine, vec![stuck_mock()], StorePolicy::Default);
    store(&engine, 1, 1);
    while tier.adapters()[0].users() == 0 {
        tokio::task::yield_now().await;
    }
    let detachment = tier.detach("mock-0", Duration::from_millis(1)).await.unwrap();
    assert!(!detachment.is_drained && detachment.users_left == 1);
    assert!(tier.adapters().is_empty());
}

#[tokio::test]
async fn a_secret_is_not_kept_with_the_configuration() {
    let engine = engine(16);
    let tier = tier(&engine, Vec::new(), StorePolicy::Default);
    let config = json!({ "type": "resp", "host": "127.0.0.1", "port": 1, "password": "hunter2" });
    let attached = tier.attach(&config, None).unwrap();
    assert!(!format!("{attached:?}").contains("hunter2"));
    assert_eq!(attached.config()["password"], larder_telemetry::redaction::REDACTED);
    tier.stop();
}

/// A backend that never answers is given up on; the hit is what memory has.
#[tokio::test]
async fn an_adapter_that_never_answers_shortens_the_hit() {
    let engine = engine(32);
    let mut stuck = stuck_mock();
    stuck["timeout"] = json!({ "base_ms": 50, "bytes_per_s_min": 0 });
    let tier = tier(&engine, vec![stuck], StorePolicy::Default);
    store(&engine, 1, 3);
    settled(&engine).await;
    engine.operator().clear(false);
    assert_eq!(read_back(&engine, 1, 3).await, 0, "the objects are there but can't be loaded");
    store(&engine, 1, 1);
    settled(&engine).await;
    assert_eq!(read_back(&engine, 1, 3).await, 1);
    tier.stop();
}

#[tokio::test]
async fn a_prompt_larger_than_the_budget_is_loaded_as_far_as_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(64);
    let config = TierConfig {
        adapters: vec![fs(&directory)],
        store_policy: StorePolicy::Default,
        prefetches_max: 4,
        prefetch_bytes_max: 16 * PAGE,
        patience: PATIENCE,
        quotas: Arc::default(),
    };
    let tier = Tier::start(&config, engine.tiers(), &Tasks::default()).unwrap();
    store(&engine, 1, 20);
    settled(&engine).await;
    engine.operator().clear(false);
    assert_eq!(read_back(&engine, 1, 20).await, 16);
    assert_eq!(read_back(&engine, 1, 20).await, 20, "what is in memory already takes no budget");
    let memory = tier.prefetch_memory();
    assert_eq!((memory.bytes_max, memory.bytes_taken, memory.shortened_chunks), (16 * PAGE, 0, 4));
    tier.stop();
}
