//! With time as the only actor. The engine's clock is its own, so ages are set instead of waited for.

use super::*;
use crate::state::pending::PendingStore;

const GRACE: std::time::Duration = std::time::Duration::from_secs(3);

fn pending(engine: &Arc<Engine>, change: impl Fn(&mut PendingStore)) {
    let mut state = engine.state();
    let instance = state.instances.get_mut(WORKER).unwrap();
    instance.pending.stores.values_mut().for_each(change);
}

/// An engine whose clock shows a day.
fn aged(pages: u64) -> Arc<Engine> {
    let engine = engine(pages);
    engine.age_by(std::time::Duration::from_secs(86_400));
    engine
}

#[test]
fn a_vanished_writer_gives_its_memory_back() {
    let engine = aged(8);
    engine.requests().prepare_store(&key("r", &prompt(1, 4), Some(0)), WORKER, 1).unwrap();
    engine.requests().disconnected(1);
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().cache.staging_objects, 4, "it may come back on another connection");
    engine.age_by(GRACE);
    engine.upkeep().sweep();
    let cache = engine.operator().status().cache;
    assert_eq!((cache.used_bytes, cache.resident_objects), (0, 0));
}

#[test]
fn a_writer_that_comes_back_keeps_its_memory() {
    let engine = aged(4);
    let tokens = prompt(1, 2);
    let worker = key("r", &tokens, Some(0));
    engine.requests().prepare_store(&worker, WORKER, 1).unwrap();
    engine.requests().disconnected(1);
    engine.requests().connected(2);
    assert!(engine.requests().ping(Some(WORKER), 2));
    engine.upkeep().sweep();
    assert!(engine.requests().commit_store(&worker, WORKER, 2, None).unwrap());
}

#[test]
fn a_writer_whose_connection_the_server_closed_keeps_its_memory_for_as_long_as_it_may_copy() {
    let engine = aged(4);
    engine.requests().prepare_store(&key("r", &prompt(1, 2), Some(0)), WORKER, 1).unwrap();
    engine.requests().expelled(1);
    engine.age_by(std::time::Duration::from_secs(500));
    engine.upkeep().sweep();
    assert_eq!(
        engine.operator().status().cache.used_bytes,
        2 * PAGE,
        "silent beyond the reap timeout, and alive"
    );
    engine.age_by(std::time::Duration::from_secs(200));
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().cache.used_bytes, 0);
}

#[test]
fn a_writer_that_unregisters_as_its_first_word_on_a_new_connection_keeps_its_memory() {
    let engine = aged(4);
    engine.requests().prepare_store(&key("r", &prompt(1, 2), Some(0)), WORKER, 1).unwrap();
    engine.requests().disconnected(1);
    engine.requests().connected(2);
    engine.requests().unregister(WORKER, 2);
    engine.age_by(GRACE);
    engine.upkeep().sweep();
    assert_eq!(
        engine.operator().status().cache.used_bytes,
        2 * PAGE,
        "one of its threads may be in its copy"
    );
    engine.requests().disconnected(2);
    engine.age_by(GRACE);
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().cache.used_bytes, 0);
}

/// A long request is handled while its connection may end.
#[test]
fn what_is_asked_on_a_connection_that_has_ended_is_given_back_like_what_was_asked_before() {
    let engine = aged(8);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    engine.requests().disconnected(1);
    engine.requests().lookup(&key("r", &tokens, None), 1).unwrap();
    engine.requests().register(8, "m", 1, geometry(1), 1).unwrap();
    engine.requests().prepare_store(&key("r", &prompt(2, 2), Some(0)), 8, 1).unwrap();
    engine.age_by(GRACE);
    engine.upkeep().sweep();
    let cache = engine.operator().status().cache;
    assert_eq!((cache.leases, cache.staging_objects), (0, 0));
}

#[test]
fn an_expired_writer_can_not_publish_and_its_memory_stays_its_own() {
    let engine = aged(4);
    let tokens = prompt(1, 1);
    let worker = key("r", &tokens, Some(0));
    engine.requests().prepare_store(&worker, WORKER, 1).unwrap();
    pending(&engine, |pending| pending.since_ms = 0);
    engine.upkeep().sweep();
    store(&engine, "s", &prompt(2, 1));
    engine.upkeep().sweep();
    assert_eq!(
        engine.operator().status().cache.staging_objects,
        1,
        "another of its threads may hang in this copy"
    );
    engine.age_by(std::time::Duration::from_secs(60));
    assert!(!engine.requests().commit_store(&worker, WORKER, 1, None).unwrap());
    assert_eq!(engine.operator().status().cache.staging_objects, 0, "it says that it has written");
    assert_eq!(look_up(&engine, "l", &tokens), 0);
}

#[test]
fn a_retrieve_that_is_never_committed_ends_once_its_worker_moved_on() {
    let engine = aged(4);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    look_up(&engine, "r", &tokens);
    engine.requests().prepare_retrieve(&key("r", &tokens, Some(0)), WORKER, 1).unwrap().unwrap();
    engine.requests().end_session("r", 1);
    engine.age_by(std::time::Duration::from_secs(301));
    engine.requests().ping(Some(WORKER), 1);
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().cache.leases, 2, "it may hang in its copy");
    store(&engine, "s", &prompt(2, 1));
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().cache.leases, 0);
    assert_eq!(engine.counters().expired_leases.get(), 2);
}

