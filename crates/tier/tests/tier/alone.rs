//! Tiers fail alone: what one adapter does or does not do costs the others, and memory, nothing.

use std::sync::Mutex;

use larder_core::key::ObjectKey;
use larder_storage::conformance::FailingAdapter;
use larder_storage::decorators::{Breaker, BreakerPolicy};
use larder_storage::{
    Adapter, AdapterFuture, Built, Busy, DeleteMode, Deleted, Error, Failure, FailureKind, Found, Health,
    HealthState, KeyResult, Lent, ListPage, ListRequest, LoadItem, Loaded, Op, StoreItem, Stored, Usage,
};
use larder_tier::Promptness;

use super::*;

/// Longest a test waits for what must happen soon; less than any patience that is not meant.
const SOON: Duration = Duration::from_secs(8);

pub(super) fn tier_of(engine: &Arc<Engine>, patience: Duration, store_policy: StorePolicy) -> Tier {
    let config = config_of(patience, store_policy);
    Tier::start(&config, engine.tiers(), &Tasks::default()).unwrap()
}

fn config_of(patience: Duration, store_policy: StorePolicy) -> TierConfig {
    TierConfig {
        adapters: Vec::new(),
        store_policy,
        prefetches_max: 4,
        prefetch_bytes_max: 1 << 30,
        patience,
        quotas: Arc::default(),
    }
}

/// Attaches an adapter and waits until it was tried.
pub(super) async fn attach(tier: &Tier, adapter: &Arc<impl Adapter + 'static>) {
    let adapter = Arc::clone(adapter);
    let built = Built { adapter, is_shared: false, counters: Arc::default(), breaker: None, checksum: None };
    tier.attach_built(built, None, json!({}), None).unwrap().probed().await;
}

pub(super) async fn soon(condition: impl Fn() -> bool) {
    let settles = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(SOON, settles).await.expect("it should have come true by now");
}

fn objects(adapter: &FailingAdapter) -> u64 {
    adapter.usage().objects
}

/// Adapters that hold the same prompts, and an engine that has nothing in memory.
pub(super) async fn holding(seeds: std::ops::Range<u32>, adapters: &[Arc<FailingAdapter>]) -> Arc<Engine> {
    let engine = engine(64);
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    for adapter in adapters {
        attach(&tier, adapter).await;
    }
    for seed in seeds.clone() {
        store(&engine, seed, 3);
    }
    let expected = 3 * seeds.len() as u64;
    soon(|| adapters.iter().all(|adapter| objects(adapter) == expected)).await;
    // A tier that ends closes its adapters, and these are to live on.
    std::mem::forget(tier);
    super::engine(64)
}

/// Passes calls on, keeps the buffers of loads and says that it got no answer: a worker stuck in its device.
#[derive(Debug)]
struct Hoarder {
    inner: Arc<FailingAdapter>,
    hoard: Mutex<Vec<Lent>>,
}

/// Passes calls on and panics in the middle of a load.
#[derive(Debug)]
struct Panicking {
    inner: Arc<FailingAdapter>,
}

/// An adapter that does as its `inner` one does, but for its loads.
macro_rules! loads_otherwise {
    ($adapter:ty, $load:expr) => {
        impl Adapter for $adapter {
            fn kind(&self) -> &'static str {
                "otherwise"
            }
            fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
                self.inner.store(batch)
            }
            fn lookup_and_lock(&self, keys: Vec<ObjectKey>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
                self.inner.lookup_and_lock(keys)
            }
            fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
                let outcomes: Vec<KeyResult<Loaded>> = $load(self, batch);
                Box::pin(async move { outcomes })
            }
            fn unlock(&self, keys: &[ObjectKey]) {
                self.inner.unlock(keys);
            }
            fn delete(
                &self,
                keys: Vec<ObjectKey>,
                mode: DeleteMode,
            ) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
                self.inner.delete(keys, mode)
            }
            fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>> {
                self.inner.list(request)
            }
            fn probe(&self) -> AdapterFuture<'_, Result<(), Failure>> {
                self.inner.probe()
            }
            fn ready_to_store(&self) -> AdapterFuture<'_, ()> {
                self.inner.ready_to_store()
            }
            fn usage(&self) -> Usage {
                self.inner.usage()
            }
            fn health(&self) -> Health {
                self.inner.health()
            }
            fn close(&self) -> AdapterFuture<'_, ()> {
                self.inner.close()
            }
        }
    };
}

