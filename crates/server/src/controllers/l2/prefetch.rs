//! Bringing a prompt's missing chunks back, ahead of the request that needs them (`spec/cache-semantics.md` 11.2).

use std::sync::Arc;
use std::time::Duration;

use larder_core::cache::EntryRef;
use larder_core::hash::ChunkHash;
use larder_storage::{DeleteMode, Error, FailureKind, Key, KeyResult, Lent, LoadItem, Loaded};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::buffer::{PoolBuffer, Purpose};
use super::roster::InUse;
use super::tier::Shared;
use crate::engine::{Arrival, CheckPoint, Corruption, Engine, LoadSlot, PrefetchWork};

/// Longest a load waits for objects that another load or a worker is about to finish.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// Longest an answer of adapters is waited for. Their own timeouts and retries end before; this is for those that have none.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(60);

/// The same for their loads.
const LOAD_PATIENCE: Duration = Duration::from_secs(180);

/// Pause between two looks at objects others are about to finish.
const JOIN_INTERVAL: Duration = Duration::from_millis(5);

/// Which chunks an adapter holds and keeps locked for this lookup: one list per row, from the first missing chunk on.
struct Holding {
    adapter: InUse,
    held: Vec<Vec<bool>>,
}

/// Extends one lookup as far as the adapters can and answers it, whatever happens.
pub(super) async fn prefetch(shared: Arc<Shared>, work: PrefetchWork) {
    verify_adopted(&shared, &work).await;
    let keys = keys(&shared, &work);
    let holdings = look_up(&shared, &keys).await;
    let resident = shared.engine.resident(&work.rows, &work.hashes, work.from);
    let sizes = missing_bytes(&work, &resident, servable(&resident, &holdings));
    let grant = shared.budget.take(&sizes).await;
    let end = work.from + grant.chunks;
    let slots = reserve(&shared, &work, end);
    let loaded = load(&shared, &work, &keys, &holdings, slots).await;
    drop(grant);
    touch(&shared, &work, &holdings, end);
    unlock(&keys, &holdings);
    let own: Vec<EntryRef> = loaded.iter().map(|arrival| arrival.entry).collect();
    wait_for_others(&shared, &work, end, &own).await;
    shared.engine.finish_prefetch(&work, &loaded);
}

/// Publishes what of the prompt a server before this one left in memory.
async fn verify_adopted(shared: &Shared, work: &PrefetchWork) {
    if shared.engine.is_adopting() {
        let (engine, work) = (Arc::clone(&shared.engine), work.clone());
        let verified = tokio::task::spawn_blocking(move || {
            engine.verify_adopted_of(&work.rows, &work.hashes[work.from..])
        });
        if let Err(error) = verified.await {
            tracing::error!("objects of the server before were not looked at: {error}");
        }
    }
}

/// The key of every object that may be missing, by row and chunk.
fn keys(shared: &Shared, work: &PrefetchWork) -> Vec<Vec<Key>> {
    let missing = &work.hashes[work.from..];
    let row =
        |row: &larder_core::cache::Row| missing.iter().map(|hash| shared.key(&row.scope, hash)).collect();
    work.rows.iter().map(row).collect()
}

/// Asks all adapters at once.
async fn look_up(shared: &Shared, keys: &[Vec<Key>]) -> Vec<Holding> {
    let mut running = JoinSet::new();
    let adapters = shared.roster.in_use().into_iter();
    let mut holdings: Vec<Holding> = adapters.map(|adapter| Holding { adapter, held: Vec::new() }).collect();
    for (priority, holding) in holdings.iter().enumerate() {
        let (adapter, wanted) = (Arc::clone(holding.adapter.adapter()), keys.concat());
        running.spawn_local(async move { (priority, adapter.lookup_and_lock(wanted).await) });
    }
    let deadline = Instant::now() + LOOKUP_PATIENCE;
    while let Some(answer) = next_before(deadline, &mut running).await {
        let Ok((priority, found)) = answer else { continue };
        if let Some(failure) = found.iter().find_map(|outcome| match outcome {
            Err(error) if *error != Error::Absent => Some(error),
            _ => None,
        }) {
            tracing::warn!("lookup in `{}`: {failure}", holdings[priority].adapter.attached().id());
        }
        let held: Vec<bool> = found.iter().map(Result::is_ok).collect();
        let width = keys.first().map_or(1, Vec::len).max(1);
        holdings[priority].held = held.chunks(width).map(<[bool]>::to_vec).collect();
    }
    holdings
}

