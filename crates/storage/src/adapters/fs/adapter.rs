//! The directory behind the adapter contract: batches onto threads, lookups from memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use larder_core::key::ObjectKey;

use super::options::FsOptions;
use super::store::{PADDING_BYTES_MAX, Store};
use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded,
    StoreItem, Stored, all_failed,
};
use crate::error::{Error, Failure, FailureKind};
use crate::mutex::lock;
use crate::report::{Health, HealthState, Usage};
use crate::workers::{Batch, Slot, Workers};

/// Longest that an opening waits for the directory to answer.
const OPEN_PATIENCE: Duration = Duration::from_secs(3);

/// Keys one thread looks up or deletes at a stretch.
const KEYS_PER_JOB: usize = 64;

/// An adapter that keeps each object in a file.
///
/// Transfers and directory operations have threads of their own, so that a lookup never waits behind a
/// transfer.
#[derive(Debug)]
pub struct FsAdapter {
    store: Arc<Store>,
    transfers: Workers<()>,
    directory: Workers<()>,
    /// Looking at and through the directory: a thread for each.
    background: Workers<()>,
}

impl FsAdapter {
    /// Opens a directory and starts learning what it holds; serves at once. One that does not answer is
    /// opened when it does.
    ///
    /// # Errors
    /// What the directory says against it, or threads that can't be started.
    pub fn open(options: FsOptions) -> Result<Self, Failure> {
        Self::open_with(options, OPEN_PATIENCE, |store| store.files.prepare())
    }

    fn open_with(
        options: FsOptions,
        patience: Duration,
        prepare: impl Fn(&Store) -> Result<(), Failure> + Send + 'static,
    ) -> Result<Self, Failure> {
        let (workers, queued_jobs_max) = (options.workers.max(1), options.queued_jobs_max);
        let store = Arc::new(Store::new(options)?);
        let start = |name, threads| {
            Workers::start(name, queued_jobs_max, threads, || ())
                .map_err(|error| Failure::io(format!("start threads `{name}`"), &error))
        };
        let transfers = start("l2-fs-io", workers)?;
        let directory = start("l2-fs-dir", workers)?;
        let background = start("l2-fs-scan", 2)?;
        let (opening, opened) = mpsc::channel();
        let (watched, scanned) = (Arc::clone(&store), Arc::clone(&store));
        // An error means that nobody waits any more.
        let tell = move |outcome| _ = opening.send(outcome);
        for task in [
            Box::new(move |(): &mut ()| watched.keep_watched(prepare, tell))
                as Box<dyn FnOnce(&mut ()) + Send>,
            Box::new(move |()| scanned.keep_scanned()),
        ] {
            let submitted = background.submit(task, Box::new(|| true));
            submitted.map_err(|error| Failure::permanent(FailureKind::Invalid, error.to_string()))?;
        }
        let adapter = Self { store, transfers, directory, background };
        match opened.recv_timeout(patience) {
            Ok(outcome) => outcome?,
            Err(_) => {
                let base = adapter.store.files.base().display();
                let text = format!("directory `{base}` does not answer: it is opened when it does");
                tracing::warn!("{text}");
                adapter.store.disk.note_unopened(Failure::permanent(FailureKind::Timeout, text));
            }
        }
        Ok(adapter)
    }

    /// Fails while the directory is gone or does not answer: what the index remembers is then of no use. Says
    /// whether the disk was asked for that.
    async fn check_disk(&self) -> Result<bool, Error> {
        let Some(trouble) = self.store.disk.trouble(Instant::now()) else { return Ok(false) };
        if trouble.kind == FailureKind::Timeout {
            return Err(trouble.into());
        }
        let (answers, slots) = Batch::new(1);
        let store = Arc::clone(&self.store);
        self.directory.submit_for(slots, move |(), slots| {
            let there = store.check_base().map_err(Error::from);
            slots.into_iter().for_each(|slot| slot.report(there.clone()));
        });
        answers.wait().await.pop().unwrap_or(Ok(())).map(|()| true)
    }

    /// Looks up on disk those keys the index can't answer for.
    async fn discover(&self, keys: &[ObjectKey]) -> Vec<Asked> {
        let mut asked = vec![Asked::default(); keys.len()];
        let unknown: Vec<usize> = {
            let state = self.store.state();
            if self.store.is_authoritative(&state) {
                return asked;
            }
            (0..keys.len()).filter(|index| state.index.get(&keys[*index]).is_none()).collect()
        };
        let (batch, slots) = Batch::<()>::new(unknown.len());
        let mut slots = slots.into_iter();
        for indices in unknown.chunks(KEYS_PER_JOB) {
            let keys: Vec<ObjectKey> = indices.iter().map(|index| keys[*index].clone()).collect();
            let store = Arc::clone(&self.store);
            self.directory.submit_for(slots.by_ref().take(indices.len()).collect(), move |(), slots| {
                for (key, slot) in keys.iter().zip(slots) {
                    slot.report(store.discover(key).map(drop).map_err(Error::from));
                }
            });
        }
        for (index, result) in unknown.into_iter().zip(batch.wait().await) {
            asked[index].is_asked = true;
            asked[index].failure = match result {
                Err(Error::Failed(failure)) => Some(failure),
                Err(busy @ Error::Busy(_)) => {
                    Some(Failure::retryable(FailureKind::Unavailable, busy.to_string()))
                }
                Ok(()) | Err(Error::Absent) => None,
            };
        }
        asked
    }
}

