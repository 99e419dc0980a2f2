//! Makes sure that what comes back is what was stored, or does not come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::key::ObjectKey;

use super::forward::forward;
use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, KeyResult, LoadItem, Loaded, Seal, StoreItem, Stored,
};
use crate::error::{Error, Failure, FailureKind};
use crate::names::wire_name;
use crate::report::Health;
use crate::workers::{Batch, Workers};

/// Checksums waiting for a thread, in objects; more are answered busy.
const QUEUED_OBJECTS_MAX: usize = 16_384;

/// What verification found since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChecksumCounts {
    /// Objects whose bytes were as stored.
    pub verified: u64,
    /// Objects that came without a seal, such as the peer's, and were served as they are.
    pub unverified: u64,
    /// Objects whose bytes were not as stored; none was served.
    pub corrupt: u64,
}

/// Seals what is stored and checks what is loaded.
///
/// A mismatch is a failed load of kind [`FailureKind::Corrupt`], and the object is quarantined so that it is
/// not found again. Objects the caller has sealed already keep their seal: the sum then spans the whole way
/// from its commit. Hashing happens on threads of its own.
#[derive(Debug)]
pub struct Checksum {
    inner: Arc<dyn Adapter>,
    hashers: Workers<()>,
    verified: AtomicU64,
    unverified: AtomicU64,
    corrupt: AtomicU64,
}

impl Checksum {
    /// Wraps an adapter, with `threads` threads for hashing.
    ///
    /// # Errors
    /// Threads that can't be started.
    pub fn new(inner: Arc<dyn Adapter>, threads: usize) -> Result<Self, Failure> {
        let hashers = Workers::start("l2-checksum", QUEUED_OBJECTS_MAX, threads.max(1), || ())
            .map_err(|error| Failure::io("start threads `l2-checksum`", &error))?;
        let zero = || AtomicU64::new(0);
        Ok(Self { inner, hashers, verified: zero(), unverified: zero(), corrupt: zero() })
    }

