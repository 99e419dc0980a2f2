//! What requests of one client may do to another's, and what is left when somebody vanishes.

use crate::fixtures::*;
use larder_core::key::TokenRange;
use std::sync::Arc;

use super::*;

mod accounts;
mod adoption;
mod engines;
mod events;
mod lanes;
mod model;
mod processes;
mod sessions;
mod sweeping;
mod transfers;
mod waiting;

#[test]
fn a_reused_request_id_never_gets_another_prompts_objects() {
    let engine = engine(8);
    let (first, second) = (prompt(1, 2), prompt(2, 2));
    store(&engine, "s", &first);
    assert_eq!(look_up(&engine, "r", &first), 2);
    assert_eq!(look_up(&engine, "r", &second), 0);
    assert_eq!(retrieve(&engine, "r", &second), None);
    assert_eq!(retrieve(&engine, "r", &first), None, "its lookup was superseded");
    assert_eq!(engine.operator().status().cache.leases, 0);
}

#[test]
fn a_worker_that_leaves_between_prepare_and_commit_publishes_nothing() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    let key = key("r", &tokens, Some(0));
    assert_eq!(engine.requests().prepare_store(&key, WORKER, 1).unwrap().slots.len(), 2);
    engine.requests().unregister(WORKER, 1);
    engine.requests().register(WORKER, "m", 1, geometry(1), 1).unwrap();
    assert_eq!(look_up(&engine, "l", &tokens), 0);
    assert!(!engine.requests().commit_store(&key, WORKER, 1, None).unwrap());
    assert_eq!(engine.operator().status().cache.resident_objects, 0);
}

#[test]
fn giving_back_twice_takes_nothing_from_others() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    assert_eq!((look_up(&engine, "a", &tokens), look_up(&engine, "b", &tokens)), (2, 2));
    for _ in 0..2 {
        engine.requests().free_leases(&key("a", &tokens, None), 1);
    }
    assert_eq!(engine.operator().status().cache.leases, 2);
    assert_eq!(retrieve(&engine, "b", &tokens), Some(2));
}

#[test]
fn only_whole_chunks_inside_the_range_are_given_back() {
    let engine = engine(8);
    let tokens = prompt(1, 4);
    store(&engine, "s", &tokens);
    assert_eq!(look_up(&engine, "r", &tokens), 4);
    let part = PromptKey { range: TokenRange { start: 0, end: 40 }, ..key("r", &tokens, None) };
    engine.requests().free_leases(&part, 1);
    assert_eq!(engine.operator().status().cache.leases, 2);
    let rest = PromptKey { range: TokenRange { start: 32, end: 64 }, ..key("r", &tokens, Some(0)) };
    assert!(engine.requests().prepare_retrieve(&rest, WORKER, 1).unwrap().is_some());
}

#[test]
fn a_full_pool_makes_room_for_a_store() {
    let engine = engine(4);
    for seed in 0..8 {
        assert_eq!(store(&engine, "s", &prompt(seed, 2)), 2);
    }
    assert_eq!(look_up(&engine, "r", &prompt(7, 2)), 2);
    assert_eq!(engine.counters().refused_chunks.get(), 0);
}

#[test]
fn looking_up_twice_leaves_one_lease() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    for _ in 0..3 {
        assert_eq!(look_up(&engine, "r", &tokens), 2);
    }
    assert_eq!(engine.operator().status().cache.leases, 2);
    assert!(engine.requests().end_session("r", 1));
    assert_eq!(engine.operator().status().cache.leases, 0);
}

#[test]
fn an_answer_is_collected_once() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    assert_eq!(look_up(&engine, "r", &tokens), 2);
    assert_eq!(engine.requests().collect("r", 1), Some(0));
    assert_eq!(engine.requests().collect("nobody", 1), Some(0));
}

#[test]
fn every_reader_of_a_shared_object_needs_its_own_lease() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    engine.requests().lookup(&PromptKey { readers: 2, ..key("r", &tokens, None) }, 1).unwrap();
    assert_eq!(retrieve(&engine, "r", &tokens), Some(2));
    assert_eq!(retrieve(&engine, "r", &tokens), Some(2));
    assert_eq!(retrieve(&engine, "r", &tokens), None);
}

