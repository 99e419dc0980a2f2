use larder_core::eviction::PolicyKind;
use larder_core::key::ObjectKey;
use larder_storage::adapters::mock::{MockAdapter, MockOptions};
use larder_storage::conformance::{FailingAdapter, object_key, store_items};
use larder_storage::decorators::{Observer, Observing};
use larder_storage::{Adapter, EvictionConfig, Failure, FailureKind, Op};
use larder_telemetry::tasks::{TaskLevel, Tasks};

use super::*;
use larder_engine::QuotaTable;

const BYTES: usize = 100;

fn config(policy: &str) -> EvictionConfig {
    let policy = PolicyKind::parse(policy).unwrap();
    EvictionConfig { policy, trigger_watermark: 0.8, eviction_ratio: 0.2 }
}

fn mock(objects: u64) -> Arc<dyn Adapter> {
    let capacity_bytes = objects * BYTES as u64;
    Arc::new(MockAdapter::new(MockOptions { capacity_bytes, bandwidth_bytes_per_s: 0 }))
}

fn evicting(adapter: Arc<dyn Adapter>, quotas: QuotaTable) -> (Arc<dyn Adapter>, Arc<Evictor>) {
    let evictor = Arc::new(Evictor::new(Arc::clone(&adapter), config("LRU"), Arc::new(quotas)));
    let observer = Arc::clone(&evictor) as Arc<dyn Observer>;
    (Arc::new(Observing::new(adapter, observer)), evictor)
}

async fn held(adapter: &dyn Adapter, count: usize) -> Vec<usize> {
    let keys: Vec<ObjectKey> = (0..count).map(object_key).collect();
    let found = adapter.lookup_and_lock(keys.clone()).await;
    let held: Vec<usize> = (0..count).filter(|&object| found[object].is_ok()).collect();
    let locked: Vec<ObjectKey> = held.iter().map(|&object| object_key(object)).collect();
    adapter.unlock(&locked);
    held
}

#[tokio::test]
async fn the_coldest_leave_until_the_mark_and_locked_ones_are_passed_over() {
    let (adapter, evictor) = evicting(mock(20), QuotaTable::default());
    for object in 0..19 {
        adapter.store(store_items(object..object + 1, BYTES)).await;
    }
    adapter.lookup_and_lock(vec![object_key(0), object_key(2)]).await;
    assert!(evictor.pass().await);
    assert_eq!(held(&*adapter, 19).await, [vec![0, 2], (6..19).collect()].concat(), "0.8 of 20 is the mark");
    let report = evictor.report();
    assert_eq!((report.evicted_objects, report.locked_objects, report.objects), (4, 2, 15));
    assert!(evictor.pass().await, "nothing is due any more");
    assert_eq!(evictor.report().evicted_objects, 4);
}

#[tokio::test]
async fn a_store_makes_its_own_room_beside_others_under_way() {
    let (adapter, evictor) = evicting(mock(10), QuotaTable::default());
    adapter.store(store_items(0..10, BYTES)).await;
    let first = evictor.make_room(3 * BYTES as u64).await;
    let second = evictor.make_room(2 * BYTES as u64).await;
    assert_eq!(held(&*adapter, 10).await.len(), 5);
    drop((first, second));
    let third = evictor.make_room(4 * BYTES as u64).await;
    assert_eq!(held(&*adapter, 10).await.len(), 5, "there is room enough");
    drop(third);
    drop(evictor.make_room(11 * BYTES as u64).await);
    assert_eq!(held(&*adapter, 10).await.len(), 5, "no room for what never fits");
}

#[tokio::test]
async fn nothing_is_due_without_a_capacity_or_a_quota() {
    let (adapter, evictor) = evicting(FailingAdapter::new(), QuotaTable::default());
    adapter.store(store_items(0..10, BYTES)).await;
    assert!(evictor.pass().await);
    assert_eq!(evictor.report().passes, 0);
    evictor.quotas.set("", 0).unwrap();
    assert!(evictor.pass().await);
    assert_eq!(
        (evictor.report().objects, evictor.report().evicted_objects),
        (3, 7),
        "another tenant has three"
    );
    assert!(!evictor.admits("", 1) && evictor.admits("other", 1));
    assert_eq!(evictor.report().refused_objects, 1);
}

