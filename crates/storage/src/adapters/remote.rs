//! What adapters of remote stores share: threads with sessions of their own, batches in groups, locks and
//! accounts on this side.
//!
//! Accounts cover what this process stored or found; others may write to the same store.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use larder_core::key::ObjectKey;

use super::link::Link;
use crate::adapter::{
    DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded, StoreItem, Stored,
    all_failed,
};
use crate::buffer::{HeapBuffer, Lent};
use crate::error::{Busy, Error, Failure, FailureKind};
use crate::index::Index;
use crate::locks::{LockTable, StoreClaim};
use crate::mutex::lock;
use crate::report::{Health, HealthState, Usage};
use crate::workers::{Batch, Slot, Workers};

/// Objects that are kept account of. Of more than these some are forgotten: a store that lets objects expire
/// by itself would else be remembered with everything it ever held.
const ACCOUNTED_MAX: u64 = 1 << 20;

/// The model that objects of probes claim to be of.
const PROBE_MODEL: &str = "larder-probe";

/// One thread's way to the store. Blocking.
pub(super) trait RemoteSession: Send + 'static {
    fn link(&self) -> &Link;
    fn store(&mut self, items: &[&StoreItem]) -> Vec<KeyResult<Stored>>;
    fn find(&mut self, keys: &[&ObjectKey]) -> Vec<KeyResult<Found>>;
    fn load(&mut self, items: &[&LoadItem]) -> Vec<KeyResult<Loaded>>;
    fn delete(&mut self, keys: &[&ObjectKey]) -> Vec<KeyResult<Deleted>>;
    fn list(&mut self, request: &ListRequest) -> Result<ListPage, Failure>;
}

/// How a remote store is worked.
#[derive(Clone, Copy, Debug)]
pub(super) struct RemoteOptions {
    /// Names the threads.
    pub(super) kind: &'static str,
    /// Threads that move objects.
    pub(super) workers: usize,
    /// Threads for what is quick: lookups, deletes, listings.
    pub(super) control_threads: usize,
    /// Jobs waiting for a thread.
    pub(super) queued_jobs_max: usize,
    /// Keys that travel together at most.
    pub(super) keys_per_group: usize,
    /// Payload that travels together at most; a larger object travels alone.
    pub(super) bytes_per_group: usize,
    /// What the store shall take at most, for whoever evicts.
    pub(super) capacity_bytes: Option<u64>,
}

/// The part of an adapter that does not depend on the store.
pub(super) struct Remote<S> {
    options: RemoteOptions,
    accounts: Arc<Mutex<Accounts>>,
    locks: Arc<LockTable>,
    transfers: Workers<S>,
    control: Workers<S>,
    is_closed: AtomicBool,
}

/// What the store is known to hold, each object with its turn among those that were entered.
#[derive(Debug)]
struct Accounts {
    index: Index<u64>,
    entered: u64,
    objects_max: u64,
}

impl Accounts {
    fn new(objects_max: u64) -> Self {
        Self { index: Index::new(), entered: 0, objects_max }
    }

    fn enter(&mut self, key: &ObjectKey, bytes: u64) {
        self.entered += 1;
        self.index.insert(key, bytes, self.entered);
        if self.index.objects() > self.objects_max {
            self.index.forget_one();
        }
    }

    /// Takes out what was not found by a call that began when so many were entered; what was stored since is
    /// there.
    fn remove_older(&mut self, key: &ObjectKey, entered: u64) {
        if self.index.get(key).is_some_and(|entry| entry.note <= entered) {
            self.index.remove(key);
        }
    }
}

/// Something to move, with the buffer it moves from or to.
trait Payload {
    fn buffer(&self) -> &Lent;
}

impl Payload for (StoreItem, Option<StoreClaim>) {
    fn buffer(&self) -> &Lent {
        &self.0.buffer
    }
}

impl Payload for LoadItem {
    fn buffer(&self) -> &Lent {
        &self.buffer
    }
}

