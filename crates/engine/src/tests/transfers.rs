//! Several transfers of one worker at a time.

use super::*;
use crate::limits::PENDING_PER_INSTANCE_MAX;

fn offsets(plan: &StorePlan) -> Vec<u64> {
    plan.slots.iter().map(|slot| slot.offset).collect()
}

#[test]
fn two_prompts_of_one_range_are_stored_at_a_time() {
    let engine = engine(16);
    let (first, second) = (prompt(1, 2), prompt(2, 2));
    let keys = [key("a", &first, Some(0)), key("a", &second, Some(0))];
    for key in &keys {
        assert_eq!(engine.requests().prepare_store(key, WORKER, 1).unwrap().slots.len(), 2);
    }
    for key in &keys {
        assert!(engine.requests().commit_store(key, WORKER, 1, None).unwrap());
    }
    assert_eq!((look_up(&engine, "r", &first), look_up(&engine, "s", &second)), (2, 2));
}

#[test]
fn requests_that_store_one_prompt_each_publish_their_own() {
    let engine = engine(16);
    let tokens = prompt(1, 3);
    store(&engine, "s", &tokens[..CHUNK as usize]);
    let [first, second] = ["a", "b"].map(|request| key(request, &tokens, Some(0)));
    let theirs = engine.requests().prepare_store(&first, WORKER, 1).unwrap();
    assert_eq!(theirs.slots.len(), 2);
    engine.operator().clear(false);
    let ours = engine.requests().prepare_store(&second, WORKER, 1).unwrap();
    assert_eq!(ours.slots.len(), 1);
    let others = engine.requests().prepare_store(&key("c", &prompt(2, 3), Some(0)), WORKER, 1).unwrap();
    assert!(
        !offsets(&others).iter().any(|offset| offsets(&theirs).contains(offset)),
        "they are being written"
    );
    assert!(engine.requests().commit_store(&second, WORKER, 1, None).unwrap());
    assert_eq!(look_up(&engine, "r", &tokens), 1);
    assert!(engine.requests().commit_store(&first, WORKER, 1, None).unwrap());
    assert_eq!(look_up(&engine, "r", &tokens), 3);
    assert!(!engine.requests().commit_store(&first, WORKER, 1, None).unwrap());
}

#[test]
fn a_request_that_prepares_again_publishes_when_all_of_it_is_committed() {
    let engine = engine(16);
    let tokens = prompt(1, 2);
    let key = key("a", &tokens, Some(0));
    store(&engine, "s", &tokens[..CHUNK as usize]);
    assert_eq!(engine.requests().prepare_store(&key, WORKER, 1).unwrap().slots.len(), 1);
    engine.operator().clear(false);
    assert_eq!(engine.requests().prepare_store(&key, WORKER, 1).unwrap().slots.len(), 1);
    assert!(engine.requests().commit_store(&key, WORKER, 1, None).unwrap());
    assert_eq!(engine.operator().status().cache.resident_objects, 0, "whose commit it is can't be known");
    assert!(engine.requests().commit_store(&key, WORKER, 1, None).unwrap());
    assert_eq!(look_up(&engine, "r", &tokens), 2);
}

#[test]
fn a_commit_of_an_earlier_registration_publishes_nothing_of_a_later_one() {
    let engine = engine(16);
    let tokens = prompt(1, 1);
    let key = key("a", &tokens, Some(0));
    engine.requests().prepare_store(&key, WORKER, 1).unwrap();
    engine.requests().unregister(WORKER, 1);
    engine.requests().register(WORKER, "m", 1, geometry(1), 1).unwrap();
    engine.age_by(std::time::Duration::from_secs(31));
    assert_eq!(engine.requests().prepare_store(&key, WORKER, 1).unwrap().slots.len(), 1);
    assert!(engine.requests().commit_store(&key, WORKER, 1, None).unwrap());
    assert_eq!(
        look_up(&engine, "r", &tokens),
        0,
        "it may be the first thread's, and the second still be copying"
    );
    assert!(engine.requests().commit_store(&key, WORKER, 1, None).unwrap());
    assert_eq!(look_up(&engine, "r", &tokens), 1);
}

#[test]
fn what_was_cleared_is_not_handed_out() {
    let engine = engine(16);
    let tokens = prompt(1, 2);
    for retrieves_before in [false, true] {
        store(&engine, "s", &tokens);
        assert_eq!(look_up(&engine, "r", &tokens), 2);
        if retrieves_before {
            engine.requests().lookup(&PromptKey { readers: 2, ..key("r", &tokens, None) }, 1).unwrap();
            assert!(
                engine.requests().prepare_retrieve(&key("r", &tokens, Some(0)), WORKER, 1).unwrap().is_some()
            );
        }
        engine.operator().clear(true);
        assert_eq!(retrieve(&engine, "r", &tokens), None);
        engine.requests().end_session("r", 1);
        engine.requests().commit_retrieve(&key("r", &tokens, Some(0)), WORKER, 1).unwrap();
        assert_eq!(
            (engine.operator().status().cache.leases, engine.operator().status().cache.used_bytes),
            (0, 0)
        );
    }
}

