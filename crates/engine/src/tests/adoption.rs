//! A server after another one, over the same pool.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_core::eviction::Lru;
use larder_core::key::TokenRange;
use larder_pool::{Directory, DirectoryOptions, Segment, SegmentOptions};
use proptest::prelude::*;

use super::*;
use crate::state::held::{HELD_MS, READ_MS};
use crate::state::slots::records_max;

const OPTIONS: DirectoryOptions = DirectoryOptions { stamp: 1, records_max: 1_000 };

/// A name of this test's own; nothing of it is left when the test ends.
struct Name(String);

impl Name {
    fn new(test: &str) -> Self {
        Self(format!("engine-{test}-{}", std::process::id()))
    }

    fn options(&self, pages: u64) -> SegmentOptions {
        SegmentOptions { share: Some(self.0.clone()), bytes: pages * PAGE, hugepages: false }
    }

    /// An engine over a new pool, or that of the one before.
    fn server(&self, pages: u64) -> Arc<Engine> {
        self.server_with(pages, OPTIONS)
    }

    fn server_with(&self, pages: u64, options: DirectoryOptions) -> Arc<Engine> {
        self.server_later(pages, options, 0)
    }

    /// As if the machine's clock had gone on by so many seconds.
    fn server_later(&self, pages: u64, options: DirectoryOptions, seconds: u64) -> Arc<Engine> {
        let (segment, contents) = Segment::adopt_or_create(self.options(pages), OPTIONS.stamp).unwrap();
        let directory = Directory::create(&segment, options).unwrap();
        let engine = Arc::new(Engine::new(config(), Arc::new(segment), Box::new(Lru::new())));
        let mut contents = contents.unwrap_or_default();
        contents.read_at_s += seconds;
        engine.upkeep().remember(directory, contents).unwrap();
        engine.upkeep().grow(pages * PAGE);
        engine.upkeep().stop_growing();
        engine.requests().connected(1);
        engine.requests().register(WORKER, "m", 1, geometry(1), 1).unwrap();
        engine
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // A segment made cold and dropped takes everything of the name with it.
        drop(Segment::create(self.options(1)));
    }
}

/// The end of a server as a kill is one: nothing is cleaned up.
fn kill(engine: Arc<Engine>) {
    drop(engine);
}

fn seal_all(engine: &Arc<Engine>) {
    let mut state = engine.state();
    for id in 0..64 {
        let Some((hash, offset, bytes)) =
            state.cache.slot(id).map(|slot| (slot.hash, slot.offset, slot.scope.layout.bytes()))
        else {
            continue;
        };
        let scope = Arc::clone(state.cache.slot(id).unwrap().scope);
        if let Some(entry) = state.cache.find(&scope, &hash) {
            let checksum = engine.pool().checksum(offset, bytes).unwrap();
            assert!(state.cache.set_seal(entry, checksum));
        }
    }
}

fn store(engine: &Arc<Engine>, seed: u32, chunks: u32) -> Vec<u64> {
    let tokens = prompt(seed, chunks);
    let key = key("store", &tokens, Some(0));
    let slots = engine.requests().prepare_store(&key, WORKER, 1).unwrap().slots;
    for slot in &slots {
        let byte = (seed * 16 + slot.index as u32) as u8;
        engine.pool().write_at(slot.offset, &[byte; PAGE as usize]).unwrap();
    }
    assert!(engine.requests().commit_store(&key, WORKER, 1, None).unwrap());
    slots.iter().map(|slot| slot.offset).collect()
}

