//! Learning what a directory holds, while it already serves.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, File};
use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::files::{FileName, classify, is_shard_dir};
use super::options::PathShards;
use super::store::Store;
use crate::error::Failure;
use crate::key::Key;

/// Objects entered into the index per lock.
const ENTRIES_PER_LOCK: usize = 512;

impl Store {
    /// Fills the index from the directory and sweeps what crashed writers left. Blocking.
    pub(super) fn rebuild(&self) {
        let start = Instant::now();
        let base = self.files.base();
        let mut scan = Scan { store: self, found: Vec::with_capacity(ENTRIES_PER_LOCK) };
        let scanned = scan.base_dir().and_then(|()| scan.tmp_dir());
        scan.flush();
        if self.is_closed.load(Ordering::Acquire) {
            return;
        }
        match scanned {
            Ok(()) => {
                let mut state = self.state();
                state.index.complete();
                let objects = state.index.index.objects();
                drop(state);
                self.is_ready_to_store.send_replace(true);
                let elapsed_ms = start.elapsed().as_millis();
                tracing::info!(
                    "index of `{}` is complete: {objects} objects in {elapsed_ms} ms",
                    base.display()
                );
            }
            Err(error) => {
                let failure = Failure::io(format!("scan `{}`", base.display()), &error);
                tracing::warn!("index stays incomplete: {failure}");
                *self.rebuild_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
            }
        }
    }
}

struct Scan<'a> {
    store: &'a Store,
    found: Vec<(Key, u64, PathShards)>,
}

impl Scan<'_> {
    fn base_dir(&mut self) -> io::Result<()> {
        let base = self.store.files.base();
        self.dir(base, PathShards::Off)?;
        for first in shard_dirs(base)? {
            self.dir(&first, PathShards::One)?;
            for second in shard_dirs(&first)? {
                self.dir(&second, PathShards::Two)?;
            }
        }
        Ok(())
    }

    fn tmp_dir(&mut self) -> io::Result<()> {
        let Some(dir) = self.store.files.tmp_dir() else { return Ok(()) };
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match classify(&entry.file_name(), &self.store.decoder) {
                FileName::OwnTmp => self.sweep_own(&entry.path()),
                // The peer writes unfinished files here under their final names.
                FileName::PeerTmp | FileName::Object(_) => self.sweep_peer(&entry),
                FileName::Foreign => {}
            }
        }
        Ok(())
    }

    fn dir(&mut self, dir: &Path, shards: PathShards) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            if self.store.is_closed.load(Ordering::Relaxed) {
                return Ok(());
            }
            let entry = entry?;
            match classify(&entry.file_name(), &self.store.decoder) {
                FileName::Object(key) => self.object(key, &entry, shards),
                FileName::OwnTmp => self.sweep_own(&entry.path()),
                FileName::PeerTmp => self.sweep_peer(&entry),
                FileName::Foreign => {}
            }
        }
        Ok(())
    }

    fn object(&mut self, key: Key, entry: &DirEntry, shards: PathShards) {
        // Deleted since it was listed, or unreadable: loads would say so, the index need not.
        let Ok(metadata) = entry.metadata() else { return };
        if metadata.is_file() {
            self.found.push((key, metadata.len(), shards));
        }
        if self.found.len() >= ENTRIES_PER_LOCK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let mut state = self.store.state();
        for (key, bytes, shards) in self.found.drain(..) {
            state.index.discover(&key, bytes, shards);
        }
    }

    /// A writer of ours holds a lock on its unfinished file for as long as it lives. The lock taken here is held
    /// until the file is gone, so that a writer which comes second notices.
    fn sweep_own(&self, path: &Path) {
        let Ok(file) = File::open(path) else { return };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            self.sweep(path);
        }
    }

    fn sweep_peer(&self, entry: &DirEntry) {
        let age =
            entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age >= Duration::from_secs(self.store.options.stale_tmp_s)) {
            self.sweep(&entry.path());
        }
    }

    fn sweep(&self, path: &Path) {
        if fs::remove_file(path).is_ok() {
            self.store.swept_files.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn shard_dirs(dir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut dirs = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_shard_dir(OsStr::new(&name)) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            dirs.push(entry.path());
        }
    }
    Ok(dirs)
}
