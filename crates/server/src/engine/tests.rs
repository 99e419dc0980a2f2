//! What requests of one client may do to another's, and what is left when somebody vanishes.

use std::sync::Arc;

use larder_core::eviction::Lru;
use larder_core::hash::{ChunkHasher, HashAlgorithm};
use larder_core::key::TokenRange;
use larder_core::kv_events::KvEventKind;
use larder_pool::{Segment, SegmentOptions};

use super::*;

mod accounts;
mod adoption;
mod engines;
mod lanes;
mod model;
mod sessions;
mod transfers;

const CHUNK: u32 = 16;
const PAGE: u64 = 4096;
const WORKER: i64 = 7;

/// An engine's configuration with the defaults of the flags.
fn config() -> EngineConfig {
    EngineConfig {
        chunk_size: CHUNK,
        hash_algorithm: HashAlgorithm::Blake3,
        align_bytes: PAGE,
        checksum: ChecksumMode::Tiers,
        limits: Limits {
            eviction_watermark: 0.8,
            eviction_ratio: 0.2,
            write_ttl_ms: 600_000,
            read_ttl_ms: 300_000,
            session_ttl_ms: 600_000,
            reap_timeout_ms: 120_000,
            registration_grace_ms: 3_600_000,
        },
        kv_event_log_size: 100,
        incarnation_ns: 1,
    }
}

/// An engine over `pages` pages with one connection (1) and one registered worker whose chunks take a page.
fn engine(pages: u64) -> Engine {
    let options = SegmentOptions { share: None, bytes: pages * PAGE, hugepages: false };
    let engine = Engine::new(config(), Arc::new(Segment::create(options).unwrap()), Box::new(Lru::new()));
    engine.grow(pages * PAGE);
    engine.stop_growing();
    engine.connected(1);
    engine.register(WORKER, "m", 1, geometry(1), 1).unwrap();
    engine
}

fn geometry(layers: u32) -> Geometry<'static> {
    Geometry {
        block_size: 16,
        num_layers: layers,
        hidden_dim_size: 256,
        dtype: "uint8",
        use_mla: true,
        num_physical_slots: None,
    }
}

fn prompt(seed: u32, chunks: u32) -> Vec<u32> {
    (0..chunks * CHUNK).map(|position| seed * 1000 + position).collect()
}

fn key<'a>(request_id: &'a str, tokens: &[u32], worker_id: Option<u32>) -> PromptKey<'a> {
    let hasher = ChunkHasher::new(HashAlgorithm::Blake3, CHUNK as usize).unwrap();
    let mut hashes = Vec::new();
    hasher.extend(None, tokens, &mut hashes);
    PromptKey {
        model_name: "m",
        world_size: 1,
        worker_id,
        tokens: tokens.len() as u64,
        hashes: hashes.into(),
        token_ids: None,
        range: TokenRange { start: 0, end: tokens.len() as u64 },
        request_id,
        cache_salt: "",
        readers: 1,
    }
}

/// Stores a prompt, as much of it at a time as the worker may reserve, and returns the number of chunks written.
fn store(engine: &Engine, request_id: &str, tokens: &[u32]) -> usize {
    let key = key(request_id, tokens, Some(0));
    let mut stored = 0;
    loop {
        let plan = engine.prepare_store(&key, WORKER, 1).unwrap();
        if plan.slots.is_empty() {
            return stored;
        }
        assert!(engine.commit_store(&key, WORKER, 1, None).unwrap());
        stored += plan.slots.len();
    }
}

fn look_up(engine: &Engine, request_id: &str, tokens: &[u32]) -> usize {
    engine.lookup(&key(request_id, tokens, None), 1).unwrap();
    engine.collect(request_id, 1).unwrap()
}

fn retrieve(engine: &Engine, request_id: &str, tokens: &[u32]) -> Option<usize> {
    let key = key(request_id, tokens, Some(0));
    let plan = engine.prepare_retrieve(&key, WORKER, 1).unwrap()?;
    engine.commit_retrieve(&key, WORKER, 1).unwrap();
    Some(plan.slots.len())
}

