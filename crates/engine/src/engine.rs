//! The engine's parts and its lock.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use larder_core::cache::{Cache, CacheConfig, EntryRef};
use larder_core::eviction::Policy;
use larder_core::kv_events::KvEventLog;
use larder_pool::Segment;
use larder_telemetry::Throttle;
use larder_telemetry::events::EventBus;
use tokio::sync::Notify;

use crate::config::{EngineConfig, Limits};
use crate::state::adoption::Adoption;
use crate::state::connections::LastSeen;
use crate::state::counters::Counters;
use crate::state::held::Held;
use crate::state::instances::Instances;
use crate::state::lifetimes::Lifetimes;
use crate::state::pending::Abandoned;
use crate::state::prefetches::Prefetches;
use crate::state::seals::SealQueue;
use crate::state::sessions::Sessions;
use crate::state::set_aside::SetAside;
use crate::state::slots::SlotKeeper;
use crate::state::stores::StoreLanes;
use crate::state::warm::WarmPrefetches;

/// How long a chunk that is being written keeps other writers away. A worker reserves, waits for its forward
/// pass and copies; of a writer that takes longer than this nobody waits any more, and whoever commits first
/// wins.
pub(crate) const STAGING_FRESH_MS: u32 = 30_000;

/// A time of the engine as the object table counts it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the table's clock wraps, and the table reckons with that"
)]
pub(crate) fn table_ms(now_ms: u64) -> u32 {
    now_ms as u32
}

/// The cache server behind its protocols. See the [crate](crate).
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) pool: Arc<Segment>,
    pub(crate) counters: Counters,
    pub(crate) bus: Arc<EventBus>,
    pub(crate) adoption: Adoption,
    state: Mutex<State>,
    started: Instant,
    #[cfg(test)]
    aged_ms: AtomicU64,
    /// Whether stores and removals go to the event log: only while somebody subscribes.
    pub(crate) recording: AtomicBool,
    /// Whether the pool is still being prepared.
    pub(crate) growing: AtomicBool,
    pub(crate) grown: Notify,
    /// Bytes of the pool that are waited for while it is being prepared.
    pub(crate) wanted_bytes: AtomicU64,
    pub(crate) wake_prefetches: Notify,
    pub(crate) full_queue: Throttle,
    pub(crate) answered: Notify,
    pub(crate) wake_eviction: Notify,
    pub(crate) wake_events: Notify,
    pub(crate) wake_sweep: Notify,
    pub(crate) wake_seals: Notify,
}

/// Everything the lock guards.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) cache: Cache,
    pub(crate) limits: Limits,
    pub(crate) sessions: Sessions,
    pub(crate) instances: Instances,
    pub(crate) set_aside: SetAside,
    pub(crate) events: KvEventLog,
    pub(crate) last_seen: LastSeen,
    pub(crate) lanes: StoreLanes,
    pub(crate) prefetches: Prefetches,
    pub(crate) seals: SealQueue,
    pub(crate) warm: WarmPrefetches,
    pub(crate) slots: Option<SlotKeeper>,
    pub(crate) held: Held,
    pub(crate) lifetimes: Lifetimes,
}

impl State {
    /// Writes down what changed in the object table, if somebody is to know after this process.
    pub(crate) fn write_down(&mut self) {
        if self.cache.has_changes()
            && let Some(slots) = &mut self.slots
        {
            slots.follow(&mut self.cache);
        }
    }

    /// Takes back memory nobody will write any more.
    pub(crate) fn abort_all(&mut self, entries: impl IntoIterator<Item = EntryRef>) {
        for entry in entries {
            self.cache.abort(entry);
        }
    }

    /// Gives back one lease on each object.
    pub(crate) fn release_all(&mut self, entries: impl IntoIterator<Item = EntryRef>) {
        for entry in entries {
            self.cache.release(entry, 1);
        }
    }

    /// Takes back what a worker left behind.
    pub(crate) fn clean_up(&mut self, abandoned: Abandoned) {
        self.abort_all(abandoned.staging);
        self.release_all(abandoned.leases);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for (_, session) in self.sessions.take_expired(|_, _| true) {
            self.cache.release_all(session.found.into_leases());
        }
    }
}

/// The lock, held. What changed is written down before it is let go of.
#[derive(Debug)]
pub(crate) struct Locked<'a>(MutexGuard<'a, State>);

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.write_down();
    }
}

impl Engine {
    /// An engine over an empty pool.
    pub fn new(config: EngineConfig, pool: Arc<Segment>, policy: Box<dyn Policy>) -> Self {
        let cache = CacheConfig {
            capacity_bytes: 0,
            align_bytes: config.align_bytes,
            staging_fresh_ms: STAGING_FRESH_MS
                .min(u32::try_from(config.limits.write_ttl_ms).unwrap_or(u32::MAX)),
        };
        let mut cache = Cache::new(cache, policy);
        cache.follow(config.sample);
        let state = State {
            cache,
            limits: config.limits.clone(),
            sessions: Sessions::default(),
            instances: Instances::default(),
            set_aside: SetAside::default(),
            events: KvEventLog::new(config.incarnation_ns, config.kv_event_log_size),
            last_seen: LastSeen::default(),
            lanes: StoreLanes::default(),
            prefetches: Prefetches::default(),
            seals: SealQueue::default(),
            warm: WarmPrefetches::default(),
            slots: None,
            held: Held::default(),
            lifetimes: Lifetimes::new(config.sample),
        };
        Self {
            config,
            pool,
            counters: Counters::default(),
            bus: Arc::default(),
            adoption: Adoption::default(),
            state: Mutex::new(state),
            started: Instant::now(),
            #[cfg(test)]
            aged_ms: AtomicU64::new(0),
            recording: AtomicBool::new(false),
            growing: AtomicBool::new(true),
            grown: Notify::new(),
            wanted_bytes: AtomicU64::new(0),
            wake_prefetches: Notify::new(),
            full_queue: Throttle::default(),
            answered: Notify::new(),
            wake_eviction: Notify::new(),
            wake_events: Notify::new(),
            wake_sweep: Notify::new(),
            wake_seals: Notify::new(),
        }
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// The memory it hands out.
    pub fn pool(&self) -> &Arc<Segment> {
        &self.pool
    }

    /// What it has counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where it says what happens.
    pub fn bus(&self) -> &Arc<EventBus> {
        &self.bus
    }

    /// Milliseconds since the engine was made: the clock of everything in it.
    pub(crate) fn now_ms(&self) -> u64 {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        #[cfg(test)]
        let now_ms = now_ms + self.aged_ms.load(std::sync::atomic::Ordering::Relaxed);
        now_ms
    }

    /// Sets the clock forward, for tests of what happens with time.
    #[cfg(test)]
    pub(crate) fn age_by(&self, age: std::time::Duration) {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.aged_ms.fetch_add(age_ms, std::sync::atomic::Ordering::Relaxed);
    }

    /// The guarded state. A panic under the lock fails its own request; the table's operations leave no
    /// half-done state that later ones could misread as resident, so the lock is taken over.
    pub(crate) fn state(&self) -> Locked<'_> {
        Locked(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
