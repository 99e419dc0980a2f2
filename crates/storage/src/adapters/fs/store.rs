//! The directory as a store: what each operation does to one key. Blocking; called on worker threads.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use larder_core::key::ObjectKey;
use tokio::sync::watch;

use super::disk::{Disk, Look};
use super::files::Files;
use super::object::{ObjectFile, ObjectIo};
use super::options::{FsOptions, FsyncPolicy, PathShards};
use super::scan_state::ScanState;
use super::space::Space;
use crate::adapter::{DeleteMode, Deleted, KeyResult, LoadItem, Loaded, StoreItem, Stored};
use crate::buffer::HeapBuffer;
use crate::error::{Busy, Error, Failure, FailureKind};
use crate::index::{Entry, ListedIndex};
use crate::locks::LockTable;
use crate::mutex::lock;
use crate::names::{KeyDecoder, wire_name};

/// Most bytes that a file without a seal may be longer than its object: the peer pads to its memory alignment
/// for direct I/O.
pub(super) const PADDING_BYTES_MAX: u64 = 4095;
/// Locks that keep a rename and its index entry together; keys share them by hash.
const STRIPES: usize = 64;

/// Everything the threads of one adapter share.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) options: FsOptions,
    pub(super) files: Files,
    pub(super) io: ObjectIo,
    pub(super) locks: Arc<LockTable>,
    pub(super) decoder: KeyDecoder,
    pub(super) is_closed: AtomicBool,
    pub(super) swept_files: AtomicU64,
    pub(super) quarantined_files: AtomicU64,
    pub(super) disk: Disk,
    pub(super) scan: ScanState,
    /// Why the directory takes no objects, though it is there.
    pub(super) refusal: Mutex<Option<Failure>>,
    /// Whether stores need not wait for the index any more.
    pub(super) is_ready_to_store: watch::Sender<bool>,
    state: Mutex<State>,
    stripes: [Mutex<()>; STRIPES],
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) index: ListedIndex<PathShards>,
    pub(super) space: Space,
}

/// Room set aside for a write. It is given back when the object is counted itself, or else with the
/// reservation.
struct Reservation<'s> {
    store: &'s Store,
    bytes: Option<u64>,
}

impl Reservation<'_> {
    fn settle(&mut self, state: &mut State) {
        if let Some(bytes) = self.bytes.take() {
            state.space.release(bytes);
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.bytes.is_some() {
            let store = self.store;
            self.settle(&mut store.state());
        }
    }
}

impl Store {
    pub(super) fn new(options: FsOptions) -> Result<Self, Failure> {
        let space = Space::new(options.capacity_bytes, Duration::from_millis(options.full_probe_ms));
        Ok(Self {
            files: Files::new(&options)?,
            io: ObjectIo::new(&options),
            options,
            locks: Arc::default(),
            decoder: KeyDecoder::default(),
            is_closed: AtomicBool::new(false),
            swept_files: AtomicU64::new(0),
            quarantined_files: AtomicU64::new(0),
            disk: Disk::default(),
            scan: ScanState::default(),
            refusal: Mutex::new(None),
            is_ready_to_store: watch::Sender::new(space.capacity_bytes().is_none()),
            state: Mutex::new(State { index: ListedIndex::new(), space }),
            stripes: std::array::from_fn(|_| Mutex::new(())),
        })
    }

    /// Refuses further work and ends what runs in the background.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.is_ready_to_store.send_replace(true);
        self.scan.close();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn check_open(&self) -> Result<(), Error> {
        if self.is_closed.load(Ordering::Acquire) { Err(Failure::closed().into()) } else { Ok(()) }
    }

    pub(super) fn store(&self, item: &StoreItem) -> KeyResult<Stored> {
        self.check_open()?;
        self.check_answers()?;
        let len = item.buffer.len() as u64;
        let path = self.files.object(&item.key, self.files.shards())?;
        if self.is_held(&item.key, len)? {
            return Ok(Stored { bytes_written: 0 });
        }
        let began = Instant::now();
        let reserved = {
            let mut state = self.state();
            let (used, is_known) = (state.index.bytes(), state.index.is_complete());
            state.space.reserve(len, used, is_known, began)
        };
        if let Err(error) = reserved {
            // Others may have made room that the index does not know of.
            self.scan.wish();
            return Err(error);
        }
        let mut reservation = Reservation { store: self, bytes: Some(len) };
        let written = self.write(item, &path, &mut reservation);
        drop(reservation);
        let written = written.map_err(|failure| match failure.kind {
            FailureKind::Io => self.check_base().err().unwrap_or(failure),
            _ => failure,
        });
        self.settle_write(item, began, written)
    }

    /// Whether an object of this length is there, as [`load`](Self::load) would find it.
    fn is_held(&self, key: &ObjectKey, len: u64) -> Result<bool, Failure> {
        let Some(entry) = self.entry(key)? else { return Ok(false) };
        if entry.bytes == len {
            return Ok(true);
        }
        if !is_padded(entry.bytes, len) {
            return Ok(false);
        }
        let path = self.files.object(key, entry.note)?;
        match self.io.seal_of(&path, key) {
            Ok(seal) => Ok(seal.is_none()),
            Err(error) if is_nothing_there(&error) => Ok(false),
            Err(error) => Err(Failure::io(format!("look at `{}`", path.display()), &error)),
        }
    }