/// What one of several calls came to. Past the deadline those that are not done are given up; what was done until then still comes.
async fn next_before<T: 'static>(
    deadline: Instant,
    running: &mut JoinSet<T>,
) -> Option<Result<T, tokio::task::JoinError>> {
    if let Ok(next) = tokio::time::timeout_at(deadline, running.join_next()).await {
        return next;
    }
    tracing::warn!("{} calls to second-tier adapters were given up: no answer", running.len());
    running.abort_all();
    running.join_next().await
}

/// How many of the missing chunks every row can serve, from memory or from an adapter.
fn servable(resident: &[Vec<bool>], holdings: &[Holding]) -> usize {
    let chunks = resident.first().map_or(0, Vec::len);
    let served = |chunk: usize| {
        resident.iter().enumerate().all(|(row, here)| here[chunk] || holder(holdings, row, chunk).is_some())
    };
    (0..chunks).take_while(|&chunk| served(chunk)).count()
}

/// Bytes to load for each of the first chunks.
fn missing_bytes(work: &PrefetchWork, resident: &[Vec<bool>], chunks: usize) -> Vec<u64> {
    let bytes = |chunk: usize| {
        let rows = work.rows.iter().zip(resident).filter(|(_, here)| !here[chunk]);
        rows.map(|(row, _)| row.scope.layout.bytes()).sum()
    };
    (0..chunks).map(bytes).collect()
}

/// The adapter of highest priority that holds an object.
fn holder(holdings: &[Holding], row: usize, chunk: usize) -> Option<usize> {
    let holds =
        |holding: &Holding| holding.held.get(row).and_then(|row| row.get(chunk)).is_some_and(|&held| held);
    holdings.iter().position(holds)
}

fn reserve(shared: &Shared, work: &PrefetchWork, end: usize) -> Vec<LoadSlot> {
    if end == work.from {
        return Vec::new();
    }
    let row = |row| shared.engine.reserve_load(&work.rows, row, &work.hashes, work.from..end);
    (0..work.rows.len()).flat_map(row).collect()
}

/// Loads what was reserved and returns what arrived whole.
async fn load(
    shared: &Arc<Shared>,
    work: &PrefetchWork,
    keys: &[Vec<Key>],
    holdings: &[Holding],
    slots: Vec<LoadSlot>,
) -> Vec<Arrival> {
    let mut batches: Vec<Vec<Awaited>> = vec![Vec::new(); holdings.len()];
    for slot in slots {
        let layout = &work.rows[slot.row].scope.layout;
        let buffer = PoolBuffer::new(&shared.engine, slot.entry, slot.offset, layout.bytes(), Purpose::Load);
        let chunk = slot.chunk - work.from;
        if let Some(adapter) = holder(holdings, slot.row, chunk) {
            let key = keys[slot.row][chunk].clone();
            batches[adapter].push(Awaited { key, buffer, layout: layout.fingerprint() });
        }
    }
    let mut running = JoinSet::new();
    for (holding, batch) in holdings.iter().zip(batches).filter(|(_, batch)| !batch.is_empty()) {
        running.spawn_local(load_from(Arc::clone(&shared.engine), holding.adapter.clone(), batch));
    }
    let mut loaded = Vec::new();
    let deadline = Instant::now() + LOAD_PATIENCE;
    while let Some(arrived) = next_before(deadline, &mut running).await {
        loaded.extend(arrived.unwrap_or_default());
    }
    loaded
}

/// An object to load, and the layout it is to be read with.
#[derive(Clone, Debug)]
struct Awaited {
    key: Key,
    buffer: Arc<PoolBuffer>,
    layout: u64,
}

