//! Learning what a directory holds, while it already serves.

use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use larder_core::key::ObjectKey;
use rustix::fs::FlockOperation;

use super::disk::{LOOK_PAUSE, Look};
use super::files::{FileName, classify, is_shard_dir};
use super::object::open_regular;
use super::options::PathShards;
use super::store::Store;
use crate::error::Failure;

/// Objects entered into the index, or looked for in it, per lock.
const ENTRIES_PER_LOCK: usize = 512;

/// First pause before a directory is looked through again of which something could not be read; it doubles
/// each time.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest such pause; later ones are no longer.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(300);
/// The share of the time that looking through a directory for changes may take is one of this many.
const RESCAN_SHARE: u32 = 100;
/// The same, and the shortest pause, when somebody needs to know.
const WISHED_SHARE: u32 = 10;
const WISHED_PAUSE: Duration = Duration::from_secs(1);

impl Store {
    /// Opens the directory, tells `tell` how that went the first time and, unless nobody listens to a
    /// failure, looks whether it is there until the adapter is closed. Blocks for as long.
    pub(super) fn keep_watched(
        &self,
        prepare: impl Fn(&Self) -> Result<(), Failure>,
        tell: impl Fn(Result<(), Failure>),
    ) {
        while let Err(failure) = prepare(self) {
            self.disk.note_unopened(failure.clone());
            tell(Err(failure));
            if !self.scan.pause(LOOK_PAUSE) {
                return;
            }
        }
        self.scan.open();
        tell(Ok(()));
        loop {
            if self.disk.look(self.files.base()) == Look::Another {
                self.scan.wish();
            }
            if !self.scan.pause(LOOK_PAUSE) {
                return;
            }
        }
    }

    /// Fills the index from the directory, and looks through it again for what others did there, until the
    /// adapter is closed. Blocks for as long.
    pub(super) fn keep_scanned(&self) {
        let mut retry_pause = RETRY_PAUSE_MIN;
        if !self.scan.opened() {
            return;
        }
        loop {
            let start = Instant::now();
            let trouble = self.scan();
            if self.is_closed.load(Ordering::Acquire) {
                return;
            }
            let took = start.elapsed();
            let pause = if trouble.is_some() {
                retry_pause
            } else {
                Duration::from_millis(self.options.rescan_pause_ms).max(took * RESCAN_SHARE)
            };
            retry_pause =
                if trouble.is_some() { (retry_pause * 2).min(RETRY_PAUSE_MAX) } else { RETRY_PAUSE_MIN };
            self.note_scan_trouble(trouble);
            if !self.scan.pause_scans(pause, WISHED_PAUSE.max(took * WISHED_SHARE)) {
                return;
            }
        }
    }

    /// Makes the index what the directory says, and sweeps what crashed writers left. Returns what could not
    /// be read.
    fn scan(&self) -> Option<Failure> {
        let start = Instant::now();
        self.state().index.begin_listing();
        let mut scan = Scan { store: self, found: Vec::with_capacity(ENTRIES_PER_LOCK), trouble: None };
        let scanned = scan.base_dir();
        scan.tmp_dir();
        scan.flush();
        let trouble = scan.trouble.take();
        if self.is_closed.load(Ordering::Acquire) {
            return None;
        }
        let is_whole = scanned.is_ok();
        let lost = if is_whole { self.forget_unseen() } else { 0 };
        let (objects, is_first) = {
            let mut state = self.state();
            let is_first = is_whole && !state.index.is_complete();
            state.index.end_listing(is_whole);
            (state.index.objects(), is_first)
        };
        let base = self.files.base().display();
        if is_first {
            self.is_ready_to_store.send_replace(true);
            let elapsed_ms = start.elapsed().as_millis();
            tracing::info!("index of `{base}` is complete: {objects} objects in {elapsed_ms} ms");
        } else if lost > 0 {
            tracing::info!("{lost} objects of `{base}` were removed by others");
        }
        scanned.err().or(trouble)
    }

    /// Looks on disk for what the scan did not see, and forgets what is not there. Returns how much that is.
    fn forget_unseen(&self) -> usize {
        let mut lost = 0;
        let mut after = None;
        loop {
            let (unseen, next) = self.state().index.unseen(after, ENTRIES_PER_LOCK);
            for key in &unseen {
                // What can't be looked at stays; a load would say why.
                if self.is_closed.load(Ordering::Acquire) || self.look_again(key).is_err() {
                    return lost;
                }
                lost += usize::from(self.state().index.get(key).is_none());
            }
            if next.is_none() {
                return lost;
            }
            after = next;
        }
    }

