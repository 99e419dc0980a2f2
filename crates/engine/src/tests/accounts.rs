//! What operators, metrics and status pages are told, and what wakes whom.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use larder_core::cache::{AdviceStats, Selector};
use larder_core::key::ObjectKey;

use super::*;
use crate::limits::INSTANCES_MAX;
use crate::state::counters::{LABELS_PER_CONNECTION_MAX, LOOKUP_LABELS_MAX};

/// Whether something has happened that this waits for.
fn is_ready(waiting: impl Future<Output = ()>) -> bool {
    pin!(waiting).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// An engine of which no memory is prepared yet.
fn unprepared(pages: u64, limits: Limits) -> Arc<Engine> {
    let engine = unprepared_engine(pages, EngineConfig { limits, ..config() });
    register(&engine, geometry(1));
    engine
}

/// Brings these chunks and answers.
fn answer(mut prefetch: Prefetch, chunks: &std::ops::Range<usize>) {
    let rows = 0..prefetch.work().rows.len();
    let slots: Vec<_> = rows.flat_map(|row| prefetch.reserve_row(row, chunks.clone())).collect();
    let arrived: Vec<_> = slots.iter().map(|slot| slot.arrived(None)).collect();
    prefetch.answer(&arrived);
}

#[test]
fn lookups_are_counted_by_model_and_salt_in_tokens_and_in_objects() {
    let engine = engine(32);
    engine.tiers().set_enabled(true);
    for rank in [0, 1] {
        engine.requests().register(50 + i64::from(rank), "p", 2, geometry(1), 1).unwrap();
        let key = key("s", &prompt(1, 1), Some(rank));
        let key = PromptKey { model_name: "p", world_size: 2, ..key };
        engine.requests().prepare_store(&key, 50 + i64::from(rank), 1).unwrap();
        engine.requests().commit_store(&key, 50 + i64::from(rank), 1, None).unwrap();
    }
    let asked = key("r", &prompt(1, 4), None);
    let asked = PromptKey { model_name: "p", world_size: 2, cache_salt: "", ..asked };
    engine.requests().lookup(&asked, 1).unwrap();
    answer(engine.tiers().take_prefetch().unwrap(), &(1..3));
    assert_eq!(engine.requests().collect("r", 1), Some(3));
    engine.requests().lookup(&PromptKey { world_size: 5, ..asked.clone() }, 1).unwrap();
    let short = key("q", &[1; 5], None);
    engine
        .requests()
        .lookup(&PromptKey { model_name: "p", world_size: 2, cache_salt: "t", ..short }, 1)
        .unwrap();
    let lookups = engine.counters().lookups();
    let [(own, counts), (salted, short)] = &lookups[..] else { panic!("{lookups:?}") };
    assert_eq!((&*own.cache_salt, &*salted.cache_salt), ("", "t"));
    let expected = LookupCounts {
        lookups: 1,
        requested_tokens: 64,
        hit_tokens: 48,
        hit_l1_keys: 2,
        hit_l2_tokens: 32,
        hit_l2_keys: 4,
        no_layout: 1,
        no_chunk: 0,
    };
    assert_eq!(*counts, expected);
    assert_eq!(*short, LookupCounts { no_chunk: 1, ..LookupCounts::default() });
    let counters = engine.counters();
    assert_eq!((counters.l2_loaded_chunks.get(), counters.l2_hit_chunks.get()), (4, 2));
}

#[test]
fn names_beyond_a_number_are_counted_together() {
    let engine = engine(4);
    let base = key("r", &prompt(1, 1), None);
    for salt in 0..LOOKUP_LABELS_MAX + 5 {
        let connection = (1 + salt / LABELS_PER_CONNECTION_MAX) as u64;
        engine
            .requests()
            .lookup(&PromptKey { cache_salt: &salt.to_string(), ..base.clone() }, connection)
            .unwrap();
    }
    engine.requests().lookup(&PromptKey { cache_salt: "0", ..base }, 1).unwrap();
    let lookups = engine.counters().lookups();
    let of = |salt: &str| lookups.iter().find(|(labels, _)| &*labels.cache_salt == salt).unwrap().1.lookups;
    assert_eq!((lookups.len(), of("0"), of("1"), of("_other")), (LOOKUP_LABELS_MAX + 1, 2, 1, 5));
}

#[test]
fn whoever_holds_leases_is_told_longest_idle_first_and_can_be_made_to_let_go() {
    let engine = engine(16);
    let tokens = prompt(1, 3);
    store(&engine, "s", &tokens);
    look_up(&engine, "old", &tokens);
    engine.age_by(Duration::from_secs(10));
    look_up(&engine, "reader", &tokens[..2 * CHUNK as usize]);
    let worker = key("reader", &tokens[..2 * CHUNK as usize], Some(0));
    engine.requests().prepare_retrieve(&worker, WORKER, 1).unwrap().unwrap();
    engine.age_by(Duration::from_secs(10));
    look_up(&engine, "new", &tokens);
    let holders = engine.operator().lease_holders(10);
    let told: Vec<_> = holders.iter().map(|holder| (holder.owner.clone(), holder.leases)).collect();
    let request = |id: &str| LeaseOwner::Request(id.into());
    let own = LeaseOwner::Instance(WORKER);
    assert_eq!(told, [(request("old"), 3), (own.clone(), 2), (request("new"), 3)], "`reader` has none left");
    assert!(holders[0].idle_ms >= 20_000 && !holders[0].is_orphaned && &*holders[0].model_name == "m");
    let first: Vec<_> = engine.operator().lease_holders(1).into_iter().map(|holder| holder.owner).collect();
    assert_eq!(first, [request("old")]);
    let totals = engine.operator().lease_totals();
    assert_eq!((totals.total, totals.requests, totals.retrieves, totals.leaked()), (8, 6, 2, 0));
    engine.requests().unregister(WORKER, 1);
    assert_eq!(engine.operator().lease_totals().retrieves, 2, "they are set aside");
    assert_eq!(engine.operator().force_release(&own, "test"), Some(2));
    assert_eq!(engine.operator().force_release(&own, "test"), None);
    assert_eq!(engine.operator().force_release(&request("old"), "test"), Some(3));
    assert_eq!(engine.operator().force_release(&request("old"), "test"), None);
    engine.requests().disconnected(1);
    assert!(engine.operator().lease_holders(10)[0].is_orphaned);
    assert_eq!((engine.operator().lease_totals().total, engine.counters().forced_leases.get()), (3, 5));
}

#[test]
fn a_pool_above_its_watermark_is_evicted_by_a_share_of_its_objects() {
    let limits = Limits { eviction_watermark: 0.5, eviction_ratio: 0.3, ..config().limits };
    let engine = unprepared(20, limits.clone());
    engine.upkeep().grow(20 * PAGE);
    for seed in 1..5 {
        store(&engine, "s", &prompt(seed, 2));
    }
    assert!(!is_ready(engine.upkeep().eviction_due()));
    store(&engine, "s", &prompt(5, 2));
    assert!(is_ready(engine.upkeep().eviction_due()), "half of the pool is used");
    assert_eq!(engine.upkeep().eviction_quota(), 0, "what is being prepared is not above anything");
    engine.upkeep().stop_growing();
    assert_eq!((engine.upkeep().eviction_quota(), engine.counters().eviction_passes.get()), (3, 1));
    assert_eq!(engine.upkeep().evict_step(3), 3);
    assert_eq!(engine.upkeep().eviction_quota(), 0);
    assert_eq!(engine.upkeep().evict_step(1000), 7, "all that is left");
    for (ratio, quota) in [(0.0, 0), (0.01, 1), (1.0, 16)] {
        let engine = unprepared(20, Limits { eviction_ratio: ratio, ..limits.clone() });
        engine.upkeep().grow(20 * PAGE);
        engine.upkeep().stop_growing();
        store(&engine, "s", &prompt(1, 16));
        assert_eq!(engine.upkeep().eviction_quota(), quota, "{ratio}");
    }
}

#[test]
fn a_pool_grows_when_half_of_it_is_used_or_somebody_waits_for_room() {
    let engine = unprepared(64, config().limits);
    engine.upkeep().grow(8 * PAGE);
    assert!(!engine.upkeep().wants_growth());
    let tiers = engine.tiers();
    let mut waiting = pin!(tiers.room_prepared(9 * PAGE));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert!(engine.upkeep().wants_growth());
    engine.upkeep().grow(10 * PAGE);
    let Poll::Ready(room) = waiting.as_mut().poll(&mut context) else { panic!("there is room") };
    assert!(!engine.upkeep().wants_growth());
    store(&engine, "s", &prompt(1, 2));
    assert!(engine.upkeep().wants_growth(), "what was waited for is not free any more");
    drop(room);
    assert!(!engine.upkeep().wants_growth());
    store(&engine, "s", &prompt(2, 3));
    assert!(engine.upkeep().wants_growth(), "half of it is used");
}

#[test]
fn a_store_waits_for_room_that_will_come_and_for_no_other() {
    let engine = unprepared(16, config().limits);
    engine.upkeep().grow(4 * PAGE);
    let coming =
        |chunks, instance| engine.requests().room_is_coming(&key("r", &prompt(1, chunks), Some(0)), instance);
    assert!(!coming(4, WORKER), "there is room");
    assert!(coming(5, WORKER) && coming(16, WORKER));
    assert!(!coming(17, WORKER), "there will never be");
    assert!(!coming(5, 99));
    store(&engine, "s", &prompt(2, 1));
    assert!(coming(4, WORKER));
    engine.upkeep().stop_growing();
    assert!(!coming(5, WORKER));
}

#[test]
fn sweeping_goes_on_for_as_long_as_there_may_be_something_to_give_back() {
    let engine = engine(8);
    assert!(engine.upkeep().sweep(), "a worker is registered");
    engine.requests().prepare_store(&key("r", &prompt(1, 1), Some(0)), WORKER, 1).unwrap();
    engine.requests().unregister(WORKER, 1);
    assert!(engine.upkeep().sweep(), "something is set aside");
    engine.requests().disconnected(1);
    engine.age_by(Duration::from_secs(3));
    assert!(!engine.upkeep().sweep());
    assert_eq!(engine.counters().expired_stores.get(), 1);
    engine.requests().connected(2);
    engine.requests().register(WORKER, "m", 1, geometry(1), 2).unwrap();
    engine.requests().lookup(&key("r", &prompt(1, 1), None), 2).unwrap();
    engine.requests().unregister(WORKER, 2);
    assert!(engine.upkeep().sweep(), "a request is open");
    engine.requests().end_session("r", 2);
    assert!(!engine.upkeep().sweep());
    engine.operator().hint(
        "p",
        Hint::DeclineL2(larder_core::cache::Selector::default()),
        Duration::from_secs(10),
    );
    assert!(engine.upkeep().sweep(), "a hint holds");
    engine.age_by(Duration::from_secs(11));
    assert!(!engine.upkeep().sweep());
}

#[test]
fn without_a_reap_timeout_nobody_is_reaped() {
    let engine = unprepared(4, Limits { reap_timeout_ms: 0, ..config().limits });
    engine.requests().ping(Some(WORKER), 1);
    engine.age_by(Duration::from_secs(86_400));
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().instances.len(), 1);
}

