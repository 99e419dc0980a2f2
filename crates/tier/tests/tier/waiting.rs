//! Who waits for whom, what passes meanwhile, and what is counted of it.

use larder_storage::conformance::FailingAdapter;
use larder_storage::{Adapter as _, DeleteMode, Failure, FailureKind, Op};
use larder_tier::{Promptness, Shortfall};

use super::alone::{attach, holding, soon, tier_of};
use super::*;

/// Longer than a call takes on a machine that is busy.
const SHORT: Duration = Duration::from_millis(500);

fn failure() -> larder_storage::Error {
    Failure::permanent(FailureKind::Io, "bad sector").into()
}

#[tokio::test]
async fn only_an_adapter_that_does_its_part_is_waited_for_again() {
    for (op, with) in [(Op::Lookup, Promptness::Lookup), (Op::Load, Promptness::Load)] {
        let slow = FailingAdapter::new();
        let engine = holding(1..4, std::slice::from_ref(&slow)).await;
        let tier = tier_of(&engine, SHORT, StorePolicy::Default);
        attach(&tier, &slow).await;
        let pulse = Arc::clone(tier.adapters()[0].pulse());
        slow.hang(op, true);
        assert_eq!(read_back(&engine, 1, 3).await, 0);
        soon(|| pulse.is_late(with)).await;
        slow.hang(op, false);
        soon(|| engine.operator().status().cache.resident_objects == 3).await;
        let asked = slow.keys_seen(op);
        slow.fail_next(op, 3, Failure::retryable(FailureKind::Io, "flaky").into());
        assert_eq!(read_back(&engine, 2, 3).await, 0);
        soon(|| slow.keys_seen(op) > asked).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(pulse.is_late(with), "a failed {} is none", op.label());
        let does_its_part = async {
            while pulse.is_late(with) {
                engine.operator().clear(false);
                read_back(&engine, 3, 3).await;
            }
        };
        tokio::time::timeout(PATIENCE, does_its_part).await.unwrap();
        tier.stop();
    }
}

#[tokio::test]
async fn nobody_waits_for_a_load_that_was_given_up() {
    let slow = FailingAdapter::new();
    let engine = holding(1..2, std::slice::from_ref(&slow)).await;
    let tier = tier_of(&engine, SHORT, StorePolicy::Default);
    attach(&tier, &slow).await;
    slow.hang(Op::Load, true);
    assert_eq!(read_back(&engine, 1, 3).await, 0);
    let again = tokio::time::timeout(Duration::from_secs(8), read_back(&engine, 1, 3)).await;
    assert_eq!(again, Ok(0), "the memory it still may write to is in nobody's way");
    slow.hang(Op::Load, false);
    soon(|| engine.operator().status().cache.resident_objects == 3).await;
    soon(|| engine.operator().status().cache.staging_objects == 0).await;
    assert_eq!(read_back(&engine, 1, 3).await, 3);
    tier.stop();
}

#[tokio::test]
async fn two_lookups_of_one_prompt_load_it_once_and_both_get_all_of_it() {
    let held = FailingAdapter::new();
    let engine = holding(1..2, std::slice::from_ref(&held)).await;
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &held).await;
    held.hang(Op::Load, true);
    let tokens = prompt(1, 3);
    for (number, id) in ["first", "second"].into_iter().enumerate() {
        engine.requests().lookup(&key(id, &tokens, None), 1).unwrap();
        soon(|| held.calls_seen(Op::Load) == 1 && held.calls_seen(Op::Lookup) == number + 1).await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((engine.requests().collect("first", 1), engine.requests().collect("second", 1)), (None, None));
    held.hang(Op::Load, false);
    for id in ["first", "second"] {
        assert_eq!(
            tokio::time::timeout(PATIENCE, engine.requests().collect_when_answered(id, 1)).await,
            Ok(3)
        );
    }
    assert_eq!(held.calls_seen(Op::Load), 1);
    tier.stop();
}

#[tokio::test]
async fn the_first_in_the_list_is_loaded_from_whoever_answers_first() {
    for slow in 0..2 {
        let adapters = [FailingAdapter::new(), FailingAdapter::new()];
        let engine = holding(1..2, &adapters).await;
        let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
        attach(&tier, &adapters[0]).await;
        attach(&tier, &adapters[1]).await;
        adapters[slow].hang(Op::Lookup, true);
        let unhang = async {
            soon(|| adapters.iter().all(|adapter| adapter.calls_seen(Op::Lookup) == 1)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            adapters[slow].hang(Op::Lookup, false);
        };
        let (hit, ()) = tokio::join!(read_back(&engine, 1, 3), unhang);
        assert_eq!((hit, adapters[0].keys_seen(Op::Load), adapters[1].keys_seen(Op::Load)), (3, 3, 0));
        tier.stop();
    }
}

#[tokio::test]
async fn what_passes_is_counted_and_so_is_what_does_not() {
    let adapter = FailingAdapter::new();
    let engine = engine(64);
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &adapter).await;
    store(&engine, 1, 3);
    soon(|| engine.operator().status().cache.leases == 0).await;
    engine.operator().clear(false);
    assert_eq!(read_back(&engine, 1, 5).await, 3);
    let flow = tier.flow();
    assert_eq!(
        (flow.lookups, flow.loads_submitted, flow.loads_in_flight, flow.stores_in_flight),
        (1, 1, 0, 0)
    );
    let tenant = flow.by_salt[""];
    assert_eq!((tenant.store_submitted, tenant.store_completed), (3, 3));
    assert_eq!((tenant.looked_up, tenant.load_submitted, tenant.load_completed), (5, 3, 3));
    let kind = &flow.by_kind["failing"];
    assert_eq!(kind.loads_completed, 1);
    assert!(kind.store_throughput.sum() > 0.0 && kind.load_throughput.sum() > 0.0);
    assert!(flow.shortfalls.is_empty());
    engine.operator().clear(false);
    adapter.fail_next(Op::Load, 1, failure());
    assert_eq!(read_back(&engine, 1, 3).await, 0);
    assert_eq!(tier.flow().shortfalls[&(Shortfall::NotBrought, "m".into())], 1);
    assert_eq!(tier.flow().by_salt[""].load_completed, 5);
    tier.stop();
}

