//! `mock`: objects on the heap behind a pretended bandwidth, for rehearsals without a backend.
//!
//! As the peer's: a store that would exceed the size is skipped, transfers take as long as the bandwidth says
//! (`spec/config-and-cli.md` 6).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder_core::key::ObjectKey;

use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded,
    Seal, StoreItem, Stored, all_failed,
};
use crate::error::{Busy, Error, Failure, FailureKind};
use crate::index::Index;
use crate::locks::LockTable;
use crate::mutex::lock;
use crate::report::{Health, HealthState, Usage};

/// How large and how fast the pretended backend is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MockOptions {
    /// Room for objects, in bytes.
    pub capacity_bytes: u64,
    /// Pretended transfer rate of each call, in bytes per second.
    pub bandwidth_bytes_per_s: u64,
}

/// An adapter that keeps objects on the heap of this process.
#[derive(Debug)]
pub struct MockAdapter {
    options: MockOptions,
    state: Mutex<State>,
    locks: Arc<LockTable>,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct State {
    index: Index<()>,
    objects: HashMap<ObjectKey, Object>,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Arc<[u8]>,
    seal: Option<Seal>,
}

impl MockAdapter {
    /// An empty one.
    #[must_use]
    pub fn new(options: MockOptions) -> Self {
        let state = State { index: Index::new(), objects: HashMap::new() };
        Self { options, state: Mutex::new(state), locks: Arc::default(), is_closed: AtomicBool::new(false) }
    }

    fn open(&self) -> Result<(), Error> {
        if self.is_closed.load(Ordering::Acquire) { Err(Failure::closed().into()) } else { Ok(()) }
    }

    fn store_one(&self, item: &StoreItem) -> KeyResult<Stored> {
        self.open()?;
        let len = item.buffer.len() as u64;
        let full = |used: u64| {
            let capacity = self.options.capacity_bytes;
            let text = format!("{len} bytes do not fit: `{used}` of `{capacity}` are in use");
            Failure::permanent(FailureKind::Full, text)
        };
        {
            let state = lock(&self.state);
            if state.objects.contains_key(&item.key) {
                return Ok(Stored { bytes_written: 0 });
            }
            if state.index.bytes() + len > self.options.capacity_bytes {
                return Err(full(state.index.bytes()).into());
            }
        }
        let mut bytes = vec![0; item.buffer.len()];
        item.buffer.read_at(0, &mut bytes).map_err(|error| Failure::io("read lent buffer", &error))?;
        let mut state = lock(&self.state);
        if state.index.bytes() + len > self.options.capacity_bytes {
            return Err(full(state.index.bytes()).into());
        }
        state.index.insert(&item.key, len, ());
        state.objects.insert(item.key.clone(), Object { bytes: bytes.into(), seal: item.seal });
        Ok(Stored { bytes_written: len })
    }

    fn load_one(&self, item: &LoadItem) -> KeyResult<Loaded> {
        self.open()?;
        let object = lock(&self.state).objects.get(&item.key).cloned().ok_or(Error::Absent)?;
        if object.bytes.len() != item.buffer.len() {
            return Err(item.length_mismatch(object.bytes.len() as u64).into());
        }
        item.buffer.write_at(0, &object.bytes).map_err(|error| Failure::io("fill lent buffer", &error))?;
        Ok(Loaded { seal: object.seal })
    }

    fn delete_one(&self, key: &ObjectKey, mode: DeleteMode) -> KeyResult<Deleted> {
        self.open()?;
        let claim = match self.locks.claim_delete(key) {
            Ok(claim) => Some(claim),
            Err(Busy::Locked) if mode != DeleteMode::IfUnlocked => None,
            Err(busy) => return Err(Error::Busy(busy)),
        };
        let mut state = lock(&self.state);
        state.objects.remove(key);
        let removed = state.index.remove(key);
        drop(state);
        drop(claim);
        removed.map(|entry| Deleted { bytes_freed: entry.bytes }).ok_or(Error::Absent)
    }

    async fn pretend_transfer(&self, bytes: u64) {
        if bytes == 0 || self.options.bandwidth_bytes_per_s == 0 {
            return;
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.options.bandwidth_bytes_per_s);
        tokio::time::sleep(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))).await;
    }
}

impl Adapter for MockAdapter {
    fn kind(&self) -> &'static str {
        "mock"
    }

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(async move {
            let results: Vec<_> = batch.iter().map(|item| self.store_one(item)).collect();
            drop(batch);
            self.pretend_transfer(results.iter().flatten().map(|stored| stored.bytes_written).sum()).await;
            results
        })
    }

    fn lookup_and_lock(&self, keys: Vec<ObjectKey>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
        Box::pin(async move {
            if let Err(error) = self.open() {
                return all_failed(keys.len(), &error);
            }
            let state = lock(&self.state);
            keys.iter()
                .map(|key| {
                    let entry = state.index.get(key).ok_or(Error::Absent)?;
                    if self.locks.lock(key) {
                        Ok(Found::asked(Some(entry.bytes)))
                    } else {
                        Err(Error::Absent)
                    }
                })
                .collect()
        })
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(async move {
            let results: Vec<_> = batch.iter().map(|item| self.load_one(item)).collect();
            let loaded = results.iter().zip(&batch).filter(|(result, _)| result.is_ok());
            let bytes = loaded.map(|(_, item)| item.buffer.len() as u64).sum();
            drop(batch);
            self.pretend_transfer(bytes).await;
            results
        })
    }

    fn unlock(&self, keys: &[ObjectKey]) {
        self.locks.unlock(keys);
    }

    fn delete(&self, keys: Vec<ObjectKey>, mode: DeleteMode) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
        Box::pin(async move { keys.iter().map(|key| self.delete_one(key, mode)).collect() })
    }

    fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>> {
        Box::pin(async move {
            if self.open().is_err() {
                return Err(Failure::closed());
            }
            lock(&self.state).index.page(&request)
        })
    }

    fn probe(&self) -> AdapterFuture<'_, Result<(), Failure>> {
        Box::pin(async move { self.open().map_err(|_| Failure::closed()) })
    }

    fn ready_to_store(&self) -> AdapterFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn usage(&self) -> Usage {
        let state = lock(&self.state);
        Usage {
            objects: state.index.objects(),
            bytes_used: state.index.bytes(),
            bytes_capacity: Some(self.options.capacity_bytes),
            bytes_by_salt: state.index.bytes_by_salt(),
            objects_locked: self.locks.locked(),
            is_complete: true,
        }
    }

    fn health(&self) -> Health {
        match self.open() {
            Ok(()) => Health::ready(),
            Err(_) => Health::because(HealthState::Closed, "adapter is closed"),
        }
    }

    fn close(&self) -> AdapterFuture<'_, ()> {
        Box::pin(async move {
            self.is_closed.store(true, Ordering::Release);
        })
    }
}