#[tokio::test]
async fn what_is_stored_while_it_is_deleted_stays_known() {
    let double = FailingAdapter::new();
    let (adapter, evictor) = evicting(Arc::<FailingAdapter>::clone(&double), QuotaTable::default());
    adapter.store(store_items(0..1, BYTES)).await;
    let leaving = evictor.choose(&Aim::All, 1, &HashSet::new());
    double.delete(vec![object_key(0)], DeleteMode::IfUnlocked).await.remove(0).unwrap();
    adapter.store(store_items(0..1, BYTES)).await;
    evictor.note_evicted(&leaving.victims[0]);
    drop(leaving);
    assert_eq!((evictor.report().objects, double.usage().objects), (1, 1));
}

#[tokio::test]
async fn a_disk_that_others_fill_is_not_emptied_for_them() {
    let (adapter, evictor) = evicting(mock(10), QuotaTable::default());
    adapter.store(store_items(0..6, BYTES)).await;
    assert!(!evictor.free(BYTES as u64).await, "the adapter has room of its own left");
    assert!(evictor.free(5 * BYTES as u64).await);
    assert_eq!(held(&*adapter, 6).await.len(), 1, "and gives no more than it takes");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_ends_after_it_was_given_up_is_found_by_listing() {
    let double = FailingAdapter::new();
    let (_, evictor) = evicting(Arc::<FailingAdapter>::clone(&double), QuotaTable::default());
    let listing = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(double.calls_seen(Op::List), 1, "one listing was enough");
        evictor.note_unsure();
        double.store(store_items(0..3, BYTES)).await;
        double.calls_reach(Op::List, 2).await;
        tokio::task::yield_now().await;
    };
    tokio::select! {
        () = evictor.keep_listed() => unreachable!(),
        () = listing => {}
    }
    assert_eq!(evictor.report().objects, 3);
}

/// An adapter that fails to delete is not asked over and over.
#[tokio::test(start_paused = true)]
async fn what_cannot_leave_is_tried_again_after_growing_pauses() {
    let double = FailingAdapter::new();
    let (adapter, evictor) = evicting(Arc::<FailingAdapter>::clone(&double), QuotaTable::default());
    adapter.store(store_items(0..10, BYTES)).await;
    evictor.quotas.set("", 1).unwrap();
    double.fail_next(Op::Delete, 1_000, Failure::retryable(FailureKind::Io, "no").into());
    let tasks = Tasks::default();
    let task = tasks.register("l2-eviction", TaskLevel::High);
    let minute = tokio::time::timeout(Duration::from_secs(60), evictor.evict_when_due(&task));
    assert!(minute.await.is_err());
    let asked = double.keys_seen(Op::Delete);
    assert!((2 * 7..=10 * 7).contains(&asked), "{asked} times in a minute");
}

#[tokio::test]
async fn at_the_mark_itself_something_leaves() {
    let (adapter, evictor) = evicting(mock(20), QuotaTable::default());
    adapter.store(store_items(0..15, BYTES)).await;
    assert!(evictor.pass().await);
    assert_eq!((evictor.report().passes, evictor.report().objects), (0, 15));
    adapter.store(store_items(15..16, BYTES)).await;
    assert!(evictor.pass().await);
    assert_eq!((evictor.report().passes, evictor.report().objects), (1, 13), "a fifth of sixteen");
}

