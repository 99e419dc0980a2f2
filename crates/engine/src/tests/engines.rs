//! Engines that differ, under the same request ids.

use super::*;

/// What tells an engine from others.
#[derive(Clone, Copy)]
struct Theirs {
    instance: i64,
    /// Of its scheduler; its worker's is the next.
    connection: u64,
    model: &'static str,
    salt: &'static str,
    dtype: &'static str,
}

const BASE: Theirs = Theirs { instance: 20, connection: 20, model: "m2", salt: "", dtype: "uint8" };

impl Theirs {
    fn join(self, engine: &Arc<Engine>) -> Self {
        engine.requests().connected(self.connection);
        engine.requests().connected(self.connection + 1);
        let geometry = Geometry { dtype: self.dtype, ..geometry(1) };
        engine.requests().register(self.instance, self.model, 1, geometry, self.connection + 1).unwrap();
        self
    }

    fn key<'a>(&self, request_id: &'a str, tokens: &[u32], worker_id: Option<u32>) -> PromptKey<'a> {
        PromptKey { model_name: self.model, cache_salt: self.salt, ..key(request_id, tokens, worker_id) }
    }

    fn store(&self, engine: &Arc<Engine>, request_id: &str, tokens: &[u32]) -> usize {
        let key = self.key(request_id, tokens, Some(0));
        let plan = engine.requests().prepare_store(&key, self.instance, self.connection + 1).unwrap();
        assert!(engine.requests().commit_store(&key, self.instance, self.connection + 1, None).unwrap());
        plan.slots.len()
    }

    fn look_up(&self, engine: &Arc<Engine>, request_id: &str, tokens: &[u32]) -> usize {
        engine.requests().lookup(&self.key(request_id, tokens, None), self.connection).unwrap();
        engine.requests().collect(request_id, self.connection).unwrap()
    }

    fn retrieve(&self, engine: &Arc<Engine>, request_id: &str, tokens: &[u32]) -> Option<RetrievePlan> {
        let key = self.key(request_id, tokens, Some(0));
        let plan = engine.requests().prepare_retrieve(&key, self.instance, self.connection + 1).unwrap()?;
        engine.requests().commit_retrieve(&key, self.instance, self.connection + 1).unwrap();
        Some(plan)
    }
}

#[test]
fn a_retrieve_takes_the_leases_of_its_own_scope() {
    let others = [
        Theirs { model: "m3", ..BASE },
        Theirs { salt: "attacker", ..BASE },
        Theirs { dtype: "float16", ..BASE },
    ];
    for other in others {
        let engine = engine(32);
        let tokens = prompt(1, 3);
        let first = BASE.join(&engine);
        let other = Theirs { instance: 40, connection: 40, ..other }.join(&engine);
        first.store(&engine, "s", &tokens);
        assert_eq!(first.look_up(&engine, "x", &tokens), 3);
        other.look_up(&engine, "x", &tokens);
        assert!(
            other.retrieve(&engine, "x", &tokens).is_none(),
            "{} {} {}",
            other.model,
            other.salt,
            other.dtype
        );
        other.store(&engine, "s", &tokens);
        assert_eq!(other.look_up(&engine, "x", &tokens), 3);
        let [ours, theirs] = [first, other].map(|engines| engines.retrieve(&engine, "x", &tokens).unwrap());
        assert_eq!((ours.layout.dtype().name(), theirs.layout.dtype().name()), (first.dtype, other.dtype));
        assert!(ours.slots.iter().all(|slot| !theirs.slots.contains(slot)));
    }
}