#[test]
fn a_reused_request_id_never_gets_another_prompts_objects() {
    let engine = engine(8);
    let (first, second) = (prompt(1, 2), prompt(2, 2));
    store(&engine, "s", &first);
    assert_eq!(look_up(&engine, "r", &first), 2);
    assert_eq!(look_up(&engine, "r", &second), 0);
    assert_eq!(retrieve(&engine, "r", &second), None);
    assert_eq!(retrieve(&engine, "r", &first), None, "its lookup was superseded");
    assert_eq!(engine.status().cache.leases, 0);
}

#[test]
fn a_worker_that_leaves_between_prepare_and_commit_publishes_nothing() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    let key = key("r", &tokens, Some(0));
    assert_eq!(engine.prepare_store(&key, WORKER, 1).unwrap().slots.len(), 2);
    engine.unregister(WORKER, 1);
    engine.register(WORKER, "m", 1, geometry(1), 1).unwrap();
    assert_eq!(look_up(&engine, "l", &tokens), 0);
    assert!(!engine.commit_store(&key, WORKER, 1, None).unwrap());
    assert_eq!(engine.status().cache.resident_objects, 0);
}

#[test]
fn giving_back_twice_takes_nothing_from_others() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    assert_eq!((look_up(&engine, "a", &tokens), look_up(&engine, "b", &tokens)), (2, 2));
    for _ in 0..2 {
        engine.free_leases(&key("a", &tokens, None), 1);
    }
    assert_eq!(engine.status().cache.leases, 2);
    assert_eq!(retrieve(&engine, "b", &tokens), Some(2));
}

#[test]
fn only_whole_chunks_inside_the_range_are_given_back() {
    let engine = engine(8);
    let tokens = prompt(1, 4);
    store(&engine, "s", &tokens);
    assert_eq!(look_up(&engine, "r", &tokens), 4);
    let part = PromptKey { range: TokenRange { start: 0, end: 40 }, ..key("r", &tokens, None) };
    engine.free_leases(&part, 1);
    assert_eq!(engine.status().cache.leases, 2);
    let rest = PromptKey { range: TokenRange { start: 32, end: 64 }, ..key("r", &tokens, Some(0)) };
    assert!(engine.prepare_retrieve(&rest, WORKER, 1).unwrap().is_some());
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
    assert_eq!(engine.status().cache.leases, 2);
    assert!(engine.end_session("r", 1));
    assert_eq!(engine.status().cache.leases, 0);
}

#[test]
fn an_answer_is_collected_once() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    assert_eq!(look_up(&engine, "r", &tokens), 2);
    assert_eq!(engine.collect("r", 1), Some(0));
    assert_eq!(engine.collect("nobody", 1), Some(0));
}

#[test]
fn every_reader_of_a_shared_object_needs_its_own_lease() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    engine.lookup(&PromptKey { readers: 2, ..key("r", &tokens, None) }, 1).unwrap();
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
    assert!(engine.prepare_retrieve(&worker, WORKER, 1).unwrap().is_some());
    engine.end_session("r", 1);
    assert_eq!(engine.status().cache.leases, 2);
    assert_eq!(store(&engine, "s", &prompt(2, 1)), 0, "nothing may be evicted under a reader");
    engine.commit_retrieve(&worker, WORKER, 1).unwrap();
    assert_eq!(store(&engine, "s", &prompt(2, 1)), 1);
}

#[test]
fn an_unknown_worker_is_told_so_once() {
    let engine = engine(4);
    assert!(engine.ping(None, 1));
    assert!(engine.ping(Some(WORKER), 1));
    assert!(!engine.ping(Some(99), 1));
    assert!(engine.ping(Some(99), 1), "an unmodified client registers again when it sees the server recover");
    let tokens = prompt(1, 1);
    let unknown = engine.prepare_store(&key("r", &tokens, Some(0)), 99, 1);
    assert!(matches!(unknown, Err(EngineError::UnknownInstance(99))));
}