#[test]
fn a_silent_holder_loses_its_leases_and_a_living_one_keeps_them() {
    let engine = aged(4);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    look_up(&engine, "r", &tokens);
    engine.state().sessions.latest("r", 1, 0).unwrap();
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().cache.leases, 0, "idle for more than an hour");
    look_up(&engine, "r", &tokens);
    let recently = engine.now_ms() - 400_000;
    engine.state().sessions.latest("r", 1, recently).unwrap();
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().cache.leases, 2, "its connection speaks");
    engine.state().last_seen.note(1, recently);
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().cache.leases, 0);
}

#[test]
fn a_vanished_scheduler_gives_its_leases_back_and_one_that_comes_back_keeps_them() {
    let engine = aged(4);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    engine.requests().connected(2);
    engine.requests().lookup(&key("r", &tokens, None), 2).unwrap();
    engine.requests().disconnected(2);
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().cache.leases, 2, "it may come back on another connection");
    engine.requests().connected(3);
    engine.requests().lookup(&key("r", &tokens, None), 3).unwrap();
    engine.age_by(std::time::Duration::from_secs(3));
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().cache.leases, 2);
    engine.requests().disconnected(3);
    engine.age_by(std::time::Duration::from_secs(3));
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().cache.leases, 0);
    assert_eq!(engine.counters().expired_leases.get(), 2);
}

#[test]
fn the_registration_of_a_silent_worker_ends_though_it_is_connected() {
    let engine = aged(8);
    engine.requests().ping(Some(WORKER), 1);
    let tokens = prompt(1, 2);
    let worker = key("r", &tokens, Some(0));
    engine.requests().prepare_store(&worker, WORKER, 1).unwrap();
    engine.age_by(std::time::Duration::from_secs(121));
    engine.upkeep().sweep();
    let status = engine.operator().status();
    assert_eq!((status.instances.len(), engine.counters().reaped_instances.get()), (0, 1));
    assert_eq!((status.set_aside.registrations, status.set_aside.reserved_bytes), (1, 2 * PAGE));
    let refused = engine.requests().commit_store(&worker, WORKER, 1, None);
    assert!(matches!(refused, Err(EngineError::UnknownInstance(WORKER))), "it is told to register again");
    engine.requests().register(WORKER, "m", 1, geometry(1), 1).unwrap();
    assert_eq!(engine.operator().status().instances[0].reserved_bytes, 2 * PAGE);
    engine.requests().disconnected(1);
    engine.upkeep().sweep();
    assert_eq!(
        engine.operator().status().cache.used_bytes,
        2 * PAGE,
        "it may come back on another connection"
    );
    engine.age_by(GRACE);
    engine.upkeep().sweep();
    let status = engine.operator().status();
    assert_eq!((status.cache.used_bytes, status.set_aside.registrations), (0, 0));
}

#[test]
fn what_is_set_aside_is_free_when_its_worker_says_that_it_has_written() {
    let engine = engine(8);
    let worker = key("r", &prompt(1, 2), Some(0));
    engine.requests().prepare_store(&worker, WORKER, 1).unwrap();
    engine.requests().unregister(WORKER, 1);
    engine.requests().register(WORKER, "m", 1, geometry(1), 1).unwrap();
    assert_eq!(engine.operator().status().cache.used_bytes, 2 * PAGE);
    assert!(!engine.requests().commit_store(&worker, WORKER, 1, None).unwrap());
    assert_eq!(engine.operator().status().cache.used_bytes, 0);
}

#[test]
fn a_client_reserves_half_of_what_others_left_however_many_workers_it_says_it_has() {
    let engine = engine(8);
    let first = key("r", &prompt(1, 3), Some(0));
    let second = key("r", &prompt(2, 3), Some(0));
    assert_eq!(engine.requests().prepare_store(&first, WORKER, 1).unwrap().slots.len(), 3);
    engine.requests().unregister(WORKER, 1);
    engine.requests().register(WORKER, "m", 1, geometry(1), 1).unwrap();
    assert_eq!(engine.requests().prepare_store(&second, WORKER, 1).unwrap().slots.len(), 1);
    assert_eq!(engine.counters().refused_chunks.get(), 2);
    engine.requests().register(8, "m", 1, geometry(1), 1).unwrap();
    assert_eq!(
        engine.requests().prepare_store(&key("r", &prompt(3, 3), Some(0)), 8, 1).unwrap().slots.len(),
        0
    );
    for (connection, slots) in [(2, 2), (3, 1), (4, 0)] {
        engine.requests().connected(connection);
        let (instance, tokens) = (10 + connection as i64, prompt(10 + connection as u32, 3));
        engine.requests().register(instance, "m", 1, geometry(1), connection).unwrap();
        let plan =
            engine.requests().prepare_store(&key("r", &tokens, Some(0)), instance, connection).unwrap();
        assert_eq!(plan.slots.len(), slots);
    }
}

#[test]
fn a_silent_worker_that_is_gone_leaves_nothing() {
    let engine = aged(4);
    engine.requests().ping(Some(WORKER), 1);
    engine.requests().disconnected(1);
    engine.age_by(std::time::Duration::from_secs(121));
    engine.upkeep().sweep();
    assert_eq!(engine.operator().status().instances.len(), 0);
    assert_eq!(engine.counters().reaped_instances.get(), 1);
}