    /// Writes beside the final name, then renames: an object is whole or absent at every moment.
    fn write(&self, item: &StoreItem, path: &Path, reservation: &mut Reservation<'_>) -> Result<(), Failure> {
        let dir = self.files.dir(&item.key, self.files.shards());
        let tmp = self.files.tmp(&dir);
        let attempt = |what: &str| format!("{what} `{}`", path.display());
        self.files.create_dir(&dir).map_err(|error| Failure::io(attempt("create directory of"), &error))?;
        let mut publish = || -> Result<(), Failure> {
            let file = self
                .io
                .create(&tmp, &*item.buffer, item.seal.map(|seal| seal.encode(&item.key)))
                .map_err(|error| Failure::io(attempt("write"), &error))?;
            let _stripe = self.stripe(&item.key);
            fs::rename(&tmp, path).map_err(|error| Failure::io(attempt("rename"), &error))?;
            drop(file);
            let old = {
                let mut state = self.state();
                // At no moment is an object counted twice: others would be refused room that is there.
                reservation.settle(&mut state);
                state.index.insert(&item.key, item.buffer.len() as u64, self.files.shards())
            };
            if let Some(old) = old.filter(|old| old.note != self.files.shards()) {
                // The object moved; what another setting left behind would only take room.
                _ = fs::remove_file(self.files.object(&item.key, old.note)?);
            }
            Ok(())
        };
        let published = publish();
        if published.is_err() {
            _ = fs::remove_file(&tmp);
        } else if self.options.fsync == FsyncPolicy::Full {
            Files::sync_dir(&dir).map_err(|error| Failure::io(attempt("sync directory of"), &error))?;
        }
        published
    }

    fn settle_write(
        &self,
        item: &StoreItem,
        began: Instant,
        written: Result<(), Failure>,
    ) -> KeyResult<Stored> {
        let mut state = self.state();
        let base = self.files.base().display();
        match written {
            Ok(()) => {
                if state.space.note_room(began) {
                    tracing::info!("disk of `{base}` takes objects again");
                }
                drop(state);
                self.note_refusal(None);
                Ok(Stored { bytes_written: item.buffer.len() as u64 })
            }
            Err(failure) => {
                if failure.kind == FailureKind::Full && state.space.note_full(Instant::now()) {
                    tracing::warn!("disk of `{base}` is full: {failure}");
                }
                drop(state);
                self.note_refusal(Some(&failure));
                tracing::debug!("store of `{}` failed: {failure}", wire_name(&item.key));
                Err(failure.into())
            }
        }
    }

    /// Keeps in mind whether the directory lets itself be written to.
    fn note_refusal(&self, failure: Option<&Failure>) {
        if failure.is_none_or(|failure| failure.kind == FailureKind::Refused) {
            *lock(&self.refusal) = failure.cloned();
        }
    }

    /// Writes a file of our own and removes it.
    pub(super) fn probe(&self) -> Result<(), Failure> {
        self.check_answers()?;
        let path = self.files.tmp(self.files.base());
        let created = self.io.create(&path, &*HeapBuffer::zeroed(1), None);
        if created.is_ok() {
            _ = fs::remove_file(&path);
        }
        let failure = created.err().map(|error| Failure::io(format!("write `{}`", path.display()), &error));
        self.note_refusal(failure.as_ref());
        failure.map_or(Ok(()), Err)
    }

    pub(super) fn load(&self, item: &LoadItem) -> KeyResult<Loaded> {
        self.check_open()?;
        let object = self.open_object(item)?.ok_or(Error::Absent)?;
        let wanted = item.buffer.len();
        let is_fitting = object.bytes == wanted as u64
            || (object.seal.is_none() && is_padded(object.bytes, wanted as u64));
        if !is_fitting {
            // The index may remember another length; with the real one the next store replaces the object.
            self.look_again(&item.key)?;
            return Err(item.length_mismatch(object.bytes).into());
        }
        self.io
            .read(&object, &*item.buffer)
            .map_err(|error| Failure::io(format!("read object `{}`", wire_name(&item.key)), &error))?;
        Ok(Loaded { seal: object.seal })
    }

    fn open_object(&self, item: &LoadItem) -> Result<Option<ObjectFile>, Failure> {
        let (known, is_authoritative) = self.known(&item.key);
        let candidates = match known {
            Some(shards) => vec![shards],
            None if is_authoritative => return Ok(None),
            None => self.files.candidate_shards().to_vec(),
        };
        for shards in candidates {
            let path = self.files.object(&item.key, shards)?;
            match self.io.open_object(&path, &item.key, &*item.buffer) {
                Ok(object) => return Ok(Some(object)),
                Err(error) if is_nothing_there(&error) => {}
                Err(error) => {
                    let failure = Failure::io(format!("open `{}`", path.display()), &error);
                    if failure.kind == FailureKind::Invalid {
                        // Something else has the name of the object; the index forgets it.
                        self.look_again(&item.key)?;
                    }
                    return Err(failure);
                }
            }
        }
        if known.is_some() {
            self.look_again(&item.key)?;
        }
        Ok(None)
    }