#[test]
fn registering_again_with_another_layout_does_not_reuse_old_objects() {
    let engine = engine(8);
    let tokens = prompt(1, 1);
    store(&engine, "s", &tokens);
    engine.register(WORKER, "m", 1, geometry(2), 1).unwrap();
    assert_eq!(look_up(&engine, "r", &tokens), 0);
    assert_eq!(store(&engine, "s", &tokens), 1);
    assert_eq!(look_up(&engine, "r", &tokens), 1);
}

#[test]
fn unaligned_ranges_and_missing_ranks_are_refused() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    for range in [TokenRange { start: 8, end: 32 }, TokenRange { start: 0, end: 48 }] {
        let refused = engine.prepare_store(&PromptKey { range, ..key("r", &tokens, Some(0)) }, WORKER, 1);
        assert!(matches!(refused, Err(EngineError::Key(_))), "{range}");
    }
    let refused = engine.prepare_store(&key("r", &tokens, None), WORKER, 1);
    assert!(matches!(refused, Err(EngineError::WorkerIdMissing)));
    let refused = engine.lookup(&PromptKey { readers: 0, ..key("r", &tokens, None) }, 1);
    assert!(matches!(refused, Err(EngineError::Readers(0))));
}

#[test]
fn forced_clear_keeps_memory_from_reuse_while_a_worker_reads_it() {
    let engine = engine(2);
    let tokens = prompt(1, 2);
    store(&engine, "s", &tokens);
    assert_eq!(look_up(&engine, "r", &tokens), 2);
    let worker = key("r", &tokens, Some(0));
    assert!(engine.prepare_retrieve(&worker, WORKER, 1).unwrap().is_some());
    engine.clear(true);
    assert_eq!(look_up(&engine, "other", &tokens), 0);
    assert_eq!(store(&engine, "s", &prompt(2, 1)), 0);
    engine.commit_retrieve(&worker, WORKER, 1).unwrap();
    assert_eq!(store(&engine, "s", &prompt(2, 1)), 1);
}

#[test]
fn events_are_recorded_for_subscribers_only() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    let worker = key("s", &tokens, Some(0));
    engine.record_events(true);
    assert!(engine.wants_tokens());
    engine.prepare_store(&worker, WORKER, 1).unwrap();
    engine.commit_store(&worker, WORKER, 1, Some(&tokens)).unwrap();
    engine.clear(false);
    let page = engine.read_events("m", 0, 10);
    assert_eq!((page.events.len(), page.next_cursor, page.lost), (3, 3, false));
    engine.record_events(false);
    store(&engine, "s", &prompt(2, 1));
    engine.record_events(true);
    let page = engine.read_events("m", 3, 10);
    assert!(page.lost && page.events.is_empty());
}

#[test]
fn events_tell_of_the_chunks_that_were_stored_and_of_no_others() {
    let engine = engine(4);
    engine.record_events(true);
    let tokens = prompt(1, 6);
    let worker = key("s", &tokens, Some(0));
    let stored = || -> Vec<usize> {
        let events = engine.read_events("m", 0, 100).events;
        let chunk = |hash| worker.hashes.iter().position(|chunk| chunk == hash).unwrap();
        let stored = events.iter().filter(|event| event.kind != KvEventKind::Removed);
        stored.flat_map(|event| event.hashes.iter().map(chunk)).collect()
    };
    let first = PromptKey { range: TokenRange { start: 16, end: 32 }, ..worker.clone() };
    for key in [&first, &worker] {
        engine.prepare_store(key, WORKER, 1).unwrap();
        engine.commit_store(key, WORKER, 1, Some(&tokens)).unwrap();
    }
    assert_eq!(stored(), [1, 0, 2], "the second one was there, and there was no room for the rest");
    let page = engine.read_events("m", 0, 100);
    for (event, chunk) in page.events.iter().zip([1, 0, 2]) {
        let parent = (chunk > 0).then(|| worker.hashes[chunk - 1]);
        let tokens = tokens[chunk * 16..(chunk + 1) * 16].into();
        assert_eq!(event.kind, KvEventKind::Stored { parent, tokens });
    }
}

