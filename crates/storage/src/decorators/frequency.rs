//! Keeps out what is stored once: most prompts never come again, and writing them wears a medium out for
//! nothing.

use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use larder_core::admission::TinyLfu;
use larder_core::key::ObjectKey;

use super::forward::forward;
use crate::adapter::{Adapter, AdapterFuture, KeyResult, StoreItem, Stored};
use crate::error::{Busy, Error, Failure};
use crate::mutex::lock;
use crate::report::Health;

/// Which stores are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrequencyPolicy {
    /// The attempt to store an object that succeeds, counted among the last ones remembered; 2 lets the
    /// second in.
    pub stores_min: u8,
    /// Objects whose attempts are remembered, about; from time to time all counts are halved.
    pub remembered_objects: usize,
}

/// Answers [`Busy::Declined`] until an object was offered often enough.
///
/// An object in memory is offered again when it left memory and was computed again. A chunk is offered at
/// least as often as the chunks that follow it, so what is let in has its beginning there, too.
#[derive(Debug)]
pub struct Frequency {
    inner: Arc<dyn Adapter>,
    policy: FrequencyPolicy,
    /// Spreads keys over the sketch in a way nobody outside can foresee.
    seed: u64,
    attempts: Mutex<TinyLfu>,
    declined_objects: AtomicU64,
}

impl Frequency {
    /// Wraps an adapter.
    #[must_use]
    pub fn new(inner: Arc<dyn Adapter>, policy: FrequencyPolicy) -> Self {
        Self::seeded(inner, policy, RandomState::new().hash_one(()))
    }

    fn seeded(inner: Arc<dyn Adapter>, policy: FrequencyPolicy, seed: u64) -> Self {
        Self {
            inner,
            policy,
            seed,
            attempts: Mutex::new(TinyLfu::new(policy.remembered_objects)),
            declined_objects: AtomicU64::new(0),
        }
    }

    fn admits(&self, key: &ObjectKey) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.seed, key).hash(&mut hasher);
        let fingerprint = hasher.finish();
        let mut attempts = lock(&self.attempts);
        let is_in = attempts.record(fingerprint) >= u32::from(self.policy.stores_min);
        if !is_in {
            self.declined_objects.fetch_add(1, Ordering::Relaxed);
        }
        is_in
    }
}

impl Adapter for Frequency {
    forward!(kind, lookup_and_lock, load, unlock, delete, list, probe, ready_to_store, usage, close);

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(async move {
            let admitted: Vec<bool> = batch.iter().map(|item| self.admits(&item.key)).collect();
            let items = batch.into_iter().zip(&admitted).filter_map(|(item, is_in)| is_in.then_some(item));
            let items: Vec<StoreItem> = items.collect();
            // A call without objects would ask nothing of the backend, and pass for an answer of it.
            let stored = if items.is_empty() { Vec::new() } else { self.inner.store(items).await };
            let mut stored = stored.into_iter();
            let unanswered = || Err(Error::from(Failure::closed()));
            let declined = || Err(Error::Busy(Busy::Declined("stores_min")));
            let outcome = |is_in| if is_in { stored.next().unwrap_or_else(unanswered) } else { declined() };
            admitted.into_iter().map(outcome).collect()
        })
    }

    fn health(&self) -> Health {
        let declined = self.declined_objects.load(Ordering::Relaxed);
        self.inner.health().detail("frequency_declined_objects", declined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;
    use crate::conformance::{FailingAdapter, object_key, store_items};

    fn policy(stores_min: u8, remembered_objects: usize) -> FrequencyPolicy {
        FrequencyPolicy { stores_min, remembered_objects }
    }

    #[tokio::test]
    async fn what_is_offered_again_is_let_in() {
        let double = FailingAdapter::new();
        let filter = Frequency::new(Arc::<FailingAdapter>::clone(&double), policy(2, 100));
        let declined = Err(Error::Busy(Busy::Declined("stores_min")));
        assert_eq!(filter.store(store_items(0..3, 10)).await, vec![declined.clone(); 3]);
        assert_eq!(double.calls_seen(Op::Store), 0, "nothing was asked of the backend");
        let stored = filter.store(store_items(1..4, 10)).await;
        assert_eq!((stored[0].is_ok(), stored[1].is_ok(), &stored[2]), (true, true, &declined));
        let found = filter.lookup_and_lock((0..4).map(object_key).collect()).await;
        assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true, false]);
        assert_eq!(filter.health().details["frequency_declined_objects"], 4);
    }

    #[tokio::test]
    async fn attempts_long_ago_do_not_count() {
        // Of all spreads a few let two objects share their counters; this is none of them.
        let filter = Frequency::seeded(FailingAdapter::new(), policy(2, 10), 1);
        let bytes = filter.attempts.lock().unwrap().bytes();
        filter.store(store_items(0..1, 10)).await;
        filter.store(store_items(1..2000, 10)).await;
        assert!(filter.store(store_items(0..1, 10)).await[0].is_err());
        assert!(filter.store(store_items(0..1, 10)).await[0].is_ok());
        assert_eq!(filter.attempts.lock().unwrap().bytes(), bytes, "what is remembered is bounded");
    }

    #[tokio::test]
    async fn more_attempts_may_be_asked_for() {
        let filter = Frequency::new(FailingAdapter::new(), policy(4, 100));
        let mut outcomes = Vec::new();
        for _ in 0..5 {
            outcomes.push(filter.store(store_items(7..8, 10)).await[0].is_ok());
        }
        assert_eq!(outcomes, [false, false, false, true, true]);
    }
}
