//! Schedulers and workers of several engines, in any order and under the same request ids, with the bytes as
//! the judge.
//!
//! What a chunk's bytes are is a function of its scope and its tokens, as real KV is. A worker fills what it
//! was told to write with noise of its own as long as it has not finished, so two writers of one place are
//! found out, and so is whoever publishes or hands out what nobody has finished.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use larder_core::cache::Row;
use larder_core::hash::ChunkHash;
use larder_core::key::{Scope, TokenRange};
use proptest::prelude::*;

use super::*;
use crate::state::processes::Watched;
use crate::verify::Checked;

const PAGES: u64 = 20;
const REQUESTS: [&str; 2] = ["x", "y"];

/// An engine as its operator configures it.
struct Kind {
    model: &'static str,
    salt: &'static str,
    dtype: &'static str,
    /// Layers of each rank.
    layers: &'static [u32],
}

const KINDS: [Kind; 6] = [
    Kind { model: "a", salt: "", dtype: "uint8", layers: &[1] },
    Kind { model: "a", salt: "", dtype: "float16", layers: &[1] },
    Kind { model: "a", salt: "s", dtype: "uint8", layers: &[1] },
    Kind { model: "b", salt: "", dtype: "uint8", layers: &[1] },
    Kind { model: "a", salt: "", dtype: "uint8", layers: &[1] },
    Kind { model: "p", salt: "", dtype: "uint8", layers: &[1, 2] },
];

/// What a worker says first on a new connection.
#[derive(Clone, Copy, Debug)]
enum Word {
    None,
    Ping,
    Register,
}

#[derive(Clone, Debug)]
enum Step {
    LookUp { kind: usize, request: usize, seed: u32, chunks: u32 },
    Free { kind: usize, request: usize, seed: u32 },
    End { kind: usize, request: usize },
    PrepareStore { worker: usize, request: usize, seed: u32, range: (u32, u32) },
    CommitStore { pick: usize },
    StoreBytes { worker: usize, request: usize, seed: u32, chunks: u32 },
    PrepareRetrieve { worker: usize, request: usize, seed: u32, range: (u32, u32) },
    CommitRetrieve { pick: usize },
    BeginLoad,
    EndLoad { fails: bool },
    AbandonLoad,
    EndLate { fails: bool },
    Register { worker: usize },
    Unregister { worker: usize },
    Vanish { worker: usize },
    Cut { worker: usize, seconds: u64, word: Word },
    Corrupt { worker: usize, seed: u32, chunk: usize },
    ForceRequest { request: usize },
    ForceWorker { worker: usize },
    Evict,
    Clear { force: bool },
    Wait { seconds: u64, pinging: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || 0..KINDS.len();
    let worker = || 0..WORKERS.len();
    let request = || 0..REQUESTS.len();
    let seed = || 1..3u32;
    let word = prop::sample::select(&[Word::None, Word::Ping, Word::Register][..]);
    let range = || (0..2u32, 1..3u32).prop_map(|(start, chunks)| (start, start + chunks));
    prop_oneof![
        6 => (kind(), request(), seed(), 1..4u32)
            .prop_map(|(kind, request, seed, chunks)| Step::LookUp { kind, request, seed, chunks }),
        1 => (kind(), request(), seed()).prop_map(|(kind, request, seed)| Step::Free { kind, request, seed }),
        1 => (kind(), request()).prop_map(|(kind, request)| Step::End { kind, request }),
        8 => (worker(), request(), seed(), range())
            .prop_map(|(worker, request, seed, range)| Step::PrepareStore { worker, request, seed, range }),
        8 => any::<usize>().prop_map(|pick| Step::CommitStore { pick }),
        1 => (worker(), request(), seed(), 1..3u32)
            .prop_map(|(worker, request, seed, chunks)| Step::StoreBytes { worker, request, seed, chunks }),
        6 => (worker(), request(), seed(), range())
            .prop_map(|(worker, request, seed, range)| Step::PrepareRetrieve { worker, request, seed, range }),
        4 => any::<usize>().prop_map(|pick| Step::CommitRetrieve { pick }),
        2 => Just(Step::BeginLoad),
        2 => prop::bool::weighted(0.2).prop_map(|fails| Step::EndLoad { fails }),
        1 => Just(Step::AbandonLoad),
        1 => any::<bool>().prop_map(|fails| Step::EndLate { fails }),
        1 => worker().prop_map(|worker| Step::Register { worker }),
        1 => worker().prop_map(|worker| Step::Unregister { worker }),
        1 => worker().prop_map(|worker| Step::Vanish { worker }),
        2 => (worker(), prop::sample::select(&[0u64, 3, 130, 700][..]), word)
            .prop_map(|(worker, seconds, word)| Step::Cut { worker, seconds, word }),
        1 => (worker(), seed(), 0..2usize).prop_map(|(worker, seed, chunk)| Step::Corrupt { worker, seed, chunk }),
        1 => request().prop_map(|request| Step::ForceRequest { request }),
        1 => worker().prop_map(|worker| Step::ForceWorker { worker }),
        1 => Just(Step::Evict),
        1 => any::<bool>().prop_map(|force| Step::Clear { force }),
        1 => (prop::sample::select(&[3u64, 31, 130, 700][..]), any::<bool>())
            .prop_map(|(seconds, pinging)| Step::Wait { seconds, pinging }),
    ]
}

/// Engine and rank of each worker.
const WORKERS: [(usize, u32); 7] = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (5, 1)];

