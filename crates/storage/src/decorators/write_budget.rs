//! Declines stores beyond what a medium shall be written: flash wears out by bytes written, not by bytes
//! held.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::forward::forward;
use crate::adapter::{Adapter, AdapterFuture, KeyResult, StoreItem, Stored};
use crate::error::{Busy, Error};
use crate::mutex::lock;
use crate::report::Health;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
/// Time whose bytes may be written at once when nothing else is said.
const BURST_DEFAULT_S: u64 = 10;

/// What may be written; none is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WritePolicy {
    /// Bytes per second.
    pub bytes_per_s: Option<u64>,
    /// Bytes that may be written at once under `bytes_per_s`; 0 for the bytes of 10 seconds.
    pub burst_bytes: u64,
    /// Bytes per day. A day's worth may be written at once, and a new server starts with it.
    pub bytes_per_day: Option<u64>,
}

/// What was declined since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declined {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Stores until the budget is used up, then answers [`Busy::Declined`]. Nothing waits: what is not stored now
/// stays in memory, and the next store of the object asks again.
///
/// Objects are charged in the order given, so that of a prompt that does not fit its beginning is stored.
/// What turns out to be held already, or fails, is not charged.
#[derive(Debug)]
pub struct WriteBudget {
    inner: Arc<dyn Adapter>,
    buckets: Vec<(&'static str, Bucket)>,
    declined_objects: AtomicU64,
    declined_bytes: AtomicU64,
}

/// A bucket of bytes that fills at a rate, kept as the moment at which it will be full again.
#[derive(Debug)]
struct Bucket {
    bytes: u64,
    per: Duration,
    /// Time the whole bucket takes to fill.
    depth: Duration,
    full_at: Mutex<Option<Instant>>,
}

impl Bucket {
    fn new(bytes: u64, per: Duration, size_bytes: u64) -> Self {
        let mut bucket = Self { bytes: bytes.max(1), per, depth: Duration::ZERO, full_at: Mutex::new(None) };
        bucket.depth = bucket.time_of(size_bytes);
        bucket
    }

    fn time_of(&self, bytes: u64) -> Duration {
        let nanos = self.per.as_nanos() * u128::from(bytes) / u128::from(self.bytes);
        // Beyond some hundred years one limit is like another.
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Takes the bytes if they are there. What is larger than the bucket is taken when the bucket is full.
    fn take(&self, bytes: u64, now: Instant) -> bool {
        let mut full_at = lock(&self.full_at);
        let empty_for = full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let after = empty_for.saturating_add(self.time_of(bytes));
        if !empty_for.is_zero() && after > self.depth {
            return false;
        }
        *full_at = now.checked_add(after).or(*full_at);
        true
    }

    fn give_back(&self, bytes: u64) {
        let mut full_at = lock(&self.full_at);
        *full_at = full_at.and_then(|at| at.checked_sub(self.time_of(bytes)));
    }
}

impl WriteBudget {
    /// Wraps an adapter.
    #[must_use]
    pub fn new(inner: Arc<dyn Adapter>, policy: WritePolicy) -> Self {
        let mut buckets = Vec::new();
        if let Some(bytes) = policy.bytes_per_s {
            let default = bytes.saturating_mul(BURST_DEFAULT_S);
            let burst = if policy.burst_bytes == 0 { default } else { policy.burst_bytes };
            buckets.push(("write_bytes_per_s", Bucket::new(bytes, SECOND, burst)));
        }
        if let Some(bytes) = policy.bytes_per_day {
            buckets.push(("write_bytes_per_day", Bucket::new(bytes, DAY, bytes)));
        }
        let (declined_objects, declined_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { inner, buckets, declined_objects, declined_bytes }
    }

    /// What was declined.
    #[must_use]
    pub fn declined(&self) -> Declined {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Declined { objects: get(&self.declined_objects), bytes: get(&self.declined_bytes) }
    }

    /// Charges every bucket or none, and names the one that is empty.
    fn charge(&self, bytes: u64, now: Instant) -> Result<(), &'static str> {
        for (index, (name, bucket)) in self.buckets.iter().enumerate() {
            if !bucket.take(bytes, now) {
                self.buckets[..index].iter().for_each(|(_, charged)| charged.give_back(bytes));
                self.declined_objects.fetch_add(1, Ordering::Relaxed);
                self.declined_bytes.fetch_add(bytes, Ordering::Relaxed);
                return Err(name);
            }
        }
        Ok(())
    }
}

impl Adapter for WriteBudget {
    forward!(kind, lookup_and_lock, load, unlock, delete, list, probe, ready_to_store, usage, close);

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(async move {
            let now = Instant::now();
            let sizes: Vec<u64> = batch.iter().map(|item| item.buffer.len() as u64).collect();
            let charges: Vec<_> = sizes.iter().map(|bytes| self.charge(*bytes, now)).collect();
            let items =
                batch.into_iter().zip(&charges).filter_map(|(item, charge)| charge.is_ok().then_some(item));
            let items: Vec<StoreItem> = items.collect();
            // A call without objects would ask nothing of the backend, and pass for an answer of it.
            let stored = if items.is_empty() { Vec::new() } else { self.inner.store(items).await };
            let mut stored = stored.into_iter();
            charges
                .into_iter()
                .zip(sizes)
                .map(|(charge, bytes)| {
                    charge.map_err(|budget| Error::Busy(Busy::Declined(budget)))?;
                    let result = stored.next().unwrap_or_else(|| Err(crate::Failure::closed().into()));
                    let written = result.as_ref().map_or(0, |stored| stored.bytes_written);
                    self.buckets
                        .iter()
                        .for_each(|(_, bucket)| bucket.give_back(bytes.saturating_sub(written)));
                    result
                })
                .collect()
        })
    }