loads_otherwise!(Hoarder, |hoarder: &Self, batch: Vec<LoadItem>| {
    let outcomes = batch.iter().map(|_| Err(Failure::permanent(FailureKind::Timeout, "no answer").into()));
    let outcomes = outcomes.collect();
    hoarder.hoard.lock().unwrap().extend(batch.into_iter().map(|item| item.buffer));
    outcomes
});
#[expect(clippy::panic, reason = "the point of this adapter")]
fn panics(_: &Panicking, batch: Vec<LoadItem>) -> Vec<KeyResult<Loaded>> {
    panic!("{} objects are too many", batch.len())
}
loads_otherwise!(Panicking, panics);

#[tokio::test]
async fn memory_that_a_stuck_worker_holds_delays_no_lookup() {
    let held = FailingAdapter::new();
    let engine = holding(1..4, std::slice::from_ref(&held)).await;
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    let hoarder = Arc::new(Hoarder { inner: held, hoard: Mutex::default() });
    attach(&tier, &hoarder).await;
    let lookups = async {
        for seed in [1, 1, 2, 3] {
            assert_eq!(read_back(&engine, seed, 3).await, 0);
        }
    };
    tokio::time::timeout(SOON, lookups)
        .await
        .expect("nobody waits for one's own stuck loads, nor for another's");
    assert_eq!(hoarder.hoard.lock().unwrap().len(), 12, "each lookup tried again");
    assert_eq!(engine.operator().status().cache.staging_objects, 12);
    hoarder.hoard.lock().unwrap().clear();
    assert_eq!(engine.operator().status().cache.staging_objects, 0);
    tier.stop();
}

#[tokio::test]
async fn what_the_first_tier_cannot_bring_comes_from_the_next() {
    let (first, second) = (FailingAdapter::new(), FailingAdapter::new());
    let engine = holding(1..4, &[Arc::clone(&first), Arc::clone(&second)]).await;
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &first).await;
    attach(&tier, &second).await;
    first.fail_next(Op::Load, 1, Failure::permanent(FailureKind::Io, "bad sector").into());
    assert_eq!(read_back(&engine, 1, 3).await, 3);
    first.fail_next(Op::Load, 3, Failure::permanent(FailureKind::Io, "no directory").into());
    assert_eq!(read_back(&engine, 2, 3).await, 3);
    soon(|| first.usage().objects_locked + second.usage().objects_locked == 0).await;
    tier.stop();
}

#[tokio::test]
async fn a_stuck_worker_of_one_tier_does_not_keep_the_next_from_loading() {
    let (first, second) = (FailingAdapter::new(), FailingAdapter::new());
    let engine = holding(1..2, &[Arc::clone(&first), Arc::clone(&second)]).await;
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    let hoarder = Arc::new(Hoarder { inner: first, hoard: Mutex::default() });
    attach(&tier, &hoarder).await;
    attach(&tier, &second).await;
    assert_eq!(read_back(&engine, 1, 3).await, 3);
    for lent in hoarder.hoard.lock().unwrap().iter() {
        lent.write_at(0, &[0xff]).unwrap();
    }
    assert_eq!(read_back(&engine, 1, 3).await, 3, "a late write reaches nothing that is served");
    tier.stop();
}

#[tokio::test]
async fn an_object_of_another_size_hides_none_behind_it() {
    let (first, second) = (FailingAdapter::new(), FailingAdapter::new());
    let engine = holding(1..2, std::slice::from_ref(&second)).await;
    let page =
        second.list(ListRequest { model_name: None, page_token: None, entries_max: 10 }).await.unwrap();
    let short = page.entries.into_iter().map(|entry| StoreItem {
        key: entry.key,
        buffer: larder_storage::HeapBuffer::zeroed(PAGE as usize / 2),
        seal: None,
    });
    first.store(short.collect()).await;
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &first).await;
    attach(&tier, &second).await;
    assert_eq!(read_back(&engine, 1, 3).await, 3);
    assert_eq!((first.keys_seen(Op::Load), engine.counters().l2_misfit_objects.get()), (0, 3));
    soon(|| first.usage().objects_locked == 0).await;
    tier.stop();
}