#[test]
fn events_tell_of_chunks_that_come_back_from_a_tier() {
    let engine = engine(4);
    engine.set_tier_enabled(true);
    assert!(!engine.wants_tokens_of_loads());
    engine.record_events(true);
    assert!(engine.wants_tokens_of_loads());
    let tokens = prompt(1, 3);
    let asked = PromptKey { token_ids: Some(tokens.as_slice().into()), ..key("r", &tokens, None) };
    engine.lookup(&asked, 1).unwrap();
    let work = engine.take_prefetch().unwrap();
    let slots = engine.reserve_load(&work.rows, 0, &work.hashes, 0..2);
    let loaded: Vec<Arrival> = slots.iter().map(|slot| Arrival { entry: slot.entry, seal: None }).collect();
    engine.finish_prefetch(&work, &loaded);
    let events = engine.read_events("m", 0, 10).events;
    let hashes: Vec<_> = events.iter().map(|event| event.hashes[0]).collect();
    assert_eq!(hashes, asked.hashes[..2]);
    let kind = KvEventKind::Stored { parent: Some(asked.hashes[0]), tokens: tokens[16..32].into() };
    assert_eq!(events[1].kind, kind);
    engine.publish_late(&work, &loaded);
    assert_eq!(engine.read_events("m", 0, 10).events.len(), 2, "they are there already");
}

#[test]
fn one_rank_tells_of_a_chunk_for_all() {
    let engine = engine(4);
    let tokens = prompt(1, 1);
    engine.record_events(true);
    for rank in [1, 0] {
        let worker = 100 + i64::from(rank);
        engine.register(worker, "m", 2, geometry(1), 1).unwrap();
        let key = PromptKey { world_size: 2, ..key("r", &tokens, Some(rank)) };
        engine.prepare_store(&key, worker, 1).unwrap();
        assert!(engine.commit_store(&key, worker, 1, Some(&tokens)).unwrap());
        let events = engine.read_events("m", 0, 10).events;
        assert_eq!(events.len(), usize::from(rank == 0), "rank {rank}");
    }
}

#[test]
fn what_a_tier_found_for_an_older_lookup_answers_no_newer_one() {
    let engine = engine(4);
    engine.set_tier_enabled(true);
    let (old, new) = (prompt(1, 2), prompt(2, 2));
    engine.lookup(&key("r", &old, None), 1).unwrap();
    let void = engine.take_prefetch().unwrap();
    engine.lookup(&key("r", &new, None), 1).unwrap();
    let slots = engine.reserve_load(&void.rows, 0, &void.hashes, 0..2);
    let loaded: Vec<Arrival> = slots.iter().map(|slot| Arrival { entry: slot.entry, seal: None }).collect();
    engine.finish_prefetch(&void, &loaded);
    assert_eq!(engine.collect("r", 1), None, "its own prefetch is under way");
    assert_eq!(engine.status().cache.leases, 0);
    engine.finish_prefetch(&engine.take_prefetch().unwrap(), &[]);
    assert_eq!(engine.collect("r", 1), Some(0));
}

mod waiting {
    //! Whoever waits for the answer of a lookup, when the lookup ends in another way.

    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::engine::sessions::SESSIONS_PER_CONNECTION_MAX;

    /// Whether somebody who waits for the second tier's answer is told that there will be none.
    fn is_told_by(end: impl FnOnce(&Engine)) -> bool {
        let mut engine = engine(4);
        engine.age_by(std::time::Duration::from_secs(86_400));
        engine.set_tier_enabled(true);
        engine.lookup(&key("r", &prompt(1, 1), None), 1).unwrap();
        let mut waiting = pin!(engine.collect_when_answered("r", 1));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        end(&engine);
        waiting.as_mut().poll(&mut context) == Poll::Ready(0)
    }

