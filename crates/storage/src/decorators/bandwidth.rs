//! Spreads transfers over time, so that a tier leaves bandwidth to its neighbours and a disk its endurance.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::forward::forward;
use crate::adapter::{Adapter, AdapterFuture, KeyResult, LoadItem, Loaded, StoreItem, Stored, all_failed};
use crate::error::{Busy, Error};
use crate::mutex::lock;
use crate::report::Health;

/// Rates in bytes per second; none is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BandwidthLimits {
    /// What stores may take.
    pub store_bytes_per_s: Option<u64>,
    /// What loads may take.
    pub load_bytes_per_s: Option<u64>,
    /// Longest a call waits for those before it in milliseconds; one that would wait longer is answered busy.
    /// 0 for the default of 5,000.
    pub delay_max_ms: u64,
}

const DELAY_MAX_DEFAULT_MS: u64 = 5000;

/// Time whose bytes go at once, at least one object: a call that takes longer goes piece by piece, so that
/// the rate is kept within the call and others have their turns in between.
const PIECE: Duration = Duration::from_millis(100);

/// Holds calls back so that, over time, no more bytes pass than allowed.
#[derive(Debug)]
pub struct Bandwidth {
    inner: Arc<dyn Adapter>,
    store: Option<Pacer>,
    load: Option<Pacer>,
}

#[derive(Debug)]
struct Pacer {
    bytes_per_s: u64,
    delay_max: Duration,
    /// When everything admitted so far will have passed.
    busy_until: Mutex<Option<Instant>>,
    refused_keys: AtomicU64,
}

impl Pacer {
    fn new(bytes_per_s: u64, delay_max_ms: u64) -> Self {
        let delay_max_ms = if delay_max_ms == 0 { DELAY_MAX_DEFAULT_MS } else { delay_max_ms };
        let delay_max = Duration::from_millis(delay_max_ms);
        Self {
            bytes_per_s: bytes_per_s.max(1),
            delay_max,
            busy_until: Mutex::new(None),
            refused_keys: AtomicU64::new(0),
        }
    }

    /// Refuses a call that would wait too long for those before it.
    fn enter(&self, keys: usize) -> Result<(), Error> {
        let busy_until = *lock(&self.busy_until);
        let delay =
            busy_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        if delay > self.delay_max {
            self.refused_keys.fetch_add(keys as u64, Ordering::Relaxed);
            return Err(Error::Busy(Busy::Limit("delay_max_ms")));
        }
        Ok(())
    }

    /// Waits for a piece's turn: it starts when those before it would have passed at the allowed rate.
    async fn turn(&self, bytes: u64) {
        let now = Instant::now();
        let start = {
            let mut busy_until = lock(&self.busy_until);
            let start = busy_until.map_or(now, |until| until.max(now));
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
            let taken = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            *busy_until = Some(start + taken);
            start
        };
        tokio::time::sleep_until(start).await;
    }

    /// Has a batch dealt with piece by piece, each in its turn.
    async fn run<I, T, F>(
        &self,
        batch: Vec<I>,
        bytes: impl Fn(&I) -> usize,
        call: impl Fn(Vec<I>) -> F,
    ) -> Vec<KeyResult<T>>
    where
        F: Future<Output = Vec<KeyResult<T>>>,
    {
        if let Err(busy) = self.enter(batch.len()) {
            return all_failed(batch.len(), &busy);
        }
        let piece_bytes = u128::from(self.bytes_per_s) * PIECE.as_millis() / 1000;
        let mut results = Vec::with_capacity(batch.len());
        let mut rest = batch.into_iter().peekable();
        while let Some(first) = rest.next() {
            let mut taken = bytes(&first) as u64;
            let mut piece = vec![first];
            while let Some(next) =
                rest.next_if(|next| u128::from(taken.saturating_add(bytes(next) as u64)) <= piece_bytes)
            {
                taken += bytes(&next) as u64;
                piece.push(next);
            }
            self.turn(taken).await;
            results.extend(call(piece).await);
        }
        results
    }
}

impl Bandwidth {
    /// Wraps an adapter.
    #[must_use]
    pub fn new(inner: Arc<dyn Adapter>, limits: BandwidthLimits) -> Self {
        let pacer = |rate: Option<u64>| rate.map(|rate| Pacer::new(rate, limits.delay_max_ms));
        Self { inner, store: pacer(limits.store_bytes_per_s), load: pacer(limits.load_bytes_per_s) }
    }
}