/// An adapter that is dropped without being closed leaves no thread behind.
impl Drop for FsAdapter {
    fn drop(&mut self) {
        self.store.close();
    }
}

/// What the disk said about a key, if it was asked.
#[derive(Clone, Debug, Default)]
struct Asked {
    is_asked: bool,
    failure: Option<Failure>,
}

/// The slots somebody still waits for.
fn wanted<T>(slots: Vec<Slot<T>>) -> impl Iterator<Item = Slot<T>> {
    slots.into_iter().filter(Slot::is_wanted)
}

impl Adapter for FsAdapter {
    fn kind(&self) -> &'static str {
        "fs"
    }

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(async move {
            let (answers, slots) = Batch::new(batch.len());
            for (item, slot) in batch.into_iter().zip(slots) {
                let store = Arc::clone(&self.store);
                self.transfers.submit_for(vec![slot], move |(), slots| {
                    let results: Vec<_> = wanted(slots).map(|slot| (slot, store.store(&item))).collect();
                    // The buffer is given back before its outcome is known.
                    drop(item);
                    results.into_iter().for_each(|(slot, result)| slot.report(result));
                });
            }
            answers.wait().await
        })
    }

    fn lookup_and_lock(&self, keys: Vec<ObjectKey>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
        Box::pin(async move {
            if let Err(error) = self.store.check_open() {
                return all_failed(keys.len(), &error);
            }
            let is_disk_asked = match self.check_disk().await {
                Ok(is_asked) => is_asked,
                Err(error) => return all_failed(keys.len(), &error),
            };
            let asked = self.discover(&keys).await;
            // No await from here on: a future dropped earlier has locked nothing.
            let state = self.store.state();
            let hold = |(key, asked): (&ObjectKey, Asked)| {
                let Some(entry) = state.index.get(key) else {
                    return Err(asked.failure.map_or(Error::Absent, Error::from));
                };
                if !self.store.locks.lock(key) {
                    return Err(Error::Absent);
                }
                Ok(Found {
                    bytes: Some(entry.bytes),
                    padding_bytes_max: PADDING_BYTES_MAX,
                    is_remembered: !(is_disk_asked || asked.is_asked),
                })
            };
            keys.iter().zip(asked).map(hold).collect()
        })
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(async move {
            let (answers, slots) = Batch::new(batch.len());
            for (item, slot) in batch.into_iter().zip(slots) {
                let store = Arc::clone(&self.store);
                self.transfers.submit_for(vec![slot], move |(), slots| {
                    let results: Vec<_> = wanted(slots).map(|slot| (slot, store.load(&item))).collect();
                    // The buffer is given back before its outcome is known.
                    drop(item);
                    results.into_iter().for_each(|(slot, result)| slot.report(result));
                });
            }
            answers.wait().await
        })
    }

    fn unlock(&self, keys: &[ObjectKey]) {
        self.store.locks.unlock(keys);
    }

    fn delete(&self, keys: Vec<ObjectKey>, mode: DeleteMode) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
        Box::pin(async move {
            let (answers, slots) = Batch::new(keys.len());
            let mut slots = slots.into_iter();
            for keys in keys.chunks(KEYS_PER_JOB) {
                let (keys, store) = (keys.to_vec(), Arc::clone(&self.store));
                self.directory.submit_for(slots.by_ref().take(keys.len()).collect(), move |(), slots| {
                    for (key, slot) in keys.iter().zip(slots) {
                        slot.report(store.delete(key, mode));
                    }
                });
            }
            answers.wait().await
        })
    }

    fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>> {
        Box::pin(async move {
            if self.store.check_open().is_err() {
                return Err(Failure::closed());
            }
            self.store.state().index.page(&request)
        })
    }

    fn probe(&self) -> AdapterFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let (answers, slots) = Batch::new(1);
            let store = Arc::clone(&self.store);
            self.transfers.submit_for(slots, move |(), slots| {
                slots.into_iter().for_each(|slot| slot.report(store.probe().map_err(Error::from)));
            });
            match answers.wait().await.pop() {
                Some(Err(Error::Failed(failure))) => Err(failure),
                Some(Err(other)) => Err(Failure::retryable(FailureKind::Unavailable, other.to_string())),
                Some(Ok(())) | None => Ok(()),
            }
        })
    }

    fn ready_to_store(&self) -> AdapterFuture<'_, ()> {
        Box::pin(async move {
            // The sender lives as long as the adapter.
            _ = self.store.is_ready_to_store.subscribe().wait_for(|is_ready| *is_ready).await;
        })
    }

    fn usage(&self) -> Usage {
        let state = self.store.state();
        Usage {
            objects: state.index.objects(),
            bytes_used: state.index.bytes(),
            bytes_capacity: state.space.capacity_bytes(),
            bytes_by_salt: state.index.bytes_by_salt(),
            objects_locked: self.store.locks.locked(),
            is_complete: self.store.is_authoritative(&state),
        }
    }

    fn health(&self) -> Health {
        let store = &self.store;
        let (full_for, is_complete) = {
            let state = store.state();
            (state.space.full_for(Instant::now()), state.index.is_complete())
        };
        let refusal = lock(&store.refusal).clone();
        let health = if store.check_open().is_err() {
            Health::because(HealthState::Closed, "adapter is closed")
        } else if let Some(trouble) = store.disk.trouble(Instant::now()) {
            Health::because(HealthState::Unavailable, trouble.to_string())
        } else if let Some(refusal) = refusal {
            Health::because(HealthState::Refused, refusal.to_string())
        } else if let Some(full_for) = full_for {
            Health::because(HealthState::Full, format!("disk is full since {} s", full_for.as_secs()))
        } else if let Some(failure) = store.scan.trouble() {
            Health::because(HealthState::Degraded, format!("not all of the directory can be read: {failure}"))
        } else if store.options.use_odirect && store.io.is_direct_refused() {
            Health::because(HealthState::Degraded, "file system refuses direct I/O; the page cache is used")
        } else {
            Health::ready()
        };
        health
            .detail("base_path", store.files.base().display().to_string())
            .detail("use_odirect", store.options.use_odirect && !store.io.is_direct_refused())
            .detail("index_complete", is_complete)
            .detail("seals_kept", !store.io.is_seal_refused())
            .detail("queued_transfers", self.transfers.queued())
            .detail("stuck_threads", self.transfers.stuck() + self.directory.stuck())
            .detail("swept_files", store.swept_files.load(Ordering::Relaxed))
            .detail("quarantined_files", store.quarantined_files.load(Ordering::Relaxed))
    }

    fn close(&self) -> AdapterFuture<'_, ()> {
        Box::pin(async move {
            self.store.close();
            tokio::join!(self.transfers.close(), self.directory.close(), self.background.close());
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{object_key, store_items};

    fn health_is(adapter: &FsAdapter, state: HealthState) -> bool {
        adapter.health().state == state
    }

    /// As on a dead mount: the directory can't be opened until somebody lets it.
    #[tokio::test]
    async fn a_directory_that_does_not_answer_holds_up_no_start_and_is_opened_when_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let options = FsOptions { capacity_bytes: Some(1 << 20), ..FsOptions::new(dir.path().join("base")) };
        let (answer, answered) = mpsc::channel::<()>();
        let adapter = FsAdapter::open_with(options, Duration::from_millis(1), move |store| {
            _ = answered.recv();
            store.files.prepare()
        });
        let adapter = adapter.unwrap();
        assert!(health_is(&adapter, HealthState::Unavailable));
        assert!(adapter.lookup_and_lock(vec![object_key(0)]).await[0].is_err());
        let stored = adapter.store(store_items(0..1, 10)).await;
        assert!(matches!(&stored[0], Err(Error::Failed(failure)) if failure.kind == FailureKind::Timeout));
        assert!(adapter.probe().await.is_err());
        drop(answer);
        let opens = async {
            while !health_is(&adapter, HealthState::Ready) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            adapter.ready_to_store().await;
        };
        tokio::time::timeout(Duration::from_secs(60), opens).await.unwrap();
        assert!(adapter.store(store_items(0..1, 10)).await[0].is_ok());
        adapter.close().await;
    }

    #[tokio::test]
    async fn an_adapter_that_is_closed_before_its_directory_answers_closes() {
        let dir = tempfile::tempdir().unwrap();
        let fails = |_: &Store| Err(Failure::retryable(FailureKind::Io, "not yet"));
        assert!(FsAdapter::open_with(FsOptions::new(dir.path()), OPEN_PATIENCE, fails).is_err());
        let adapter = FsAdapter::open_with(FsOptions::new(dir.path()), Duration::ZERO, fails);
        if let Ok(adapter) = adapter {
            tokio::time::timeout(Duration::from_secs(60), adapter.close()).await.unwrap();
        }
    }
}