/// Chunks that a lookup finds, with their bytes checked.
fn hits(engine: &Arc<Engine>, seed: u32, chunks: u32) -> usize {
    let tokens = prompt(seed, chunks);
    engine.requests().lookup(&key("read", &tokens, None), 1).unwrap();
    while let Some(prefetch) = engine.tiers().take_prefetch() {
        engine.verify_adopted_of(prefetch.work());
    }
    let hits = engine.requests().collect("read", 1).unwrap();
    if hits > 0 {
        let end = hits as u64 * u64::from(CHUNK);
        let key = PromptKey { range: TokenRange { start: 0, end }, ..key("read", &tokens, Some(0)) };
        for slot in engine.requests().prepare_retrieve(&key, WORKER, 1).unwrap().unwrap().slots {
            let mut bytes = vec![0; PAGE as usize];
            engine.pool().read_at(slot.offset, &mut bytes).unwrap();
            assert!(bytes == [(seed * 16 + slot.index as u32) as u8; PAGE as usize], "chunk {}", slot.index);
        }
        engine.requests().commit_retrieve(&key, WORKER, 1).unwrap();
    }
    engine.requests().end_session("read", 1);
    hits
}

fn used_bytes(engine: &Arc<Engine>) -> u64 {
    engine.operator().status().cache.used_bytes
}

/// Until no client of the server before can be reading any more.
fn outlive_readers(engine: &Arc<Engine>) {
    engine.age_by(Duration::from_millis(READ_MS));
    engine.upkeep().sweep();
    assert_eq!((engine.operator().lease_totals(), engine.adoption_status().leased_bytes), Default::default());
}

/// How many objects a store finds room for; nothing is committed.
fn room_for(engine: &Arc<Engine>, seed: u32, chunks: u32) -> usize {
    engine
        .requests()
        .prepare_store(&key("room", &prompt(seed, chunks), Some(0)), WORKER, 1)
        .unwrap()
        .slots
        .len()
}

/// A worker that was told where to read by the dead server copies on, and uses what it copied.
#[test]
fn what_a_client_of_the_dead_server_may_be_reading_is_neither_evicted_nor_reused_for_a_while() {
    let name = Name::new("reading");
    let first = name.server(4);
    store(&first, 1, 2);
    store(&first, 2, 2);
    seal_all(&first);
    kill(first);
    let second = name.server(4);
    assert_eq!(hits(&second, 1, 2), 2, "the others are not looked at yet");
    second.upkeep().sweep();
    for look_at_all in [false, true] {
        if look_at_all {
            second.upkeep().verify_adopted();
            second.age_by(Duration::from_millis(READ_MS / 2));
            second.upkeep().sweep();
        }
        assert_eq!((room_for(&second, 5, 1), second.upkeep().evict_step(4)), (0, 0));
        let totals = second.operator().lease_totals();
        assert_eq!((totals.adoption, totals.leaked()), (4, 0));
        assert_eq!(second.adoption_status().leased_bytes, 4 * PAGE);
    }
    assert_eq!((hits(&second, 1, 2), hits(&second, 2, 2)), (2, 2));
    outlive_readers(&second);
    assert_eq!((room_for(&second, 5, 1), second.upkeep().evict_step(1)), (1, 1));
}

#[test]
fn what_is_cleared_while_a_client_of_the_dead_server_may_be_reading_is_gone_and_its_memory_is_not_reused() {
    for force in [false, true] {
        let name = Name::new("cleared-reading");
        let first = name.server(4);
        store(&first, 1, 2);
        store(&first, 2, 2);
        seal_all(&first);
        kill(first);
        let second = name.server(4);
        assert_eq!(hits(&second, 1, 2), 2);
        second.operator().clear(force);
        second.upkeep().verify_adopted();
        assert_eq!((hits(&second, 1, 2), hits(&second, 2, 2), room_for(&second, 5, 1)), (0, 0, 0), "{force}");
        assert_eq!((used_bytes(&second), second.adoption_status().leased_bytes), (4 * PAGE, 4 * PAGE));
        outlive_readers(&second);
        assert_eq!((used_bytes(&second), room_for(&second, 5, 2)), (0, 2));
    }
}

