//! All plugins of one server and what they share; what is done with them is in the files beside this one.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use super::roster::{Handle, Roster};
use super::watched::Watched;
use crate::discover::{Host, Location};
use crate::error::SuperviseError;
use crate::lock::lock;
use crate::os::{GuardianSpawner, Scratch, Spawner, Watcher};
use crate::plugin::Shared;

/// Runs the plugins of one server. [`Supervisor::stop`] is the way to end them; dropping the supervisor asks
/// them to stop and waits for nothing.
#[derive(Debug)]
pub struct Supervisor<S = GuardianSpawner> {
    pub(super) shared: Arc<Shared<S>>,
    pub(super) locations: Vec<Arc<Location>>,
    pub(super) host: Host,
    pub(super) roster: Mutex<Roster>,
    /// Set once the locations are followed.
    pub(super) watcher: OnceLock<Arc<Watcher>>,
    pub(super) watched: Mutex<Watched>,
    /// One look at the locations at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Whether it stops or has stopped.
    pub(super) stopping: watch::Sender<bool>,
    /// The most time that a stop waits for plugins.
    pub(super) stop_budget: Duration,
    /// Removed with the supervisor.
    pub(super) _scratch: Arc<Scratch>,
}

impl<S: Spawner> Supervisor<S> {
    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        lock(&self.roster)
    }

    pub(super) fn find(&self, name: &str) -> Result<Arc<Handle>, SuperviseError> {
        self.roster().find(name).ok_or_else(|| SuperviseError::Unknown(name.to_owned()))
    }
}
