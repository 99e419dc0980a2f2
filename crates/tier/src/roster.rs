//! Which adapters there are, in which order, and who is using them.
//!
//! Work takes the list as it is when it begins and keeps to it. An adapter that is taken away meanwhile stays
//! usable for those who have it, and is closed when the last of them is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder_storage::{Adapter, Built, EvictionConfig, Failure};
use serde_json::Value as Json;
use tokio::sync::{Notify, watch};

use super::eviction::{EvictionReport, Evictor};
use super::pulse::Pulse;

/// Adapters at a time.
pub const ADAPTERS_MAX: usize = 32;

/// What trying whether an adapter can store came to: nothing yet, or the last outcome.
type Probe = watch::Sender<Option<Result<(), Failure>>>;

/// What an attached adapter is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Stores, lookups and loads.
    Active,
    /// Nothing for now; it stays in its place.
    Paused,
    /// Nothing any more; it leaves when what runs is done.
    Draining,
}

impl Phase {
    /// The word status pages use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

/// An adapter of the second tier, from its attachment to its detachment.
#[derive(Debug)]
pub struct Attached {
    id: Arc<str>,
    built: Built,
    config: Json,
    eviction: Option<EvictionConfig>,
    evictor: Option<Arc<Evictor>>,
    /// The directory that it keeps its objects in, if it is one.
    directory: Option<PathBuf>,
    pulse: Arc<Pulse>,
    probe: Probe,
    phase: Mutex<Phase>,
    users: AtomicUsize,
    unused: Notify,
}

impl Attached {
    /// Its name while it is attached; never given to another one.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The adapter with its counters and its breaker.
    pub fn built(&self) -> &Built {
        &self.built
    }

    /// Its configuration, without credentials.
    pub fn config(&self) -> &Json {
        &self.config
    }

    /// How it is told to evict.
    pub fn eviction(&self) -> Option<&EvictionConfig> {
        self.eviction.as_ref()
    }

    /// What its eviction knows and did; none without eviction.
    pub fn eviction_report(&self) -> Option<EvictionReport> {
        self.evictor.as_ref().map(|evictor| evictor.report())
    }

    /// Bytes of each tenant, as far as known.
    pub fn bytes_by_salt(&self) -> BTreeMap<Arc<str>, u64> {
        self.eviction_report()
            .map_or_else(|| self.built.adapter.usage().bytes_by_salt, |report| report.bytes_by_salt)
    }

    /// Whether it answers in time.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    pub(super) fn probe(&self) -> &Probe {
        &self.probe
    }

    pub(super) fn evictor(&self) -> Option<&Arc<Evictor>> {
        self.evictor.as_ref()
    }

    /// What it is there for now.
    pub fn phase(&self) -> Phase {
        *self.lock_phase()
    }

    /// Stores and prefetches that are using it.
    pub fn users(&self) -> usize {
        self.users.load(Ordering::Acquire)
    }

    /// Waits until nobody uses it; to be called once it is draining. False if that took too long.
    pub(super) async fn drained(&self, patience: Duration) -> bool {
        let unused = async {
            loop {
                let unused = self.unused.notified();
                tokio::pin!(unused);
                unused.as_mut().enable();
                if self.users() == 0 {
                    return;
                }
                unused.await;
            }
        };
        tokio::time::timeout(patience, unused).await.is_ok()
    }

    fn lock_phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An adapter that is to be attached.
#[derive(Debug)]
pub(super) struct PendingAdapter {
    pub(super) built: Built,
    pub(super) config: Json,
    pub(super) eviction: Option<EvictionConfig>,
    pub(super) evictor: Option<Arc<Evictor>>,
    pub(super) directory: Option<PathBuf>,
}

/// An adapter and the promise that it is not closed under its user.
#[derive(Debug)]
pub(super) struct InUse(Arc<Attached>);

impl InUse {
    /// Takes an adapter into use if it is there for that. Its phase can't change in between.
    pub(super) fn take(attached: &Arc<Attached>) -> Option<Self> {
        let phase = attached.lock_phase();
        (*phase == Phase::Active).then(|| {
            attached.users.fetch_add(1, Ordering::AcqRel);
            Self(Arc::clone(attached))
        })
    }

    pub(super) fn adapter(&self) -> &Arc<dyn Adapter> {
        &self.0.built.adapter
    }