#[tokio::test]
async fn only_what_reaches_a_mark_wakes_the_evictor() {
    let is_woken =
        async |evictor: &Evictor| tokio::time::timeout(Duration::ZERO, evictor.wake.notified()).await.is_ok();
    let (adapter, evictor) = evicting(mock(20), QuotaTable::default());
    evictor.quotas.set("tenant", 2 * BYTES as u64).unwrap();
    adapter.store(store_items(0..3, BYTES)).await;
    assert!(!is_woken(&evictor).await, "the tenant of the third has room for one more");
    adapter.store(store_items(3..7, BYTES)).await;
    assert!(is_woken(&evictor).await, "among others, a second of the tenant came");
    evictor.quotas.remove("tenant");
    adapter.store(store_items(7..15, BYTES)).await;
    assert!(!is_woken(&evictor).await);
    adapter.store(store_items(15..16, BYTES)).await;
    assert!(is_woken(&evictor).await, "the adapter is at its mark");
}

#[tokio::test]
async fn locked_ones_hide_nothing_behind_them() {
    let (adapter, evictor) = evicting(mock(20), QuotaTable::default());
    for object in 0..18 {
        adapter.store(store_items(object..object + 1, BYTES)).await;
    }
    let locked: Vec<ObjectKey> = (0..6).map(object_key).collect();
    adapter.lookup_and_lock(locked.clone()).await;
    assert!(evictor.free(3 * BYTES as u64).await);
    assert_eq!((evictor.report().evicted_objects, evictor.report().locked_objects), (3, 6));
    adapter.lookup_and_lock((0..18).map(object_key).collect()).await;
    assert!(!evictor.free(10 * BYTES as u64).await, "nothing can leave");
}

#[tokio::test]
async fn what_others_deleted_is_room_all_the_same_and_no_eviction() {
    let double = FailingAdapter::new();
    let (adapter, evictor) = evicting(Arc::<FailingAdapter>::clone(&double), QuotaTable::default());
    adapter.store(store_items(0..9, BYTES)).await;
    double.fail_next(Op::Delete, 3, Error::Absent);
    let step = evictor.step(&Aim::All, 3, &mut HashSet::new()).await;
    assert_eq!((step.evicted, step.bytes), (3, 3 * BYTES as u64));
    assert_eq!((evictor.report().objects, evictor.report().evicted_objects), (6, 0));
    double.fail_next(Op::Delete, 2, Failure::permanent(FailureKind::Io, "no").into());
    let step = evictor.step(&Aim::All, 2, &mut HashSet::new()).await;
    assert_eq!((step.evicted, step.bytes), (0, 0), "who fails is not asked for more at once");
    assert_eq!((evictor.report().failed_objects, double.keys_seen(Op::Delete)), (2, 5));
}

#[tokio::test]
async fn a_refused_store_costs_what_it_takes_whatever_the_sizes() {
    let (adapter, evictor) = evicting(mock(12), QuotaTable::default());
    for object in 0..12 {
        let bytes = if object < 6 { 20 } else { 180 };
        assert!(adapter.store(store_items(object..object + 1, bytes)).await[0].is_ok());
    }
    assert!(evictor.free(100).await);
    let report = evictor.report();
    assert_eq!((report.evicted_bytes, report.evicted_objects), (100, 5), "the small ones, one by one");
}

#[tokio::test]
async fn evictions_of_more_tenants_than_are_told_apart_are_counted_together() {
    let (_, evictor) = evicting(mock(20), QuotaTable::default());
    for round in 1..=2 {
        for tenant in 0..70 {
            evictor.state().count_evicted(&tenant.to_string().into());
        }
        let by_salt = evictor.report().evicted_by_salt;
        assert_eq!(
            (by_salt.len(), by_salt["0"], by_salt["63"], by_salt["(other)"]),
            (65, round, round, 6 * round)
        );
    }
}

#[tokio::test]
async fn what_turns_out_to_be_gone_is_forgotten() {
    let double = FailingAdapter::new();
    let (adapter, evictor) = evicting(Arc::<FailingAdapter>::clone(&double), QuotaTable::default());
    adapter.store(store_items(0..3, BYTES)).await;
    double.delete(vec![object_key(1)], DeleteMode::IfUnlocked).await;
    adapter.lookup_and_lock((0..3).map(object_key).collect()).await;
    let report = evictor.report();
    assert_eq!((report.objects, report.bytes), (2, 2 * BYTES as u64));
}