#[test]
fn a_retrieve_in_progress_outlives_its_request() {
    let engine = engine(2);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    assert_eq!(look_up(&engine, "r", &tokens), 2);
    let worker = key("r", &tokens, Some(0));
    assert!(engine.requests().prepare_retrieve(&worker, WORKER, 1).unwrap().is_some());
    engine.requests().end_session("r", 1);
    assert_eq!(engine.operator().status().cache.leases, 2);
    assert_eq!(store(&engine, "s", &prompt(2, 1)), 0, "nothing may be evicted under a reader");
    engine.requests().commit_retrieve(&worker, WORKER, 1).unwrap();
    assert_eq!(store(&engine, "s", &prompt(2, 1)), 1);
}

#[test]
fn an_unknown_worker_is_told_so_once() {
    let engine = engine(4);
    assert!(engine.requests().ping(None, 1));
    assert!(engine.requests().ping(Some(WORKER), 1));
    assert!(!engine.requests().ping(Some(99), 1));
    assert!(
        engine.requests().ping(Some(99), 1),
        "an unmodified client registers again when it sees the server recover"
    );
    let tokens = prompt(1, 1);
    let unknown = engine.requests().prepare_store(&key("r", &tokens, Some(0)), 99, 1);
    assert!(matches!(unknown, Err(EngineError::UnknownInstance(99))));
}

#[test]
fn registering_again_with_another_layout_does_not_reuse_old_objects() {
    let engine = engine(8);
    let tokens = prompt(1, 1);
    store(&engine, "s", &tokens);
    engine.requests().register(WORKER, "m", 1, geometry(2), 1).unwrap();
    assert_eq!(look_up(&engine, "r", &tokens), 0);
    assert_eq!(store(&engine, "s", &tokens), 1);
    assert_eq!(look_up(&engine, "r", &tokens), 1);
}

#[test]
fn unaligned_ranges_and_missing_ranks_are_refused() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    for range in [TokenRange { start: 8, end: 32 }, TokenRange { start: 0, end: 48 }] {
        let refused =
            engine.requests().prepare_store(&PromptKey { range, ..key("r", &tokens, Some(0)) }, WORKER, 1);
        assert!(matches!(refused, Err(EngineError::Key(_))), "{range}");
    }
    let refused = engine.requests().prepare_store(&key("r", &tokens, None), WORKER, 1);
    assert!(matches!(refused, Err(EngineError::WorkerIdMissing)));
    let refused = engine.requests().lookup(&PromptKey { readers: 0, ..key("r", &tokens, None) }, 1);
    assert!(matches!(refused, Err(EngineError::Readers(0))));
}

#[test]
fn forced_clear_keeps_memory_from_reuse_while_a_worker_reads_it() {
    let engine = engine(2);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    assert_eq!(look_up(&engine, "r", &tokens), 2);
    let worker = key("r", &tokens, Some(0));
    assert!(engine.requests().prepare_retrieve(&worker, WORKER, 1).unwrap().is_some());
    engine.operator().clear(true);
    assert_eq!(look_up(&engine, "other", &tokens), 0);
    assert_eq!(store(&engine, "s", &prompt(2, 1)), 0);
    engine.requests().commit_retrieve(&worker, WORKER, 1).unwrap();
    assert_eq!(store(&engine, "s", &prompt(2, 1)), 1);
}

#[test]
fn what_a_tier_found_for_an_older_lookup_answers_no_newer_one() {
    let engine = engine(4);
    engine.tiers().set_enabled(true);
    let (old, new) = (prompt(1, 2), prompt(2, 2));
    engine.requests().lookup(&key("r", &old, None), 1).unwrap();
    let mut void = engine.tiers().take_prefetch().unwrap();
    engine.requests().lookup(&key("r", &new, None), 1).unwrap();
    let slots = void.reserve_row(0, 0..2);
    void.answer(&slots.iter().map(|slot| slot.arrived(None)).collect::<Vec<_>>());
    assert_eq!(engine.requests().collect("r", 1), None, "its own prefetch is under way");
    assert_eq!(engine.operator().status().cache.leases, 0);
    drop(engine.tiers().take_prefetch().unwrap());
    assert_eq!(engine.requests().collect("r", 1), Some(0));
}

#[test]
fn the_lines_of_this_crate_are_among_those_that_clients_are_bounded_in() {
    assert!(larder_telemetry::CLIENT_CRATES.iter().any(|name| module_path!().starts_with(name)));
}