#[tokio::test]
async fn what_there_is_no_memory_to_load_is_cut_and_counted() {
    let held = FailingAdapter::new();
    let engine = holding(1..2, std::slice::from_ref(&held)).await;
    let config = TierConfig {
        adapters: Vec::new(),
        store_policy: StorePolicy::Default,
        prefetches_max: 4,
        prefetch_bytes_max: 2 * PAGE,
        patience: PATIENCE,
        quotas: Arc::default(),
    };
    let tier = Tier::start(&config, engine.tiers(), &Tasks::default()).unwrap();
    attach(&tier, &held).await;
    assert_eq!(read_back(&engine, 1, 3).await, 2);
    let memory = tier.prefetch_memory();
    assert_eq!((memory.bytes_max, memory.bytes_taken, memory.shortened_chunks), (2 * PAGE, 0, 1));
    assert_eq!(tier.flow().shortfalls[&(Shortfall::NoRoom, "m".into())], 1);
    tier.stop();
}

#[tokio::test]
async fn a_stuck_tier_has_no_more_in_hand_than_its_share() {
    let stuck = FailingAdapter::new();
    // An eighth of 256 pages, which is 32 objects of a page.
    let engine = engine(256);
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &stuck).await;
    let probes = stuck.calls_seen(Op::Store);
    stuck.hang(Op::Store, true);
    store(&engine, 1, 30);
    soon(|| stuck.calls_seen(Op::Store) == probes + 1).await;
    store(&engine, 2, 3);
    let report = tier.lanes()[0].1;
    assert_eq!((report.waiting.objects, report.in_flight_bytes), (3, 32 * PAGE), "30 went at once");
    stuck.hang(Op::Store, false);
    soon(|| stuck.usage().objects == 33 && tier.lanes()[0].1.in_flight_bytes == 0).await;
    tier.stop();
}

#[tokio::test]
async fn what_follows_a_store_and_how_many_load_may_change_at_any_time() {
    let adapter = FailingAdapter::new();
    let engine = engine(64);
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &adapter).await;
    store(&engine, 1, 3);
    soon(|| engine.operator().status().cache.leases == 0).await;
    assert_eq!(engine.operator().status().cache.resident_objects, 3);
    tier.set_store_policy(StorePolicy::SkipL1);
    store(&engine, 2, 3);
    soon(|| engine.operator().status().cache.resident_objects == 3).await;
    engine.operator().clear(false);
    tier.set_prefetches_max(1);
    adapter.hang(Op::Lookup, true);
    for seed in [1, 2] {
        engine.requests().lookup(&key(&seed.to_string(), &prompt(seed, 3), None), 1).unwrap();
        soon(|| adapter.calls_seen(Op::Lookup) == 1).await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(adapter.calls_seen(Op::Lookup), 1, "the second waits for the first");
    tier.set_prefetches_max(2);
    soon(|| adapter.calls_seen(Op::Lookup) == 2).await;
    adapter.hang(Op::Lookup, false);
    for id in ["1", "2"] {
        assert_eq!(
            tokio::time::timeout(PATIENCE, engine.requests().collect_when_answered(id, 1)).await,
            Ok(3)
        );
    }
    tier.stop();
}

#[tokio::test]
async fn what_has_another_size_is_counted_and_nothing_else() {
    let (first, second) = (FailingAdapter::new(), FailingAdapter::new());
    let engine = holding(1..2, std::slice::from_ref(&second)).await;
    let page =
        second.list(larder_storage::ListRequest { entries_max: 10, ..Default::default() }).await.unwrap();
    let last = key("", &prompt(1, 3), None).hashes[2];
    for entry in page.entries {
        let item = larder_storage::StoreItem {
            key: entry.key.clone(),
            buffer: larder_storage::HeapBuffer::zeroed(PAGE as usize / 2),
            seal: None,
        };
        first.store(vec![item]).await;
        if entry.key.chunk_hash == last {
            second.delete(vec![entry.key], DeleteMode::IfUnlocked).await;
        }
    }
    let tier = tier_of(&engine, PATIENCE, StorePolicy::Default);
    attach(&tier, &first).await;
    attach(&tier, &second).await;
    assert_eq!(read_back(&engine, 1, 3).await, 2);
    assert_eq!(engine.counters().l2_misfit_objects.get(), 3);
    tier.stop();
}