fn instance(worker: usize) -> i64 {
    100 + worker as i64
}

fn kind_of(worker: usize) -> &'static Kind {
    &KINDS[WORKERS[worker].0]
}

fn worker_geometry(worker: usize) -> Geometry<'static> {
    let kind = kind_of(worker);
    Geometry { dtype: kind.dtype, ..geometry(kind.layers[WORKERS[worker].1 as usize]) }
}

fn object_bytes(worker: usize) -> u64 {
    let kind = kind_of(worker);
    PAGE * u64::from(kind.layers[WORKERS[worker].1 as usize]) * if kind.dtype == "float16" { 2 } else { 1 }
}

/// Somebody who was told to write or read a slot.
#[derive(Clone, Debug)]
struct Slotted {
    offset: u64,
    bytes: u64,
    hash: ChunkHash,
}

impl Slotted {
    fn overlaps(&self, other: &Self) -> bool {
        self.offset < other.offset + other.bytes && other.offset < self.offset + self.bytes
    }
}

/// A worker between prepare and commit.
struct Transfer {
    worker: usize,
    /// When the connection was cut on which it was prepared, in seconds.
    cut_s: Option<u64>,
    request: usize,
    seed: u32,
    range: (u32, u32),
    slots: Vec<Slotted>,
    noise: u64,
    finished: bool,
}

/// The second tier in the middle of a load.
struct Load {
    prefetch: Prefetch,
    slots: Vec<(LoadSlot, Slotted)>,
    noise: u64,
}

/// The process of a worker.
#[derive(Debug, Default)]
struct Process(AtomicBool);

impl Watched for Process {
    fn pid(&self) -> u32 {
        1
    }