#[tokio::test]
async fn a_tier_that_never_answers_costs_the_healthy_one_no_store() {
    let (stuck, healthy) = (FailingAdapter::new(), FailingAdapter::new());
    let engine = engine(256);
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &stuck).await;
    attach(&tier, &healthy).await;
    stuck.hang(Op::Store, true);
    for seed in 1..=20 {
        store(&engine, seed, 2);
        soon(|| objects(&healthy) == 2 * u64::from(seed)).await;
    }
    assert_eq!(objects(&stuck), 0);
    let report = |at: usize| tier.lanes()[at].1;
    assert!(report(0).waiting.objects + report(0).in_flight_bytes as usize > 0);
    assert_eq!((report(1).waiting.objects, report(1).in_flight_bytes), (0, 0));
    stuck.hang(Op::Store, false);
    soon(|| objects(&stuck) == 40 && engine.operator().status().cache.leases == 0).await;
    tier.stop();
}

#[tokio::test]
async fn a_busy_tier_is_asked_again_and_gets_everything() {
    let (busy, healthy) = (FailingAdapter::new(), FailingAdapter::new());
    let engine = engine(64);
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &busy).await;
    attach(&tier, &healthy).await;
    busy.fail_next(Op::Store, 5, Error::Busy(Busy::Limit("delay_max_ms")));
    for seed in 1..=4 {
        store(&engine, seed, 3);
    }
    soon(|| objects(&healthy) == 12 && objects(&busy) == 12).await;
    soon(|| engine.operator().status().cache.leases == 0).await;
    assert_eq!((tier.lanes()[0].1.put_back_objects, tier.lanes()[1].1.put_back_objects), (5, 0));
    busy.fail_next(Op::Store, 2, Error::Busy(Busy::Declined("stores_min")));
    store(&engine, 9, 3);
    soon(|| engine.operator().status().cache.leases == 0).await;
    assert_eq!(objects(&busy), 13, "what a rule keeps out is not asked for again");
    tier.stop();
}

#[tokio::test]
async fn what_is_committed_while_a_tier_is_down_reaches_it_when_it_is_back() {
    let double = FailingAdapter::new();
    let policy = BreakerPolicy { failures_max: 1, open_min_ms: 20, open_max_ms: 100 };
    let breaker = Arc::new(Breaker::new(Arc::<FailingAdapter>::clone(&double), policy));
    let engine = engine(64);
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    let built = Built {
        adapter: Arc::<Breaker>::clone(&breaker),
        is_shared: false,
        counters: Arc::default(),
        breaker: Some(Arc::clone(&breaker)),
        checksum: None,
    };
    tier.attach_built(built, None, json!({}), None).unwrap().probed().await;
    let down: Error = Failure::retryable(FailureKind::Unavailable, "refused").into();
    double.fail_next(Op::Store, u32::MAX, down.clone());
    for seed in 1..=10 {
        store(&engine, seed, 3);
    }
    soon(|| tier.lanes()[0].1.put_back_objects > 0).await;
    assert_eq!(breaker.openings(), 1);
    double.fail_next(Op::Store, 0, down);
    soon(|| objects(&double) == 30 && engine.operator().status().cache.leases == 0).await;
    double.fail_next(Op::Store, 1, Failure::permanent(FailureKind::Full, "full").into());
    store(&engine, 11, 3);
    soon(|| engine.operator().status().cache.leases == 0).await;
    assert_eq!(objects(&double), 32, "what is no fault of the backend's is not tried again");
    tier.stop();
}

