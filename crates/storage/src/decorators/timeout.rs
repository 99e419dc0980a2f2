//! Ends the waiting, with a deadline that grows with the bytes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder_core::key::ObjectKey;

use super::forward::forward;
use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded,
    StoreItem, Stored, all_failed,
};
use crate::error::{Failure, FailureKind};
use crate::report::Health;

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutPolicy {
    /// Milliseconds any call gets.
    pub base_ms: u64,
    /// Slowest transfer rate tolerated, in bytes per second: a call gets its bytes over this on top. 0 adds
    /// nothing.
    pub bytes_per_s_min: u64,
}

impl Default for TimeoutPolicy {
    fn default() -> Self {
        Self { base_ms: 10_000, bytes_per_s_min: 16 << 20 }
    }
}

/// Reports a call that takes too long as failed, and stops waiting for it.
///
/// The adapter may still be at work: it owns its clones of the buffers, so their memory is not reused under
/// it. For the same reason a load that timed out is not retryable: a late attempt could still write into the
/// buffer after another attempt filled it.
#[derive(Debug)]
pub struct Timeout {
    inner: Arc<dyn Adapter>,
    policy: TimeoutPolicy,
    expired_calls: AtomicU64,
}

impl Timeout {
    /// Wraps an adapter.
    #[must_use]
    pub fn new(inner: Arc<dyn Adapter>, policy: TimeoutPolicy) -> Self {
        Self { inner, policy, expired_calls: AtomicU64::new(0) }
    }

    async fn bound<T>(&self, bytes: u64, call: impl Future<Output = T>) -> Result<T, Arc<str>> {
        let transfer_ms = bytes.saturating_mul(1000).checked_div(self.policy.bytes_per_s_min).unwrap_or(0);
        let limit = Duration::from_millis(self.policy.base_ms.saturating_add(transfer_ms));
        tokio::time::timeout(limit, call).await.map_err(|_| {
            self.expired_calls.fetch_add(1, Ordering::Relaxed);
            format!("no answer from `{}` within {} ms", self.inner.kind(), limit.as_millis()).into()
        })
    }
}

impl Adapter for Timeout {
    forward!(kind, unlock, ready_to_store, usage, close);

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(async move {
            let count = batch.len();
            let bytes = batch.iter().map(|item| item.buffer.len() as u64).sum();
            let result = self.bound(bytes, self.inner.store(batch)).await;
            result.unwrap_or_else(|text| {
                all_failed(count, &Failure::retryable(FailureKind::Timeout, text).into())
            })
        })
    }

    fn lookup_and_lock(&self, keys: Vec<ObjectKey>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
        Box::pin(async move {
            let count = keys.len();
            let result = self.bound(0, self.inner.lookup_and_lock(keys)).await;
            result.unwrap_or_else(|text| {
                all_failed(count, &Failure::retryable(FailureKind::Timeout, text).into())
            })
        })
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(async move {
            let count = batch.len();
            let bytes = batch.iter().map(|item| item.buffer.len() as u64).sum();
            let result = self.bound(bytes, self.inner.load(batch)).await;
            result.unwrap_or_else(|text| {
                all_failed(count, &Failure::permanent(FailureKind::Timeout, text).into())
            })
        })
    }

    fn delete(&self, keys: Vec<ObjectKey>, mode: DeleteMode) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
        Box::pin(async move {
            let count = keys.len();
            let result = self.bound(0, self.inner.delete(keys, mode)).await;
            result.unwrap_or_else(|text| {
                all_failed(count, &Failure::retryable(FailureKind::Timeout, text).into())
            })
        })
    }

    fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>> {
        Box::pin(async move {
            let result = self.bound(0, self.inner.list(request)).await;
            result.unwrap_or_else(|text| Err(Failure::retryable(FailureKind::Timeout, text)))
        })
    }

    fn probe(&self) -> AdapterFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let result = self.bound(0, self.inner.probe()).await;
            result.unwrap_or_else(|text| Err(Failure::retryable(FailureKind::Timeout, text)))
        })
    }

    fn health(&self) -> Health {
        self.inner.health().detail("expired_calls", self.expired_calls.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{FailingAdapter, load_items, object_key, store_items};
    use crate::{Error, Op};

    #[tokio::test(start_paused = true)]
    async fn a_hanging_call_fails_and_a_load_is_not_tried_again() {
        let double = FailingAdapter::new();
        let timeout = Timeout::new(Arc::<FailingAdapter>::clone(&double), TimeoutPolicy::default());
        double.hang(Op::Store, true);
        double.hang(Op::Load, true);
        double.hang(Op::Lookup, true);
        let stored = timeout.store(store_items(0..2, 16)).await;
        let (loads, _) = load_items(0..1, 16);
        let loaded = timeout.load(loads).await;
        let found = timeout.lookup_and_lock(vec![object_key(0)]).await;
        let verdict = |error: &Error| match error {
            Error::Failed(failure) => (failure.kind, failure.retryable),
            other => panic!("{other}"),
        };
        assert_eq!(stored.len(), 2);
        assert_eq!(verdict(stored[1].as_ref().unwrap_err()), (FailureKind::Timeout, true));
        assert_eq!(verdict(loaded[0].as_ref().unwrap_err()), (FailureKind::Timeout, false));
        assert_eq!(verdict(found[0].as_ref().unwrap_err()), (FailureKind::Timeout, true));
        assert_eq!(timeout.health().details["expired_calls"], 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_grows_with_the_bytes() {
        let policy = TimeoutPolicy { base_ms: 100, bytes_per_s_min: 1000 };
        let timeout = Timeout::new(FailingAdapter::new(), policy);
        let slow = || tokio::time::sleep(Duration::from_millis(1000));
        assert!(timeout.bound(0, slow()).await.is_err());
        assert!(timeout.bound(1000, slow()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_is_waited_for_longer_than_its_bytes_take() {
        let double = FailingAdapter::new();
        Op::ALL.into_iter().for_each(|op| double.hang(op, true));
        let timeout = Timeout::new(
            Arc::<FailingAdapter>::clone(&double),
            TimeoutPolicy { base_ms: 100, bytes_per_s_min: 1000 },
        );
        let is_expired =
            |failure: &Failure| (failure.kind, failure.retryable) == (FailureKind::Timeout, true);
        let start = tokio::time::Instant::now();
        let so_far = || start.elapsed().as_millis();
        assert!(timeout.store(store_items(0..2, 500)).await.iter().all(Result::is_err));
        assert_eq!(so_far(), 1100, "the clock is virtual");
        assert!(timeout.load(load_items(0..4, 500).0).await.iter().all(Result::is_err));
        assert_eq!(so_far(), 3200);
        assert!(timeout.lookup_and_lock(vec![object_key(0)]).await[0].is_err());
        let deleted = timeout.delete(vec![object_key(0); 2], DeleteMode::IfUnlocked).await;
        assert_eq!(deleted.len(), 2);
        assert!(
            deleted
                .into_iter()
                .all(|result| matches!(result, Err(Error::Failed(failure)) if is_expired(&failure)))
        );
        assert!(is_expired(&timeout.list(ListRequest::default()).await.unwrap_err()));
        assert!(is_expired(&timeout.probe().await.unwrap_err()));
        assert_eq!(so_far(), 3600);
    }
}
