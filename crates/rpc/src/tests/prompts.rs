//! Long prompts: what a worker thread hashes, what is remembered, and what becomes of a request that breaks.

use std::sync::mpsc;

use larder_core::eviction::{Arrival, EntryId, Lru, Policy, Removal};

use super::transfers::{shared, worker_key};
use super::*;
use larder_engine::fixtures::{WORKER, prompt, unprepared_engine};

/// A prompt that a worker thread hashes, of which the first three chunks are told apart by their tokens.
fn tokens() -> Vec<u32> {
    (0..200_000).map(|position| position % 120).collect()
}

#[test]
fn a_long_prompt_is_hashed_once_and_one_that_differs_late_is_another() {
    with_engine(engine(), shared(), Limits::default(), async |rig: Rig| {
        let mut other = rig.connect().await;
        let Rig { mut client, engine, stats, .. } = rig;
        client.register().await;
        let mut tokens = tokens();
        let known = IdBuffer::new(&tokens);
        *tokens.last_mut().unwrap() = 127;
        let late = IdBuffer::new(&tokens);
        tokens[40] = 127;
        let early = IdBuffer::new(&tokens);
        client.store(&engine, worker_key(&known, "s", 0, 48)).await;
        assert_eq!((client.look_up(&known, "a").await, client.look_up(&early, "b").await), (3, 2));

        // From here on nothing is hashed that is not remembered: the only thread for it is taken.
        let (let_go, taken) = mpsc::channel::<()>();
        let taking = tokio::task::spawn_blocking(move || taken.recv());
        assert_eq!(client.look_up(&known, "c").await, 3);
        assert_eq!(stats.jobs_waiting(), 0);
        let uid = client.queue(&Request::Lookup { key: key(&late, "d"), tp_size: 1 });
        client.dealer.flush().await.unwrap();
        let waits = async {
            while stats.jobs_waiting() != 1 {
                other.call(&Request::Noop).await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, waits).await.expect("a job that waits for a thread");
        drop(let_go);
        assert_eq!(client.answer().await[0], uid);
        taking.await.unwrap().unwrap_err();
        assert_eq!(client.look_up(&late, "e").await, 3);
        assert_eq!((stats.jobs_waiting(), stats.refused()), (0, 0));
    });
}

#[test]
fn a_long_store_for_a_pool_that_is_being_prepared_is_answered_when_it_has_grown() {
    with_engine(unprepared_engine(16, config()), shared(), Limits::default(), async |rig: Rig| {
        let mut other = rig.connect().await;
        let Rig { mut client, engine, .. } = rig;
        client.register().await;
        for (round, ids) in [IdBuffer::new(&prompt(1, 3)), IdBuffer::new(&tokens())].iter().enumerate() {
            let key = worker_key(ids, "r", 0, 48);
            let uid = client.queue(&Request::PrepareStore { key, instance_id: WORKER });
            client.dealer.flush().await.unwrap();
            for _ in 0..10 {
                other.call(&Request::Noop).await.unwrap();
            }
            engine.upkeep().grow(engine.operator().status().cache.capacity_bytes + 3 * PAGE);
            assert_eq!(client.answer().await[0], uid);
            // Should its patience have been over before, it asks again.
            client.prepare_store(key).await;
            assert_eq!(engine.operator().status().cache.staging_objects, 3 * (round as u64 + 1));
        }
    });
}

/// A policy with a defect.
struct Broken(Lru);

impl Policy for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn insert(&mut self, id: EntryId, arrival: Arrival) {
        self.0.insert(id, arrival);
    }

    fn touch(&mut self, _id: EntryId) {
        panic!("a defect");
    }

    fn refresh(&mut self, _id: EntryId) {}

    fn remove(&mut self, _id: EntryId, _removal: Removal) {
        panic!("a defect");
    }

    fn victims(&mut self, evictable: &mut dyn FnMut(EntryId) -> bool, want: usize) -> Vec<EntryId> {
        self.0.victims(evictable, want)
    }

    fn cold_to_hot(&mut self) -> Vec<EntryId> {
        self.0.cold_to_hot()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

#[test]
fn a_request_that_meets_a_defect_is_refused_and_counted_on_whatever_thread_and_the_next_one_is_served() {
    let engine = engine();
    engine.operator().set_policy(Box::new(Broken(Lru::new())));
    with_engine(engine, shared(), Limits::default(), async |Rig { mut client, engine, stats, .. }| {
        client.register().await;
        for (round, ids) in [IdBuffer::new(&prompt(1, 3)), IdBuffer::new(&tokens())].iter().enumerate() {
            client.store(&engine, worker_key(ids, "s", 0, 48)).await;
            let refused = client.call(&Request::Lookup { key: key(ids, "r"), tp_size: 1 }).await.unwrap_err();
            assert!(refused.contains("internal error"), "{refused}");
            assert_eq!((stats.panics(), stats.refused()), (round as u64 + 1, round as u64 + 1));
            assert_eq!(client.call(&Request::Noop).await, Ok(Some("Str(\"OK\")".into())));
        }
        client.store(&engine, worker_key(&IdBuffer::new(&prompt(2, 1)), "s", 0, 16)).await;
        let refused = client.call(&Request::Clear { force: false }).await.unwrap_err();
        assert!(refused.contains("internal error"), "{refused}");
        assert_eq!((stats.panics(), stats.refused(), stats.jobs_waiting()), (3, 3, 0));
    });
}