async fn load_from(engine: Arc<Engine>, adapter: InUse, batch: Vec<Awaited>) -> Vec<Arrival> {
    let items = batch.iter().map(|awaited| {
        let buffer: Lent = Arc::clone(&awaited.buffer) as Lent;
        LoadItem { key: awaited.key.clone(), buffer }
    });
    let outcomes = adapter.adapter().load(items.collect()).await;
    let mut loaded = Vec::with_capacity(batch.len());
    let mut failures = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    if let Some(first) = failures.next() {
        tracing::warn!(
            "{} objects not loaded from `{}`: {first}",
            1 + failures.count(),
            adapter.attached().id()
        );
    }
    let mut foreign = Vec::new();
    for (awaited, outcome) in batch.iter().zip(&outcomes) {
        match judge(&engine, &adapter, awaited, outcome) {
            Verdict::Arrived(arrival) => loaded.push(arrival),
            Verdict::Foreign => foreign.push(awaited.key.clone()),
            Verdict::Missing => {}
        }
    }
    if !foreign.is_empty() {
        // Out of the way of the object that belongs there. Best effort: what stays is found foreign again.
        adapter.adapter().delete(foreign, DeleteMode::Quarantine).await;
    }
    loaded
}

/// What a load came to.
enum Verdict {
    Arrived(Arrival),
    /// Whole, but of another layout than the one it would be read with.
    Foreign,
    Missing,
}

/// Checks the layout. The bytes were checked by the adapter's own decorator, if it is configured to.
fn judge(engine: &Engine, adapter: &InUse, awaited: &Awaited, outcome: &KeyResult<Loaded>) -> Verdict {
    let counters = &engine.counters().checksum;
    let corrupt = |cause| {
        engine.note_corrupt(&Corruption {
            at: CheckPoint::Load,
            model_name: &awaited.key.model_name,
            cache_salt: &awaited.key.cache_salt,
            hash: ChunkHash(awaited.key.chunk_hash),
            adapter: Some(adapter.attached().id()),
            cause,
        });
    };
    match outcome {
        Ok(Loaded { seal: Some(seal) }) if seal.layout != 0 && seal.layout != awaited.layout => {
            corrupt("layout");
            Verdict::Foreign
        }
        Ok(Loaded { seal }) => {
            let is_checked = seal.is_some() && adapter.attached().built().checksum.is_some();
            let counter = if is_checked { counters.verified(CheckPoint::Load) } else { &counters.unverified };
            counter.add(1);
            let seal = seal.map(|seal| seal.checksum);
            Verdict::Arrived(Arrival { entry: awaited.buffer.keep(), seal })
        }
        Err(Error::Failed(failure)) if failure.kind == FailureKind::Corrupt => {
            corrupt("bytes");
            Verdict::Missing
        }
        Err(_) => Verdict::Missing,
    }
}

/// The prompt was used as far as it was served, wherever each of its chunks came from.
fn touch(shared: &Shared, work: &PrefetchWork, holdings: &[Holding], end: usize) {
    for evictor in holdings.iter().filter_map(|holding| holding.adapter.attached().evictor()) {
        for row in work.rows.iter() {
            evictor.touch(work.hashes[..end].iter().map(|hash| shared.key(&row.scope, hash)));
        }
    }
}

fn unlock(keys: &[Vec<Key>], holdings: &[Holding]) {
    for holding in holdings {
        let locked: Vec<Key> = keys
            .iter()
            .zip(&holding.held)
            .flat_map(|(keys, held)| {
                keys.iter().zip(held).filter(|&(_, &held)| held).map(|(key, _)| key.clone())
            })
            .collect();
        if !locked.is_empty() {
            holding.adapter.adapter().unlock(&locked);
        }
    }
}

/// Waits for chunks that another load or a worker is about to finish, so that two lookups of one prompt both get all of it.
async fn wait_for_others(shared: &Shared, work: &PrefetchWork, end: usize, loaded: &[EntryRef]) {
    let deadline = Instant::now() + JOIN_PATIENCE;
    while shared.engine.others_write(&work.rows, &work.hashes[..end], work.from, loaded)
        && Instant::now() < deadline
    {
        tokio::time::sleep(JOIN_INTERVAL).await;
    }
}