#[test]
fn a_worker_that_never_pinged_has_the_time_of_its_first_forward_pass() {
    let engine = engine(4);
    engine.age_by(Duration::from_secs(3_000));
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().instances.len(), 1);
    engine.age_by(Duration::from_secs(1_000));
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().instances.len(), 0);
}

#[test]
fn the_worker_that_is_gone_longest_makes_room_for_another() {
    let engine = engine(8);
    let geometry = geometry(1);
    // A connection that is not open: whoever speaks on it is gone.
    let gone = 2;
    let first = 1_000;
    engine.requests().register(first, "m", 1, geometry, gone).unwrap();
    engine.requests().prepare_store(&key("r", &prompt(1, 1), Some(0)), first, gone).unwrap();
    engine.age_by(Duration::from_secs(1));
    let others = first + 1..first + INSTANCES_MAX as i64 - 1;
    for instance in others.clone() {
        engine.requests().register(instance, "m", 1, geometry, gone).unwrap();
    }
    assert_eq!(engine.operator().status().instances.len(), INSTANCES_MAX);
    engine.age_by(Duration::from_secs(1));
    for instance in others.filter(|instance| *instance != 1_777) {
        engine.requests().ping(Some(instance), gone);
    }
    engine.requests().register(99, "m", 1, geometry, 1).unwrap();
    let ids: Vec<i64> =
        engine.operator().status().instances.iter().map(|instance| instance.instance_id).collect();
    assert_eq!(ids.len(), INSTANCES_MAX);
    assert!(!ids.contains(&1_777), "the one that was heard of before all others");
    assert!([WORKER, 99, first].iter().all(|id| ids.contains(id)), "one is connected, one has a transfer");
}