#[test]
fn nobody_ends_the_session_of_another_engine() {
    let engine = engine(16);
    let tokens = prompt(1, 2);
    let first = BASE.join(&engine);
    let replica = Theirs { instance: 40, connection: 40, ..BASE }.join(&engine);
    first.store(&engine, "s", &tokens);
    assert_eq!(first.look_up(&engine, "x", &tokens), 2);
    assert_eq!(replica.look_up(&engine, "x", &tokens), 2);
    assert_eq!(
        engine.operator().status().cache.leases,
        4,
        "one engine's lookup does not take another's leases"
    );
    assert!(engine.requests().end_session("x", replica.connection));
    assert!(!engine.requests().end_session("x", replica.connection), "and it ends its own alone");
    assert_eq!(engine.operator().status().cache.leases, 2);
    assert_eq!(first.retrieve(&engine, "x", &tokens).unwrap().slots.len(), 2);
}

#[test]
fn a_scheduler_that_connects_again_speaks_for_its_requests() {
    let engine = engine(16);
    let tokens = prompt(1, 2);
    let first = BASE.join(&engine);
    first.store(&engine, "s", &tokens);
    engine.requests().lookup(&first.key("x", &tokens, None), first.connection).unwrap();
    engine.requests().disconnected(first.connection);
    engine.requests().connected(90);
    assert_eq!(engine.requests().collect("x", 90), Some(2));
    engine.age_by(std::time::Duration::from_secs(10));
    engine.upkeep().sweep();
    assert_eq!(first.retrieve(&engine, "x", &tokens).unwrap().slots.len(), 2, "its leases did not go");
    assert!(engine.requests().end_session("x", 90));
}

#[test]
fn one_that_speaks_for_several_that_are_gone_gives_back_what_all_of_them_held() {
    for looks_again in [true, false] {
        let engine = engine(16);
        let tokens = prompt(1, 2);
        let first = BASE.join(&engine);
        let replica = Theirs { instance: 40, connection: 40, ..BASE }.join(&engine);
        first.store(&engine, "s", &tokens);
        assert_eq!((first.look_up(&engine, "x", &tokens), replica.look_up(&engine, "x", &tokens)), (2, 2));
        engine.requests().disconnected(first.connection);
        engine.requests().disconnected(replica.connection);
        engine.requests().connected(90);
        if looks_again {
            engine.requests().lookup(&first.key("x", &tokens, None), 90).unwrap();
            assert_eq!(engine.operator().status().cache.leases, 2);
        } else {
            engine.requests().lookup(&first.key("x", &[], None), 90).unwrap();
        }
        engine.requests().end_session("x", 90);
        assert_eq!(
            (engine.operator().lease_totals().leaked(), engine.operator().status().cache.leases),
            (0, 0)
        );
    }
}

#[test]
fn workers_of_two_engines_share_the_leases_of_one_id_without_loss() {
    let engine = engine(16);
    let tokens = prompt(1, 3);
    let short = &tokens[..2 * CHUNK as usize];
    let first = BASE.join(&engine);
    let replica = Theirs { instance: 40, connection: 40, ..BASE }.join(&engine);
    first.store(&engine, "s", short);
    assert_eq!(first.look_up(&engine, "x", &tokens), 2);
    first.store(&engine, "s", &tokens);
    assert_eq!(replica.look_up(&engine, "x", &tokens), 3);
    assert_eq!(first.retrieve(&engine, "x", short).unwrap().slots.len(), 2);
    assert_eq!(replica.retrieve(&engine, "x", &tokens).unwrap().slots.len(), 3);
}

#[test]
fn engines_of_one_model_with_other_layouts_each_have_their_hits() {
    let engine = engine(32);
    let tokens = prompt(1, 2);
    let first = BASE.join(&engine);
    first.store(&engine, "s", &tokens);
    assert_eq!(first.look_up(&engine, "a", &tokens), 2);
    let other = Theirs { instance: 40, connection: 40, dtype: "float16", ..BASE }.join(&engine);
    assert_eq!(first.look_up(&engine, "b", &tokens), 2, "an engine that comes takes nothing");
    assert_eq!(other.look_up(&engine, "c", &tokens), 0);
    other.store(&engine, "s", &tokens);
    assert_eq!((first.look_up(&engine, "d", &tokens), other.look_up(&engine, "e", &tokens)), (2, 2));
    assert_eq!(first.retrieve(&engine, "d", &tokens).unwrap().layout.bytes(), PAGE);
    assert_eq!(other.retrieve(&engine, "e", &tokens).unwrap().layout.bytes(), 2 * PAGE);
    engine.requests().unregister(other.instance, other.connection);
    assert_eq!(first.look_up(&engine, "f", &tokens), 2, "an engine that goes leaves nothing");
    engine.requests().unregister(first.instance, first.connection);
    assert_eq!(first.look_up(&engine, "g", &tokens), 0);
}

