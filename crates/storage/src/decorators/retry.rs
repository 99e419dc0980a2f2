//! Tries again what may pass, within a budget that an outage can't exhaust the backend with.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder_core::key::ObjectKey;

use super::forward::forward;
use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded,
    StoreItem, Stored,
};
use crate::error::{Error, Failure};
use crate::mutex::lock;
use crate::report::Health;

/// How often, how long apart, and how much in total.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts per call, the first included.
    pub attempts_max: u32,
    /// Pause before the first retry in milliseconds; doubles with each further one.
    pub backoff_min_ms: u64,
    /// Longest pause in milliseconds.
    pub backoff_max_ms: u64,
    /// Retries a successful key earns, as a share of one: 0.1 allows one retry per ten successes.
    pub budget_ratio: f64,
    /// Retries saved up at most, and available at the start.
    pub budget_max: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts_max: 3, backoff_min_ms: 20, backoff_max_ms: 1000, budget_ratio: 0.1, budget_max: 64 }
    }
}

/// Retries the keys of a batch that failed with a retryable failure; everything else is final at once.
#[derive(Debug)]
pub struct Retry {
    inner: Arc<dyn Adapter>,
    policy: RetryPolicy,
    budget: Mutex<f64>,
    retried_keys: AtomicU64,
    refused_keys: AtomicU64,
}

impl Retry {
    /// Wraps an adapter.
    #[must_use]
    pub fn new(inner: Arc<dyn Adapter>, policy: RetryPolicy) -> Self {
        let budget = Mutex::new(f64::from(policy.budget_max));
        Self { inner, policy, budget, retried_keys: AtomicU64::new(0), refused_keys: AtomicU64::new(0) }
    }

    async fn run<I, T, F>(&self, items: Vec<I>, call: impl Fn(Vec<I>) -> F) -> Vec<KeyResult<T>>
    where
        I: Clone,
        F: Future<Output = Vec<KeyResult<T>>>,
    {
        // With one attempt nothing is kept for another: buffers go back as soon as the adapter drops them.
        if self.policy.attempts_max <= 1 {
            return call(items).await;
        }
        let mut results = call(items.clone()).await;
        let mut asked: Vec<usize> = (0..results.len()).collect();
        for attempt in 1..self.policy.attempts_max {
            asked = self.admit(&results, asked);
            if asked.is_empty() {
                break;
            }
            tokio::time::sleep(self.backoff(attempt)).await;
            let again = call(asked.iter().map(|index| items[*index].clone()).collect()).await;
            for (index, result) in asked.iter().zip(again) {
                results[*index] = result;
            }
        }
        results
    }

    /// Those of the keys just asked for that are worth another attempt, as far as the budget reaches; settles
    /// the budget on the way.
    fn admit<T>(&self, results: &[KeyResult<T>], asked: Vec<usize>) -> Vec<usize> {
        let mut budget = lock(&self.budget);
        let mut pending = Vec::new();
        for index in asked {
            match &results[index] {
                Err(Error::Failed(failure)) if failure.retryable && *budget >= 1.0 => {
                    *budget -= 1.0;
                    self.retried_keys.fetch_add(1, Ordering::Relaxed);
                    pending.push(index);
                }
                Err(Error::Failed(failure)) if failure.retryable => {
                    self.refused_keys.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {}
                Ok(_) => {
                    *budget = (*budget + self.policy.budget_ratio).min(f64::from(self.policy.budget_max))
                }
            }
        }
        pending
    }

    fn backoff(&self, attempt: u32) -> Duration {
        let doubled = self.policy.backoff_min_ms.saturating_mul(1 << (attempt - 1).min(32));
        Duration::from_millis(doubled.min(self.policy.backoff_max_ms))
    }
}

impl Adapter for Retry {
    forward!(kind, unlock, probe, ready_to_store, usage, close);

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(self.run(batch, |batch| self.inner.store(batch)))
    }

    fn lookup_and_lock(&self, keys: Vec<ObjectKey>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
        Box::pin(async move {
            // Locks taken by an earlier attempt are given back when the call is abandoned during a later one.
            let mut held = HeldLocks { inner: &*self.inner, keys: Vec::new() };
            let mut results = self.inner.lookup_and_lock(keys.clone()).await;
            let mut asked: Vec<usize> = (0..results.len()).collect();
            for attempt in 1..self.policy.attempts_max {
                asked = self.admit(&results, asked);
                if asked.is_empty() {
                    break;
                }
                let found = results.iter().zip(&keys).filter(|(result, _)| result.is_ok());
                held.keys = found.map(|(_, key)| key.clone()).collect();
                tokio::time::sleep(self.backoff(attempt)).await;
                let again = asked.iter().map(|index| keys[*index].clone()).collect();
                let again = self.inner.lookup_and_lock(again).await;
                for (index, result) in asked.iter().zip(again) {
                    results[*index] = result;
                }
            }
            held.keys.clear();
            results
        })
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(self.run(batch, |batch| self.inner.load(batch)))
    }

