//! Counts what passes, for metrics and status pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::key::ObjectKey;
use tokio::time::Instant;

use super::forward::forward;
use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded,
    Op, StoreItem, Stored,
};
use crate::error::{Busy, Error, Failure, FailureKind};

/// Counters of one adapter, all since its start.
#[derive(Debug, Default)]
pub struct Counters {
    ops: [OpCounters; Op::ALL.len()],
}

#[derive(Debug, Default)]
struct OpCounters {
    calls: AtomicU64,
    in_flight: AtomicU64,
    micros: AtomicU64,
    keys: AtomicU64,
    ok: AtomicU64,
    absent: AtomicU64,
    busy: AtomicU64,
    declined: AtomicU64,
    failed: [AtomicU64; FailureKind::ALL.len()],
    bytes: AtomicU64,
}

/// The counters of one operation at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpCounts {
    /// Calls made.
    pub calls: u64,
    /// Calls not answered yet.
    pub in_flight: u64,
    /// Time answered calls took together, in microseconds.
    pub micros: u64,
    /// Keys answered.
    pub keys: u64,
    /// Keys that did what was asked.
    pub ok: u64,
    /// Keys not held.
    pub absent: u64,
    /// Keys answered busy, for another reason than the next.
    pub busy: u64,
    /// Keys kept out by a rule of the configuration.
    pub declined: u64,
    /// Keys failed, by kind in the order of [`FailureKind::ALL`].
    pub failed: [u64; FailureKind::ALL.len()],
    /// Bytes moved or freed.
    pub bytes: u64,
}

impl OpCounts {
    /// Keys failed, of every kind.
    #[must_use]
    pub fn failed_total(&self) -> u64 {
        self.failed.iter().sum()
    }
}

impl Counters {
    /// What one operation counted so far.
    #[must_use]
    pub fn of(&self, op: Op) -> OpCounts {
        let counters = &self.ops[op.position()];
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OpCounts {
            calls: get(&counters.calls),
            in_flight: get(&counters.in_flight),
            micros: get(&counters.micros),
            keys: get(&counters.keys),
            ok: get(&counters.ok),
            absent: get(&counters.absent),
            busy: get(&counters.busy),
            declined: get(&counters.declined),
            failed: std::array::from_fn(|kind| get(&counters.failed[kind])),
            bytes: get(&counters.bytes),
        }
    }
}

impl OpCounters {
    fn count<T>(&self, result: &KeyResult<T>, bytes: u64) {
        let add = |counter: &AtomicU64, count: u64| counter.fetch_add(count, Ordering::Relaxed);
        add(&self.keys, 1);
        match result {
            Ok(_) => {
                add(&self.ok, 1);
                add(&self.bytes, bytes)
            }
            Err(Error::Absent) => add(&self.absent, 1),
            Err(Error::Busy(Busy::Declined(_))) => add(&self.declined, 1),
            Err(Error::Busy(_)) => add(&self.busy, 1),
            Err(Error::Failed(failure)) => {
                let kind = FailureKind::ALL.iter().position(|kind| *kind == failure.kind).unwrap_or_default();
                add(&self.failed[kind], 1)
            }
        };
    }
}

/// Counts the calls, keys, outcomes, bytes and time of an adapter.
#[derive(Debug)]
pub struct Counting {
    inner: Arc<dyn Adapter>,
    counters: Arc<Counters>,
}

impl Counting {
    /// Wraps an adapter; the counters outlive it.
    #[must_use]
    pub fn new(inner: Arc<dyn Adapter>) -> Self {
        Self { inner, counters: Arc::default() }
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    fn start(&self, op: Op) -> Running<'_> {
        let counters = &self.counters.ops[op.position()];
        counters.calls.fetch_add(1, Ordering::Relaxed);
        counters.in_flight.fetch_add(1, Ordering::Relaxed);
        Running { counters, start: Instant::now() }
    }
}