/// What can't be found again is not held anew by every server, else ones that die one after the other would
/// use up the pool.
#[test]
fn what_can_not_be_found_again_is_kept_for_its_readers_once() {
    let name = Name::new("unsealed");
    let first = name.server(4);
    store(&first, 1, 2);
    kill(first);
    let second = name.server(4);
    assert_eq!((used_bytes(&second), second.adoption_status().adopted), (2 * PAGE, 0));
    store(&second, 2, 1);
    kill(second);
    let third = name.server_later(4, OPTIONS, READ_MS / 1_000);
    assert_eq!(used_bytes(&third), PAGE, "what the second one stored may be read since then");
    outlive_readers(&third);
    assert_eq!(used_bytes(&third), 0);
}

#[test]
fn what_a_dead_server_held_is_found_again() {
    let name = Name::new("found");
    let first = name.server(16);
    store(&first, 1, 3);
    store(&first, 2, 2);
    seal_all(&first);
    kill(first);
    let second = name.server(16);
    assert_eq!(second.adoption_status().adopted, 5);
    assert_eq!(hits(&second, 1, 3), 3, "verified because a lookup asked");
    assert_eq!(second.adoption_status().verified, 3);
    second.upkeep().verify_adopted();
    assert!(!second.is_adopting());
    assert_eq!(second.operator().status().cache.resident_objects, 5);
    assert_eq!(hits(&second, 2, 2), 2);
    kill(second);
    assert_eq!(name.server(16).adoption_status().adopted, 5, "and again by the next");
}

#[test]
fn events_tell_of_adopted_chunks_that_a_lookup_asks_for() {
    let name = Name::new("events");
    let first = name.server(16);
    store(&first, 1, 3);
    store(&first, 2, 1);
    seal_all(&first);
    kill(first);
    let second = name.server(16);
    second.requests().record_events(true);
    assert!(second.requests().wants_tokens_of_loads());
    let tokens = prompt(1, 3);
    let asked = PromptKey { token_ids: Some(tokens.as_slice().into()), ..key("read", &tokens, None) };
    second.requests().lookup(&asked, 1).unwrap();
    let prefetch = second.tiers().take_prefetch().unwrap();
    second.verify_adopted_of(prefetch.work());
    drop(prefetch);
    second.upkeep().verify_adopted();
    let told = second.requests().read_events("m", 0, 10).events;
    let told: Vec<_> = told.into_iter().flat_map(|event| event.hashes).collect();
    assert_eq!(told, *asked.hashes, "and not of the one whose tokens nobody knows");
}

#[test]
fn changed_bytes_are_dropped_and_never_served() {
    let name = Name::new("changed");
    let first = name.server(16);
    let offsets = store(&first, 1, 3);
    seal_all(&first);
    first.pool().write_at(offsets[1] + 77, b"?").unwrap();
    kill(first);
    let second = name.server(16);
    assert_eq!(hits(&second, 1, 3), 1);
    let status = second.adoption_status();
    assert_eq!((status.verified, status.mismatched), (2, 1));
    assert_eq!(used_bytes(&second), 3 * PAGE, "somebody may be reading it all the same");
    outlive_readers(&second);
    assert_eq!(used_bytes(&second), 2 * PAGE);
}

#[test]
fn what_was_being_written_stays_out_of_use_for_a_while() {
    let name = Name::new("held");
    let first = name.server(8);
    store(&first, 1, 1);
    seal_all(&first);
    let tokens = prompt(2, 2);
    first.requests().prepare_store(&key("writing", &tokens, Some(0)), WORKER, 1).unwrap();
    store(&first, 3, 1);
    kill(first);
    let second = name.server(8);
    second.upkeep().verify_adopted();
    outlive_readers(&second);
    assert_eq!(used_bytes(&second), 3 * PAGE, "one object, and two that a worker may still write");
    assert_eq!((hits(&second, 1, 1), hits(&second, 3, 1)), (1, 0), "one was not sealed in time");
    second.age_by(Duration::from_millis(HELD_MS - READ_MS - 1_000));
    second.upkeep().sweep();
    assert_eq!(used_bytes(&second), 3 * PAGE, "a forward pass may take long");
    second.age_by(Duration::from_secs(1));
    second.upkeep().sweep();
    assert_eq!(used_bytes(&second), PAGE);
    store(&second, 2, 2);
    assert_eq!(hits(&second, 2, 2), 2);
}