    /// What verification found.
    #[must_use]
    pub fn counts(&self) -> ChecksumCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ChecksumCounts {
            verified: get(&self.verified),
            unverified: get(&self.unverified),
            corrupt: get(&self.corrupt),
        }
    }

    /// The checksums of some buffers.
    async fn sums(&self, buffers: Vec<crate::Lent>) -> Vec<KeyResult<u64>> {
        let (batch, slots) = Batch::new(buffers.len());
        for (buffer, slot) in buffers.into_iter().zip(slots) {
            self.hashers.submit_for(vec![slot], move |(), slots| {
                let sum = buffer.checksum().map_err(|error| Failure::io("read lent buffer", &error).into());
                drop(buffer);
                slots.into_iter().for_each(|slot| slot.report(sum.clone()));
            });
        }
        batch.wait().await
    }

    async fn sealed(&self, batch: Vec<StoreItem>) -> Vec<KeyResult<StoreItem>> {
        let unsealed =
            batch.iter().filter(|item| item.seal.is_none()).map(|item| Arc::clone(&item.buffer)).collect();
        let mut sums = self.sums(unsealed).await.into_iter();
        let seal = |mut item: StoreItem| {
            if item.seal.is_none() {
                let checksum = sums.next().unwrap_or_else(|| Err(Failure::closed().into()))?;
                item.seal = Some(Seal { checksum, layout: 0 });
            }
            Ok(item)
        };
        batch.into_iter().map(seal).collect()
    }

    async fn verify(&self, batch: Vec<LoadItem>, results: &mut [KeyResult<Loaded>]) {
        let mut keys = Vec::new();
        let mut buffers = Vec::new();
        for (index, (item, result)) in batch.into_iter().zip(results.iter()).enumerate() {
            match result {
                Ok(Loaded { seal: Some(seal) }) => {
                    keys.push((index, item.key, *seal));
                    buffers.push(item.buffer);
                }
                Ok(Loaded { seal: None }) => {
                    self.unverified.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {}
            }
        }
        let mut corrupt = Vec::new();
        for ((index, key, seal), sum) in keys.into_iter().zip(self.sums(buffers).await) {
            match sum {
                Ok(sum) if sum == seal.checksum => {
                    self.verified.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {
                    results[index] = Err(self.condemn(&key).into());
                    corrupt.push(key);
                }
                Err(error) => results[index] = Err(error),
            }
        }
        if !corrupt.is_empty() {
            // Best effort: an object that can't be removed fails verification again next time.
            self.inner.delete(corrupt, DeleteMode::Quarantine).await;
        }
    }

    fn condemn(&self, key: &ObjectKey) -> Failure {
        self.corrupt.fetch_add(1, Ordering::Relaxed);
        let text = format!("bytes of `{}` are not those stored", wire_name(key));
        tracing::error!("{text}; the object is taken out of `{}`", self.inner.kind());
        Failure::permanent(FailureKind::Corrupt, text)
    }
}

impl Adapter for Checksum {
    forward!(kind, lookup_and_lock, unlock, delete, list, probe, ready_to_store, usage);

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(batch.len());
            let mut sealed = Vec::with_capacity(batch.len());
            for item in self.sealed(batch).await {
                results.push(item.map(|item| sealed.push(item)));
            }
            let mut stored = self.inner.store(sealed).await.into_iter();
            let unanswered = || Err(Error::from(Failure::closed()));
            results
                .into_iter()
                .map(|result| result.and_then(|()| stored.next().unwrap_or_else(unanswered)))
                .collect()
        })
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(async move {
            let mut results = self.inner.load(batch.clone()).await;
            self.verify(batch, &mut results).await;
            results
        })
    }

    fn health(&self) -> Health {
        let counts = self.counts();
        self.inner
            .health()
            .detail("objects_verified", counts.verified)
            .detail("objects_unverified", counts.unverified)
            .detail("objects_corrupt", counts.corrupt)
    }

    fn close(&self) -> AdapterFuture<'_, ()> {
        Box::pin(async move {
            self.inner.close().await;
            self.hashers.close().await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{FailingAdapter, load_items, object_bytes, object_key, store_items};
    use crate::{LentBuffer, Op};

    #[tokio::test]
    async fn changed_bytes_are_never_served_and_not_found_again() {
        let double = FailingAdapter::new();
        let checked = Checksum::new(Arc::<FailingAdapter>::clone(&double), 1).unwrap();
        assert!(checked.store(store_items(0..3, 1000)).await.iter().all(Result::is_ok));
        checked.lookup_and_lock(vec![object_key(1)]).await;
        double.corrupt(&object_key(1));
        let (loads, buffers) = load_items(0..3, 1000);
        let results = checked.load(loads).await;
        assert!(matches!(&results[1], Err(Error::Failed(failure)) if failure.kind == FailureKind::Corrupt));
        for index in [0, 2] {
            assert!(results[index].is_ok());
            assert_eq!(buffers[index].to_vec(), object_bytes(index, 1000));
        }
        assert_eq!(checked.counts(), ChecksumCounts { verified: 2, unverified: 0, corrupt: 1 });
        checked.unlock(&[object_key(1)]);
        assert_eq!(checked.lookup_and_lock(vec![object_key(1)]).await, [Err(Error::Absent)]);
    }

    #[tokio::test]
    async fn a_seal_of_the_caller_is_kept_and_checked() {
        let double = FailingAdapter::new();
        let checked = Checksum::new(Arc::<FailingAdapter>::clone(&double), 1).unwrap();
        let mut items = store_items(0..1, 100);
        let seal = Seal { checksum: items[0].buffer.checksum().unwrap(), layout: 77 };
        items[0].seal = Some(seal);
        checked.store(items).await;
        let (loads, _buffers) = load_items(0..1, 100);
        assert_eq!(checked.load(loads).await, [Ok(Loaded { seal: Some(seal) })]);
    }

    #[tokio::test]
    async fn unsealed_objects_pass_and_are_counted() {
        let double = FailingAdapter::new();
        double.store(store_items(0..1, 100)).await;
        let checked = Checksum::new(Arc::<FailingAdapter>::clone(&double), 1).unwrap();
        let (loads, _buffers) = load_items(0..1, 100);
        assert!(checked.load(loads).await[0].is_ok());
        assert_eq!(checked.counts().unverified, 1);
        assert_eq!(double.keys_seen(Op::Delete), 0);
    }

    #[tokio::test]
    async fn each_answer_is_that_of_its_own_object() {
        let double = FailingAdapter::new();
        double.store(store_items(0..1, 100)).await;
        let checked = Checksum::new(Arc::<FailingAdapter>::clone(&double), 2).unwrap();
        let mut items = store_items(2..5, 100);
        items[1].seal = Some(Seal { checksum: 7, layout: 0 });
        assert!(checked.store(items).await.iter().all(Result::is_ok));
        double.corrupt(&object_key(4));
        let results = checked.load(load_items(0..6, 100).0).await;
        let is_corrupt = |result: &KeyResult<Loaded>| matches!(result, Err(Error::Failed(failure)) if failure.kind == FailureKind::Corrupt);
        let outcome = |result| match result {
            Ok(Loaded { seal: None }) => "unsealed",
            Ok(_) => "whole",
            result if is_corrupt(&result) => "corrupt",
            Err(Error::Absent) => "absent",
            Err(_) => "failed",
        };
        let outcomes: Vec<&str> = results.into_iter().map(outcome).collect();
        assert_eq!(outcomes, ["unsealed", "absent", "whole", "corrupt", "corrupt", "absent"]);
        assert_eq!(checked.counts(), ChecksumCounts { verified: 1, unverified: 1, corrupt: 2 });
        let found = checked.lookup_and_lock((0..6).map(object_key).collect()).await;
        let found: Vec<bool> = found.iter().map(Result::is_ok).collect();
        assert_eq!(found, [true, false, true, false, false, false]);
        let details = checked.health().details;
        assert_eq!((&details["objects_verified"], &details["objects_corrupt"]), (&1.into(), &2.into()));
        assert_eq!(details["objects_unverified"], 1);
    }

    /// Memory that cannot be read.
    #[derive(Debug)]
    struct Unreadable;

    impl LentBuffer for Unreadable {
        fn len(&self) -> usize {
            100
        }

        fn read_at(&self, _: usize, _: &mut [u8]) -> std::io::Result<()> {
            Err(std::io::Error::other("unreadable"))
        }

        fn write_at(&self, _: usize, _: &[u8]) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_cannot_be_hashed_is_neither_stored_nor_served() {
        let double = FailingAdapter::new();
        let checked = Checksum::new(Arc::<FailingAdapter>::clone(&double), 1).unwrap();
        let mut items = store_items(0..3, 100);
        items[1].buffer = Arc::new(Unreadable);
        let stored: Vec<bool> = checked.store(items).await.iter().map(Result::is_ok).collect();
        assert_eq!((stored, double.keys_seen(Op::Store)), (vec![true, false, true], 2));
        let (mut loads, _buffers) = load_items(0..1, 100);
        loads[0].buffer = Arc::new(Unreadable);
        assert!(checked.load(loads).await[0].is_err());
        assert_eq!(double.keys_seen(Op::Delete), 0, "that says nothing against the object");
    }
}
