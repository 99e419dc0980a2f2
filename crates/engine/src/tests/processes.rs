//! What a worker was told to touch, and its process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::*;
use crate::state::processes::Watched;

#[derive(Debug, Default)]
struct Fake(AtomicBool);

impl Watched for Fake {
    fn pid(&self) -> u32 {
        4711
    }

    fn has_ended(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A worker that was told to write four slots and to read one, and a day on the clock.
fn busy_worker() -> (Arc<Engine>, Vec<u64>) {
    let engine = shared_engine(16);
    engine.age_by(Duration::from_secs(86_400));
    register(&engine, geometry(1));
    store(&engine, "s", &prompt(9, 1));
    look_up(&engine, "r", &prompt(9, 1));
    assert!(
        engine.requests().prepare_retrieve(&key("r", &prompt(9, 1), Some(0)), WORKER, 1).unwrap().is_some()
    );
    let plan = engine.requests().prepare_store(&key("w", &prompt(1, 4), Some(0)), WORKER, 1).unwrap();
    (engine, plan.slots.iter().map(|slot| slot.offset).collect())
}

fn pass(engine: &Arc<Engine>, seconds: u64) {
    engine.age_by(Duration::from_secs(seconds));
    engine.upkeep().sweep();
}

/// Where another worker is told to write when it asks for as much as it can get.
fn others_slots(engine: &Arc<Engine>) -> Vec<u64> {
    engine.requests().connected(2);
    engine.requests().register(8, "m", 1, geometry(1), 2).unwrap();
    let mut offsets = Vec::new();
    for seed in 100..116 {
        let plan = engine.requests().prepare_store(&key("o", &prompt(seed, 1), Some(0)), 8, 2).unwrap();
        offsets.extend(plan.slots.iter().map(|slot| slot.offset));
    }
    offsets
}

fn held(engine: &Arc<Engine>) -> (u64, u64) {
    let cache = engine.operator().status().cache;
    (cache.staging_objects, cache.leases)
}

#[test]
fn a_worker_that_lost_its_connections_keeps_its_memory_as_long_as_its_process_lives() {
    let (engine, slots) = busy_worker();
    let process = Arc::new(Fake::default());
    engine.upkeep().learn_process(WORKER, 1, Arc::clone(&process) as Arc<dyn Watched>);
    engine.requests().disconnected(1);
    for seconds in [3, 700, 86_400] {
        pass(&engine, seconds);
        assert_eq!(held(&engine), (4, 1), "after {seconds} s");
    }
    assert!(others_slots(&engine).iter().all(|offset| !slots.contains(offset)));
    let others = held(&engine).0 - 4;
    process.0.store(true, Relaxed);
    engine.upkeep().sweep();
    assert_eq!(held(&engine), (others, 0));
}

#[test]
fn a_process_that_is_gone_keeps_nothing_though_a_child_has_its_connection() {
    let (engine, _) = busy_worker();
    let process = Arc::new(Fake::default());
    engine.upkeep().learn_process(WORKER, 1, Arc::clone(&process) as Arc<dyn Watched>);
    engine.upkeep().sweep();
    assert_eq!(held(&engine), (4, 1));
    process.0.store(true, Relaxed);
    engine.upkeep().sweep();
    assert_eq!(held(&engine), (0, 0));
    assert_eq!(engine.operator().status().instances[0].connections, 1);
}

#[test]
fn a_worker_that_takes_the_place_of_another_has_nothing_of_it() {
    let (engine, slots) = busy_worker();
    engine.requests().expelled(1);
    engine.requests().connected(3);
    engine.requests().register(WORKER, "m", 1, geometry(1), 3).unwrap();
    assert_eq!(engine.operator().status().instances[0].pending_transfers, 0);
    assert_eq!(engine.operator().status().set_aside.reserved_bytes, slots.len() as u64 * PAGE);
    engine.requests().ping(Some(WORKER), 3);
    pass(&engine, 601);
    assert_eq!(held(&engine), (0, 0), "it goes when the one before is over, whoever came after it");
}

#[test]
fn a_worker_that_is_known_and_registers_again_goes_on() {
    let (engine, _) = busy_worker();
    engine.upkeep().learn_process(WORKER, 1, Arc::new(Fake::default()));
    engine.requests().disconnected(1);
    pass(&engine, 60);
    engine.requests().connected(3);
    engine.requests().register(WORKER, "m", 1, geometry(1), 3).unwrap();
    assert!(engine.requests().commit_store(&key("w", &prompt(1, 4), Some(0)), WORKER, 3, None).unwrap());
}

#[test]
fn a_process_is_looked_for_once_behind_each_connection_of_a_worker_that_transfers() {
    let (engine, _) = busy_worker();
    assert_eq!(engine.upkeep().unknown_processes(), [(WORKER, 1)]);
    engine.upkeep().find_process(WORKER, 1, &[std::process::id(), u32::MAX]);
    assert_eq!(engine.operator().status().instances[0].process, None, "nobody but the server has the pool");
    assert!(engine.upkeep().unknown_processes().is_empty());
    engine.requests().connected(2);
    engine.requests().ping(Some(WORKER), 2);
    assert_eq!(engine.upkeep().unknown_processes(), [(WORKER, 2)]);
    engine.upkeep().learn_process(WORKER, 3, Arc::new(Fake::default()));
    assert_eq!(engine.operator().status().instances[0].process, None, "it has no such connection");
    engine.upkeep().learn_process(WORKER, 2, Arc::new(Fake::default()));
    assert_eq!(engine.operator().status().instances[0].process, Some(4711));
    let ids = 100..140;
    for id in ids.clone() {
        engine.requests().connected(id as u64);
        engine.requests().register(id, "m", 1, geometry(1), id as u64).unwrap();
        assert!(engine.upkeep().unknown_processes().is_empty(), "it has not mapped the pool yet");
    }
    for id in ids.clone() {
        engine.requests().prepare_store(&key("z", &prompt(3, 1), Some(0)), id, id as u64).unwrap();
    }
    let mut looked: Vec<i64> =
        (0..3).flat_map(|_| engine.upkeep().unknown_processes()).map(|(id, _)| id).collect();
    looked.sort_unstable();
    assert_eq!(looked, ids.collect::<Vec<_>>(), "a few at a time, each in its turn");
}