    fn health(&self) -> Health {
        let declined = self.declined();
        self.inner
            .health()
            .detail("write_budget_declined_objects", declined.objects)
            .detail("write_budget_declined_bytes", declined.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{FailingAdapter, store_items};
    use crate::{Failure, FailureKind, Op};

    fn per_s(bytes_per_s: u64, burst_bytes: u64) -> WritePolicy {
        WritePolicy { bytes_per_s: Some(bytes_per_s), burst_bytes, bytes_per_day: None }
    }

    async fn stored(budget: &WriteBudget, range: std::ops::Range<usize>) -> Vec<bool> {
        budget.store(store_items(range, 100)).await.iter().map(Result::is_ok).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate() {
        let budget = WriteBudget::new(FailingAdapter::new(), per_s(100, 300));
        assert_eq!(stored(&budget, 0..5).await, [true, true, true, false, false], "the beginning is stored");
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(stored(&budget, 10..12).await, [true, false]);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(
            stored(&budget, 20..25).await,
            [true, true, true, false, false],
            "no more than a burst is saved up"
        );
        assert_eq!(budget.declined(), Declined { objects: 5, bytes: 500 });
        let refused = budget.store(store_items(30..31, 100)).await;
        assert_eq!(refused, [Err(Error::Busy(Busy::Declined("write_bytes_per_s")))]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_declined_altogether_is_not_offered_to_the_backend() {
        let double = FailingAdapter::new();
        let budget = WriteBudget::new(Arc::<FailingAdapter>::clone(&double), per_s(1, 1));
        assert_eq!(stored(&budget, 0..1).await, [true]);
        assert_eq!(stored(&budget, 1..3).await, [false, false]);
        assert_eq!(double.calls_seen(Op::Store), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_budget_declines_is_not_charged_to_another() {
        let policy = WritePolicy { bytes_per_day: Some(200), ..per_s(100, 300) };
        let budget = WriteBudget::new(FailingAdapter::new(), policy);
        assert_eq!(stored(&budget, 0..2).await, [true, true]);
        let before = *lock(&budget.buckets[0].1.full_at);
        assert_eq!(stored(&budget, 2..9).await, [false; 7], "the day is over");
        assert_eq!(
            *lock(&budget.buckets[0].1.full_at),
            before,
            "the seconds are charged for nothing that was declined"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_day_has_its_own_budget() {
        let policy = WritePolicy { bytes_per_day: Some(400), ..per_s(1_000_000, 0) };
        let budget = WriteBudget::new(FailingAdapter::new(), policy);
        assert_eq!(stored(&budget, 0..5).await, [true, true, true, true, false]);
        tokio::time::advance(DAY / 4).await;
        assert_eq!(stored(&budget, 5..7).await, [true, false]);
        assert_eq!(budget.health().details["write_budget_declined_objects"], 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_written_is_not_charged() {
        let double = FailingAdapter::new();
        let budget = WriteBudget::new(Arc::<FailingAdapter>::clone(&double), per_s(1, 200));
        assert_eq!(stored(&budget, 0..2).await, [true, true]);
        tokio::time::advance(Duration::from_secs(200)).await;
        double.fail_next(Op::Store, 2, Failure::permanent(FailureKind::Io, "no").into());
        assert_eq!(stored(&budget, 2..4).await, [false, false]);
        assert_eq!(stored(&budget, 0..2).await, [true, true], "held already");
        assert_eq!(stored(&budget, 4..6).await, [true, true]);
        assert_eq!(budget.declined(), Declined::default());
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_larger_than_the_burst_passes_when_nothing_was_written_for_long() {
        let budget = WriteBudget::new(FailingAdapter::new(), per_s(100, 10));
        assert_eq!(stored(&budget, 0..2).await, [true, false]);
        tokio::time::advance(Duration::from_millis(990)).await;
        assert_eq!(stored(&budget, 2..3).await, [false]);
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(stored(&budget, 3..4).await, [true]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_smallest_rate_lets_one_object_pass_and_no_other() {
        let policy = WritePolicy { bytes_per_day: Some(0), ..per_s(0, 0) };
        let budget = WriteBudget::new(FailingAdapter::new(), policy);
        let huge = |range| budget.store(store_items(range, 1 << 20));
        assert!(huge(0..1).await[0].is_ok(), "it is taken when nothing was written for long");
        tokio::time::advance(DAY).await;
        assert!(huge(1..2).await[0].is_err());
    }
}