/// Servers that die one after the other would else keep more and more of the pool out of use.
#[test]
fn what_is_held_for_a_writer_is_held_no_longer_because_the_next_server_dies_too() {
    let name = Name::new("held-twice");
    let first = name.server(8);
    first.requests().prepare_store(&key("writing", &prompt(1, 2), Some(0)), WORKER, 1).unwrap();
    kill(first);
    let second = name.server(8);
    second.requests().prepare_store(&key("writing", &prompt(2, 1), Some(0)), WORKER, 1).unwrap();
    kill(second);
    let third = name.server_later(8, OPTIONS, HELD_MS / 1_000 - 100);
    assert_eq!(used_bytes(&third), 3 * PAGE);
    third.age_by(Duration::from_secs(101));
    third.upkeep().sweep();
    assert_eq!(used_bytes(&third), PAGE, "what clients of the second one write began to be held just now");
    kill(third);
    let fourth = name.server_later(8, OPTIONS, 2 * HELD_MS / 1_000);
    assert_eq!(used_bytes(&fourth), 0);
}

/// Each of the smallest objects, and a writer on top of them for whom one makes room.
#[test]
fn a_full_pool_of_the_smallest_objects_is_found_again() {
    let name = Name::new("full");
    let options = DirectoryOptions { records_max: records_max(4 * PAGE, PAGE), ..OPTIONS };
    let first = name.server_with(4, options);
    for seed in 1..5 {
        store(&first, seed, 1);
    }
    seal_all(&first);
    let plan = first.requests().prepare_store(&key("writing", &prompt(9, 1), Some(0)), WORKER, 1).unwrap();
    assert_eq!(plan.slots.len(), 1);
    kill(first);
    let second = name.server_with(4, options);
    second.upkeep().verify_adopted();
    assert_eq!((1..5).map(|seed| hits(&second, seed, 1)).sum::<usize>(), 3);
    assert_eq!(second.adoption_status().held_bytes, PAGE);
}

#[test]
fn what_was_cleared_under_its_writer_stays_out_of_use_too() {
    let name = Name::new("condemned");
    let first = name.server(4);
    store(&first, 1, 2);
    assert_eq!(look_up(&first, "reader", &prompt(1, 2)), 2);
    first.requests().prepare_store(&key("writing", &prompt(2, 1), Some(0)), WORKER, 1).unwrap();
    first.operator().clear(true);
    assert_eq!(used_bytes(&first), 3 * PAGE);
    kill(first);
    let second = name.server(4);
    assert_eq!(used_bytes(&second), 3 * PAGE);
    outlive_readers(&second);
    assert_eq!(used_bytes(&second), PAGE, "the writer's, and not what was only read");
}

/// The end of a server that another one waits for: what the dead one did last counts.
#[test]
fn a_successor_goes_by_what_the_server_before_wrote_last() {
    let name = Name::new("last-words");
    let first = name.server(4);
    store(&first, 1, 2);
    seal_all(&first);
    let segment = Path::new("/dev/shm").join(first.pool().name().unwrap());
    let open_files = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == segment)).count()
    };
    let before = open_files();
    let second = std::thread::scope(|scope| {
        let starting = scope.spawn(|| name.server(4));
        let deadline = Instant::now() + Duration::from_secs(10);
        while open_files() == before && !starting.is_finished() {
            assert!(Instant::now() < deadline, "it never looked at the segment");
            std::thread::yield_now();
        }
        first.operator().clear(false);
        first.requests().prepare_store(&key("writing", &prompt(2, 1), Some(0)), WORKER, 1).unwrap();
        kill(first);
        starting.join().unwrap()
    });
    second.upkeep().verify_adopted();
    assert_eq!(second.adoption_status().adopted, 0, "it was cleared");
    assert_eq!(used_bytes(&second), PAGE, "a worker is writing there");
}