impl<S: RemoteSession> Remote<S> {
    pub(super) fn start(
        options: RemoteOptions,
        session: impl Fn() -> S + Clone + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let start = |purpose: &str, threads: usize| {
            let name = format!("l2-{}-{purpose}", options.kind);
            Workers::start(&name, options.queued_jobs_max, threads, session.clone())
                .map_err(|error| Failure::io(format!("start threads `{name}`"), &error))
        };
        Ok(Self {
            transfers: start("io", options.workers.max(1))?,
            control: start("ctl", options.control_threads.max(1))?,
            options,
            accounts: Arc::new(Mutex::new(Accounts::new(ACCOUNTED_MAX))),
            locks: Arc::default(),
            is_closed: AtomicBool::new(false),
        })
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.is_closed.load(Ordering::Acquire) { Err(Failure::closed().into()) } else { Ok(()) }
    }

    /// How the store and the threads that work it fare.
    pub(super) fn health(&self, link: &Link) -> Health {
        let health = match self.check_open() {
            Ok(()) => link.health(),
            Err(_) => Health::because(HealthState::Closed, "adapter is closed"),
        };
        health
            .detail("num_workers", self.options.workers)
            .detail("queued_transfers", self.transfers.queued())
            .detail("stuck_threads", self.transfers.stuck() + self.control.stuck())
    }

    pub(super) async fn store(&self, batch: Vec<StoreItem>) -> Vec<KeyResult<Stored>> {
        let (answers, slots) = Batch::new(batch.len());
        let mut claimed = Vec::new();
        for (item, slot) in batch.into_iter().zip(slots) {
            match self.locks.claim_store(&item.key) {
                Ok(claim) => claimed.push(((item, claim), slot)),
                Err(busy) => {
                    drop(item);
                    slot.report(Err(Error::Busy(busy)));
                }
            }
        }
        for (items, slots) in self.grouped(claimed) {
            let accounts = Arc::clone(&self.accounts);
            self.transfers.submit_for(slots, move |session, slots| {
                if !slots.iter().any(Slot::is_wanted) {
                    return;
                }
                let results = session.store(&items.iter().map(|(item, _)| item).collect::<Vec<_>>());
                session.link().note_stores(&results);
                for (((item, claim), slot), result) in items.into_iter().zip(slots).zip(results) {
                    if result.is_ok() {
                        lock(&accounts).enter(&item.key, item.buffer.len() as u64);
                    }
                    // The buffer is given back before its outcome is known.
                    drop((item, claim));
                    slot.report(result);
                }
            });
        }
        answers.wait().await
    }

    pub(super) async fn lookup_and_lock(&self, keys: Vec<ObjectKey>) -> Vec<KeyResult<Found>> {
        if let Err(error) = self.check_open() {
            return all_failed(keys.len(), &error);
        }
        let (answers, slots) = Batch::new(keys.len());
        let mut slots = slots.into_iter();
        let began = lock(&self.accounts).entered;
        for keys in keys.chunks(self.options.keys_per_group) {
            let keys = keys.to_vec();
            self.control.submit_for(slots.by_ref().take(keys.len()).collect(), move |session, slots| {
                if slots.iter().any(Slot::is_wanted) {
                    let results = session.find(&keys.iter().collect::<Vec<_>>());
                    slots.into_iter().zip(results).for_each(|(slot, result)| slot.report(result));
                }
            });
        }
        let found = answers.wait().await;
        // No await from here on: a future dropped earlier has locked nothing.
        let mut accounts = lock(&self.accounts);
        let hold = |(key, found): (&ObjectKey, KeyResult<Found>)| {
            if found == Err(Error::Absent) {
                accounts.remove_older(key, began);
            }
            let found = found?;
            if !self.locks.lock(key) {
                return Err(Error::Absent);
            }
            if let Some(bytes) = found.bytes {
                accounts.enter(key, bytes);
            }
            Ok(found)
        };
        keys.iter().zip(found).map(hold).collect()
    }