#[test]
fn the_oldest_retrieve_is_committed_first() {
    let engine = engine(16);
    let tokens = prompt(1, 1);
    let worker = key("r", &tokens, Some(0));
    for _ in 0..2 {
        store(&engine, "s", &tokens);
        look_up(&engine, "r", &tokens);
        assert!(engine.requests().prepare_retrieve(&worker, WORKER, 1).unwrap().is_some());
        engine.operator().clear(true);
        store(&engine, "s", &tokens);
    }
    assert_eq!(engine.operator().status().cache.condemned_objects, 2);
    let used = engine.operator().status().cache.used_bytes;
    engine.requests().commit_retrieve(&worker, WORKER, 1).unwrap();
    assert_eq!(engine.operator().status().cache.used_bytes, used - PAGE);
    engine.requests().commit_retrieve(&worker, WORKER, 1).unwrap();
    assert_eq!(
        (engine.operator().status().cache.leases, engine.operator().status().cache.used_bytes),
        (0, PAGE)
    );
}

#[test]
fn a_worker_that_commits_nothing_is_refused_and_its_commits_are_not() {
    let engine = engine(2);
    let tokens = prompt(1, 1);
    store(&engine, "s", &tokens);
    let worker = key("r", &tokens, Some(0));
    for _ in 0..PENDING_PER_INSTANCE_MAX {
        look_up(&engine, "r", &tokens);
        assert!(engine.requests().prepare_retrieve(&worker, WORKER, 1).unwrap().is_some());
    }
    look_up(&engine, "r", &tokens);
    let refused = engine.requests().prepare_retrieve(&worker, WORKER, 1);
    assert!(matches!(refused, Err(EngineError::TooManyPending(WORKER))));
    assert_eq!(engine.counters().refused_transfers.get(), 1);
    engine.requests().commit_retrieve(&worker, WORKER, 1).unwrap();
    assert!(engine.requests().prepare_retrieve(&worker, WORKER, 1).unwrap().is_some());
}

#[test]
fn a_worker_that_can_not_reach_the_pool_sends_bytes_and_is_given_no_slots() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    let worker = key("r", &tokens, Some(0));
    assert_eq!(engine.requests().prepare_store(&worker, WORKER, 1).unwrap().slots.len(), 2);
    assert!(!engine.requests().sends_bytes(WORKER));
    let mut written = 0;
    let stored = engine.requests().store_bytes(&worker, WORKER, 1, None, |_, _, _| {
        written += 1;
        Ok(())
    });
    assert!(stored.unwrap() && engine.requests().sends_bytes(WORKER));
    assert_eq!((written, look_up(&engine, "l", &tokens)), (2, 2));
    assert_eq!(engine.operator().status().instances[0].reserved_bytes, 0);
}

#[test]
fn what_a_worker_left_is_given_back_after_another_took_its_place() {
    let engine = engine(16);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    look_up(&engine, "r", &tokens);
    assert!(engine.requests().prepare_retrieve(&key("r", &tokens, Some(0)), WORKER, 1).unwrap().is_some());
    engine.requests().prepare_store(&key("w", &prompt(2, 2), Some(0)), WORKER, 1).unwrap();
    engine.requests().disconnected(1);
    engine.requests().connected(2);
    engine.requests().register(WORKER, "m", 1, geometry(2), 2).unwrap();
    let left = |engine: &Arc<Engine>| {
        (engine.operator().status().cache.leases, engine.operator().status().cache.staging_objects)
    };
    assert_eq!(left(&engine), (2, 2), "it may be the same one, on a new connection");
    engine.age_by(std::time::Duration::from_secs(3));
    engine.upkeep().sweep();
    assert_eq!(left(&engine), (0, 0));
}

#[test]
fn a_worker_that_registers_otherwise_may_still_write_what_it_was_told_to() {
    let engine = engine(16);
    let plan = engine.requests().prepare_store(&key("w", &prompt(1, 2), Some(0)), WORKER, 1).unwrap();
    engine.requests().register(WORKER, "m", 1, geometry(2), 1).unwrap();
    assert_eq!(engine.operator().status().set_aside.reserved_bytes, 2 * PAGE);
    let other = engine.requests().prepare_store(&key("w", &prompt(1, 2), Some(0)), WORKER, 1).unwrap();
    assert_eq!(other.layout.bytes(), 2 * PAGE);
    let end = offsets(&plan).into_iter().max().unwrap() + PAGE;
    assert!(offsets(&other).into_iter().all(|offset| offset >= end));
}

#[test]
fn many_readers_are_as_many_leases_as_there_may_be() {
    let engine = engine(4);
    let tokens = prompt(1, 1);
    store(&engine, "s", &tokens);
    for (readers, leases) in [(2, 2), (128, 128), (129, 128), (256, 128), (u32::MAX, 128)] {
        engine.requests().lookup(&PromptKey { readers, ..key("r", &tokens, None) }, 1).unwrap();
        assert_eq!(engine.operator().status().cache.leases, leases, "{readers}");
    }
}