/// A call under way; abandoned ones count as ended.
struct Running<'a> {
    counters: &'a OpCounters,
    start: Instant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.micros.fetch_add(micros, Ordering::Relaxed);
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Adapter for Counting {
    forward!(kind, unlock, probe, ready_to_store, usage, health, close);

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(async move {
            let running = self.start(Op::Store);
            let results = self.inner.store(batch).await;
            for result in &results {
                running.counters.count(result, result.as_ref().map_or(0, |stored| stored.bytes_written));
            }
            results
        })
    }

    fn lookup_and_lock(&self, keys: Vec<ObjectKey>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
        Box::pin(async move {
            let running = self.start(Op::Lookup);
            let results = self.inner.lookup_and_lock(keys).await;
            results.iter().for_each(|result| running.counters.count(result, 0));
            results
        })
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(async move {
            let running = self.start(Op::Load);
            let sizes: Vec<_> = batch.iter().map(|item| item.buffer.len() as u64).collect();
            let results = self.inner.load(batch).await;
            results.iter().zip(sizes).for_each(|(result, bytes)| running.counters.count(result, bytes));
            results
        })
    }

    fn delete(&self, keys: Vec<ObjectKey>, mode: DeleteMode) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
        Box::pin(async move {
            let running = self.start(Op::Delete);
            let results = self.inner.delete(keys, mode).await;
            for result in &results {
                running.counters.count(result, result.as_ref().map_or(0, |deleted| deleted.bytes_freed));
            }
            results
        })
    }

    fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>> {
        Box::pin(async move {
            let running = self.start(Op::List);
            let result = self.inner.list(request).await;
            running.counters.count(&result.as_ref().map_err(|failure| Error::Failed(failure.clone())), 0);
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::conformance::{FailingAdapter, load_items, object_key, store_items};

    #[tokio::test]
    async fn outcomes_are_told_apart() {
        let double = FailingAdapter::new();
        double.fail_next(Op::Store, 1, Failure::permanent(FailureKind::Full, "full").into());
        let counting = Counting::new(double);
        counting.store(store_items(0..3, 10)).await;
        counting.lookup_and_lock(vec![object_key(1), object_key(9)]).await;
        let (loads, _buffers) = load_items(1..2, 10);
        counting.load(loads).await;
        counting.delete(vec![object_key(1)], DeleteMode::IfUnlocked).await;
        counting.list(ListRequest { entries_max: 10, ..ListRequest::default() }).await.unwrap();

        let counters = counting.counters();
        let store = counters.of(Op::Store);
        assert_eq!((store.calls, store.keys, store.ok, store.bytes), (1, 3, 2, 20));
        assert_eq!((store.failed_total(), store.failed[3]), (1, 1), "one failed, for lack of room");
        let lookup = counters.of(Op::Lookup);
        assert_eq!((lookup.ok, lookup.absent), (1, 1));
        assert_eq!(counters.of(Op::Load).bytes, 10);
        assert_eq!(counters.of(Op::Delete).busy, 1, "it is locked");
        assert_eq!((counters.of(Op::List).ok, counters.of(Op::List).in_flight), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_counts_from_its_beginning_to_its_end_or_until_it_is_given_up() {
        let double = FailingAdapter::new();
        let counting = Counting::new(Arc::<FailingAdapter>::clone(&double));
        let counters = counting.counters();
        double.hang(Op::Store, true);
        let store = tokio::time::timeout(Duration::from_secs(2), counting.store(store_items(0..1, 10)));
        let look = async {
            double.calls_reach(Op::Store, 1).await;
            counters.of(Op::Store)
        };
        let (given_up, meanwhile) = tokio::join!(store, look);
        assert!(given_up.is_err());
        assert_eq!((meanwhile.calls, meanwhile.in_flight, meanwhile.micros), (1, 1, 0));
        let ended = counters.of(Op::Store);
        assert_eq!((ended.calls, ended.in_flight, ended.micros, ended.keys), (1, 0, 2_000_000, 0));
    }

    #[tokio::test]
    async fn what_a_rule_keeps_out_is_not_what_finds_a_backend_busy() {
        let double = FailingAdapter::new();
        let counting = Counting::new(Arc::<FailingAdapter>::clone(&double));
        for (keys, busy) in [(2, Busy::Declined("stores_min")), (1, Busy::Storing)] {
            double.fail_next(Op::Store, keys, Error::Busy(busy));
            counting.store(store_items(0..keys as usize, 10)).await;
        }
        let store = counting.counters().of(Op::Store);
        assert_eq!((store.declined, store.busy, store.keys, store.bytes), (2, 1, 3, 0));
        counting.store(store_items(0..1, 10)).await;
        counting.delete(vec![object_key(0)], DeleteMode::IfUnlocked).await;
        assert_eq!(counting.counters().of(Op::Delete).bytes, 10);
    }
}