#[test]
fn an_operator_sees_objects_by_page_and_model_and_removes_them_by_name() {
    let engine = engine(32);
    engine.requests().register(8, "n", 1, geometry(1), 1).unwrap();
    store(&engine, "s", &prompt(1, 4));
    let other = PromptKey { model_name: "n", ..key("s", &prompt(2, 3), Some(0)) };
    engine.requests().prepare_store(&other, 8, 1).unwrap();
    engine.requests().commit_store(&other, 8, 1, None).unwrap();
    let page = engine.operator().list_objects(0, 5, None);
    assert_eq!((page.objects.len(), page.next), (5, Some(5)));
    let rest = engine.operator().list_objects(5, 5, None);
    assert_eq!((rest.objects.len(), rest.next), (2, None));
    let of_one = engine.operator().list_objects(0, 10, Some("n")).objects;
    assert!(of_one.len() == 3 && of_one.iter().all(|listed| &**listed.scope.namespace.model_name() == "n"));
    engine.requests().lookup(&PromptKey { worker_id: None, ..other.clone() }, 1).unwrap();
    let scope = &of_one[0].scope;
    let names: Vec<ObjectKey> = other
        .hashes
        .iter()
        .chain(&key("", &prompt(9, 1), None).hashes[..])
        .map(|hash| scope.namespace.key(*hash))
        .collect();
    let removed = |names: &[ObjectKey], force| {
        let count = engine.operator().remove_objects(names, force);
        (count.deleted, count.skipped)
    };
    assert_eq!(removed(&names, false), (0, 3), "they are in use, and one was never there");
    assert_eq!(removed(&names[..1], true), (1, 0));
    engine.requests().end_session("s", 1);
    let misnamed = ObjectKey::new(names[1].chunk_hash, "n", scope.namespace.kv_rank(), 0, "t").unwrap();
    assert_eq!(removed(&[misnamed], true), (0, 0));
    assert_eq!(removed(&names, false), (2, 0));
    assert_eq!(engine.operator().list_objects(0, 10, None).objects.len(), 4);
}