#[test]
fn memory_of_scopes_that_can_not_be_written_down_is_held_for_its_writer_and_its_readers() {
    let name = Name::new("nameless");
    let first = name.server(4);
    let model = "\u{1}".repeat(500);
    first.requests().register(8, &model, 1, geometry(1), 1).unwrap();
    let (writing, stored) = (prompt(1, 1), prompt(2, 1));
    let [writing, stored] =
        [&writing, &stored].map(|tokens| PromptKey { model_name: &model, ..key("r", tokens, Some(0)) });
    first.requests().prepare_store(&stored, 8, 1).unwrap();
    assert!(first.requests().commit_store(&stored, 8, 1, None).unwrap());
    first.requests().prepare_store(&writing, 8, 1).unwrap();
    kill(first);
    let second = name.server(4);
    let status = second.adoption_status();
    assert_eq!((used_bytes(&second), status.dropped), (2 * PAGE, 0));
    assert_eq!((status.held_bytes, status.leased_bytes), (PAGE, PAGE), "what is out of use is shown");
    outlive_readers(&second);
    assert_eq!(used_bytes(&second), PAGE, "what was stored is of use to its readers alone");
}

#[test]
fn a_directory_without_room_for_a_writer_makes_the_successor_start_cold() {
    let name = Name::new("no-room");
    let first = name.server_with(4, DirectoryOptions { records_max: 1, ..OPTIONS });
    store(&first, 1, 1);
    seal_all(&first);
    let writing = key("writing", &prompt(2, 1), Some(0));
    first.requests().prepare_store(&writing, WORKER, 1).unwrap();
    kill(first);
    let second = name.server_with(4, DirectoryOptions { records_max: 1, ..OPTIONS });
    assert_eq!((second.adoption_status().adopted, used_bytes(&second)), (0, 0), "in memory of its own");
    store(&second, 1, 1);
    seal_all(&second);
    second.requests().prepare_store(&writing, WORKER, 1).unwrap();
    assert!(second.requests().commit_store(&writing, WORKER, 1, None).unwrap());
    kill(second);
    assert_eq!(name.server(4).adoption_status().adopted, 1, "nobody was writing any more");
}

#[test]
fn what_was_evicted_or_cleared_is_not_taken_over() {
    let name = Name::new("evicted");
    let first = name.server(4);
    store(&first, 1, 4);
    seal_all(&first);
    store(&first, 2, 2);
    seal_all(&first);
    kill(first);
    let second = name.server(4);
    second.upkeep().verify_adopted();
    assert_eq!((hits(&second, 1, 4), hits(&second, 2, 2)), (2, 2));
    second.operator().clear(false);
    kill(second);
    let third = name.server(4);
    outlive_readers(&third);
    assert_eq!((third.adoption_status().adopted, used_bytes(&third)), (0, 0));
}

#[test]
fn a_clear_takes_what_was_not_looked_at_with_it() {
    let name = Name::new("cleared");
    let first = name.server(4);
    store(&first, 1, 3);
    seal_all(&first);
    kill(first);
    let second = name.server(4);
    second.operator().clear(false);
    second.upkeep().verify_adopted();
    outlive_readers(&second);
    assert_eq!((hits(&second, 1, 3), used_bytes(&second)), (0, 0));
}