    fn has_ended(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Whether the server knows the process of a worker; of the others only their connections tell.
fn is_known(worker: usize) -> bool {
    worker.is_multiple_of(2)
}

struct World {
    engine: Arc<Engine>,
    /// Of workers.
    processes: Vec<Arc<Process>>,
    clock_s: u64,
    /// Of schedulers by kind, then of workers.
    connections: Vec<u64>,
    next_connection: u64,
    next_noise: u64,
    stores: Vec<Transfer>,
    retrieves: Vec<Transfer>,
    loads: Vec<Load>,
    /// Those nobody waits for any more.
    late: Vec<Load>,
    /// Chunks that were handed out with their bytes checked.
    checked: usize,
}

fn content(scope: &Scope, hash: &ChunkHash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (scope, hash.0).hash(&mut hasher);
    hasher.finish() | 1
}

impl World {
    fn new() -> Self {
        let engine = shared_engine(PAGES);
        engine.tiers().set_enabled(true);
        let mut world = Self {
            engine,
            processes: WORKERS.iter().map(|_| Arc::default()).collect(),
            clock_s: 0,
            connections: Vec::new(),
            next_connection: 1,
            next_noise: 0,
            stores: Vec::new(),
            retrieves: Vec::new(),
            loads: Vec::new(),
            late: Vec::new(),
            checked: 0,
        };
        for _ in 0..KINDS.len() + WORKERS.len() {
            let connection = world.connect();
            world.connections.push(connection);
        }
        (0..WORKERS.len()).for_each(|worker| world.register(worker));
        world
    }

    fn connect(&mut self) -> u64 {
        let connection = self.next_connection;
        self.next_connection += 1;
        self.engine.requests().connected(connection);
        connection
    }

    fn worker_connection(&self, worker: usize) -> u64 {
        self.connections[KINDS.len() + worker]
    }

    fn register(&mut self, worker: usize) {
        let kind = kind_of(worker);
        let (id, connection) = (instance(worker), self.worker_connection(worker));
        let world_size = kind.layers.len() as u32;
        self.engine
            .requests()
            .register(id, kind.model, world_size, worker_geometry(worker), connection)
            .unwrap();
        self.engine.requests().ping(Some(id), connection);
        if is_known(worker) {
            self.engine.upkeep().learn_process(
                id,
                connection,
                Arc::clone(&self.processes[worker]) as Arc<dyn Watched>,
            );
        }
    }

    fn key<'a>(kind: usize, rank: Option<u32>, request: usize, tokens: &[u32]) -> PromptKey<'a> {
        let Kind { model, salt, layers, .. } = &KINDS[kind];
        let world_size = layers.len() as u32;
        let key = key(REQUESTS[request], tokens, rank);
        PromptKey { model_name: model, cache_salt: salt, world_size, ..key }
    }

    fn worker_key<'a>(worker: usize, request: usize, seed: u32, range: (u32, u32)) -> PromptKey<'a> {
        let (kind, rank) = WORKERS[worker];
        let size = u64::from(CHUNK);
        let range = TokenRange { start: u64::from(range.0) * size, end: u64::from(range.1) * size };
        PromptKey { range, ..Self::key(kind, Some(rank), request, &prompt(seed, 4)) }
    }

    fn scope(worker: usize) -> Scope {
        let key = Self::worker_key(worker, 0, 1, (0, 1));
        let geometry = worker_geometry(worker);
        let layout =
            larder_core::layout::ObjectLayout::engine_driven(geometry.chunk, geometry.dtype.parse().unwrap());
        key.scope(&Arc::new(layout.unwrap()), WORKERS[worker].1, &key.model_name.into()).unwrap()
    }

    fn fill(&self, slot: &Slotted, word: u64) {
        let bytes = word.to_le_bytes().repeat(slot.bytes as usize / 8);
        self.engine.pool().write_at(slot.offset, &bytes).unwrap();
    }

    fn holds(&self, slot: &Slotted, word: u64) -> bool {
        let mut bytes = vec![0; slot.bytes as usize];
        self.engine.pool().read_at(slot.offset, &mut bytes).unwrap();
        bytes == word.to_le_bytes().repeat(slot.bytes as usize / 8)
    }

    fn noise(&mut self) -> u64 {
        self.next_noise += 2;
        self.next_noise
    }

    /// Nobody is told to write where somebody else may be writing or reading.
    fn check_alone(&self, slots: &[Slotted]) -> Result<(), TestCaseError> {
        let writers = self.stores.iter().chain(&self.retrieves).flat_map(|transfer| &transfer.slots);
        let loads =
            self.loads.iter().chain(&self.late).flat_map(|load| load.slots.iter().map(|(_, slot)| slot));
        for other in writers.chain(loads) {
            for slot in slots {
                prop_assert!(!slot.overlaps(other), "{slot:?} is handed out while {other:?} is in use");
            }
        }
        Ok(())
    }

    /// Every lease has an owner, and what is counted as held by somebody is held.
    fn check_accounts(&self) -> Result<(), TestCaseError> {
        let totals = self.engine.operator().lease_totals();
        prop_assert_eq!(totals.total, totals.requests + totals.retrieves + totals.l2_stores);
        let status = self.engine.operator().status();
        let state = self.engine.state();
        prop_assert!(state.sessions.is_balanced());
        prop_assert_eq!(status.sessions, state.sessions.iter().count());
        drop(state);
        prop_assert_eq!(status.prefetching, self.loads.len() + self.engine.operator().tier_backlog().1);
        Ok(())
    }

    /// What is read has the bytes that were committed, as long as it is read.
    fn check_content(&mut self, transfer: &Transfer) -> Result<(), TestCaseError> {
        let scope = Self::scope(transfer.worker);
        for slot in &transfer.slots {
            let right = self.holds(slot, content(&scope, &slot.hash));
            prop_assert!(right, "worker {} reads wrong bytes at {}", transfer.worker, slot.offset);
            self.checked += 1;
        }
        Ok(())
    }

    fn slots(
        worker: usize,
        slots: &[Slot],
        layout: &larder_core::layout::ObjectLayout,
        hashes: &[ChunkHash],
    ) -> Result<Vec<Slotted>, TestCaseError> {
        prop_assert_eq!(layout, &*Self::scope(worker).layout, "worker {} is told another layout", worker);
        let bytes = object_bytes(worker);
        prop_assert_eq!(layout.bytes(), bytes);
        Ok(slots
            .iter()
            .map(|slot| Slotted { offset: slot.offset, bytes, hash: hashes[slot.index] })
            .collect())
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::LookUp { kind, request, seed, chunks } => {
                let key = Self::key(kind, None, request, &prompt(seed, chunks));
                self.engine.requests().lookup(&key, self.connections[kind]).unwrap();
                _ = self.engine.requests().collect(REQUESTS[request], self.connections[kind]);
            }
            Step::Free { kind, request, seed } => {
                let key = Self::key(kind, None, request, &prompt(seed, 2));
                self.engine.requests().free_leases(&key, self.connections[kind]);
            }
            Step::End { kind, request } => {
                self.engine.requests().end_session(REQUESTS[request], self.connections[kind]);
            }
            Step::PrepareStore { worker, request, seed, range } => {
                self.prepare_store(worker, request, seed, range)?;
            }
            Step::CommitStore { pick } => self.commit_store(pick)?,
            Step::StoreBytes { worker, request, seed, chunks } => {
                self.store_bytes(worker, request, seed, chunks);
            }
            Step::PrepareRetrieve { worker, request, seed, range } => {
                self.prepare_retrieve(worker, request, seed, range)?;
            }
            Step::CommitRetrieve { pick } => self.commit_retrieve(pick)?,
            Step::BeginLoad => self.begin_load()?,
            Step::EndLoad { fails } => self.end_load(fails)?,
            Step::AbandonLoad => self.abandon_load(),
            Step::EndLate { fails } => self.end_late(fails)?,
            Step::Register { worker } => self.register(worker),
            Step::Unregister { worker } => {
                self.engine.requests().unregister(instance(worker), self.worker_connection(worker));
            }
            Step::Vanish { worker } => self.vanish(worker),
            Step::Cut { worker, seconds, word } => self.cut(worker, seconds, word),
            Step::Corrupt { worker, seed, chunk } => self.corrupt(worker, seed, chunk),
            Step::ForceRequest { request } => {
                self.engine
                    .operator()
                    .force_release(&LeaseOwner::Request(REQUESTS[request].into()), "a test");
            }
            Step::ForceWorker { worker } => {
                // Who asks for it has seen to it that the worker copies nothing.
                self.forget_transfers(worker);
                self.engine.operator().force_release(&LeaseOwner::Instance(instance(worker)), "a test");
            }
            Step::Evict => _ = self.engine.upkeep().evict_step(3),
            Step::Clear { force } => self.engine.operator().clear(force),
            Step::Wait { seconds, pinging } => self.wait(seconds, pinging),
        }
        Ok(())
    }

    fn prepare_store(
        &mut self,
        worker: usize,
        request: usize,
        seed: u32,
        range: (u32, u32),
    ) -> Result<(), TestCaseError> {
        let key = Self::worker_key(worker, request, seed, range);
        let connection = self.worker_connection(worker);
        let Ok(plan) = self.engine.requests().prepare_store(&key, instance(worker), connection) else {
            return Ok(());
        };
        let hashes = &key.hashes[range.0 as usize..range.1 as usize];
        let slots = Self::slots(worker, &plan.slots, &plan.layout, hashes)?;
        self.check_alone(&slots)?;
        if !slots.is_empty() {
            let noise = self.noise();
            slots.iter().for_each(|slot| self.fill(slot, noise));
            let (cut_s, finished) = (None, false);
            self.stores.push(Transfer { worker, cut_s, request, seed, range, slots, noise, finished });
        }
        Ok(())
    }

    /// A worker finishes one of its copies, not always the oldest, and says so.
    fn commit_store(&mut self, pick: usize) -> Result<(), TestCaseError> {
        if self.stores.is_empty() {
            return Ok(());
        }
        let store = self.stores.remove(pick % self.stores.len());
        let Transfer { worker, request, seed, range, noise, .. } = store;
        let connection = self.worker_connection(worker);
        for slot in &store.slots {
            prop_assert!(self.holds(slot, noise), "somebody else wrote where worker {worker} writes");
            self.fill(slot, content(&Self::scope(worker), &slot.hash));
        }
        let key = Self::worker_key(worker, request, seed, range);
        _ = self.engine.requests().commit_store(&key, instance(worker), connection, None);
        Ok(())
    }

    fn store_bytes(&mut self, worker: usize, request: usize, seed: u32, chunks: u32) {
        let range = (0, chunks);
        let own = |store: &Transfer| {
            (store.worker, store.request, store.seed, store.range) == (worker, request, seed, range)
        };
        // A worker that sends bytes does not write them as well.
        if self.stores.iter().any(own) {
            return;
        }
        let key = Self::worker_key(worker, request, seed, range);
        let scope = Self::scope(worker);
        let write = |index: usize, offset: u64, layout: &larder_core::layout::ObjectLayout| {
            let slot = Slotted { offset, bytes: layout.bytes(), hash: key.hashes[index] };
            self.fill(&slot, content(&scope, &slot.hash));
            Ok(())
        };
        _ = self.engine.requests().store_bytes(
            &key,
            instance(worker),
            self.worker_connection(worker),
            None,
            write,
        );
    }

    fn prepare_retrieve(
        &mut self,
        worker: usize,
        request: usize,
        seed: u32,
        range: (u32, u32),
    ) -> Result<(), TestCaseError> {
        let key = Self::worker_key(worker, request, seed, range);
        let connection = self.worker_connection(worker);
        let plan = self.engine.requests().prepare_retrieve(&key, instance(worker), connection);
        let Ok(Some(plan)) = plan else { return Ok(()) };
        prop_assert_eq!(plan.slots.len(), (range.1 - range.0) as usize);
        let hashes = &key.hashes[range.0 as usize..range.1 as usize];
        let slots = Self::slots(worker, &plan.slots, &plan.layout, hashes)?;
        for entry in &plan.entries {
            prop_assert!(self.engine.state().cache.lease(*entry, 1), "what was cleared is handed out");
            self.engine.state().cache.release(*entry, 1);
        }
        let (cut_s, noise, finished) = (None, 0, false);
        let transfer = Transfer { worker, cut_s, request, seed, range, slots, noise, finished };
        self.check_content(&transfer)?;
        self.retrieves.push(transfer);
        Ok(())
    }

    fn commit_retrieve(&mut self, pick: usize) -> Result<(), TestCaseError> {
        if self.retrieves.is_empty() {
            return Ok(());
        }
        let retrieve = self.retrieves.remove(pick % self.retrieves.len());
        if !retrieve.finished {
            self.check_content(&retrieve)?;
        }
        let Transfer { worker, request, seed, range, .. } = retrieve;
        let connection = self.worker_connection(worker);
        let key = Self::worker_key(worker, request, seed, range);
        _ = self.engine.requests().commit_retrieve(&key, instance(worker), connection);
        Ok(())
    }

    /// The second tier has everything.
    fn begin_load(&mut self) -> Result<(), TestCaseError> {
        let Some(mut prefetch) = self.engine.tiers().take_prefetch() else { return Ok(()) };
        let (work, mut slots) = (Arc::clone(prefetch.work()), Vec::new());
        for (index, Row { scope, .. }) in work.rows.iter().enumerate() {
            let chunks = work.from..work.hashes.len();
            for slot in prefetch.reserve_row(index, chunks) {
                let hash = work.hashes[slot.chunk];
                let place = Slotted { offset: slot.offset, bytes: scope.layout.bytes(), hash };
                slots.push((slot, place));
            }
        }
        let places: Vec<Slotted> = slots.iter().map(|(_, place)| place.clone()).collect();
        self.check_alone(&places)?;
        let noise = self.noise();
        places.iter().for_each(|place| self.fill(place, noise));
        self.loads.push(Load { prefetch, slots, noise });
        Ok(())
    }

    fn end_load(&mut self, fails: bool) -> Result<(), TestCaseError> {
        if self.loads.is_empty() {
            return Ok(());
        }
        let mut load = self.loads.remove(0);
        let arrived = self.arrive(&load, fails)?;
        load.prefetch.answer(&arrived);
        Ok(())
    }

    /// Nobody waits any more for what may still write.
    fn abandon_load(&mut self) {
        if self.loads.is_empty() {
            return;
        }
        let mut load = self.loads.remove(0);
        load.prefetch.abandon_all_but(&[]);
        load.prefetch.answer(&[]);
        self.late.push(load);
    }

    fn end_late(&mut self, fails: bool) -> Result<(), TestCaseError> {
        if self.late.is_empty() {
            return Ok(());
        }
        let load = self.late.remove(0);
        let arrived = self.arrive(&load, fails)?;
        load.prefetch.publish_late(&arrived);
        Ok(())
    }

    /// What a load brought: everything, or all but every other object.
    fn arrive(&self, load: &Load, fails: bool) -> Result<Vec<Arrival>, TestCaseError> {
        let mut arrived = Vec::new();
        for (index, (slot, place)) in load.slots.iter().enumerate() {
            prop_assert!(self.holds(place, load.noise), "somebody else wrote where a load writes");
            if fails && index.is_multiple_of(2) {
                continue;
            }
            self.fill(place, content(&load.prefetch.work().rows[slot.row].scope, &place.hash));
            arrived.push(slot.arrived(None));
        }
        Ok(arrived)
    }

    /// An object's bytes change, and somebody notices. Whoever reads it at that moment has been given it
    /// before.
    fn corrupt(&mut self, worker: usize, seed: u32, chunk: usize) {
        let key = Self::worker_key(worker, 0, seed, (0, 1));
        let (scope, hash) = (Self::scope(worker), key.hashes[chunk]);
        let found = {
            let state = self.engine.state();
            state.cache.find(&scope, &hash).and_then(|entry| Some((entry, state.cache.offset(entry)?)))
        };
        let Some((entry, offset)) = found else { return };
        let place = Slotted { offset, bytes: object_bytes(worker), hash };
        let verify = || self.engine.verify_object(entry, offset, place.bytes, CheckPoint::Store).unwrap();
        assert!(matches!(verify(), Checked::Intact(_)));
        self.fill(&place, 0);
        assert_eq!(verify(), Checked::Changed);
        for read in
            self.retrieves.iter_mut().filter(|read| read.slots.iter().any(|slot| slot.overlaps(&place)))
        {
            read.finished = true;
        }
    }

    /// A worker's process ends, and another one takes its place.
    fn vanish(&mut self, worker: usize) {
        self.engine.requests().disconnected(self.worker_connection(worker));
        self.processes[worker].0.store(true, Relaxed);
        self.processes[worker] = Arc::default();
        self.forget_transfers(worker);
        self.pass(3);
        let connection = self.connect();
        self.connections[KINDS.len() + worker] = connection;
        self.register(worker);
    }

    /// A worker loses its connection and is back after a while; its process lives, and goes on with its
    /// copies. Of one that nobody knows more about, the server closed it.
    fn cut(&mut self, worker: usize, seconds: u64, word: Word) {
        let gone = self.worker_connection(worker);
        if is_known(worker) {
            self.engine.requests().disconnected(gone);
        } else {
            self.engine.requests().expelled(gone);
        }
        let clock_s = self.clock_s;
        let own = self.stores.iter_mut().chain(&mut self.retrieves).filter(|own| own.worker == worker);
        own.for_each(|own| _ = own.cut_s.get_or_insert(clock_s));
        self.pass(seconds);
        let connection = self.connect();
        self.connections[KINDS.len() + worker] = connection;
        match word {
            Word::None => {}
            Word::Ping => _ = self.engine.requests().ping(Some(instance(worker)), connection),
            Word::Register => self.register(worker),
        }
    }

    fn forget_transfers(&mut self, worker: usize) {
        self.stores.retain(|store| store.worker != worker);
        self.retrieves.retain(|retrieve| retrieve.worker != worker);
    }

    fn wait(&mut self, seconds: u64, pinging: bool) {
        self.engine.age_by(std::time::Duration::from_secs(seconds));
        if pinging {
            for worker in 0..WORKERS.len() {
                self.engine.requests().ping(Some(instance(worker)), self.worker_connection(worker));
            }
        }
        self.engine.upkeep().sweep();
        self.passed(seconds);
    }

    /// Time passes, and nobody speaks.
    fn pass(&mut self, seconds: u64) {
        self.engine.age_by(std::time::Duration::from_secs(seconds));
        self.engine.upkeep().sweep();
        self.passed(seconds);
    }

    fn passed(&mut self, seconds: u64) {
        self.clock_s += seconds;
        if seconds > 300 {
            // A retrieve of a worker that has moved on since is taken to be over.
            for retrieve in &mut self.retrieves {
                retrieve.finished = true;
                retrieve.slots.clear();
            }
        }
        // Of a worker whose connection the server closed, and whose process it does not know, ten minutes are
        // waited for.
        let clock_s = self.clock_s;
        let lives =
            |own: &Transfer| is_known(own.worker) || own.cut_s.is_none_or(|cut_s| clock_s - cut_s < 590);
        self.stores.retain(lives);
        self.retrieves.retain(lives);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever schedulers and workers do, in whatever order: no two of them are told to write one place, and
    /// every slot that is handed out has the bytes and the shape of its chunk, of the very scope that asked.
    #[test]
    fn nobody_is_handed_anothers_bytes(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step)?;
            world.check_accounts()?;
        }
        // When everybody has gone, nothing is left.
        while !world.loads.is_empty() {
            world.end_load(false)?;
        }
        while !world.late.is_empty() {
            world.end_late(false)?;
        }
        while world.engine.tiers().take_prefetch().is_some() {}
        for connection in world.connections.clone() {
            world.engine.requests().disconnected(connection);
        }
        world.processes.iter().for_each(|process| process.0.store(true, Relaxed));
        world.pass(601);
        world.engine.operator().clear(false);
        let cache = world.engine.operator().status().cache;
        prop_assert_eq!((cache.used_bytes, cache.leases, cache.scopes), (0, 0, 0));
    }
}

/// The steps above do hit: what they check is not nothing.
#[test]
fn the_model_hands_out_what_it_stored() {
    let mut world = World::new();
    for worker in [0, 3, 5, 6] {
        let (kind, _) = WORKERS[worker];
        for step in [
            Step::PrepareStore { worker, request: 0, seed: 1, range: (0, 2) },
            Step::CommitStore { pick: 0 },
            Step::LookUp { kind, request: 0, seed: 1, chunks: 2 },
        ] {
            world.take(&step).unwrap();
        }
    }
    for worker in [0, 3, 5, 6] {
        world.take(&Step::PrepareRetrieve { worker, request: 0, seed: 1, range: (0, 2) }).unwrap();
    }
    assert_eq!((world.checked, world.retrieves.len()), (8, 4));
}