impl Adapter for Bandwidth {
    forward!(kind, lookup_and_lock, unlock, delete, list, probe, ready_to_store, usage, close);

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        let Some(pacer) = &self.store else { return self.inner.store(batch) };
        Box::pin(pacer.run(batch, |item| item.buffer.len(), |piece| self.inner.store(piece)))
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        let Some(pacer) = &self.load else { return self.inner.load(batch) };
        Box::pin(pacer.run(batch, |item| item.buffer.len(), |piece| self.inner.load(piece)))
    }

    fn health(&self) -> Health {
        let pacers = [self.store.as_ref(), self.load.as_ref()];
        let refused: u64 =
            pacers.into_iter().flatten().map(|pacer| pacer.refused_keys.load(Ordering::Relaxed)).sum();
        self.inner.health().detail("bandwidth_refused_keys", refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;
    use crate::conformance::{FailingAdapter, load_items, store_items};

    #[tokio::test(start_paused = true)]
    async fn calls_are_spread_at_the_allowed_rate() {
        let limits = BandwidthLimits { store_bytes_per_s: Some(1000), ..BandwidthLimits::default() };
        let paced = Bandwidth::new(FailingAdapter::new(), limits);
        let start = Instant::now();
        for index in 0..4 {
            assert!(paced.store(store_items(index..index + 1, 500)).await[0].is_ok());
        }
        // The clock is virtual: three halves of a second pass before the fourth call starts.
        assert_eq!(start.elapsed().as_millis().div_ceil(10), 150);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_would_wait_too_long_is_busy() {
        let limits = BandwidthLimits {
            store_bytes_per_s: Some(100),
            delay_max_ms: 1000,
            ..BandwidthLimits::default()
        };
        let paced = Bandwidth::new(FailingAdapter::new(), limits);
        assert!(paced.store(store_items(0..1, 500)).await[0].is_ok());
        let busy = paced.store(store_items(1..3, 500)).await;
        assert_eq!(busy, vec![Err(Error::Busy(Busy::Limit("delay_max_ms"))); 2]);
        assert_eq!(paced.health().details["bandwidth_refused_keys"], 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_large_load_keeps_the_rate_and_leaves_turns_to_others() {
        let double = FailingAdapter::new();
        double.store(store_items(0..100, 100)).await;
        let limits = BandwidthLimits { load_bytes_per_s: Some(1000), ..BandwidthLimits::default() };
        let paced = Arc::new(Bandwidth::new(Arc::<FailingAdapter>::clone(&double), limits));
        let start = Instant::now();
        let large = {
            let paced = Arc::clone(&paced);
            tokio::spawn(async move { paced.load(load_items(0..90, 100).0).await })
        };
        double.calls_reach(Op::Load, 1).await;
        let small = paced.load(load_items(90..91, 100).0).await;
        assert!(small[0].is_ok(), "it is not refused for the sake of the large one: {small:?}");
        assert!(start.elapsed() < Duration::from_secs(1), "it goes after what was before it");
        assert!(large.await.unwrap().iter().all(Result::is_ok));
        let rate = 9100.0 / start.elapsed().as_secs_f64();
        assert!((950.0..1050.0).contains(&rate), "the clock is virtual: {rate} bytes per second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_as_long_as_allowed_is_allowed() {
        let limits = BandwidthLimits {
            store_bytes_per_s: Some(100),
            delay_max_ms: 1000,
            ..BandwidthLimits::default()
        };
        let paced = Bandwidth::new(FailingAdapter::new(), limits);
        assert!(paced.store(store_items(0..1, 100)).await[0].is_ok());
        assert!(paced.store(store_items(1..2, 101)).await[0].is_ok(), "a second is what it may wait");
        let busy = paced.store(store_items(2..3, 100)).await;
        assert_eq!(
            busy,
            [Err(Error::Busy(Busy::Limit("delay_max_ms")))],
            "and ten milliseconds more are not"
        );
        assert_eq!(paced.health().details["bandwidth_refused_keys"], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_in_a_tenth_of_a_second_goes_at_once() {
        let double = FailingAdapter::new();
        let limits = BandwidthLimits { store_bytes_per_s: Some(1000), ..BandwidthLimits::default() };
        let paced = Bandwidth::new(Arc::<FailingAdapter>::clone(&double), limits);
        assert!(paced.store(store_items(0..9, 33)).await.iter().all(Result::is_ok));
        assert_eq!(double.calls_seen(Op::Store), 3, "three times 33 bytes are less than 100");
        assert!(paced.store(store_items(10..14, 50)).await.iter().all(Result::is_ok));
        assert_eq!(double.calls_seen(Op::Store), 5, "twice 50 bytes are 100");
        assert!(paced.store(store_items(20..22, 300)).await.iter().all(Result::is_ok));
        assert_eq!(double.calls_seen(Op::Store), 7, "what is larger goes alone");
    }
}
