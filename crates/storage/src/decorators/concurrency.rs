//! Bounds what is under way at once, and what may wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::forward::forward;
use crate::adapter::{Adapter, AdapterFuture, KeyResult, LoadItem, Loaded, StoreItem, Stored, all_failed};
use crate::error::{Busy, Error};
use crate::report::Health;

/// Unit of the byte budget: a semaphore counts to 32 bits only.
const UNIT_BYTES: u64 = 4096;

/// Limits on stores and loads of one adapter together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyLimits {
    /// Bytes of lent buffers under way.
    pub in_flight_bytes_max: u64,
    /// Calls waiting for their turn; more are answered busy.
    pub waiting_calls_max: usize,
}

impl Default for ConcurrencyLimits {
    fn default() -> Self {
        Self { in_flight_bytes_max: 1 << 30, waiting_calls_max: 1024 }
    }
}

/// Lets a bounded number of bytes be under way; calls wait in order of arrival.
///
/// A call larger than the whole budget passes when it is alone.
#[derive(Debug)]
pub struct Concurrency {
    inner: Arc<dyn Adapter>,
    limits: ConcurrencyLimits,
    units: Semaphore,
    units_max: u32,
    waiting: AtomicUsize,
    refused_keys: AtomicU64,
}

impl Concurrency {
    /// Wraps an adapter.
    #[must_use]
    pub fn new(inner: Arc<dyn Adapter>, limits: ConcurrencyLimits) -> Self {
        let units_max =
            u32::try_from(limits.in_flight_bytes_max.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX >> 3).max(1);
        let units = Semaphore::new(units_max as usize);
        let (waiting, refused_keys) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { inner, limits, units, units_max, waiting, refused_keys }
    }

    async fn enter(&self, keys: usize, bytes: u64) -> Result<SemaphorePermit<'_>, Error> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units_max);
        if let Ok(permit) = self.units.try_acquire_many(units) {
            return Ok(permit);
        }
        let limit = Error::Busy(Busy::Limit("waiting_calls_max"));
        let Some(_waiting) = Waiting::enter(&self.waiting, self.limits.waiting_calls_max) else {
            self.refused_keys.fetch_add(keys as u64, Ordering::Relaxed);
            return Err(limit);
        };
        self.units.acquire_many(units).await.map_err(|_| limit)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, max: usize) -> Option<Self> {
        let increment = |waiting| (waiting < max).then_some(waiting + 1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, increment).ok().map(|_| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Adapter for Concurrency {
    forward!(kind, lookup_and_lock, unlock, delete, list, probe, ready_to_store, usage, close);

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(async move {
            let bytes = batch.iter().map(|item| item.buffer.len() as u64).sum();
            match self.enter(batch.len(), bytes).await {
                Ok(_permit) => self.inner.store(batch).await,
                Err(busy) => all_failed(batch.len(), &busy),
            }
        })
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(async move {
            let bytes = batch.iter().map(|item| item.buffer.len() as u64).sum();
            match self.enter(batch.len(), bytes).await {
                Ok(_permit) => self.inner.load(batch).await,
                Err(busy) => all_failed(batch.len(), &busy),
            }
        })
    }

    fn health(&self) -> Health {
        let free = self.units.available_permits() as u64;
        let in_flight = u64::from(self.units_max).saturating_sub(free) * UNIT_BYTES;
        self.inner
            .health()
            .detail("in_flight_bytes", in_flight)
            .detail("waiting_calls", self.waiting.load(Ordering::Relaxed))
            .detail("limit_refused_keys", self.refused_keys.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;
    use crate::conformance::{FailingAdapter, load_items, store_items};

    #[tokio::test]
    async fn bytes_beyond_the_budget_wait_and_waiting_is_bounded() {
        let double = FailingAdapter::new();
        let limits = ConcurrencyLimits { in_flight_bytes_max: 8192, waiting_calls_max: 1 };
        let limited = Arc::new(Concurrency::new(Arc::<FailingAdapter>::clone(&double), limits));
        double.hang(Op::Store, true);
        let spawn = |range| {
            let limited = Arc::clone(&limited);
            tokio::spawn(async move { limited.store(store_items(range, 4096)).await })
        };
        let running = spawn(0..2);
        double.calls_reach(Op::Store, 1).await;
        let waiting = spawn(2..3);
        while limited.waiting.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        let refused = limited.store(store_items(3..5, 4096)).await;
        assert_eq!(refused, vec![Err(Error::Busy(Busy::Limit("waiting_calls_max"))); 2]);
        assert_eq!(limited.health().details["in_flight_bytes"], 8192);
        double.hang(Op::Store, false);
        assert!(running.await.unwrap().iter().chain(&waiting.await.unwrap()).all(Result::is_ok));
        let details = limited.health().details;
        assert_eq!((&details["in_flight_bytes"], &details["waiting_calls"]), (&0.into(), &0.into()));
        assert_eq!(details["limit_refused_keys"], 2);
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_its_place_and_loads_wait_as_stores_do() {
        let double = FailingAdapter::new();
        let limits = ConcurrencyLimits { in_flight_bytes_max: 4096, waiting_calls_max: 1 };
        let limited = Concurrency::new(Arc::<FailingAdapter>::clone(&double), limits);
        double.store(store_items(0..1, 1)).await;
        double.hang(Op::Load, true);
        let (loads, _buffers) = load_items(0..1, 1);
        let mut running = limited.load(loads);
        assert!(polled(&mut running).await.is_none());
        for _ in 0..2 {
            let (loads, _buffers) = load_items(0..1, 1);
            let mut waiting = limited.load(loads);
            assert!(polled(&mut waiting).await.is_none(), "there is a place to wait");
            assert_eq!(limited.health().details["waiting_calls"], 1);
            let refused = limited.store(store_items(1..2, 1)).await;
            assert_eq!(refused, [Err(Error::Busy(Busy::Limit("waiting_calls_max")))], "but one only");
        }
        double.hang(Op::Load, false);
        assert!(running.await[0].is_ok());
        assert_eq!(double.calls_seen(Op::Load), 1, "nobody asked for those who left");
    }

    /// Lets a call get as far as it can without waiting.
    async fn polled<T>(call: &mut AdapterFuture<'_, T>) -> Option<T> {
        tokio::select! {
            biased;
            done = call => Some(done),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn a_call_larger_than_the_budget_passes_alone() {
        let limits = ConcurrencyLimits { in_flight_bytes_max: 4096, waiting_calls_max: 0 };
        let limited = Concurrency::new(FailingAdapter::new(), limits);
        assert!(limited.store(store_items(0..4, 4096)).await.iter().all(Result::is_ok));
    }
}