#[test]
fn a_scheduler_is_known_by_the_workers_that_transfer_under_its_requests() {
    let engine = engine(32);
    let tokens = prompt(1, 2);
    let [first, other] = [BASE, Theirs { instance: 40, connection: 40, dtype: "float16", ..BASE }];
    first.join(&engine);
    other.join(&engine);
    first.store(&engine, "s", &tokens);
    // Nothing tells whose scheduler this is, and it has most of the prompt of the other's engine.
    assert_eq!(other.look_up(&engine, "a", &tokens), 2);
    assert!(other.retrieve(&engine, "a", &tokens).is_none());
    assert_eq!(other.look_up(&engine, "b", &tokens), 0);
    assert_eq!(first.look_up(&engine, "c", &tokens), 2);
}

#[test]
fn stages_of_a_pipeline_have_layouts_of_their_own() {
    let engine = engine(32);
    engine.tiers().set_enabled(true);
    let tokens = prompt(1, 3);
    let stages = [(50, 0, 2), (51, 1, 3)];
    for (instance, _, layers) in stages {
        engine.requests().register(instance, "p", 2, geometry(layers), 1).unwrap();
    }
    let key = |rank| PromptKey { model_name: "p", world_size: 2, ..key("x", &tokens, rank) };
    for (instance, rank, _) in stages {
        assert_eq!(engine.requests().prepare_store(&key(Some(rank)), instance, 1).unwrap().slots.len(), 3);
        assert!(engine.requests().commit_store(&key(Some(rank)), instance, 1, None).unwrap());
    }
    engine.requests().lookup(&key(None), 1).unwrap();
    assert_eq!(engine.requests().collect("x", 1), Some(3));
    for (instance, rank, layers) in stages {
        let plan = engine.requests().prepare_retrieve(&key(Some(rank)), instance, 1).unwrap().unwrap();
        assert_eq!(plan.layout.bytes(), u64::from(layers) * PAGE);
        engine.requests().commit_retrieve(&key(Some(rank)), instance, 1).unwrap();
    }
    engine.requests().end_session("x", 1);
    engine.operator().clear(true);
    engine.requests().lookup(&key(None), 1).unwrap();
    let prefetch = engine.tiers().take_prefetch().unwrap();
    let asked: Vec<u64> = prefetch.work().rows.iter().map(|row| row.scope.layout.bytes()).collect();
    assert_eq!(asked, [2 * PAGE, 3 * PAGE], "the second tier is asked for what each stage stored");
}

#[test]
fn a_connection_that_looks_up_without_end_loses_its_own_sessions_alone() {
    use crate::state::sessions::SESSIONS_PER_CONNECTION_MAX;
    let engine = engine(8);
    let tokens = prompt(1, 1);
    store(&engine, "s", &tokens);
    engine.requests().connected(2);
    engine.requests().lookup(&key("kept", &tokens, None), 2).unwrap();
    let flood = key("", &tokens, None);
    for request in 0..SESSIONS_PER_CONNECTION_MAX + 1 {
        engine
            .requests()
            .lookup(&PromptKey { request_id: &request.to_string(), ..flood.clone() }, 1)
            .unwrap();
    }
    let status = engine.operator().status();
    assert!(status.sessions <= SESSIONS_PER_CONNECTION_MAX && status.session_bytes < 16 << 20);
    assert!(engine.counters().evicted_sessions.get() > 0);
    assert_eq!(status.cache.leases, status.sessions as u64, "each that was given up gave its lease back");
    assert_eq!(engine.requests().collect("kept", 2), Some(1));
}