    /// Size and place of a key's object, from the index or, where the index does not know everything, the
    /// disk.
    fn entry(&self, key: &ObjectKey) -> Result<Option<Entry<PathShards>>, Failure> {
        let (known, is_authoritative) = {
            let state = self.state();
            (state.index.get(key), self.is_authoritative(&state))
        };
        match known {
            None if !is_authoritative => self.discover(key),
            known => Ok(known),
        }
    }

    /// Looks a key up on disk and notes what it finds.
    pub(super) fn discover(&self, key: &ObjectKey) -> Result<Option<Entry<PathShards>>, Failure> {
        let found = self.find(key)?;
        if let Some(Entry { bytes, note }) = found {
            self.state().index.discover(key, bytes, note);
        }
        Ok(found)
    }

    /// Looks a key up on disk.
    fn find(&self, key: &ObjectKey) -> Result<Option<Entry<PathShards>>, Failure> {
        for shards in self.files.candidate_shards() {
            let path = self.files.object(key, shards)?;
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_file() => {
                    return Ok(Some(Entry { bytes: metadata.len(), note: shards }));
                }
                Ok(_) => {}
                Err(error) if is_nothing_there(&error) => {}
                Err(error) => return Err(Failure::io(format!("look up `{}`", path.display()), &error)),
            }
        }
        Ok(None)
    }

    pub(super) fn delete(&self, key: &ObjectKey, mode: DeleteMode) -> KeyResult<Deleted> {
        self.check_open()?;
        let _claim = match self.locks.claim_delete(key) {
            Ok(claim) => Some(claim),
            Err(Busy::Locked) if mode != DeleteMode::IfUnlocked => None,
            Err(busy) => return Err(Error::Busy(busy)),
        };
        let _stripe = self.stripe(key);
        let Entry { bytes, note: shards } = self.entry(key)?.ok_or(Error::Absent)?;
        let path = self.files.object(key, shards)?;
        let removed =
            if mode == DeleteMode::Quarantine { self.set_aside(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if !is_nothing_there(&error) => {
                Err(Failure::io(format!("delete `{}`", path.display()), &error).into())
            }
            outcome => {
                let mut state = self.state();
                state.index.remove(key);
                state.space.note_freed(bytes, Instant::now());
                outcome.map(|()| Deleted { bytes_freed: bytes }).map_err(|_| Error::Absent)
            }
        }
    }

    /// Keeps a bad file for inspection, as long as there are not too many already.
    fn set_aside(&self, path: &Path) -> io::Result<()> {
        self.quarantined_files.fetch_add(1, Ordering::Relaxed);
        let dir = self.files.quarantine_dir();
        fs::create_dir_all(&dir)?;
        let name = path.file_name().unwrap_or_default();
        if fs::read_dir(&dir)?.count() >= self.options.quarantine_files_max {
            return fs::remove_file(path);
        }
        fs::rename(path, dir.join(name))
    }

    /// Makes the index entry of a key what the disk says. Under the key's lock: it may just have been stored.
    pub(super) fn look_again(&self, key: &ObjectKey) -> Result<(), Failure> {
        // A mount that went away says nothing about its objects.
        self.check_base()?;
        let _stripe = self.stripe(key);
        let found = self.find(key)?;
        let mut state = self.state();
        match found {
            Some(Entry { bytes, note }) => _ = state.index.insert(key, bytes, note),
            None => _ = state.index.remove(key),
        }
        Ok(())
    }

    /// Fails if the directory is known not to answer: a call that never returns costs a thread.
    fn check_answers(&self) -> Result<(), Failure> {
        let trouble = self.disk.trouble(Instant::now());
        trouble.filter(|trouble| trouble.kind == FailureKind::Timeout).map_or(Ok(()), Err)
    }

    /// Fails if the base directory is gone.
    pub(super) fn check_base(&self) -> Result<(), Failure> {
        if self.disk.look(self.files.base()) == Look::Another {
            self.scan.wish();
        }
        self.disk.trouble(Instant::now()).map_or(Ok(()), Err)
    }

    fn known(&self, key: &ObjectKey) -> (Option<PathShards>, bool) {
        let state = self.state();
        (state.index.get(key).map(|entry| entry.note), self.is_authoritative(&state))
    }

    /// Whether a key the index does not know is absent for sure.
    pub(super) fn is_authoritative(&self, state: &State) -> bool {
        state.index.is_complete() && !self.options.is_shared
    }

    fn stripe(&self, key: &ObjectKey) -> MutexGuard<'_, ()> {
        let stripe = usize::from(key.chunk_hash.0[31]) % STRIPES;
        lock(&self.stripes[stripe])
    }
}

/// Whether a file without a seal may hold an object of `len` bytes and padding.
fn is_padded(bytes: u64, len: u64) -> bool {
    (len..=len.saturating_add(PADDING_BYTES_MAX)).contains(&bytes)
}

/// A file that does not exist, or whose shard directory does not.
fn is_nothing_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
