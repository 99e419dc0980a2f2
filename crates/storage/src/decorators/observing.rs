//! Tells an observer what an adapter turns out to hold and not to hold.

use std::fmt;
use std::sync::Arc;

use larder_core::key::ObjectKey;

use super::forward::forward;
use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded,
    StoreItem, Stored,
};
use crate::error::{Error, Failure};

/// Learns from calls that pass what is held. Called on whatever thread polls the call, with what one batch
/// showed; must be quick.
pub trait Observer: Send + Sync + fmt::Debug {
    /// These objects are held, with their bytes; some may be known already.
    fn held(&self, objects: &[(ObjectKey, u64)]);

    /// These objects are not held, whatever was known.
    fn gone(&self, keys: &[ObjectKey]);
}

/// Passes every call on and reports what its outcomes say.
///
/// A call that is abandoned reports nothing, and neither does one that failed: what they did shows in a later
/// call or listing.
#[derive(Debug)]
pub struct Observing {
    inner: Arc<dyn Adapter>,
    observer: Arc<dyn Observer>,
}

impl Observing {
    /// Wraps an adapter.
    #[must_use]
    pub fn new(inner: Arc<dyn Adapter>, observer: Arc<dyn Observer>) -> Self {
        Self { inner, observer }
    }

    fn report<T>(
        &self,
        keys: Vec<ObjectKey>,
        results: &[KeyResult<T>],
        bytes: impl Fn(usize, &T) -> Option<u64>,
    ) {
        let (mut held, mut gone) = (Vec::new(), Vec::new());
        for (index, (key, result)) in keys.into_iter().zip(results).enumerate() {
            match result {
                Ok(value) => held.extend(bytes(index, value).map(|bytes| (key, bytes))),
                Err(Error::Absent) => gone.push(key),
                Err(_) => {}
            }
        }
        if !held.is_empty() {
            self.observer.held(&held);
        }
        if !gone.is_empty() {
            self.observer.gone(&gone);
        }
    }
}

impl Adapter for Observing {
    forward!(kind, unlock, probe, ready_to_store, usage, health, close);

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(async move {
            let (keys, sizes): (Vec<_>, Vec<_>) =
                batch.iter().map(|item| (item.key.clone(), item.buffer.len() as u64)).unzip();
            let results = self.inner.store(batch).await;
            self.report(keys, &results, |index, _| Some(sizes[index]));
            results
        })
    }

    fn lookup_and_lock(&self, keys: Vec<ObjectKey>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
        Box::pin(async move {
            let results = self.inner.lookup_and_lock(keys.clone()).await;
            self.report(keys, &results, |_, found| found.bytes);
            results
        })
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(async move {
            let (keys, sizes): (Vec<_>, Vec<_>) =
                batch.iter().map(|item| (item.key.clone(), item.buffer.len() as u64)).unzip();
            let results = self.inner.load(batch).await;
            self.report(keys, &results, |index, _| Some(sizes[index]));
            results
        })
    }

    fn delete(&self, keys: Vec<ObjectKey>, mode: DeleteMode) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
        Box::pin(async move {
            let results = self.inner.delete(keys.clone(), mode).await;
            let is_gone = |result: &KeyResult<Deleted>| matches!(result, Ok(_) | Err(Error::Absent));
            let gone: Vec<ObjectKey> = keys
                .into_iter()
                .zip(&results)
                .filter(|(_, result)| is_gone(result))
                .map(|(key, _)| key)
                .collect();
            if !gone.is_empty() {
                self.observer.gone(&gone);
            }
            results
        })
    }

    fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>> {
        Box::pin(async move {
            let result = self.inner.list(request).await;
            if let Ok(page) = &result
                && !page.entries.is_empty()
            {
                let held: Vec<_> =
                    page.entries.iter().map(|entry| (entry.key.clone(), entry.bytes)).collect();
                self.observer.held(&held);
            }
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::Op;
    use crate::conformance::{FailingAdapter, load_items, object_key, store_items};
    use crate::error::FailureKind;

    #[derive(Debug, Default)]
    struct Notes(Mutex<BTreeMap<ObjectKey, Option<u64>>>);

    impl Notes {
        fn take(&self) -> Vec<(ObjectKey, Option<u64>)> {
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
        }
    }

    impl Observer for Notes {
        fn held(&self, objects: &[(ObjectKey, u64)]) {
            self.0.lock().unwrap().extend(objects.iter().map(|(key, bytes)| (key.clone(), Some(*bytes))));
        }

        fn gone(&self, keys: &[ObjectKey]) {
            self.0.lock().unwrap().extend(keys.iter().map(|key| (key.clone(), None)));
        }
    }

    #[tokio::test]
    async fn every_outcome_that_says_something_is_reported_and_no_other() {
        let (double, notes) = (FailingAdapter::new(), Arc::new(Notes::default()));
        let adapter = Observing::new(Arc::<FailingAdapter>::clone(&double), Arc::<Notes>::clone(&notes));
        double.fail_next(Op::Store, 1, Failure::permanent(FailureKind::Full, "full").into());
        adapter.store(store_items(0..2, 16)).await;
        assert_eq!(notes.take(), [(object_key(1), Some(16))], "the failed one is unknown");
        adapter.lookup_and_lock(vec![object_key(1), object_key(9)]).await;
        assert_eq!(notes.take(), [(object_key(1), Some(16)), (object_key(9), None)]);
        adapter.delete(vec![object_key(1)], DeleteMode::IfUnlocked).await;
        assert_eq!(notes.take(), [], "it is locked and stays");
        adapter.unlock(&[object_key(1)]);
        let (loads, _buffers) = load_items(1..3, 16);
        adapter.load(loads).await;
        assert_eq!(notes.take(), [(object_key(1), Some(16)), (object_key(2), None)]);
        adapter.list(ListRequest { entries_max: 9, ..ListRequest::default() }).await.unwrap();
        assert_eq!(notes.take(), [(object_key(1), Some(16))]);
        let fails = || Error::from(Failure::permanent(FailureKind::Io, "no"));
        double.fail_next(Op::Lookup, 1, fails());
        double.fail_next(Op::Load, 1, fails());
        double.fail_next(Op::Delete, 1, fails());
        adapter.lookup_and_lock(vec![object_key(1)]).await;
        adapter.load(load_items(1..2, 16).0).await;
        adapter.delete(vec![object_key(1)], DeleteMode::IfUnlocked).await;
        assert_eq!(notes.take(), [], "who fails says nothing of what is held");
        adapter.delete(vec![object_key(1), object_key(5)], DeleteMode::IfUnlocked).await;
        assert_eq!(notes.take(), [(object_key(1), None), (object_key(5), None)]);
    }
}
