//! One adapter's ledger, its marks and its counters.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder_core::eviction::{EntryId, Removal};
use larder_core::key::ObjectKey;
use larder_storage::decorators::Observer;
use larder_storage::{Adapter, EvictionConfig, FailureKind};
use larder_telemetry::Throttles;
use tokio::sync::Notify;

use super::ledger::Ledger;
use larder_engine::QuotaTable;

/// Salts that are counted one by one; the rest is counted together.
const COUNTED_SALTS_MAX: usize = 64;

/// The label of the rest.
const OTHER: &str = "(other)";

/// Keeps one adapter within its capacity and its tenants within their quotas.
#[derive(Debug)]
pub(crate) struct Evictor {
    /// Without the observer: what is evicted is accounted for here.
    pub(super) adapter: Arc<dyn Adapter>,
    pub(super) config: EvictionConfig,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) quotas: Arc<QuotaTable>,
    pub(super) wake: Notify,
    /// The adapter may hold what nobody said that it does.
    pub(crate) is_unsure: Notify,
    pub(super) warnings: Throttles<FailureKind>,
    state: Mutex<State>,
    pub(super) is_indexed: AtomicBool,
    pub(super) counts: Counts,
}

/// What the lock guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    /// Bytes of stores under way.
    pub(super) promised_bytes: u64,
    /// Objects being deleted: nobody else's victims.
    pub(super) leaving: HashSet<EntryId>,
    evicted_by_salt: HashMap<Arc<str>, u64>,
}

/// Counters since the adapter was attached.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) passes: AtomicU64,
    pub(super) evicted_objects: AtomicU64,
    pub(super) evicted_bytes: AtomicU64,
    pub(super) locked_objects: AtomicU64,
    pub(super) failed_objects: AtomicU64,
    pub(super) refused_objects: AtomicU64,
}

/// What an evictor knows and did.
#[derive(Clone, Debug)]
pub struct EvictionReport {
    /// Objects in the ledger.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether everything that was there at attachment has been listed.
    pub is_indexed: bool,
    /// Bytes of each tenant.
    pub bytes_by_salt: BTreeMap<Arc<str>, u64>,
    /// Times it looked for something to evict and found the adapter or a tenant filled.
    pub passes: u64,
    /// Objects evicted.
    pub evicted_objects: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// The same by tenant; beyond the first so many tenants under one name.
    pub evicted_by_salt: BTreeMap<Arc<str>, u64>,
    /// Times a victim was locked by a lookup and passed over.
    pub locked_objects: u64,
    /// Times the adapter failed to delete a victim.
    pub failed_objects: u64,
    /// Objects not stored, because their tenant may have nothing of their size.
    pub refused_objects: u64,
}

impl Evictor {
    /// Begins with an empty ledger.
    pub(crate) fn new(adapter: Arc<dyn Adapter>, config: EvictionConfig, quotas: Arc<QuotaTable>) -> Self {
        let state = State {
            ledger: Ledger::new(config.policy.new_policy()),
            promised_bytes: 0,
            leaving: HashSet::new(),
            evicted_by_salt: HashMap::new(),
        };
        Self {
            capacity_bytes: adapter.usage().bytes_capacity,
            adapter,
            config,
            quotas,
            wake: Notify::new(),
            is_unsure: Notify::new(),
            warnings: Throttles::default(),
            state: Mutex::new(state),
            is_indexed: AtomicBool::new(false),
            counts: Counts::default(),
        }
    }

    /// Whether an object may be stored at all: a tenant's quota must be able to hold it.
    pub(crate) fn admits(&self, cache_salt: &str, bytes: u64) -> bool {
        let admits = self.quotas.limit_for(cache_salt).is_none_or(|limit| bytes <= limit);
        if !admits {
            self.counts.refused_objects.fetch_add(1, Ordering::Relaxed);
        }
        admits
    }

    /// A store was given up that may still come to its end: what it leaves is found by listing.
    pub(crate) fn note_unsure(&self) {
        self.is_unsure.notify_one();
    }

