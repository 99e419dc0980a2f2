//! Bringing a prompt's missing chunks back, ahead of the request that needs them (`spec/cache-semantics.md`
//! 11.2).
//!
//! Whoever asked is answered as soon as nothing more is worth waiting for; what comes later is published all
//! the same, for the next one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use larder_core::cache::EntryRef;
use larder_storage::{DeleteMode, Key, LentBuffer as _};
use tokio::time::Instant;

use super::buffer::{PoolBuffer, Purpose};
use super::flow::Shortfall;
use super::holding::{Holding, Wanted};
use super::load::{Arrived, Awaited, Delivery, load};
use super::pulse::{Calls, Promptness};
use super::resizable_semaphore::Permit;
use super::roster::InUse;
use super::shared::Shared;
use larder_engine::{Arrival, LoadSlot, PrefetchWork};

/// Longest a load waits for objects that another load or a worker is about to finish.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two looks at objects others are about to finish.
const JOIN_INTERVAL: Duration = Duration::from_millis(5);

/// Longest a load waits for the pool to be prepared, right after a start. Then it takes what room there is.
const PREPARATION_PATIENCE: Duration = Duration::from_secs(30);

/// Extends one lookup as far as the adapters can and answers it, whatever happens.
pub(super) async fn prefetch(shared: Arc<Shared>, work: PrefetchWork, permit: Permit) {
    let Some(wanted) = Wanted::new(&shared, work.clone()) else {
        return shared.engine.finish_prefetch(&work, &[]);
    };
    let wanted = Arc::new(wanted);
    let answer = Answer { shared: Arc::clone(&shared), wanted: Arc::clone(&wanted), permit: Some(permit) };
    let mut prefetch = Prefetch {
        shared,
        wanted,
        answer,
        holdings: Vec::new(),
        reserved: Vec::new(),
        arrived: Vec::new(),
        foreign: Vec::new(),
        end: 0,
    };
    prefetch.verify_adopted().await;
    prefetch.shared.flow.look_up(&prefetch.wanted.keys);
    let mut search = prefetch.ask();
    while let Some(holding) = search.next_awaited().await {
        prefetch.add(holding);
    }
    prefetch.bring().await;
    while let Some(holding) = search.next().await {
        prefetch.add(holding);
        prefetch.bring().await;
    }
}

/// The answer that somebody waits for; given at the latest when this is dropped.
struct Answer {
    shared: Arc<Shared>,
    wanted: Arc<Wanted>,
    /// Free for the next prefetch once the answer is given.
    permit: Option<Permit>,
}

impl Answer {
    fn is_given(&self) -> bool {
        self.permit.is_none()
    }

    fn give(&mut self, arrived: &[Arrival]) {
        if self.permit.take().is_some() {
            self.shared.engine.finish_prefetch(&self.wanted.work, arrived);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.give(&[]);
    }
}

struct Prefetch {
    shared: Arc<Shared>,
    wanted: Arc<Wanted>,
    answer: Answer,
    /// Who holds what, by priority.
    holdings: Vec<Holding>,
    /// Every staging object that was made for this prefetch.
    reserved: Vec<EntryRef>,
    /// What came and is not published yet: that happens together with the answer, so that nothing of it is
    /// evicted in between.
    arrived: Vec<Arrived>,
    /// What is in the way of objects that belong there.
    foreign: Vec<(InUse, Vec<Key>)>,
    /// How many of the chunks that may be missing are to be served.
    end: usize,
}

impl Prefetch {
    /// Publishes what of the prompt a server before this one left in memory.
    async fn verify_adopted(&self) {
        if self.shared.engine.is_adopting() {
            let (engine, wanted) = (self.shared.engine.clone(), Arc::clone(&self.wanted));
            let verified = tokio::task::spawn_blocking(move || engine.verify_adopted_of(&wanted.work));
            if let Err(error) = verified.await {
                tracing::error!("objects of the server before were not looked at: {error}");
            }
        }
    }

    /// Asks all adapters at once.
    fn ask(&self) -> Calls<Holding> {
        let mut search = Calls::new(self.shared.patience);
        for (priority, adapter) in self.shared.roster.in_use().into_iter().enumerate() {
            let Some(turn) = adapter.attached().pulse().begin(Promptness::Lookup) else { continue };
            let (shared, wanted) = (Arc::clone(&self.shared), Arc::clone(&self.wanted));
            search.add(turn, Holding::ask(shared, adapter, priority, wanted));
        }
        search
    }

    fn add(&mut self, holding: Holding) {
        let at = self.holdings.partition_point(|other| other.priority < holding.priority);
        self.holdings.insert(at, holding);
    }