    pub(super) fn attached(&self) -> &Attached {
        &self.0
    }

    /// Whether both are of one adapter.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Clone for InUse {
    fn clone(&self) -> Self {
        self.0.users.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let users = self.0.users.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(users > 0, "who lets go was counted");
        if users == 1 {
            self.0.unused.notify_waiters();
        }
    }
}

/// Why the list can't be changed as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// No adapter is called so.
    #[error("no adapter is called `{0}`\nhint: `larder adapters ls` lists them")]
    Unknown(String),
    /// It is being detached.
    #[error("adapter `{0}` is being detached")]
    Draining(String),
    /// There is no such place in the list.
    #[error("place `{index}` is outside the list of {len} adapters")]
    Place {
        /// The place asked for.
        index: usize,
        /// Adapters in the list.
        len: usize,
    },
    /// Another adapter keeps its objects there.
    #[error("directory `{}` is that of adapter `{id}` already\nhint: give each adapter a directory of its own", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        id: String,
    },
    /// The list is as long as it may get.
    #[error("{ADAPTERS_MAX} adapters are attached already")]
    Full,
}

/// The adapters, highest priority first.
#[derive(Debug, Default)]
pub(super) struct Roster {
    list: Mutex<Arc<[Arc<Attached>]>>,
    attached_total: AtomicU64,
}

impl Roster {
    /// All that are attached, highest priority first.
    pub(super) fn list(&self) -> Arc<[Arc<Attached>]> {
        Arc::clone(&self.lock())
    }

    /// Takes those that work into use, highest priority first.
    pub(super) fn in_use(&self) -> Vec<InUse> {
        self.list().iter().filter_map(InUse::take).collect()
    }

    /// Whether work would find an adapter.
    pub(super) fn has_active(&self) -> bool {
        self.list().iter().any(|attached| attached.phase() == Phase::Active)
    }

    /// Whether an adapter could be added in that place now.
    pub(super) fn check_place(&self, index: Option<usize>) -> Result<(), RosterError> {
        check_place(&self.lock(), index)
    }

    /// Whether nobody keeps objects in that directory.
    pub(super) fn check_directory(&self, directory: Option<&Path>) -> Result<(), RosterError> {
        check_directory(&self.lock(), directory)
    }

    /// Adds an adapter in a place, or as the last one.
    pub(super) fn add(
        &self,
        adapter: PendingAdapter,
        index: Option<usize>,
    ) -> Result<Arc<Attached>, RosterError> {
        let PendingAdapter { built, config, eviction, evictor, directory } = adapter;
        let mut list = self.lock();
        check_place(&list, index)?;
        check_directory(&list, directory.as_deref())?;
        let number = self.attached_total.fetch_add(1, Ordering::Relaxed);
        let attached = Arc::new(Attached {
            id: format!("{}-{number}", built.adapter.kind()).into(),
            built,
            config,
            eviction,
            evictor,
            directory,
            pulse: Arc::default(),
            probe: Probe::default(),
            phase: Mutex::new(Phase::Active),
            users: AtomicUsize::new(0),
            unused: Notify::new(),
        });
        let mut changed = list.to_vec();
        changed.insert(index.unwrap_or(changed.len()), Arc::clone(&attached));
        *list = changed.into();
        Ok(attached)
    }

    /// Takes an adapter off the list.
    pub(super) fn remove(&self, attached: &Arc<Attached>) {
        let mut list = self.lock();
        *list = list.iter().filter(|other| !Arc::ptr_eq(other, attached)).cloned().collect();
    }

    /// The adapter of this id, or else in this place.
    pub(super) fn find(&self, id_or_index: &str) -> Result<Arc<Attached>, RosterError> {
        let list = self.list();
        let by_id = list.iter().find(|attached| attached.id() == id_or_index);
        let found = by_id.or_else(|| list.get(id_or_index.parse::<usize>().ok()?));
        found.cloned().ok_or_else(|| RosterError::Unknown(id_or_index.to_owned()))
    }

