//! Bringing a prompt's missing chunks back, ahead of the request that needs them (`spec/cache-semantics.md`
//! 11.2).
//!
//! Whoever asked is answered as soon as nothing more is worth waiting for; what comes later is published all
//! the same, for the next one.

use std::sync::Arc;
use std::time::Duration;

use larder_core::key::ObjectKey;
use larder_storage::{DeleteMode, LentBuffer as _};
use tokio::time::Instant;

use super::buffer::PoolBuffer;
use super::flow::Shortfall;
use super::holding::{Holding, Wanted};
use super::load::{Arrived, Awaited, Delivery, load};
use super::pulse::{Calls, Promptness};
use super::resizable_semaphore::Permit;
use super::roster::InUse;
use super::shared::Shared;
use larder_engine::{Arrival, LoadSlot, Prefetch};

/// Longest a load waits for objects that another load or a worker is about to finish.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two looks at objects others are about to finish.
const JOIN_INTERVAL: Duration = Duration::from_millis(5);

/// Extends one lookup as far as the adapters can and answers it, whatever happens.
pub(super) async fn prefetch(shared: Arc<Shared>, prefetch: Prefetch, permit: Permit) {
    let mut run = Run {
        shared,
        wanted: Arc::new(Wanted::new(prefetch.work())),
        permit: Some(permit),
        prefetch,
        holdings: Vec::new(),
        arrived: Vec::new(),
        foreign: Vec::new(),
        end: 0,
    };
    // Before anything is asked of an adapter: what is in memory already is not to be loaded.
    run.prefetch.verify_adopted().await;
    run.shared.flow.look_up(&run.wanted.keys);
    let mut search = run.ask();
    while let Some(holding) = search.next_awaited().await {
        run.add(holding);
    }
    // Once all that are waited for have said what they hold, and not before: each chunk is to come from the
    // first in the list that has it.
    run.bring().await;
    while let Some(holding) = search.next().await {
        run.add(holding);
        run.bring().await;
    }
}

/// A prefetch under way. Its locks, its memory and the answer that it owes are given back with it.
struct Run {
    shared: Arc<Shared>,
    wanted: Arc<Wanted>,
    /// Free for the next prefetch once the answer is given.
    permit: Option<Permit>,
    prefetch: Prefetch,
    /// Who holds what, by priority.
    holdings: Vec<Holding>,
    /// What came and is not published yet: that happens together with the answer, so that nothing of it is
    /// evicted in between.
    arrived: Vec<Arrived>,
    /// What is in the way of objects that belong there.
    foreign: Vec<(InUse, Vec<ObjectKey>)>,
    /// How many of the chunks that may be missing are to be served.
    end: usize,
}

impl Run {
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
        let slots = self.prefetch.reserve(grant.chunks, sizes[..grant.chunks].iter().sum()).await;
        if let Some(row) = self.wanted.work.rows.first() {
            let cut = (sizes.len() - grant.chunks) * self.wanted.work.rows.len();
            shared.flow.fall_short(Shortfall::NoRoom, row.scope.namespace.model_name(), cut);
        }
        let mut loads = Calls::new(self.shared.patience);
        self.start(&mut loads, slots);
        while let Some(delivery) = loads.next_awaited().await {
            self.take_in(&mut loads, delivery);
        }
        let mut given_up = None;
        if !loads.is_empty() {
            // Nobody is to wait for what this prefetch does not wait for.
            self.prefetch.abandon_all_but(&arrivals(&self.arrived));
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
        // Only now: memory that was given up is in use until its adapter let go of it.
        drop(given_up);
        self.put_aside().await;
    }

    /// Bytes to load for each of the first missing chunks, as far as every row can be served from memory or
    /// from an adapter. One that is late is asked for no more than a chunk: that shows whether it still is,
    /// and takes little memory if so.
    fn missing_bytes(&self) -> Vec<u64> {
        let resident = self.prefetch.resident();
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

    fn awaited(&self, slot: LoadSlot, adapter: &InUse) -> Awaited {
        let layout = &self.wanted.work.rows[slot.row].scope.layout;
        let at = self.wanted.at(slot.row, slot.chunk - self.wanted.work.from);
        let pulse = adapter.attached().pulse();
        let buffer = PoolBuffer::to_load(&self.shared.engine, slot, layout.bytes(), pulse);
        Awaited { at, key: self.wanted.keys[at].clone(), buffer, layout: layout.fingerprint() }
    }

    fn start(&mut self, loads: &mut Calls<Delivery>, slots: Vec<LoadSlot>) {
        let Some(first) = self.holdings.first() else { return };
        let batch = slots.into_iter().map(|slot| self.awaited(slot, &first.adapter)).collect();
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
        // Nobody is to wait for a buffer that nobody fills any more, and others may load the chunk.
        if let Some(slot) = awaited.buffer.slot() {
            slot.abandon();
        }
        let holder = self.holder(awaited.at)?;
        let (row, chunk) = (awaited.at / self.wanted.chunks(), awaited.at % self.wanted.chunks());
        let slot = self.prefetch.reserve_again(row, self.wanted.work.from + chunk)?;
        Some(self.awaited(slot, &self.holdings[holder].adapter))
    }

    async fn give_answer(&mut self) {
        if self.prefetch.is_answered() {
            return self.publish_late();
        }
        self.touch();
        // Before the answer, because what was asked for will be stored next.
        self.put_aside().await;
        self.wait_for_others().await;
        self.permit = None;
        // Their buffers live until they are published.
        let arrived = std::mem::take(&mut self.arrived);
        self.prefetch.answer(&arrivals(&arrived));
    }

    fn publish_late(&mut self) {
        let arrived = std::mem::take(&mut self.arrived);
        self.prefetch.publish_late(&arrivals(&arrived));
    }

    /// The prompt was used as far as it was served, wherever each of its chunks came from.
    fn touch(&self) {
        let work = &self.wanted.work;
        for evictor in self.holdings.iter().filter_map(|holding| holding.adapter.attached().evictor()) {
            for row in work.rows.iter() {
                let served = &work.hashes[..work.from + self.end];
                evictor.touch(served.iter().map(|hash| row.scope.namespace.key(*hash)));
            }
        }
    }

    /// Waits for chunks that another load or a worker is about to finish, so that two lookups of one prompt
    /// both get all of it.
    async fn wait_for_others(&self) {
        let deadline = Instant::now() + JOIN_PATIENCE;
        let end = self.wanted.work.from + self.end;
        while self.prefetch.others_write(end) && Instant::now() < deadline {
            tokio::time::sleep(JOIN_INTERVAL).await;
        }
    }

    /// Takes objects of other layouts out of the way of those that belong there. What can't be put aside in
    /// time is found again.
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
    arrived.iter().filter_map(|Arrived { buffer, seal }| Some(buffer.slot()?.arrived(*seal))).collect()
}