    pub(super) async fn load(&self, batch: Vec<LoadItem>) -> Vec<KeyResult<Loaded>> {
        let (answers, slots) = Batch::new(batch.len());
        for (items, slots) in self.grouped(batch.into_iter().zip(slots).collect()) {
            let accounts = Arc::clone(&self.accounts);
            self.transfers.submit_for(slots, move |session, slots| {
                if !slots.iter().any(Slot::is_wanted) {
                    return;
                }
                let began = lock(&accounts).entered;
                let results = session.load(&items.iter().collect::<Vec<_>>());
                for ((item, slot), result) in items.into_iter().zip(slots).zip(results) {
                    if result == Err(Error::Absent) {
                        lock(&accounts).remove_older(&item.key, began);
                    }
                    drop(item);
                    slot.report(result);
                }
            });
        }
        answers.wait().await
    }

    pub(super) fn unlock(&self, keys: &[ObjectKey]) {
        self.locks.unlock(keys);
    }

    pub(super) async fn delete(&self, keys: Vec<ObjectKey>, mode: DeleteMode) -> Vec<KeyResult<Deleted>> {
        let (answers, slots) = Batch::new(keys.len());
        let mut claimed = Vec::new();
        for (key, slot) in keys.into_iter().zip(slots) {
            match self.locks.claim_delete(&key) {
                Ok(claim) => claimed.push(((key, Some(claim)), slot)),
                Err(Busy::Locked) if mode != DeleteMode::IfUnlocked => claimed.push(((key, None), slot)),
                Err(busy) => slot.report(Err(Error::Busy(busy))),
            }
        }
        while !claimed.is_empty() {
            let count = claimed.len().min(self.options.keys_per_group);
            let (held, slots): (Vec<_>, Vec<_>) = claimed.drain(..count).unzip();
            let accounts = Arc::clone(&self.accounts);
            self.control.submit_for(slots, move |session, slots| {
                let results = session.delete(&held.iter().map(|(key, _)| key).collect::<Vec<_>>());
                for (((key, claim), slot), result) in held.into_iter().zip(slots).zip(results) {
                    if matches!(result, Ok(_) | Err(Error::Absent)) {
                        lock(&accounts).index.remove(&key);
                    }
                    drop(claim);
                    slot.report(result);
                }
            });
        }
        answers.wait().await
    }

    pub(super) async fn list(&self, request: ListRequest) -> Result<ListPage, Failure> {
        self.ask(move |session| session.list(&request)).await
    }

    /// Stores an object of our own under a name nobody else has, and removes it.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        self.ask(|session| {
            let random: [u64; 4] = std::array::from_fn(|index| RandomState::new().hash_one(index));
            let mut chunk_hash = [0; 32];
            for (bytes, random) in chunk_hash.chunks_exact_mut(8).zip(random) {
                bytes.copy_from_slice(&random.to_le_bytes());
            }
            let key = ObjectKey::new(chunk_hash, PROBE_MODEL, 0, 0, "")
                .map_err(|error| Failure::permanent(FailureKind::Invalid, error.to_string()))?;
            let item = StoreItem { key, buffer: HeapBuffer::zeroed(1), seal: None };
            let stored = session.store(&[&item]);
            session.link().note_stores(&stored);
            session.delete(&[&item.key]);
            match stored.into_iter().next() {
                Some(Err(error)) => Err(into_failure(error)),
                Some(Ok(_)) | None => Ok(()),
            }
        })
        .await
    }

    /// Has a control thread do something that is not about keys.
    async fn ask<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&mut S) -> Result<T, Failure> + Send + 'static,
    {
        let (answers, slots) = Batch::new(1);
        self.control.submit_for(slots, move |session, slots| {
            let result = work(session).map_err(Error::from);
            slots.into_iter().zip([result]).for_each(|(slot, result)| slot.report(result));
        });
        match answers.wait().await.pop() {
            Some(result) => result.map_err(into_failure),
            None => Err(Failure::closed()),
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let accounts = lock(&self.accounts);
        Usage {
            objects: accounts.index.objects(),
            bytes_used: accounts.index.bytes(),
            bytes_capacity: self.options.capacity_bytes,
            bytes_by_salt: accounts.index.bytes_by_salt(),
            objects_locked: self.locks.locked(),
            is_complete: false,
        }
    }

    pub(super) async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.transfers.close().await;
        self.control.close().await;
    }

    /// Splits a batch into groups that travel together, each with its slots.
    fn grouped<I: Payload, T>(&self, items: Vec<(I, Slot<T>)>) -> Vec<(Vec<I>, Vec<Slot<T>>)> {
        let mut groups: Vec<(Vec<I>, Vec<Slot<T>>)> = Vec::new();
        let mut room = 0;
        for (item, slot) in items {
            let bytes = item.buffer().len();
            match groups.last_mut() {
                Some((items, slots)) if bytes <= room && items.len() < self.options.keys_per_group => {
                    room -= bytes;
                    items.push(item);
                    slots.push(slot);
                }
                _ => {
                    room = self.options.bytes_per_group.saturating_sub(bytes);
                    groups.push((vec![item], vec![slot]));
                }
            }
        }
        groups
    }
}