    /// Changes what an adapter is there for. Draining is for ever.
    pub(super) fn enter(&self, attached: &Attached, phase: Phase) -> Result<(), RosterError> {
        let mut current = attached.lock_phase();
        if *current == Phase::Draining {
            return Err(RosterError::Draining(attached.id().to_owned()));
        }
        *current = phase;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[Arc<Attached>]>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_directory(list: &[Arc<Attached>], directory: Option<&Path>) -> Result<(), RosterError> {
    let Some(directory) = directory else { return Ok(()) };
    match list.iter().find(|attached| attached.directory.as_deref() == Some(directory)) {
        Some(other) => Err(RosterError::Directory { path: directory.to_owned(), id: other.id().to_owned() }),
        None => Ok(()),
    }
}

fn check_place(list: &[Arc<Attached>], index: Option<usize>) -> Result<(), RosterError> {
    match index {
        _ if list.len() >= ADAPTERS_MAX => Err(RosterError::Full),
        Some(index) if index > list.len() => Err(RosterError::Place { index, len: list.len() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use larder_storage::{AdapterConfig, build};
    use serde_json::json;

    use super::*;

    fn mock() -> PendingAdapter {
        let config = json!({ "type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 1 });
        let built = build(&AdapterConfig::from_value(&config, &|_| None).unwrap()).unwrap();
        PendingAdapter { built, config, eviction: None, evictor: None, directory: None }
    }

    fn ids(roster: &Roster) -> Vec<String> {
        roster.list().iter().map(|attached| attached.id().to_owned()).collect()
    }

    #[test]
    fn places_are_priorities_and_ids_are_not_given_twice() {
        let roster = Roster::default();
        let first = roster.add(mock(), None).unwrap();
        roster.add(mock(), Some(0)).unwrap();
        assert_eq!(ids(&roster), ["mock-1", "mock-0"]);
        let outside = roster.add(mock(), Some(3)).unwrap_err();
        assert_eq!(outside, RosterError::Place { index: 3, len: 2 });
        assert_eq!(roster.find("1").unwrap().id(), "mock-0");
        assert_eq!(roster.find("mock-1").unwrap().id(), "mock-1");
        assert_eq!(roster.find("mock-7").unwrap_err(), RosterError::Unknown("mock-7".into()));
        roster.remove(&first);
        roster.add(mock(), None).unwrap();
        assert_eq!(ids(&roster), ["mock-1", "mock-2"]);
    }

    #[test]
    fn the_list_is_bounded() {
        let roster = Roster::default();
        for _ in 0..ADAPTERS_MAX {
            roster.add(mock(), None).unwrap();
        }
        assert_eq!(roster.add(mock(), None).unwrap_err(), RosterError::Full);
        assert_eq!(roster.check_place(Some(0)).unwrap_err(), RosterError::Full);
    }

    #[tokio::test(start_paused = true)]
    async fn a_draining_adapter_waits_for_its_users_and_takes_no_new_ones() {
        let roster = Roster::default();
        let attached = roster.add(mock(), None).unwrap();
        roster.enter(&attached, Phase::Paused).unwrap();
        assert!(roster.in_use().is_empty() && !roster.has_active());
        roster.enter(&attached, Phase::Active).unwrap();
        let user = roster.in_use().remove(0);
        let another = user.clone();
        roster.enter(&attached, Phase::Draining).unwrap();
        assert!(roster.in_use().is_empty());
        let again = roster.enter(&attached, Phase::Active).unwrap_err();
        assert_eq!(again, RosterError::Draining("mock-0".into()));
        assert!(user.is(&another));
        drop(user);
        assert!(!attached.drained(Duration::from_secs(1)).await, "one user is left");
        let (drained, ()) = tokio::join!(attached.drained(Duration::from_secs(1)), async { drop(another) });
        assert!(drained);
    }

    #[test]
    fn each_adapter_has_a_directory_of_its_own() {
        let roster = Roster::default();
        let at = |path: &str| PendingAdapter { directory: Some(path.into()), ..mock() };
        roster.add(mock(), None).unwrap();
        roster.add(at("/a"), None).unwrap();
        roster.add(at("/b"), None).unwrap();
        let taken = RosterError::Directory { path: "/b".into(), id: "mock-2".into() };
        assert_eq!(roster.check_directory(Some(Path::new("/b"))), Err(taken.clone()));
        assert_eq!(roster.add(at("/b"), None).unwrap_err(), taken);
        assert_eq!(
            (roster.check_directory(Some(Path::new("/c"))), roster.check_directory(None)),
            (Ok(()), Ok(()))
        );
        let users = roster.in_use();
        assert!(!users[0].is(&users[1]));
    }
}
