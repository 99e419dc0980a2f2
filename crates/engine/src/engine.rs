//! The engine's parts and its lock.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use larder_core::cache::{Cache, CacheConfig};
use larder_core::eviction::Policy;
use larder_core::hash::{HashAlgorithm, Sample};
use larder_core::kv_events::KvEventLog;
use larder_pool::Segment;
use tokio::sync::Notify;

use super::counters::Counters;
use super::instances::Instances;
use super::seal::ChecksumMode;
use super::sessions::Sessions;
use larder_telemetry::Throttle;
use larder_telemetry::events::EventBus;

/// Names a client connection; never reused while the server runs.
pub type ConnectionId = u64;

/// How long a chunk that is being written keeps other writers away. A worker reserves, waits for its forward
/// pass and copies; of a writer that takes longer than this nobody waits any more, and whoever commits first
/// wins.
pub(super) const STAGING_FRESH_MS: u32 = 30_000;

/// Watermarks and times, which may change while the engine runs. Durations are in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Share of the pool in use above which eviction starts, 0 to 1.
    pub eviction_watermark: f64,
    /// Share of the objects evicted in one pass, 0 to 1.
    pub eviction_ratio: f64,
    /// How long a writer may hold memory it does not commit.
    pub write_ttl_ms: u64,
    /// How long a lease outlives the last sign of life of its holder.
    pub read_ttl_ms: u64,
    /// How long a session outlives its last use, unless its holder is alive.
    pub session_ttl_ms: u64,
    /// Silence after which the registration of a worker that pinged ends; 0 for never.
    pub reap_timeout_ms: u64,
    /// The same for a worker that never pinged.
    pub registration_grace_ms: u64,
}

/// What the engine needs to know at start. Durations are in milliseconds.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Tokens per chunk.
    pub chunk_size: u32,
    /// How chunks are named.
    pub hash_algorithm: HashAlgorithm,
    /// Alignment of allocations in the pool, in bytes.
    pub align_bytes: u64,
    /// What checksums are used for.
    pub checksum: ChecksumMode,
    /// What may change while it runs, as it is at first.
    pub limits: Limits,
    /// Records kept for KV event subscribers; 0 switches the stream off.
    pub kv_event_log_size: usize,
    /// Identifies this run of the server to KV event subscribers, in nanoseconds since 1970.
    pub incarnation_ns: u64,
    /// Chunks whose life is followed for histograms.
    pub sample: Sample,
}

/// The cache server behind its protocols. See the [module](super).
#[derive(Debug)]
pub struct Engine {
    pub(super) config: EngineConfig,
    pub(super) pool: Arc<Segment>,
    pub(super) counters: Counters,
    pub(super) bus: Arc<EventBus>,
    pub(super) adoption: super::adoption::Adoption,
    state: Mutex<State>,
    started: Instant,
    /// Whether stores and removals go to the event log: only while somebody subscribes.
    pub(super) recording: AtomicBool,
    /// Whether the pool is still being prepared.
    pub(super) growing: AtomicBool,
    pub(super) grown: Notify,
    /// Bytes of the pool that are waited for while it is being prepared.
    pub(super) wanted_bytes: AtomicU64,
    pub(super) wake_prefetches: Notify,
    pub(super) full_queue: Throttle,
    pub(super) answered: Notify,
    pub(super) wake_eviction: Notify,
    pub(super) wake_events: Notify,
    pub(super) wake_sweep: Notify,
    pub(super) wake_seals: Notify,
}

/// Everything the lock guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) cache: Cache,
    pub(super) limits: Limits,
    pub(super) sessions: Sessions,
    pub(super) instances: Instances,
    pub(super) set_aside: super::set_aside::SetAside,
    pub(super) events: KvEventLog,
    pub(super) heard: super::members::Heard,
    pub(super) lanes: super::stores::StoreLanes,
    pub(super) tier: super::tier::TierQueues,
    pub(super) seals: super::seal::SealQueue,
    pub(super) warm: super::warm::WarmPrefetches,
    pub(super) slots: Option<super::slots::SlotKeeper>,
    pub(super) held: super::held::Held,
    pub(super) lifetimes: super::lifetimes::Lifetimes,
}

impl State {
    /// Writes down what changed in the object table, if somebody is to know after this process.
    pub(super) fn write_down(&mut self) {
        if self.cache.has_changes()
            && let Some(slots) = &mut self.slots
        {
            slots.follow(&mut self.cache);
        }
    }
}

/// The lock, held. What changed is written down before it is let go of.
#[derive(Debug)]
pub(super) struct Locked<'a>(MutexGuard<'a, State>);

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
            set_aside: super::set_aside::SetAside::default(),
            events: KvEventLog::new(config.incarnation_ns, config.kv_event_log_size),
            heard: super::members::Heard::default(),
            lanes: super::stores::StoreLanes::default(),
            tier: super::tier::TierQueues::default(),
            seals: super::seal::SealQueue::default(),
            warm: super::warm::WarmPrefetches::default(),
            slots: None,
            held: super::held::Held::default(),
            lifetimes: super::lifetimes::Lifetimes::new(config.sample),
        };
        Self {
            config,
            pool,
            counters: Counters::default(),
            bus: Arc::default(),
            adoption: super::adoption::Adoption::default(),
            state: Mutex::new(state),
            started: Instant::now(),
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

    /// The limits now.
    pub fn limits(&self) -> Limits {
        self.state().limits.clone()
    }

    /// Changes the limits. What is over the new ones is evicted or given back by the passes that follow.
    pub fn set_limits(&self, limits: Limits) {
        let mut state = self.state();
        state.limits = limits;
        self.after_change(&mut state);
        self.wake_sweep.notify_one();
    }

    /// Evicts by another policy from now on, beginning with the order of the one before. Holds the lock for
    /// some tens of milliseconds for a million objects: the one thing in the engine that grows with them, and
    /// asked for by hand.
    pub fn set_policy(&self, policy: Box<dyn Policy>) {
        self.state().cache.replace_policy(policy);
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
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Sets the clock forward, for tests of what happens with time.
    #[cfg(test)]
    pub(super) fn age_by(&mut self, age: std::time::Duration) {
        self.started -= age;
    }

    /// The guarded state. A panic under the lock fails its own request; the table's operations leave no
    /// half-done state that later ones could misread as resident, so the lock is taken over.
    pub(super) fn state(&self) -> Locked<'_> {
        Locked(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