#[test]
fn a_warm_prefetch_is_told_once_it_is_over_and_then_forgotten() {
    let engine = engine(32);
    let tokens = prompt(1, 3);
    store(&engine, "s", &tokens[..CHUNK as usize]);
    let hashes = key("", &tokens, None).hashes;
    let warm = || engine.operator().warm("m", 1, "", Arc::clone(&hashes), &tokens);
    let done = warm().unwrap();
    let partly = WarmStatus::Completed { found_keys: 1, total_keys: 3 };
    assert_eq!(
        (engine.operator().warm_status(&done), engine.operator().warm_status(&done)),
        (Some(partly), None),
        "there is no tier"
    );
    engine.tiers().set_enabled(true);
    let id = warm().unwrap();
    for _ in 0..2 {
        assert_eq!(engine.operator().warm_status(&id), Some(WarmStatus::Pending));
    }
    let prefetch = engine.tiers().take_prefetch().unwrap();
    assert_eq!((prefetch.work().from, prefetch.work().hashes.len()), (1, 3));
    answer(prefetch, &(1..2));
    let more = WarmStatus::Completed { found_keys: 2, total_keys: 3 };
    assert_eq!((engine.operator().warm_status(&id), engine.operator().warm_status(&id)), (Some(more), None));
    assert_eq!((engine.operator().status().cache.leases, engine.operator().status().prefetching), (0, 0));
    assert!(matches!(
        engine.operator().warm("x", 1, "", Arc::clone(&hashes), &tokens),
        Err(WarmError::NoLayout { .. })
    ));
    assert!(matches!(
        engine.operator().warm("m", 0, "", Arc::clone(&hashes), &tokens),
        Err(WarmError::Key(_))
    ));
}

#[test]
fn a_warm_prefetch_counts_the_objects_of_every_rank() {
    let engine = engine(32);
    let tokens = prompt(1, 3);
    for rank in [0, 1] {
        let worker = 50 + i64::from(rank);
        engine.requests().register(worker, "p", 2, geometry(1), 1).unwrap();
        let key = key("s", &tokens[..CHUNK as usize], Some(rank));
        let key = PromptKey { model_name: "p", world_size: 2, ..key };
        engine.requests().prepare_store(&key, worker, 1).unwrap();
        engine.requests().commit_store(&key, worker, 1, None).unwrap();
    }
    engine.tiers().set_enabled(true);
    let id = engine.operator().warm("p", 2, "", key("", &tokens, None).hashes, &tokens).unwrap();
    drop(engine.tiers().take_prefetch().unwrap());
    assert_eq!(
        engine.operator().warm_status(&id),
        Some(WarmStatus::Completed { found_keys: 2, total_keys: 6 })
    );
}

#[test]
fn hints_are_counted_by_what_they_are_about() {
    let engine = engine(4);
    let hashes = key("", &prompt(1, 3), None).hashes;
    let model = Selector { model_name: Some("m".into()), cache_salt: None };
    for hint in [
        Hint::Protect(hashes[..1].to_vec()),
        Hint::EvictFirst(hashes[1..].to_vec()),
        Hint::EvictScopeFirst(model),
    ] {
        engine.operator().hint("p", hint, Duration::from_secs(60));
    }
    let stats = AdviceStats { kept_chunks: 1, shed_chunks: 2, scopes: 1, shed_total: 0 };
    assert_eq!((engine.operator().hint_stats(), engine.counters().hints.get()), (stats, 4));
}

