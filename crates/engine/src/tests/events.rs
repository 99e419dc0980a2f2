//! What subscribers of KV events are told.

use larder_core::key::TokenRange;
use larder_core::kv_events::KvEventKind;

use super::*;

#[test]
fn events_are_recorded_for_subscribers_only() {
    let engine = engine(8);
    let tokens = prompt(1, 2);
    let worker = key("s", &tokens, Some(0));
    engine.requests().record_events(true);
    assert!(engine.wants_tokens());
    engine.requests().prepare_store(&worker, WORKER, 1).unwrap();
    engine.requests().commit_store(&worker, WORKER, 1, Some(&tokens)).unwrap();
    engine.operator().clear(false);
    let page = engine.requests().read_events("m", 0, 10);
    assert_eq!((page.events.len(), page.next_cursor, page.lost), (3, 3, false));
    engine.requests().record_events(false);
    store(&engine, "s", &prompt(2, 1));
    engine.requests().record_events(true);
    let page = engine.requests().read_events("m", 3, 10);
    assert!(page.lost && page.events.is_empty());
}

#[test]
fn events_tell_of_the_chunks_that_were_stored_and_of_no_others() {
    let engine = engine(4);
    engine.requests().record_events(true);
    let tokens = prompt(1, 6);
    let worker = key("s", &tokens, Some(0));
    let stored = || -> Vec<usize> {
        let events = engine.requests().read_events("m", 0, 100).events;
        let chunk = |hash| worker.hashes.iter().position(|chunk| chunk == hash).unwrap();
        let stored = events.iter().filter(|event| event.kind != KvEventKind::Removed);
        stored.flat_map(|event| event.hashes.iter().map(chunk)).collect()
    };
    let first = PromptKey { range: TokenRange { start: 16, end: 32 }, ..worker.clone() };
    for key in [&first, &worker] {
        engine.requests().prepare_store(key, WORKER, 1).unwrap();
        engine.requests().commit_store(key, WORKER, 1, Some(&tokens)).unwrap();
    }
    assert_eq!(stored(), [1, 0, 2], "the second one was there, and there was no room for the rest");
    let page = engine.requests().read_events("m", 0, 100);
    for (event, chunk) in page.events.iter().zip([1, 0, 2]) {
        let parent = (chunk > 0).then(|| worker.hashes[chunk - 1]);
        let tokens = tokens[chunk * 16..(chunk + 1) * 16].into();
        assert_eq!(event.kind, KvEventKind::Stored { parent, tokens });
    }
}

#[test]
fn events_tell_of_chunks_that_come_back_from_a_tier() {
    let engine = engine(4);
    engine.tiers().set_enabled(true);
    assert!(!engine.requests().wants_tokens_of_loads());
    engine.requests().record_events(true);
    assert!(engine.requests().wants_tokens_of_loads());
    let tokens = prompt(1, 3);
    let asked = PromptKey { token_ids: Some(tokens.as_slice().into()), ..key("r", &tokens, None) };
    engine.requests().lookup(&asked, 1).unwrap();
    let mut prefetch = engine.tiers().take_prefetch().unwrap();
    let slots = prefetch.reserve_row(0, 0..2);
    let loaded: Vec<Arrival> = slots.iter().map(|slot| slot.arrived(None)).collect();
    prefetch.answer(&loaded);
    let events = engine.requests().read_events("m", 0, 10).events;
    let hashes: Vec<_> = events.iter().map(|event| event.hashes[0]).collect();
    assert_eq!(hashes, asked.hashes[..2]);
    let kind = KvEventKind::Stored { parent: Some(asked.hashes[0]), tokens: tokens[16..32].into() };
    assert_eq!(events[1].kind, kind);
    prefetch.publish_late(&loaded);
    assert_eq!(engine.requests().read_events("m", 0, 10).events.len(), 2, "they are there already");
}

#[test]
fn one_rank_tells_of_a_chunk_for_all() {
    let engine = engine(4);
    let tokens = prompt(1, 1);
    engine.requests().record_events(true);
    for rank in [1, 0] {
        let worker = 100 + i64::from(rank);
        engine.requests().register(worker, "m", 2, geometry(1), 1).unwrap();
        let key = PromptKey { world_size: 2, ..key("r", &tokens, Some(rank)) };
        engine.requests().prepare_store(&key, worker, 1).unwrap();
        assert!(engine.requests().commit_store(&key, worker, 1, Some(&tokens)).unwrap());
        let events = engine.requests().read_events("m", 0, 10).events;
        assert_eq!(events.len(), usize::from(rank == 0), "rank {rank}");
    }
}

#[test]
fn an_event_log_is_told_from_that_of_another_run_and_from_none() {
    for (kv_event_log_size, incarnation_ns) in [(100, 77), (0, 78)] {
        let engine = bare_engine(2, EngineConfig { kv_event_log_size, incarnation_ns, ..config() });
        assert_eq!(engine.event_log(), (kv_event_log_size > 0, incarnation_ns));
    }
}