#[tokio::test]
async fn memory_lets_go_of_an_object_when_the_last_tier_has_it() {
    let (slow, quick) = (FailingAdapter::new(), FailingAdapter::new());
    let engine = engine(64);
    let tier = tier_of(&engine, PATIENCE, StorePolicy::SkipL1);
    attach(&tier, &slow).await;
    attach(&tier, &quick).await;
    slow.hang(Op::Store, true);
    store(&engine, 1, 3);
    soon(|| objects(&quick) == 3 && tier.lanes()[1].1.in_flight_bytes == 0).await;
    assert_eq!(engine.operator().status().cache.resident_objects, 3);
    slow.hang(Op::Store, false);
    soon(|| engine.operator().status().cache.resident_objects == 0).await;
    quick.fail_next(Op::Store, 1, Failure::permanent(FailureKind::Io, "no").into());
    store(&engine, 2, 3);
    soon(|| engine.operator().status().cache.leases == 0).await;
    assert_eq!(engine.operator().status().cache.resident_objects, 1, "what one of them lacks stays");
    tier.stop();
}

#[tokio::test]
async fn what_waits_for_an_adapter_that_goes_is_given_up() {
    let stuck = FailingAdapter::new();
    let engine = engine(64);
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &stuck).await;
    stuck.hang(Op::Store, true);
    for seed in 1..=10 {
        store(&engine, seed, 3);
    }
    let id = tier.adapters()[0].id().to_owned();
    tier.set_paused(&id, true).unwrap();
    assert_eq!(tier.lanes()[0].1.waiting.objects, 0);
    tier.set_paused(&id, false).unwrap();
    store(&engine, 11, 3);
    tier.detach(&id, Duration::from_millis(1)).await.unwrap();
    assert!(tier.lanes().is_empty());
    soon(|| engine.operator().status().cache.leases == 0).await;
    tier.stop();
}

#[tokio::test]
async fn an_adapter_that_does_not_answer_delays_nothing_that_others_have() {
    let (deaf, healthy) = (FailingAdapter::new(), FailingAdapter::new());
    let engine = holding(1..9, std::slice::from_ref(&healthy)).await;
    let tier = tier_of(&engine, Duration::from_millis(50), StorePolicy::Default);
    attach(&tier, &deaf).await;
    attach(&tier, &healthy).await;
    deaf.hang(Op::Lookup, true);
    store(&engine, 100, 1);
    let lookups = async {
        assert_eq!(read_back(&engine, 100, 3).await, 1);
        for seed in 1..9 {
            assert_eq!(read_back(&engine, seed, 4).await, 3);
        }
    };
    tokio::time::timeout(SOON, lookups).await.expect("nobody waits for the deaf one");
    let pulse = Arc::clone(tier.adapters()[0].pulse());
    assert!(pulse.is_late(Promptness::Lookup));
    assert_eq!(deaf.keys_seen(Op::Lookup), 0);
    deaf.hang(Op::Lookup, false);
    soon(|| deaf.keys_seen(Op::Lookup) > 0).await;
    let answers_again = async {
        while pulse.is_late(Promptness::Lookup) {
            assert_eq!(read_back(&engine, 101, 3).await, 0);
        }
    };
    tokio::time::timeout(SOON, answers_again).await.unwrap();
    tier.stop();
}

#[tokio::test]
async fn what_an_adapter_brings_late_is_there_for_the_next_lookup() {
    let slow = FailingAdapter::new();
    let engine = holding(1..3, std::slice::from_ref(&slow)).await;
    let tier = tier_of(&engine, Duration::from_millis(50), StorePolicy::Default);
    attach(&tier, &slow).await;
    for (seed, op) in [(1, Op::Lookup), (2, Op::Load)] {
        slow.hang(op, true);
        assert_eq!(read_back(&engine, seed, 3).await, 0, "nobody waits for the {}", op.label());
        slow.hang(op, false);
        soon(|| engine.operator().status().cache.resident_objects == 3 * u64::from(seed)).await;
        assert_eq!(read_back(&engine, seed, 3).await, 3);
    }
    soon(|| engine.operator().status().cache.staging_objects + slow.usage().objects_locked == 0).await;
    tier.stop();
}