    /// A request used these chunks of its prompt; given in their order.
    pub(crate) fn touch(&self, keys: impl DoubleEndedIterator<Item = ObjectKey>) {
        let mut state = self.state();
        keys.rev().for_each(|key| state.ledger.touch(&key));
    }

    /// A request that has these chunks already goes on; given in their order.
    pub(crate) fn refresh(&self, keys: impl DoubleEndedIterator<Item = ObjectKey>) {
        let mut state = self.state();
        keys.rev().for_each(|key| state.ledger.refresh(&key));
    }

    /// What it knows and did.
    pub(crate) fn report(&self) -> EvictionReport {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let state = self.state();
        EvictionReport {
            objects: state.ledger.len() as u64,
            bytes: state.ledger.bytes(),
            is_indexed: self.is_indexed.load(Ordering::Relaxed),
            bytes_by_salt: state.ledger.tenants().map(|(salt, share)| (salt, share.bytes)).collect(),
            passes: count(&self.counts.passes),
            evicted_objects: count(&self.counts.evicted_objects),
            evicted_bytes: count(&self.counts.evicted_bytes),
            evicted_by_salt: state.evicted_by_salt.iter().map(|(salt, n)| (Arc::clone(salt), *n)).collect(),
            locked_objects: count(&self.counts.locked_objects),
            failed_objects: count(&self.counts.failed_objects),
            refused_objects: count(&self.counts.refused_objects),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From which bytes on something has to leave.
    pub(super) fn mark(&self, limit_bytes: u64) -> u64 {
        part_of(limit_bytes, self.config.trigger_watermark)
    }

    /// Whether the adapter, or the tenant, has to give something.
    pub(super) fn is_due(&self, state: &State, cache_salt: &str) -> bool {
        let ledger = &state.ledger;
        let is_filled = |bytes: u64, limit| bytes > 0 && bytes >= self.mark(limit);
        self.capacity_bytes.is_some_and(|capacity| is_filled(ledger.bytes(), capacity))
            || self
                .quotas
                .limit_for(cache_salt)
                .is_some_and(|limit| is_filled(ledger.usage_of(cache_salt).bytes, limit))
    }
}

impl State {
    pub(super) fn count_evicted(&mut self, cache_salt: &Arc<str>) {
        let is_counted =
            self.evicted_by_salt.contains_key(cache_salt) || self.evicted_by_salt.len() < COUNTED_SALTS_MAX;
        let label = if is_counted { Arc::clone(cache_salt) } else { OTHER.into() };
        *self.evicted_by_salt.entry(label).or_default() += 1;
    }
}

impl Evictor {
    /// Notes objects in chunk order, so the last is entered first: no chunk may be colder than its
    /// continuation. What was stored while it was being deleted is there again.
    pub(super) fn enter(&self, objects: &[(ObjectKey, u64)], is_stored: bool) {
        let mut state = self.state();
        let mut is_due = false;
        let mut salt: Option<&str> = None;
        for (key, bytes) in objects.iter().rev() {
            let id = state.ledger.insert(key, *bytes);
            if is_stored {
                state.leaving.remove(&id);
            }
            if salt.is_some_and(|salt| salt != &**key.namespace.cache_salt()) {
                is_due |= salt.is_some_and(|salt| self.is_due(&state, salt));
            }
            salt = Some(key.namespace.cache_salt());
        }
        is_due |= salt.is_some_and(|salt| self.is_due(&state, salt));
        drop(state);
        if is_due {
            self.wake.notify_one();
        }
    }
}

/// A share, within 0..=1, of so many bytes or objects.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of it is within 0 and `whole`, and need not be exact"
)]
pub(super) fn part_of(whole: u64, share: f64) -> u64 {
    (whole as f64 * share) as u64
}

impl Observer for Evictor {
    fn held(&self, objects: &[(ObjectKey, u64)]) {
        self.enter(objects, true);
    }

    fn gone(&self, keys: &[ObjectKey]) {
        let mut state = self.state();
        keys.iter().for_each(|key| state.ledger.remove(key, Removal::Dropped));
    }
}