    #[test]
    fn the_end_of_a_request_is_told_to_who_waits_for_its_answer() {
        assert!(is_told_by(|engine| assert!(engine.end_session("r", 1))));
        assert!(is_told_by(|engine| {
            engine.state().sessions.latest("r", 1, 0);
            engine.sweep();
        }));
        assert!(is_told_by(|engine| {
            engine.force_release(&LeaseOwner::Request("r".into()), "test").unwrap();
        }));
    }

    #[test]
    fn a_lookup_that_makes_way_for_others_is_told_to_who_waits_for_its_answer() {
        assert!(is_told_by(|engine| engine.lookup(&key("r", &[], None), 1).unwrap()), "a newer one");
        assert!(is_told_by(|engine| {
            engine.state().sessions.latest("r", 1, 0);
            let other = key("", &prompt(2, 1), None);
            for request in 0..SESSIONS_PER_CONNECTION_MAX {
                engine.lookup(&PromptKey { request_id: &request.to_string(), ..other.clone() }, 1).unwrap();
            }
        }));
    }
}

mod sweeping {
    //! With time as the only actor. The engine's clock is its own, so ages are set instead of waited for.

    use super::*;
    use crate::engine::pending::PendingStore;

    const GRACE: std::time::Duration = std::time::Duration::from_secs(3);

    fn pending(engine: &Engine, change: impl Fn(&mut PendingStore)) {
        let mut state = engine.state();
        let instance = state.instances.get_mut(WORKER).unwrap();
        instance.pending.stores.values_mut().for_each(change);
    }

    /// An engine whose clock shows a day.
    fn aged(pages: u64) -> Engine {
        let mut engine = engine(pages);
        engine.age_by(std::time::Duration::from_secs(86_400));
        engine
    }

    #[test]
    fn a_vanished_writer_gives_its_memory_back() {
        let mut engine = aged(8);
        engine.prepare_store(&key("r", &prompt(1, 4), Some(0)), WORKER, 1).unwrap();
        engine.disconnected(1);
        engine.sweep();
        assert_eq!(engine.status().cache.staging_objects, 4, "it may come back on another connection");
        engine.age_by(GRACE);
        engine.sweep();
        let cache = engine.status().cache;
        assert_eq!((cache.used_bytes, cache.resident_objects), (0, 0));
    }

    #[test]
    fn a_writer_that_comes_back_keeps_its_memory() {
        let engine = aged(4);
        let tokens = prompt(1, 2);
        let worker = key("r", &tokens, Some(0));
        engine.prepare_store(&worker, WORKER, 1).unwrap();
        engine.disconnected(1);
        engine.connected(2);
        assert!(engine.ping(Some(WORKER), 2));
        engine.sweep();
        assert!(engine.commit_store(&worker, WORKER, 2, None).unwrap());
    }

    #[test]
    fn a_writer_whose_connection_the_server_closed_keeps_its_memory_for_as_long_as_it_may_copy() {
        let mut engine = aged(4);
        engine.prepare_store(&key("r", &prompt(1, 2), Some(0)), WORKER, 1).unwrap();
        engine.expelled(1);
        engine.age_by(std::time::Duration::from_secs(500));
        engine.sweep();
        assert_eq!(engine.status().cache.used_bytes, 2 * PAGE, "silent beyond the reap timeout, and alive");
        engine.age_by(std::time::Duration::from_secs(200));
        engine.sweep();
        assert_eq!(engine.status().cache.used_bytes, 0);
    }