impl<S> fmt::Debug for Remote<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("options", &self.options).finish_non_exhaustive()
    }
}

fn into_failure(error: Error) -> Failure {
    match error {
        Error::Failed(failure) => failure,
        other => Failure::retryable(FailureKind::Unavailable, other.to_string()),
    }
}

/// The adapter methods that a field `remote` answers.
macro_rules! forward_to_remote {
    () => {
        fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
            Box::pin(self.remote.store(batch))
        }

        fn lookup_and_lock(&self, keys: Vec<ObjectKey>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
            Box::pin(self.remote.lookup_and_lock(keys))
        }

        fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
            Box::pin(self.remote.load(batch))
        }

        fn unlock(&self, keys: &[ObjectKey]) {
            self.remote.unlock(keys);
        }

        fn delete(
            &self,
            keys: Vec<ObjectKey>,
            mode: DeleteMode,
        ) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
            Box::pin(self.remote.delete(keys, mode))
        }

        fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>> {
            Box::pin(self.remote.list(request))
        }

        fn probe(&self) -> AdapterFuture<'_, Result<(), Failure>> {
            Box::pin(self.remote.probe())
        }

        fn ready_to_store(&self) -> AdapterFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }

        fn usage(&self) -> Usage {
            self.remote.usage()
        }

        fn close(&self) -> AdapterFuture<'_, ()> {
            Box::pin(self.remote.close())
        }
    };
}

pub(super) use forward_to_remote;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::object_key;

    #[test]
    fn what_was_stored_while_it_was_not_found_keeps_its_account() {
        let mut accounts = Accounts::new(ACCOUNTED_MAX);
        accounts.enter(&object_key(0), 10);
        let began = accounts.entered;
        accounts.enter(&object_key(1), 10);
        accounts.remove_older(&object_key(0), began);
        accounts.remove_older(&object_key(1), began);
        accounts.remove_older(&object_key(2), began);
        assert_eq!((accounts.index.objects(), accounts.index.get(&object_key(0)).is_some()), (1, false));
    }

    #[test]
    fn accounts_are_bounded_and_stay_exact_for_what_is_in_them() {
        let mut accounts = Accounts::new(3);
        for index in 0..10 {
            accounts.enter(&object_key(index), 10);
            accounts.enter(&object_key(index), 20);
        }
        assert_eq!((accounts.index.objects(), accounts.index.bytes()), (3, 60));
        (0..10).for_each(|index| accounts.remove_older(&object_key(index), u64::MAX));
        assert_eq!((accounts.index.objects(), accounts.index.bytes()), (0, 0));
        assert!(accounts.index.bytes_by_salt().is_empty());
    }
}