    fn delete(&self, keys: Vec<ObjectKey>, mode: DeleteMode) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
        Box::pin(self.run(keys, move |keys| self.inner.delete(keys, mode)))
    }

    fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>> {
        Box::pin(async move {
            let call = |mut requests: Vec<ListRequest>| async move {
                let request = requests.pop().unwrap_or_default();
                vec![self.inner.list(request).await.map_err(Error::from)]
            };
            match self.run(vec![request], call).await.pop() {
                Some(Ok(page)) => Ok(page),
                Some(Err(Error::Failed(failure))) => Err(failure),
                Some(Err(Error::Absent | Error::Busy(_))) | None => Err(Failure::closed()),
            }
        })
    }

    fn health(&self) -> Health {
        self.inner
            .health()
            .detail("retried_keys", self.retried_keys.load(Ordering::Relaxed))
            .detail("retries_over_budget", self.refused_keys.load(Ordering::Relaxed))
    }
}

/// Unlocks its keys when dropped with any left.
struct HeldLocks<'a> {
    inner: &'a dyn Adapter,
    keys: Vec<ObjectKey>,
}

impl Drop for HeldLocks<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.inner.unlock(&self.keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{FailingAdapter, load_items, object_bytes, object_key, store_items};
    use crate::{FailureKind, Op};

    fn flaky(failures: u32) -> Arc<FailingAdapter> {
        let double = FailingAdapter::new();
        double.fail_next(Op::Store, failures, Failure::retryable(FailureKind::Io, "flaky").into());
        double
    }

    #[tokio::test(start_paused = true)]
    async fn only_failed_keys_are_tried_again() {
        let double = flaky(1);
        let retry = Retry::new(Arc::<FailingAdapter>::clone(&double), RetryPolicy::default());
        let results = retry.store(store_items(0..3, 16)).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(double.keys_seen(Op::Store), 4, "three keys, one of them twice");
    }

    #[tokio::test(start_paused = true)]
    async fn permanent_failures_and_exhausted_attempts_are_final() {
        let double = FailingAdapter::new();
        double.fail_next(Op::Store, 1, Failure::permanent(FailureKind::Full, "full").into());
        let retry = Retry::new(Arc::<FailingAdapter>::clone(&double), RetryPolicy::default());
        assert!(retry.store(store_items(0..1, 16)).await[0].is_err());
        assert_eq!(double.keys_seen(Op::Store), 1);
        assert_eq!(retry.health().details["retries_over_budget"], 0, "nobody wanted to try again");

        let double = flaky(3);
        let retry = Retry::new(Arc::<FailingAdapter>::clone(&double), RetryPolicy::default());
        assert!(retry.store(store_items(0..1, 16)).await[0].is_err());
        assert_eq!(double.keys_seen(Op::Store), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_exhausts_the_budget_not_the_backend() {
        let double = flaky(u32::MAX);
        let policy = RetryPolicy { budget_max: 5, ..RetryPolicy::default() };
        let retry = Retry::new(Arc::<FailingAdapter>::clone(&double), policy);
        for _ in 0..10 {
            retry.store(store_items(0..1, 16)).await;
        }
        assert_eq!(double.keys_seen(Op::Store), 10 + 5);
        let details = retry.health().details;
        assert_eq!(details["retried_keys"], 5);
        assert_eq!(details["retries_over_budget"], 8, "the third and all from the fifth to the last");
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_lookup_gives_its_locks_back() {
        let double = FailingAdapter::new();
        double.store(store_items(0..2, 16)).await;
        let failure = Failure::retryable(FailureKind::Io, "flaky");
        double.fail_next(Op::Lookup, 1, failure.into());
        let retry = Retry::new(Arc::<FailingAdapter>::clone(&double), RetryPolicy::default());
        let lookup = retry.lookup_and_lock(vec![object_key(0), object_key(1)]);
        let abandoned = tokio::time::timeout(Duration::from_millis(1), lookup).await;
        assert!(abandoned.is_err(), "it waits to retry");
        assert_eq!(retry.usage().objects_locked, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_works_fills_the_budget_again() {
        let double = flaky(1);
        let policy = RetryPolicy { budget_max: 1, budget_ratio: 0.5, ..RetryPolicy::default() };
        let retry = Retry::new(Arc::<FailingAdapter>::clone(&double), policy);
        let fails_once = || Failure::retryable(FailureKind::Io, "flaky");
        assert!(retry.store(store_items(0..1, 16)).await[0].is_ok(), "the budget is used up");
        double.fail_next(Op::Store, 1, fails_once().into());
        assert!(retry.store(store_items(1..2, 16)).await[0].is_err());
        assert!(retry.store(store_items(2..4, 16)).await.iter().all(Result::is_ok));
        double.fail_next(Op::Store, 1, fails_once().into());
        assert!(retry.store(store_items(4..5, 16)).await[0].is_ok(), "two successes pay for a retry");
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest() {
        let double = flaky(u32::MAX);
        let policy = RetryPolicy {
            attempts_max: 6,
            backoff_min_ms: 20,
            backoff_max_ms: 100,
            ..RetryPolicy::default()
        };
        let retry = Retry::new(Arc::<FailingAdapter>::clone(&double), policy);
        let mut store = retry.store(store_items(0..1, 16));
        let start = tokio::time::Instant::now();
        let mut tries = Vec::new();
        for count in 2..=5 {
            tokio::select! {
                _ = &mut store => unreachable!("there are more tries left"),
                () = double.calls_reach(Op::Store, count) => tries.push(start.elapsed().as_millis()),
            }
        }
        assert_eq!(tries, [20, 60, 140, 240], "the clock is virtual");
        store.await;
        assert_eq!(start.elapsed().as_millis(), 340);
    }

    #[tokio::test(start_paused = true)]
    async fn every_operation_is_tried_again_for_the_keys_that_failed() {
        let double = FailingAdapter::new();
        let retry = Retry::new(Arc::<FailingAdapter>::clone(&double), RetryPolicy::default());
        double.store(store_items(0..3, 16)).await;
        let flaky = |op| double.fail_next(op, 1, Failure::retryable(FailureKind::Io, "flaky").into());
        flaky(Op::Lookup);
        let keys: Vec<ObjectKey> = (0..3).map(object_key).collect();
        assert!(retry.lookup_and_lock(keys.clone()).await.iter().all(Result::is_ok));
        assert_eq!((double.keys_seen(Op::Lookup), retry.usage().objects_locked), (4, 3));
        flaky(Op::Load);
        let (loads, buffers) = load_items(0..3, 16);
        assert!(retry.load(loads).await.iter().all(Result::is_ok));
        assert_eq!((double.keys_seen(Op::Load), buffers[0].to_vec()), (4, object_bytes(0, 16)));
        retry.unlock(&keys);
        assert_eq!(retry.usage().objects_locked, 0, "each was locked once");
        flaky(Op::List);
        let page = retry.list(ListRequest { entries_max: 9, ..ListRequest::default() }).await.unwrap();
        assert_eq!((double.calls_seen(Op::List), page.entries.len()), (2, 3));
        flaky(Op::Delete);
        assert!(retry.delete(keys, DeleteMode::IfUnlocked).await.iter().all(Result::is_ok));
        assert_eq!((double.keys_seen(Op::Delete), retry.usage().objects), (4, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn success_saves_up_no_more_than_the_budget_and_earns_once() {
        let double = FailingAdapter::new();
        let policy = RetryPolicy { budget_max: 3, ..RetryPolicy::default() };
        let retry = Retry::new(Arc::<FailingAdapter>::clone(&double), policy);
        let saved = || *retry.budget.lock().unwrap();
        assert!(retry.store(store_items(0..20, 16)).await.iter().all(Result::is_ok));
        assert!((saved() - 3.0).abs() < 1e-9);
        double.fail_next(Op::Store, 1, Failure::retryable(FailureKind::Io, "flaky").into());
        assert!(retry.store(store_items(20..26, 16)).await.iter().all(Result::is_ok));
        assert!((saved() - 2.6).abs() < 1e-9, "one is spent, and six keys worked: {}", saved());
        double.fail_next(Op::Store, 9, Failure::retryable(FailureKind::Io, "flaky").into());
        assert_eq!(
            retry.store(store_items(26..30, 16)).await.iter().filter(|result| result.is_ok()).count(),
            0
        );
        let details = retry.health().details;
        assert_eq!((&details["retried_keys"], &details["retries_over_budget"]), (&3.into(), &4.into()));
    }
}
