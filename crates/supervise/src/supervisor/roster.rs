//! The plugins of one supervisor: which there are, under which names, and what changed since the last look.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::discover::{Location, Skipped, Survey};
use crate::lock::lock;
use crate::manifest::Manifest;
use crate::plugin::{Commands, Published, Records};
use crate::text::shown;

/// What a rescan of the locations changed; names of plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// New files, now started.
    pub added: Vec<String>,
    /// Files or manifests that changed; running ones were restarted.
    pub changed: Vec<String>,
    /// Files that are gone; their plugins were stopped.
    pub removed: Vec<String>,
}

/// The supervisor's end of one plugin's task.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) location: Arc<Location>,
    pub(crate) orders: Mutex<Orders>,
    pub(crate) commands: Commands,
    pub(crate) status: watch::Receiver<Published>,
    pub(crate) records: Records,
    /// Ends after the last line of output, once this handle is gone.
    pub(crate) task: Mutex<Option<JoinHandle<()>>>,
}

/// What the manifest says about starting, and the state of the files it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Orders {
    pub(crate) enabled: bool,
    pub(crate) after: Vec<String>,
    /// The longest time it may take to end.
    pub(crate) stop_time: Duration,
    pub(crate) fingerprint: Fingerprint,
}

impl Handle {
    pub(crate) fn orders(&self) -> Orders {
        lock(&self.orders).clone()
    }

    pub(crate) fn take_task(&self) -> Option<JoinHandle<()>> {
        lock(&self.task).take()
    }

    pub(crate) fn set_orders(&self, orders: Orders) {
        *lock(&self.orders) = orders;
    }
}

/// Tells whether a file or its manifest has been written or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([Option<(u64, u64, i64, i64)>; 2]);

impl Fingerprint {
    pub(crate) fn of(plugin: &Path) -> Self {
        let one = |path: &Path| path.metadata().ok().map(|m| (m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
        Self([one(plugin), one(&Manifest::path_for(plugin))])
    }

    /// A number that differs from file to file.
    pub(crate) fn number(&self) -> u64 {
        self.0[0].map_or(0, |(inode, _, _, nanoseconds)| inode ^ nanoseconds.cast_unsigned())
    }
}

/// All plugins in start order, and what was passed over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    pub(crate) plugins: Vec<Arc<Handle>>,
    pub(crate) skipped: Vec<Skipped>,
    /// What each location was found to hold when it last answered.
    pub(crate) surveys: Vec<Arc<Survey>>,
    /// Whether a location does not answer or cannot be watched, so that it is to be looked at now and then.
    pub(crate) blind: bool,
}

impl Roster {
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Handle>> {
        self.plugins.iter().find(|p| p.name == name).cloned()
    }
}

/// The stem, the file name or the whole path: the shortest that is still free.
pub(crate) fn free_name(taken: &HashSet<String>, path: &Path) -> String {
    let stem = path.file_stem().map(|s| shown(s.as_ref()));
    let file = path.file_name().map(|s| shown(s.as_ref()));
    [stem, file].into_iter().flatten().find(|name| !taken.contains(name)).unwrap_or_else(|| shown(path))
}