    /// Loads what the adapters that answered can add, and answers once nothing of it is worth waiting for.
    async fn bring(&mut self) {
        let sizes = self.missing_bytes();
        let shared = Arc::clone(&self.shared);
        let mut grant = shared.budget.take(&sizes).await;
        self.end = self.end.max(grant.chunks);
        let slots = self.reserve(grant.chunks, sizes[..grant.chunks].iter().sum()).await;
        if let Some(row) = self.wanted.work.rows.first() {
            let cut = (sizes.len() - grant.chunks) * self.wanted.work.rows.len();
            shared.flow.fall_short(Shortfall::NoRoom, &row.scope.model_name, cut);
        }
        let mut loads = Calls::new(self.shared.patience);
        self.start(&mut loads, slots);
        while let Some(delivery) = loads.next_awaited().await {
            self.take_in(&mut loads, delivery);
        }
        let mut given_up = None;
        if !loads.is_empty() {
            self.abandon();
            grant.give_up(self.arrived.iter().map(|arrived| arrived.buffer.len() as u64).sum());
            given_up = Some(grant);
        } else {
            // Before the answer, so that whoever has it finds the budget free.
            drop(grant);
        }
        self.give_answer().await;
        while let Some(delivery) = loads.next().await {
            self.take_in(&mut loads, delivery);
            self.publish_late();
        }
        drop(given_up);
        self.put_aside().await;
    }

    /// Bytes to load for each of the first missing chunks, as far as every row can be served from memory or
    /// from an adapter. One that is late is asked for no more than a chunk: that shows whether it still is,
    /// and takes little memory if so.
    fn missing_bytes(&self) -> Vec<u64> {
        let Wanted { work, .. } = &*self.wanted;
        let resident = self.shared.engine.resident(&work.rows, &work.hashes, work.from);
        let mut is_cut = false;
        let bytes = |chunk: usize| {
            if is_cut {
                return None;
            }
            let mut bytes = 0;
            for (row, here) in resident.iter().enumerate().filter(|(_, here)| !here[chunk]) {
                debug_assert_eq!(here.len(), self.wanted.chunks());
                let at = self.wanted.at(row, chunk);
                is_cut |= self.is_late(self.holder(at)?);
                bytes += self.wanted.bytes(at);
            }
            Some(bytes)
        };
        (0..self.wanted.chunks()).map_while(bytes).collect()
    }

    /// The adapter to load an object from: one that is waited for rather than one that is late, then the one
    /// of highest priority.
    fn holder(&self, at: usize) -> Option<usize> {
        let holders = (0..self.holdings.len()).filter(|&holder| self.holdings[holder].has(at));
        holders.min_by_key(|&holder| self.is_late(holder))
    }

    fn is_late(&self, holder: usize) -> bool {
        self.holdings[holder].adapter.attached().pulse().is_late(Promptness::Load)
    }

    /// Memory for the chunks that are not there. Right after a start it waits for the pool rather than cut
    /// the prompt.
    async fn reserve(&mut self, chunks: usize, bytes: u64) -> Vec<LoadSlot> {
        let (engine, work) = (&self.shared.engine, &self.wanted.work);
        if chunks == 0 {
            return Vec::new();
        }
        let _room = tokio::time::timeout(PREPARATION_PATIENCE, engine.room_prepared(bytes)).await;
        let range = work.from..work.from + chunks;
        let row = |row| engine.reserve_load(&work.rows, row, &work.hashes, range.clone());
        let slots: Vec<LoadSlot> = (0..work.rows.len()).flat_map(row).collect();
        self.reserved.extend(slots.iter().map(|slot| slot.entry));
        slots
    }

    fn awaited(&self, slot: &LoadSlot, adapter: &InUse) -> Awaited {
        let layout = &self.wanted.work.rows[slot.row].scope.layout;
        let at = self.wanted.at(slot.row, slot.chunk - self.wanted.work.from);
        let purpose = Purpose::Load(Arc::clone(adapter.attached().pulse()).into());
        let buffer = PoolBuffer::new(&self.shared.engine, slot.entry, slot.offset, layout.bytes(), purpose);
        Awaited { at, key: self.wanted.keys[at].clone(), buffer, layout: layout.fingerprint() }
    }

    fn start(&mut self, loads: &mut Calls<Delivery>, slots: Vec<LoadSlot>) {
        let mut batch = Vec::with_capacity(slots.len());
        for slot in slots {
            match self.holdings.first() {
                Some(first) => batch.push(self.awaited(&slot, &first.adapter)),
                None => self.shared.engine.abort_load(slot.entry),
            }
        }
        self.load(loads, batch);
    }