    fn note_scan_trouble(&self, trouble: Option<Failure>) {
        let before = self.scan.replace_trouble(trouble.clone());
        match &trouble {
            Some(failure) if before != trouble => {
                tracing::warn!("not all of `{}` can be read: {failure}", self.files.base().display());
            }
            None if before.is_some() => {
                tracing::info!("all of `{}` can be read again", self.files.base().display());
            }
            _ => {}
        }
    }
}

struct Scan<'a> {
    store: &'a Store,
    found: Vec<(ObjectKey, u64, PathShards)>,
    /// What could not be read below the base directory, the first of it.
    trouble: Option<Failure>,
}

impl Scan<'_> {
    /// Fails if the base directory itself can't be read to its end. What can't be read below it is passed
    /// over and noted.
    fn base_dir(&mut self) -> Result<(), Failure> {
        let base = self.store.files.base();
        for first in self.dir(base, PathShards::Off)? {
            for second in self.shard_dir(&first, PathShards::One) {
                self.shard_dir(&second, PathShards::Two);
            }
        }
        Ok(())
    }

    fn shard_dir(&mut self, dir: &Path, shards: PathShards) -> Vec<PathBuf> {
        self.dir(dir, shards).unwrap_or_else(|failure| {
            self.trouble.get_or_insert(failure);
            Vec::new()
        })
    }

    fn tmp_dir(&mut self) {
        let Some(dir) = self.store.files.tmp_dir() else { return };
        let swept = self.each(dir, |scan, entry| match classify(&entry.file_name(), &scan.store.decoder) {
            FileName::OwnTmp => scan.sweep_own(&entry),
            // The peer writes unfinished files here under their final names.
            FileName::PeerTmp | FileName::Object(_) => scan.sweep_old(&entry),
            FileName::Foreign => {}
        });
        if let Err(failure) = swept {
            self.trouble.get_or_insert(failure);
        }
    }

    /// Enters the objects of one directory; returns the shard directories in it.
    fn dir(&mut self, dir: &Path, shards: PathShards) -> Result<Vec<PathBuf>, Failure> {
        let mut dirs = Vec::new();
        self.each(dir, |scan, entry| {
            let name = entry.file_name();
            match classify(&name, &scan.store.decoder) {
                FileName::Object(key) => scan.object(key, &entry, shards),
                FileName::OwnTmp => scan.sweep_own(&entry),
                FileName::PeerTmp => scan.sweep_old(&entry),
                FileName::Foreign => {
                    if shards != PathShards::Two && is_shard_dir(OsStr::new(&name)) && is_dir(&entry) {
                        dirs.push(entry.path());
                    }
                }
            }
        })?;
        Ok(dirs)
    }

    /// Shows every entry of a directory, until the adapter is closed.
    fn each(&mut self, dir: &Path, mut show: impl FnMut(&mut Self, DirEntry)) -> Result<(), Failure> {
        let unreadable = |error: io::Error| Failure::io(format!("scan `{}`", dir.display()), &error);
        for entry in fs::read_dir(dir).map_err(unreadable)? {
            if self.store.is_closed.load(Ordering::Relaxed) {
                return Ok(());
            }
            show(self, entry.map_err(unreadable)?);
        }
        Ok(())
    }

    fn object(&mut self, key: ObjectKey, entry: &DirEntry, shards: PathShards) {
        if self.store.state().index.see(&key, shards) {
            return;
        }
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

    /// A writer of ours holds a lock on its unfinished file for as long as it lives. The lock taken here is
    /// held until the file is gone, so that a writer which comes second notices. Where others write as well,
    /// locks may be each machine's own: there only age tells.
    fn sweep_own(&self, entry: &DirEntry) {
        if self.store.options.is_shared && !self.is_old(entry) {
            return;
        }
        let path = entry.path();
        let Ok(file) = open_regular(&path) else { return };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            self.sweep(&path);
        }
    }

    fn sweep_old(&self, entry: &DirEntry) {
        if self.is_old(entry) {
            self.sweep(&entry.path());
        }
    }

    fn is_old(&self, entry: &DirEntry) -> bool {
        let age =
            entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
        age.is_some_and(|age| age >= Duration::from_secs(self.store.options.stale_tmp_s))
    }

    fn sweep(&self, path: &Path) {
        if fs::remove_file(path).is_ok() {
            self.store.swept_files.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn is_dir(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}