#[tokio::test]
async fn a_tier_that_hangs_takes_no_room_from_what_others_load() {
    let (stuck, healthy) = (FailingAdapter::new(), FailingAdapter::new());
    holding(1..4, std::slice::from_ref(&stuck)).await;
    let engine = holding(4..9, std::slice::from_ref(&healthy)).await;
    let config = TierConfig {
        prefetch_bytes_max: 6 * PAGE,
        ..config_of(Duration::from_millis(50), StorePolicy::Default)
    };
    let tier = Tier::start(&config, engine.tiers(), &Tasks::default()).unwrap();
    attach(&tier, &stuck).await;
    attach(&tier, &healthy).await;
    stuck.hang(Op::Load, true);
    assert_eq!(read_back(&engine, 1, 3).await, 0);
    assert_eq!(engine.operator().status().cache.staging_objects, 3, "the adapter may still write there");
    for seed in 4..6 {
        assert_eq!(read_back(&engine, seed, 6).await, 3);
    }
    for seed in 1..4 {
        assert_eq!(read_back(&engine, seed, 3).await, 0);
        assert!(
            engine.operator().status().cache.staging_objects <= 4,
            "one that is late is tried with a single chunk"
        );
    }
    for seed in 6..9 {
        assert_eq!(read_back(&engine, seed, 6).await, 3);
    }
    stuck.hang(Op::Load, false);
    soon(|| engine.operator().status().cache.staging_objects == 0 && tier.prefetch_memory().bytes_taken == 0)
        .await;
    tier.stop();
}

#[tokio::test]
async fn right_after_a_start_a_prefetch_waits_for_the_pool() {
    let held = FailingAdapter::new();
    holding(1..2, std::slice::from_ref(&held)).await;
    let engine = unprepared_engine(64, config());
    register(&engine, geometry(1));
    engine.upkeep().grow(PAGE);
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &held).await;
    let growing = async {
        for pages in 2..=64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(
                pages > 3 || engine.upkeep().wants_growth(),
                "a pool that is prepared on demand is asked to go on"
            );
            engine.upkeep().grow(pages * PAGE);
        }
        engine.upkeep().stop_growing();
    };
    let (hit, ()) = tokio::join!(read_back(&engine, 1, 3), growing);
    assert_eq!(hit, 3);
    tier.stop();
}

#[tokio::test]
async fn a_prefetch_that_fails_leaves_no_lock_and_no_memory_behind() {
    let held = FailingAdapter::new();
    let engine = holding(1..2, std::slice::from_ref(&held)).await;
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &Arc::new(Panicking { inner: Arc::clone(&held) })).await;
    assert_eq!(read_back(&engine, 1, 3).await, 0);
    soon(|| held.usage().objects_locked + engine.operator().status().cache.staging_objects == 0).await;
    assert_eq!(engine.operator().status().prefetching, 0);
    tier.stop();
}

#[tokio::test]
async fn an_adapter_that_can_store_nothing_says_so_and_is_tried_again() {
    let refusing = FailingAdapter::new();
    refusing.fail_next(Op::Store, 1, Failure::permanent(FailureKind::Refused, "no login").into());
    let engine = engine(16);
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &refusing).await;
    let attached = Arc::clone(&tier.adapters()[0]);
    assert_eq!(
        (attached.health().state, attached.health().reason.as_deref()),
        (HealthState::Refused, Some("no login"))
    );
    let well = FailingAdapter::new();
    attach(&tier, &well).await;
    let attached = Arc::clone(&tier.adapters()[1]);
    assert_eq!(attached.health().state, HealthState::Ready);
    tier.stop();
}

/// An object of another layout is put aside before the answer, because what was asked for is stored next; but
/// not for ever.
#[tokio::test]
async fn an_adapter_that_puts_nothing_aside_delays_an_answer_by_one_patience() {
    let held = FailingAdapter::new();
    holding(1..2, std::slice::from_ref(&held)).await;
    let other = checking_engine(16, ChecksumMode::Tiers, "int8");
    let tier = tier_of(&other, Duration::from_millis(50), StorePolicy::Default);
    attach(&tier, &held).await;
    held.hang(Op::Delete, true);
    let lookup = tokio::time::timeout(SOON, read_back(&other, 1, 3));
    assert_eq!(lookup.await.expect("the answer does not wait for the deletion"), 0);
    assert!(held.calls_seen(Op::Delete) > 0);
    soon(|| other.operator().status().cache.staging_objects == 0).await;
    held.hang(Op::Delete, false);
    assert_eq!(read_back(&other, 1, 3).await, 0);
    assert_eq!(held.usage().objects, 0, "the place is free for what belongs there");
    tier.stop();
}