    #[test]
    fn a_writer_that_unregisters_as_its_first_word_on_a_new_connection_keeps_its_memory() {
        let mut engine = aged(4);
        engine.prepare_store(&key("r", &prompt(1, 2), Some(0)), WORKER, 1).unwrap();
        engine.disconnected(1);
        engine.connected(2);
        engine.unregister(WORKER, 2);
        engine.age_by(GRACE);
        engine.sweep();
        assert_eq!(engine.status().cache.used_bytes, 2 * PAGE, "one of its threads may be in its copy");
        engine.disconnected(2);
        engine.age_by(GRACE);
        engine.sweep();
        assert_eq!(engine.status().cache.used_bytes, 0);
    }

    /// A long request is handled while its connection may end.
    #[test]
    fn what_is_asked_on_a_connection_that_has_ended_is_given_back_like_what_was_asked_before() {
        let mut engine = aged(8);
        let tokens = prompt(1, 2);
        store(&engine, "s", &tokens);
        engine.disconnected(1);
        engine.lookup(&key("r", &tokens, None), 1).unwrap();
        engine.register(8, "m", 1, geometry(1), 1).unwrap();
        engine.prepare_store(&key("r", &prompt(2, 2), Some(0)), 8, 1).unwrap();
        engine.age_by(GRACE);
        engine.sweep();
        let cache = engine.status().cache;
        assert_eq!((cache.leases, cache.staging_objects), (0, 0));
    }

    #[test]
    fn an_expired_writer_can_not_publish_and_its_memory_stays_its_own() {
        let mut engine = aged(4);
        let tokens = prompt(1, 1);
        let worker = key("r", &tokens, Some(0));
        engine.prepare_store(&worker, WORKER, 1).unwrap();
        pending(&engine, |pending| pending.since_ms = 0);
        engine.sweep();
        store(&engine, "s", &prompt(2, 1));
        engine.sweep();
        assert_eq!(engine.status().cache.staging_objects, 1, "another of its threads may hang in this copy");
        engine.age_by(std::time::Duration::from_secs(60));
        assert!(!engine.commit_store(&worker, WORKER, 1, None).unwrap());
        assert_eq!(engine.status().cache.staging_objects, 0, "it says that it has written");
        assert_eq!(look_up(&engine, "l", &tokens), 0);
    }

    #[test]
    fn a_retrieve_that_is_never_committed_ends_once_its_worker_moved_on() {
        let mut engine = aged(4);
        let tokens = prompt(1, 2);
        store(&engine, "s", &tokens);
        look_up(&engine, "r", &tokens);
        engine.prepare_retrieve(&key("r", &tokens, Some(0)), WORKER, 1).unwrap().unwrap();
        engine.end_session("r", 1);
        engine.age_by(std::time::Duration::from_secs(301));
        engine.ping(Some(WORKER), 1);
        engine.sweep();
        assert_eq!(engine.status().cache.leases, 2, "it may hang in its copy");
        store(&engine, "s", &prompt(2, 1));
        engine.sweep();
        assert_eq!(engine.status().cache.leases, 0);
        assert_eq!(engine.counters().expired_leases.get(), 2);
    }

    #[test]
    fn a_silent_holder_loses_its_leases_and_a_living_one_keeps_them() {
        let engine = aged(4);
        let tokens = prompt(1, 2);
        store(&engine, "s", &tokens);
        look_up(&engine, "r", &tokens);
        engine.state().sessions.latest("r", 1, 0).unwrap();
        engine.sweep();
        assert_eq!(engine.status().cache.leases, 0, "idle for more than an hour");
        look_up(&engine, "r", &tokens);
        let recently = engine.now_ms() - 400_000;
        engine.state().sessions.latest("r", 1, recently).unwrap();
        engine.sweep();
        assert_eq!(engine.status().cache.leases, 2, "its connection speaks");
        engine.state().heard.note(1, recently);
        engine.sweep();
        assert_eq!(engine.status().cache.leases, 0);
    }