#[test]
fn a_connection_that_registers_without_end_is_refused() {
    use crate::limits::INSTANCES_PER_CONNECTION_MAX;
    let engine = engine(4);
    engine.requests().connected(2);
    for instance in 0..INSTANCES_PER_CONNECTION_MAX as i64 {
        engine.requests().register(1000 + instance, "m", 1, geometry(1), 2).unwrap();
    }
    let refused = engine.requests().register(999, "m", 1, geometry(1), 2);
    assert!(matches!(refused, Err(EngineError::TooManyInstances(999))));
    engine.requests().register(999, "m", 1, geometry(1), 1).unwrap();
}

#[test]
fn a_worker_with_many_connections_lives_as_long_as_any_of_them() {
    let engine = engine(8);
    let tokens = prompt(1, 1);
    let worker = key("r", &tokens, Some(0));
    for connection in 2..40 {
        engine.requests().connected(connection);
        assert!(engine.requests().ping(Some(WORKER), connection));
    }
    engine.requests().prepare_store(&worker, WORKER, 1).unwrap();
    (2..40).for_each(|connection| engine.requests().disconnected(connection));
    engine.age_by(std::time::Duration::from_secs(3));
    engine.upkeep().sweep();
    assert!(engine.requests().commit_store(&worker, WORKER, 1, None).unwrap());
}

/// A lookup looks at each kind of engine of its model, and at each layout of a kind.
#[test]
fn engines_of_one_model_are_of_a_bounded_number_of_kinds() {
    let engine = engine(8);
    let register = |id: i64, layers, hidden| {
        let mut geometry = geometry(layers);
        geometry.chunk.hidden = hidden;
        engine.requests().register(id, "m", 1, geometry, 1)
    };
    let refused: Vec<i64> = (0..100).filter(|&id| register(id + 10, 1, 1000 + id as u64).is_err()).collect();
    assert_eq!(refused.first(), Some(&63), "with the one that was there");
    let refused: Vec<i64> = (0..100).filter(|&id| register(id + 200, 2 + id as u32, 256).is_err()).collect();
    assert_eq!(refused.first(), Some(&64), "stages of one pipeline");
    assert!(register(500, 1, 256).is_ok(), "one that looks like another");
    for connection in [1, 2] {
        engine.requests().connected(connection);
    }
    assert!(matches!(register(501, 1, 7777), Err(EngineError::TooManyLayouts(501))));
}

#[test]
fn a_connection_that_leaves_transfers_behind_without_end_registers_no_more() {
    let engine = engine(2048);
    let leave_behind = |id: i64, connection| {
        engine.requests().register(id, "m", 1, geometry(1), connection)?;
        engine.requests().prepare_store(&key("r", &prompt(id as u32, 1), Some(0)), id, connection)?;
        engine.requests().unregister(id, connection);
        Ok::<_, EngineError>(())
    };
    engine.requests().connected(2);
    let refused = (100..1000).find(|&id| leave_behind(id, 2).is_err());
    assert_eq!(refused, Some(100 + 256));
    engine.requests().connected(3);
    assert!(leave_behind(1000, 3).is_ok(), "others are not kept from it");
}

/// A lookup under an id looks at all sessions of that id.
#[test]
fn whoever_looks_up_most_under_one_id_loses_its_oldest_session_there() {
    let engine = engine(8);
    let tokens = prompt(1, 1);
    store(&engine, "s", &tokens);
    look_up(&engine, "r", &tokens);
    engine.requests().connected(2);
    for salt in 0..300 {
        let salt = salt.to_string();
        engine.requests().lookup(&PromptKey { cache_salt: &salt, ..key("r", &tokens, None) }, 2).unwrap();
    }
    assert_eq!(engine.operator().status().sessions, 256);
    assert_eq!(retrieve(&engine, "r", &tokens), Some(1));
}