    /// Loads each object from the next adapter that holds it. The memory of those that nobody holds goes
    /// back.
    fn load(&mut self, loads: &mut Calls<Delivery>, mut left: Vec<Awaited>) {
        while !left.is_empty() {
            let mut batches: Vec<Vec<Awaited>> = self.holdings.iter().map(|_| Vec::new()).collect();
            for awaited in left.drain(..) {
                if let Some(holder) = self.holder(awaited.at) {
                    batches[holder].push(awaited);
                }
            }
            for (holder, batch) in batches.into_iter().enumerate().filter(|(_, batch)| !batch.is_empty()) {
                let adapter = &self.holdings[holder].adapter;
                match adapter.attached().pulse().begin(Promptness::Load) {
                    Some(turn) => loads.add(turn, load(Arc::clone(&self.shared), adapter.clone(), batch)),
                    // It is late and being asked already: another one may have it.
                    None => {
                        batch.iter().for_each(|awaited| self.holdings[holder].lose(awaited.at));
                        left.extend(batch);
                    }
                }
            }
        }
    }

    /// Keeps what came, and gives what did not a second chance.
    fn take_in(&mut self, loads: &mut Calls<Delivery>, delivery: Delivery) {
        let Delivery { adapter, arrived, failed, foreign, .. } = delivery;
        self.arrived.extend(arrived);
        if let Some(holding) = self.holdings.iter_mut().find(|holding| holding.adapter.is(&adapter)) {
            failed.iter().for_each(|awaited| holding.lose(awaited.at));
        }
        if !foreign.is_empty() {
            self.foreign.push((adapter, foreign));
        }
        let again = failed.into_iter().filter_map(|awaited| self.untouched(awaited)).collect();
        self.load(loads, again);
    }

    /// The object with memory that nobody else may still write to: its own, or new one if an adapter holds on
    /// to that.
    fn untouched(&mut self, awaited: Awaited) -> Option<Awaited> {
        if Arc::strong_count(&awaited.buffer) == 1 {
            return Some(awaited);
        }
        let (engine, work) = (&self.shared.engine, &self.wanted.work);
        engine.abandon_loads(&[awaited.buffer.entry()]);
        let holder = self.holder(awaited.at)?;
        let (row, chunk) = (awaited.at / self.wanted.chunks(), work.from + awaited.at % self.wanted.chunks());
        let slot = engine.reserve_load(&work.rows, row, &work.hashes, chunk..chunk + 1).pop()?;
        self.reserved.push(slot.entry);
        Some(self.awaited(&slot, &self.holdings[holder].adapter))
    }

    /// Nobody is to wait for what this prefetch does not wait for.
    fn abandon(&self) {
        let arrived: HashSet<EntryRef> = self.arrived.iter().map(|arrived| arrived.buffer.entry()).collect();
        let missing = self.reserved.iter().copied().filter(|entry| !arrived.contains(entry));
        self.shared.engine.abandon_loads(&missing.collect::<Vec<_>>());
    }

    async fn give_answer(&mut self) {
        if self.answer.is_given() {
            return self.publish_late();
        }
        self.touch();
        self.put_aside().await;
        self.wait_for_others().await;
        // Their buffers live until they are published.
        let arrived = std::mem::take(&mut self.arrived);
        self.answer.give(&arrivals(&arrived));
    }

    fn publish_late(&mut self) {
        let arrived = std::mem::take(&mut self.arrived);
        self.shared.engine.publish_late(&self.wanted.work, &arrivals(&arrived));
    }

    /// The prompt was used as far as it was served, wherever each of its chunks came from.
    fn touch(&self) {
        let work = &self.wanted.work;
        for evictor in self.holdings.iter().filter_map(|holding| holding.adapter.attached().evictor()) {
            for row in work.rows.iter() {
                let served = &work.hashes[..work.from + self.end];
                if let Some(names) = self.shared.names(&row.scope) {
                    evictor.touch(served.iter().map(|hash| names.of(hash)));
                }
            }
        }
    }

    /// Waits for chunks that another load or a worker is about to finish, so that two lookups of one prompt
    /// both get all of it.
    async fn wait_for_others(&self) {
        let (engine, work) = (&self.shared.engine, &self.wanted.work);
        let deadline = Instant::now() + JOIN_PATIENCE;
        let end = work.from + self.end;
        while engine.others_write(&work.rows, &work.hashes[..end], work.from, &self.reserved)
            && Instant::now() < deadline
        {
            tokio::time::sleep(JOIN_INTERVAL).await;
        }
    }

    /// Takes objects of other layouts out of the way of those that belong there: before the answer, because
    /// what was asked for will be stored next. What can't be put aside in time is found again.
    async fn put_aside(&mut self) {
        for (adapter, keys) in self.foreign.drain(..) {
            let deleting = adapter.adapter().delete(keys, DeleteMode::Quarantine);
            if tokio::time::timeout(self.shared.patience, deleting).await.is_err() {
                tracing::debug!("`{}` does not put foreign objects aside", adapter.attached().id());
            }
        }
    }
}

fn arrivals(arrived: &[Arrived]) -> Vec<Arrival> {
    arrived.iter().map(|Arrived { buffer, seal }| Arrival { entry: buffer.entry(), seal: *seal }).collect()
}
