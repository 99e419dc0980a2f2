//! What the tier's tasks share: the adapters, what is to be stored and loaded, and what limits it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder_engine::{QuotaTable, Tiers};
use tokio::sync::Notify;

use super::budget::Budget;
use larder_core::modes::StorePolicy;

use super::flow::Flow;
use super::lane::Lane;
use super::resizable_semaphore::ResizableSemaphore;
use super::roster::Roster;
use super::warnings::Warnings;

/// What the tier's tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) engine: Tiers,
    pub(super) store_policy: Mutex<StorePolicy>,
    pub(super) roster: Roster,
    /// One for every adapter on the list.
    pub(super) lanes: Mutex<Vec<Arc<Lane>>>,
    pub(super) lanes_changed: Notify,
    pub(super) patience: Duration,
    pub(super) warnings: Warnings,
    pub(super) budget: Budget,
    pub(super) flow: Flow,
    pub(super) prefetches: Arc<ResizableSemaphore>,
    pub(super) quotas: Arc<QuotaTable>,
    /// An adapter came or went.
    pub(super) evictions_changed: Notify,
    pub(super) switching: Mutex<()>,
}

impl Shared {
    /// Lets the engine queue work if there is an adapter for it. Of two changes, the later one decides.
    pub(super) fn note_roster_change(&self) {
        let _turn = lock(&self.switching);
        let attached = self.roster.list();
        let mut lanes = lock(&self.lanes);
        lanes.retain(|lane| attached.iter().any(|attached| Arc::ptr_eq(attached, lane.attached())));
        for attached in attached.iter() {
            if !lanes.iter().any(|lane| Arc::ptr_eq(attached, lane.attached())) {
                lanes.push(Lane::new(&self.engine, attached));
            }
        }
        lanes.iter().for_each(|lane| lane.follow_phase());
        drop(lanes);
        self.engine.set_enabled(self.roster.has_active());
        self.lanes_changed.notify_one();
        self.evictions_changed.notify_one();
    }

    pub(super) fn lanes(&self) -> Vec<Arc<Lane>> {
        lock(&self.lanes).clone()
    }

    /// What happens to an object in memory once every adapter holds it.
    pub(super) fn store_policy(&self) -> StorePolicy {
        *lock(&self.store_policy)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
