//! Write-through to one adapter: every committed object goes there, at the adapter's own pace.
//!
//! Adapters share nothing here but the hash of an object, so that one which is slow, limited or dead costs
//! the others nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use larder_storage::decorators::BreakerState;
use larder_storage::{Busy, Error, Op};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::outage::Outage;
use super::roster::{Attached, Phase};
use larder_engine::{Backlog, StoreLane, StoreWork, TakenStore, Tiers};

/// Bytes handed to the adapter at a time, unless an object is larger.
const BATCH_BYTES: u64 = 16 << 20;

/// Most bytes an adapter has in hand at a time: while one batch is hashed others are written, and a slow
/// object holds up only its own batch. What a stuck adapter does not let go of counts, however long ago it
/// was given up. The rest waits in the lane.
const FLIGHT_BYTES_MAX: u64 = 128 << 20;

/// Share of the pool that an adapter has in hand at most.
const FLIGHT_SHARE: u64 = 8;

/// What the flight is counted in.
const UNIT_BYTES: u64 = 64 << 10;

/// First pause after an adapter said that it was busy; it doubles until something is stored again.
pub(super) const BUSY_PAUSE_MIN: Duration = Duration::from_millis(50);

/// One adapter's part of what is to be stored.
#[derive(Debug)]
pub(super) struct Lane {
    attached: Arc<Attached>,
    queue: StoreLane,
    flight: Arc<Semaphore>,
    flight_units: u32,
    batches: AtomicUsize,
    settled: Notify,
    put_back_total: AtomicU64,
    outage: Outage,
}

/// What a lane has to do, and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneReport {
    /// What waits for the adapter.
    pub waiting: Backlog,
    /// Bytes it has in hand, those of calls that were given up included.
    pub in_flight_bytes: u64,
    /// Objects it never got, because it could not keep up and others needed the memory.
    pub shed_objects: u64,
    /// Times an object was put back because the adapter was busy or down.
    pub put_back_objects: u64,
}

/// A batch under way, counted until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Lane>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let batches = self.0.batches.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(batches > 0, "what ends was begun");
        self.0.settled.notify_waiters();
    }
}

impl Lane {
    /// A lane for an adapter; it is open while the adapter is active.
    pub(super) fn new(engine: &Tiers, attached: &Arc<Attached>) -> Arc<Self> {
        let flight_bytes = FLIGHT_BYTES_MAX.min(engine.pool().len_bytes() / FLIGHT_SHARE);
        let flight_units = units(flight_bytes).max(1);
        Arc::new(Self {
            attached: Arc::clone(attached),
            queue: StoreLane::new(engine),
            flight: Arc::new(Semaphore::new(flight_units as usize)),
            flight_units,
            batches: AtomicUsize::new(0),
            settled: Notify::new(),
            put_back_total: AtomicU64::new(0),
            outage: Outage::default(),
        })
    }

    /// Whose lane it is.
    pub(super) fn attached(&self) -> &Arc<Attached> {
        &self.attached
    }

    /// Opens or closes it as the adapter's phase demands.
    pub(super) fn follow_phase(&self) {
        self.queue.set_open(self.attached.phase() == Phase::Active);
    }

    pub(super) fn report(&self) -> LaneReport {
        let taken = u64::from(self.flight_units).saturating_sub(self.flight.available_permits() as u64);
        LaneReport {
            waiting: self.queue.backlog(),
            in_flight_bytes: taken * UNIT_BYTES,
            shed_objects: self.queue.shed_total(),
            put_back_objects: self.put_back_total.load(Ordering::Relaxed),
        }
    }

    /// Resolves when nothing is under way, and nothing waits but for an adapter that is down.
    pub(super) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            let is_done = self.queue.backlog() == Backlog::default() || self.is_down();
            if self.batches.load(Ordering::Relaxed) == 0 && is_done {
                return;
            }
            settled.await;
        }
    }

    /// Counts a batch that is taken.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.batches.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Has objects wait again that the adapter will take later.
    pub(super) fn put_back(&self, works: Vec<Arc<StoreWork>>) {
        self.put_back_total.fetch_add(works.len() as u64, Ordering::Relaxed);
        self.queue.put_back(works);
    }

    /// What the breaker makes of stores; without one they are always tried.
    fn circuit(&self) -> BreakerState {
        let breaker = self.attached.built().breaker.as_ref();
        breaker.map_or(BreakerState::Closed, |breaker| breaker.state_of(Op::Store))
    }

    /// Whether the adapter takes nothing now, and what is to be stored waits for it.
    fn is_down(&self) -> bool {
        let circuit = self.circuit();
        self.outage.is_waited_out(circuit, Instant::now()) && circuit == BreakerState::Open
    }

    /// Whether an object that was not stored is to wait for the adapter.
    pub(super) fn is_put_back(&self, error: &Error) -> bool {
        match error {
            Error::Busy(busy) => !matches!(busy, Busy::Declined(_)),
            Error::Failed(failure) if failure.kind.blames_backend() => {
                self.outage.is_waited_out(self.circuit(), Instant::now())
            }
            Error::Absent | Error::Failed(_) => false,
        }
    }

    /// Waits for an adapter that was busy: for its index, and in any case for a while.
    pub(super) async fn has_room(&self, pause: Duration) {
        tokio::join!(tokio::time::sleep(pause), self.attached.built().adapter.ready_to_store());
    }

    /// Waits for objects, and for room in the flight. Nothing is taken by a call that is dropped.
    pub(super) async fn next_batch(&self) -> (Vec<TakenStore>, OwnedSemaphorePermit) {
        loop {
            if self.is_down() {
                tokio::time::sleep(BUSY_PAUSE_MIN).await;
                continue;
            }
            let Some(next_bytes) = self.queue.next_bytes() else {
                self.queue.due().await;
                continue;
            };
            let wanted = units(next_bytes.max(BATCH_BYTES)).min(self.flight_units);
            // An error would mean a closed semaphore, and nobody closes it.
            let Ok(mut room) = Arc::clone(&self.flight).acquire_many_owned(wanted).await else {
                std::future::pending().await
            };
            let batch = self.queue.take(u64::from(wanted) * UNIT_BYTES);
            if batch.is_empty() {
                continue;
            }
            let taken = batch.iter().map(|taken| units(taken.work().scope.layout.bytes())).sum::<u32>();
            drop(room.split(wanted.saturating_sub(taken) as usize));
            return (batch, room);
        }
    }
}

pub(super) fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}