#[test]
fn a_pool_that_grows_and_work_for_the_sweep_are_waited_for() {
    let engine = unprepared(8, config().limits);
    let mut context = Context::from_waker(Waker::noop());
    let requests = engine.requests();
    for grows_more in [true, false] {
        let mut grown = pin!(requests.has_grown());
        assert!(grown.as_mut().poll(&mut context).is_pending());
        if grows_more {
            engine.upkeep().grow(PAGE)
        } else {
            engine.upkeep().stop_growing()
        }
        assert!(grown.poll(&mut context).is_ready());
    }
    assert!(is_ready(engine.requests().has_grown()), "there is nothing more to wait for");
    assert!(is_ready(engine.upkeep().sweep_due()), "a worker has registered");
    assert!(!is_ready(engine.upkeep().sweep_due()));
    engine.operator().set_limits(config().limits);
    assert!(is_ready(engine.upkeep().sweep_due()));
    assert!(!is_ready(engine.upkeep().sweep_due()), "once");
}

#[test]
fn a_store_is_told_with_its_chunks_and_bytes() {
    let engine = engine(8);
    let _listening = engine.bus().subscribe();
    store(&engine, "s", &prompt(1, 3));
    let page = engine.bus().read(0, 100);
    let events = page.lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(&line.json).unwrap());
    let stored: Vec<_> = events
        .filter(|event| event["event"] == "store")
        .map(|event| (event["chunks"].as_u64(), event["bytes"].as_u64()))
        .collect();
    assert_eq!(stored, [(Some(3), Some(3 * PAGE))]);
}

#[test]
fn of_warm_prefetches_nobody_asks_about_the_oldest_that_is_over_is_forgotten() {
    let engine = engine(8);
    let tokens = prompt(1, 1);
    let warm = || engine.operator().warm("m", 1, "", key("", &tokens, None).hashes, &tokens);
    engine.tiers().set_enabled(true);
    let pending = warm().unwrap();
    engine.tiers().set_enabled(false);
    let over: Vec<Box<str>> = (0..1_024).map(|_| warm().unwrap()).collect();
    assert_eq!(engine.operator().warm_status(&pending), Some(WarmStatus::Pending));
    assert_eq!(engine.operator().warm_status(&over[0]), None);
    assert!(engine.operator().warm_status(&over[1]).is_some());
    engine.tiers().set_enabled(true);
    let mut under_way = vec![engine.tiers().take_prefetch()];
    let all: Vec<_> =
        (0..2_000).map(|_| warm().inspect(|_| under_way.push(engine.tiers().take_prefetch()))).collect();
    assert_eq!(all.iter().filter(|id| id.is_ok()).count(), 1_023, "what is under way is not forgotten");
    assert!(matches!(all.last(), Some(Err(WarmError::Busy))));
}

#[test]
fn whoever_waits_for_another_writer_does_not_wait_for_himself() {
    let engine = engine(16);
    engine.tiers().set_enabled(true);
    let tokens = prompt(1, 3);
    store(&engine, "s", &tokens[..CHUNK as usize]);
    engine.requests().lookup(&key("r", &tokens, None), 1).unwrap();
    let tiers = engine.tiers();
    let mut own = tiers.take_prefetch().unwrap();
    engine.requests().lookup(&key("q", &tokens, None), 1).unwrap();
    let other = tiers.take_prefetch().unwrap();
    assert!(!own.others_write(3) && !other.others_write(3));
    let mut slots = own.reserve_row(0, 1..3);
    assert_eq!(slots.iter().map(|slot| slot.chunk).collect::<Vec<_>>(), [1, 2]);
    assert!(other.others_write(3) && other.others_write(2) && !other.others_write(1) && !own.others_write(3));
    assert_eq!(own.resident(), [[false, false]], "from the first missing chunk on");
    slots[0].abandon();
    assert!(!other.others_write(2), "it is given up, so nobody waits for it");
    assert!(other.others_write(3));
    let again = own.reserve_row(0, 1..3);
    assert_eq!(again.iter().map(|slot| slot.chunk).collect::<Vec<_>>(), [1], "others may load it");
    slots.pop();
    assert!(other.others_write(2) && !own.others_write(3));
    engine.age_by(Duration::from_secs(31));
    assert!(!other.others_write(3), "who takes so long is not waited for");
}