    #[test]
    fn a_vanished_scheduler_gives_its_leases_back_and_one_that_comes_back_keeps_them() {
        let mut engine = aged(4);
        let tokens = prompt(1, 2);
        store(&engine, "s", &tokens);
        engine.connected(2);
        engine.lookup(&key("r", &tokens, None), 2).unwrap();
        engine.disconnected(2);
        engine.sweep();
        assert_eq!(engine.status().cache.leases, 2, "it may come back on another connection");
        engine.connected(3);
        engine.lookup(&key("r", &tokens, None), 3).unwrap();
        engine.age_by(std::time::Duration::from_secs(3));
        engine.sweep();
        assert_eq!(engine.status().cache.leases, 2);
        engine.disconnected(3);
        engine.age_by(std::time::Duration::from_secs(3));
        engine.sweep();
        assert_eq!(engine.status().cache.leases, 0);
        assert_eq!(engine.counters().expired_leases.get(), 2);
    }

    #[test]
    fn the_registration_of_a_silent_worker_ends_though_it_is_connected() {
        let mut engine = aged(8);
        engine.ping(Some(WORKER), 1);
        let tokens = prompt(1, 2);
        let worker = key("r", &tokens, Some(0));
        engine.prepare_store(&worker, WORKER, 1).unwrap();
        engine.age_by(std::time::Duration::from_secs(121));
        engine.sweep();
        let status = engine.status();
        assert_eq!((status.instances.len(), engine.counters().reaped_instances.get()), (0, 1));
        assert_eq!((status.set_aside.registrations, status.set_aside.reserved_bytes), (1, 2 * PAGE));
        let refused = engine.commit_store(&worker, WORKER, 1, None);
        assert!(matches!(refused, Err(EngineError::UnknownInstance(WORKER))), "it is told to register again");
        engine.register(WORKER, "m", 1, geometry(1), 1).unwrap();
        assert_eq!(engine.status().instances[0].reserved_bytes, 2 * PAGE);
        engine.disconnected(1);
        engine.sweep();
        assert_eq!(engine.status().cache.used_bytes, 2 * PAGE, "it may come back on another connection");
        engine.age_by(GRACE);
        engine.sweep();
        let status = engine.status();
        assert_eq!((status.cache.used_bytes, status.set_aside.registrations), (0, 0));
    }

    #[test]
    fn what_is_set_aside_is_free_when_its_worker_says_that_it_has_written() {
        let engine = engine(8);
        let worker = key("r", &prompt(1, 2), Some(0));
        engine.prepare_store(&worker, WORKER, 1).unwrap();
        engine.unregister(WORKER, 1);
        engine.register(WORKER, "m", 1, geometry(1), 1).unwrap();
        assert_eq!(engine.status().cache.used_bytes, 2 * PAGE);
        assert!(!engine.commit_store(&worker, WORKER, 1, None).unwrap());
        assert_eq!(engine.status().cache.used_bytes, 0);
    }

    #[test]
    fn a_worker_reserves_half_of_the_pool_and_no_more() {
        let engine = engine(8);
        let first = key("r", &prompt(1, 3), Some(0));
        let second = key("r", &prompt(2, 3), Some(0));
        assert_eq!(engine.prepare_store(&first, WORKER, 1).unwrap().slots.len(), 3);
        engine.unregister(WORKER, 1);
        engine.register(WORKER, "m", 1, geometry(1), 1).unwrap();
        assert_eq!(engine.prepare_store(&second, WORKER, 1).unwrap().slots.len(), 1);
        assert_eq!(engine.counters().refused_chunks.get(), 2);
        engine.register(8, "m", 1, geometry(1), 1).unwrap();
        assert_eq!(engine.prepare_store(&key("r", &prompt(3, 3), Some(0)), 8, 1).unwrap().slots.len(), 3);
    }

    #[test]
    fn a_silent_worker_that_is_gone_leaves_nothing() {
        let mut engine = aged(4);
        engine.ping(Some(WORKER), 1);
        engine.disconnected(1);
        engine.age_by(std::time::Duration::from_secs(121));
        engine.sweep();
        assert_eq!(engine.status().instances.len(), 0);
        assert_eq!(engine.counters().reaped_instances.get(), 1);
    }
}