#[test]
fn the_order_of_eviction_is_that_of_the_server_before() {
    let name = Name::new("order");
    let first = name.server(4);
    for seed in [1, 2, 3, 4] {
        store(&first, seed, 1);
        seal_all(&first);
    }
    kill(first);
    let second = name.server(4);
    second.upkeep().verify_adopted();
    outlive_readers(&second);
    store(&second, 5, 2);
    let left: Vec<usize> = [1, 2, 3, 4].map(|seed| hits(&second, seed, 1)).to_vec();
    assert_eq!(left, [0, 0, 1, 1]);
}

/// Objects that can be read, those with a seal alone if `sealed`.
fn resident(engine: &Arc<Engine>, sealed: bool) -> BTreeSet<[u8; 32]> {
    let state = engine.state();
    let slots = (0..256).filter_map(|id| state.cache.slot(id));
    let resident = slots.filter(|slot| state.cache.find(slot.scope, &slot.hash).is_some());
    resident.filter(|slot| !sealed || slot.seal.is_some()).map(|slot| slot.hash.0).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Store(u32, u32),
    StoreUnfinished(u32, u32),
    Read(u32, u32),
    Seal,
    Evict,
    Clear,
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let prompt = || (1..6u32, 1..4u32);
    prop_oneof![
        4 => prompt().prop_map(|(seed, chunks)| Step::Store(seed, chunks)),
        1 => prompt().prop_map(|(seed, chunks)| Step::StoreUnfinished(seed, chunks)),
        2 => prompt().prop_map(|(seed, chunks)| Step::Read(seed, chunks)),
        2 => Just(Step::Seal),
        1 => Just(Step::Evict),
        1 => Just(Step::Clear),
        1 => Just(Step::Expire),
    ]
}

fn take(engine: &Arc<Engine>, step: &Step, number: usize) {
    match *step {
        Step::Store(seed, chunks) => {
            let tokens = prompt(seed, chunks);
            let key = key("store", &tokens, Some(0));
            for slot in engine.requests().prepare_store(&key, WORKER, 1).unwrap().slots {
                let byte = (seed * 16 + slot.index as u32) as u8;
                engine.pool().write_at(slot.offset, &[byte; PAGE as usize]).unwrap();
            }
            // False where everything of it is there already.
            engine.requests().commit_store(&key, WORKER, 1, None).unwrap();
        }
        Step::StoreUnfinished(seed, chunks) => {
            // A prompt that is never stored: a worker that prepares the same transfer again commits what it
            // prepared first.
            let tokens = prompt(seed + 100, chunks);
            let request_id = number.to_string();
            engine.requests().prepare_store(&key(&request_id, &tokens, Some(0)), WORKER, 1).unwrap();
        }
        Step::Read(seed, chunks) => _ = hits(engine, seed, chunks),
        Step::Seal => seal_all(engine),
        Step::Evict => _ = engine.upkeep().evict_step(2),
        Step::Clear => engine.operator().clear(false),
        Step::Expire => {
            engine.age_by(Duration::from_millis(HELD_MS));
            engine.upkeep().sweep();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever a server did, its successor has exactly what was sealed and readable, and all other memory is
    /// free in the end.
    #[test]
    fn a_successor_has_what_was_sealed(lives in prop::collection::vec(prop::collection::vec(step(), 0..24), 1..4)) {
        let name = Name::new("model");
        let mut expected = BTreeSet::new();
        for steps in lives {
            let engine = name.server(8);
            engine.upkeep().verify_adopted();
            prop_assert_eq!(engine.adoption_status().mismatched, 0);
            prop_assert_eq!(&resident(&engine, false), &expected);
            for (number, step) in steps.iter().enumerate() {
                take(&engine, step, number);
            }
            expected = resident(&engine, true);
            kill(engine);
        }
        let last = name.server(8);
        last.upkeep().verify_adopted();
        prop_assert_eq!(&resident(&last, false), &expected);
        last.age_by(Duration::from_millis(HELD_MS));
        last.upkeep().sweep();
        prop_assert_eq!(used_bytes(&last), expected.len() as u64 * PAGE);
    }
}
