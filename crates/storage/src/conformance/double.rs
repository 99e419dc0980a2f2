//! An adapter that fails on request.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use larder_core::key::ObjectKey;
use tokio::sync::watch;

use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded,
    Op, StoreItem, Stored,
};
use crate::adapters::mock::{MockAdapter, MockOptions};
use crate::error::{Error, Failure};
use crate::mutex::lock;
use crate::report::{Health, Usage};

/// A heap-backed adapter whose keys fail, whose calls hang and whose bytes change when told to.
#[derive(Debug)]
pub struct FailingAdapter {
    inner: MockAdapter,
    script: Mutex<Script>,
    /// Bumped whenever something a waiter may be waiting for changed.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Script {
    failures: HashMap<Op, (u32, Error)>,
    hanging: HashSet<Op>,
    corrupt: HashSet<ObjectKey>,
    keys_seen: HashMap<Op, usize>,
    calls_seen: HashMap<Op, usize>,
}

impl FailingAdapter {
    /// One that works until told otherwise.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let inner = MockAdapter::new(MockOptions { capacity_bytes: u64::MAX, bandwidth_bytes_per_s: 0 });
        Arc::new(Self { inner, script: Mutex::default(), changes: watch::Sender::new(0) })
    }

    /// Fails the next `keys` keys of an operation.
    pub fn fail_next(&self, op: Op, keys: u32, error: Error) {
        lock(&self.script).failures.insert(op, (keys, error));
    }

    /// Makes calls of an operation wait until this is called again with `false`.
    pub fn hang(&self, op: Op, is_hanging: bool) {
        if is_hanging {
            lock(&self.script).hanging.insert(op);
        } else {
            lock(&self.script).hanging.remove(&op);
        }
        self.changed();
    }

    /// Changes a byte of an object each time it is loaded.
    pub fn corrupt(&self, key: &ObjectKey) {
        lock(&self.script).corrupt.insert(key.clone());
    }

    /// Keys an operation was asked for so far, failed ones included.
    #[must_use]
    pub fn keys_seen(&self, op: Op) -> usize {
        lock(&self.script).keys_seen.get(&op).copied().unwrap_or_default()
    }

    /// Calls an operation got so far.
    #[must_use]
    pub fn calls_seen(&self, op: Op) -> usize {
        lock(&self.script).calls_seen.get(&op).copied().unwrap_or_default()
    }

    /// Waits until an operation was called `count` times.
    pub async fn calls_reach(&self, op: Op, count: usize) {
        self.until(|script| script.calls_seen.get(&op).copied().unwrap_or_default() >= count).await;
    }

    async fn until(&self, condition: impl Fn(&Script) -> bool) {
        let mut changes = self.changes.subscribe();
        while !condition(&lock(&self.script)) {
            // The sender lives in `self`.
            _ = changes.changed().await;
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Notes a call, hangs if told to, and says which keys are to fail.
    async fn enter(&self, op: Op, keys: usize) -> Vec<Option<Error>> {
        *lock(&self.script).calls_seen.entry(op).or_default() += 1;
        self.changed();
        self.until(|script| !script.hanging.contains(&op)).await;
        let mut script = lock(&self.script);
        *script.keys_seen.entry(op).or_default() += keys;
        let verdict = |_| match script.failures.get_mut(&op) {
            Some((left, error)) if *left > 0 => {
                *left -= 1;
                Some(error.clone())
            }
            _ => None,
        };
        (0..keys).map(verdict).collect()
    }
}

/// Calls the inner adapter with the items that may pass and puts the failures in between.
async fn mixed<I, T>(
    items: Vec<I>,
    verdicts: Vec<Option<Error>>,
    call: impl AsyncFnOnce(Vec<I>) -> Vec<KeyResult<T>>,
) -> Vec<KeyResult<T>> {
    let passing = items.into_iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_none());
    let mut passed = call(passing.map(|(item, _)| item).collect()).await.into_iter();
    let answer = |verdict: Option<Error>| match verdict {
        Some(error) => Err(error),
        None => passed.next().unwrap_or(Err(Error::Absent)),
    };
    verdicts.into_iter().map(answer).collect()
}

impl Adapter for FailingAdapter {
    fn kind(&self) -> &'static str {
        "failing"
    }

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(async move {
            let verdicts = self.enter(Op::Store, batch.len()).await;
            mixed(batch, verdicts, async |batch| self.inner.store(batch).await).await
        })
    }

    fn lookup_and_lock(&self, keys: Vec<ObjectKey>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
        Box::pin(async move {
            let verdicts = self.enter(Op::Lookup, keys.len()).await;
            mixed(keys, verdicts, async |keys| self.inner.lookup_and_lock(keys).await).await
        })
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(async move {
            let verdicts = self.enter(Op::Load, batch.len()).await;
            let corrupt = lock(&self.script).corrupt.clone();
            let results = mixed(batch.clone(), verdicts, async |batch| self.inner.load(batch).await).await;
            for (item, result) in batch.iter().zip(&results) {
                let mut byte = [0];
                if result.is_ok() && corrupt.contains(&item.key) && item.buffer.read_at(0, &mut byte).is_ok()
                {
                    byte[0] ^= 1;
                    _ = item.buffer.write_at(0, &byte);
                }
            }
            results
        })
    }

    fn unlock(&self, keys: &[ObjectKey]) {
        self.inner.unlock(keys);
    }

    fn delete(&self, keys: Vec<ObjectKey>, mode: DeleteMode) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
        Box::pin(async move {
            let verdicts = self.enter(Op::Delete, keys.len()).await;
            mixed(keys, verdicts, async |keys| self.inner.delete(keys, mode).await).await
        })
    }

    fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>> {
        Box::pin(async move {
            match self.enter(Op::List, 1).await.pop().flatten() {
                Some(Error::Failed(failure)) => Err(failure),
                _ => self.inner.list(request).await,
            }
        })
    }

    /// Fails and hangs as stores do.
    fn probe(&self) -> AdapterFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            match self.enter(Op::Store, 1).await.pop().flatten() {
                Some(Error::Failed(failure)) => Err(failure),
                _ => self.inner.probe().await,
            }
        })
    }

    fn ready_to_store(&self) -> AdapterFuture<'_, ()> {
        self.inner.ready_to_store()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn close(&self) -> AdapterFuture<'_, ()> {
        self.inner.close()
    }
}
