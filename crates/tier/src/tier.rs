//! The second tier as a whole: its adapters, its thread, its end.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use larder_storage::{ConfigError, Failure};
use larder_storage::{NOTHING_TO_GO_BY, SOMETHING_TO_GO_BY};
use serde_json::Value as Json;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::budget::Budget;
use super::flow::{Flow, FlowCounts};
use super::lane::{Lane, LaneReport};
use super::resizable_semaphore::ResizableSemaphore;
use super::roster::{Attached, Roster, RosterError};
use super::shared::{Shared, lock};
use super::warnings::Warnings;
use super::{eviction, prefetch, store};
use larder_core::modes::StorePolicy;
use larder_engine::QuotaTable;
use larder_engine::{Backlog, Tiers};
use larder_telemetry::tasks::{Task, TaskLevel, Tasks};

/// How long objects that wait for their store get when the server stops.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// How long adapters get to close.
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Pause before stores to an adapter are started anew after a failure of the controller.
const LANE_RESTART_DELAY: Duration = Duration::from_secs(1);

/// Attachments and detachments under way at once.
const CHANGES_MAX: usize = 8;

/// What the second tier is made of.
#[derive(Clone, Debug)]
pub struct TierConfig {
    /// `--l2-adapter` values, in order of priority.
    pub adapters: Vec<Json>,
    /// What happens after a store.
    pub store_policy: StorePolicy,
    /// Most lookups that load at the same time.
    pub prefetches_max: usize,
    /// Most bytes of memory that may be loading at the same time.
    pub prefetch_bytes_max: u64,
    /// How long a lookup waits for an adapter that is silent.
    pub patience: Duration,
    /// Who may have how much of each adapter that evicts.
    pub quotas: Arc<QuotaTable>,
}

/// Memory that loads take, and what it limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefetchMemory {
    /// The most it may be.
    pub bytes_max: u64,
    /// What it is.
    pub bytes_taken: u64,
    /// Chunks that lookups did without, because there was no room to load them.
    pub shortened_chunks: u64,
}

/// Why the second tier can't be had as asked.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    /// A configuration an adapter can't work with.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An adapter that could never work.
    #[error("{0}")]
    Adapter(Failure),
    /// The list of adapters does not allow it.
    #[error("{0}")]
    Roster(RosterError),
    /// One of the adapters of the start.
    #[error("adapter {index}: {source}")]
    At {
        /// Position in the list.
        index: usize,
        /// What is wrong.
        source: Box<Self>,
    },
    /// Eviction without anything that it could keep.
    #[error("{NOTHING_TO_GO_BY}\nhint: {SOMETHING_TO_GO_BY}")]
    EvictionWithoutLimit,
    /// The system gives no thread or runtime.
    #[error("thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The adapter was configured without a circuit breaker.
    #[error("adapter `{0}` has no breaker")]
    NoBreaker(String),
    /// Too much is being attached and detached.
    #[error("{CHANGES_MAX} adapters are being attached or detached already")]
    Busy,
    /// The tier was stopped.
    #[error("the server is stopping")]
    Stopping,
}

impl From<Failure> for TierError {
    fn from(failure: Failure) -> Self {
        Self::Adapter(failure)
    }
}

/// The second tier. Without adapters it has no thread and costs nothing.
#[derive(Debug)]
pub struct Tier {
    pub(super) shared: Arc<Shared>,
    tasks: Tasks,
    /// A place for everybody who attaches or detaches.
    pub(super) changes: Semaphore,
    thread: Mutex<Thread>,
}

#[derive(Debug)]
enum Thread {
    NotStarted,
    Running { stop: oneshot::Sender<()>, handle: thread::JoinHandle<()> },
    Stopped,
}

impl Tier {
    /// Builds the adapters and starts the controllers.
    ///
    /// # Errors
    /// [`TierError`] if an adapter can never work as configured. A backend that does not answer yet is no
    /// error.
    pub fn start(config: &TierConfig, engine: Tiers, tasks: &Tasks) -> Result<Self, TierError> {
        let shared = Arc::new(Shared {
            engine,
            store_policy: Mutex::new(config.store_policy),
            roster: Roster::default(),
            lanes: Mutex::default(),
            lanes_changed: Notify::new(),
            patience: config.patience,
            warnings: Warnings::default(),
            budget: Budget::new(config.prefetch_bytes_max),
            flow: Flow::default(),
            prefetches: ResizableSemaphore::new(config.prefetches_max),
            quotas: Arc::clone(&config.quotas),
            evictions_changed: Notify::new(),
            switching: Mutex::default(),
        });
        let tier = Self {
            shared,
            tasks: tasks.clone(),
            changes: Semaphore::new(CHANGES_MAX),
            thread: Mutex::new(Thread::NotStarted),
        };
        for (index, adapter) in config.adapters.iter().enumerate() {
            tier.attach(adapter, None).map_err(|source| TierError::At { index, source: Box::new(source) })?;
        }
        Ok(tier)
    }

    /// The adapters, highest priority first.
    pub fn adapters(&self) -> Arc<[Arc<Attached>]> {
        self.shared.roster.list()
    }

    /// What the adapters have to store and did, by id.
    pub fn lanes(&self) -> Vec<(Arc<Attached>, LaneReport)> {
        let lanes = self.shared.lanes();
        lanes.iter().map(|lane| (Arc::clone(lane.attached()), lane.report())).collect()
    }

    /// What passed between memory and the adapters since the start.
    pub fn flow(&self) -> FlowCounts {
        self.shared.flow.counts()
    }

    /// Memory that loads take.
    pub fn prefetch_memory(&self) -> PrefetchMemory {
        let budget = &self.shared.budget;
        PrefetchMemory {
            bytes_max: budget.bytes_max(),
            bytes_taken: budget.bytes_taken(),
            shortened_chunks: budget.shortened_chunks(),
        }
    }

    /// Changes what happens after stores, those that are under way included.
    pub fn set_store_policy(&self, policy: StorePolicy) {
        *lock(&self.shared.store_policy) = policy;
    }

    /// Changes how many lookups load at the same time; those that are loading go on.
    pub fn set_prefetches_max(&self, prefetches_max: usize) {
        self.shared.prefetches.resize(prefetches_max);
    }

    /// Starts the thread if there is none yet.
    ///
    /// # Errors
    /// [`TierError::Stopping`], [`TierError::Thread`].
    pub fn ensure_running(&self) -> Result<(), TierError> {
        let mut thread = lock(&self.thread);
        match *thread {
            Thread::Running { .. } => return Ok(()),
            Thread::Stopped => return Err(TierError::Stopping),
            Thread::NotStarted => {}
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let storing = self.tasks.register("l2-store", TaskLevel::High);
        let loading = self.tasks.register("l2-prefetch", TaskLevel::High);
        let evicting = self.tasks.register("l2-eviction", TaskLevel::High);
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let handle = thread::Builder::new().name("larder-l2".into()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            runtime.block_on(local.run_until(run(shared, [storing, loading, evicting], stopped)));
            runtime.shutdown_background();
        })?;
        *thread = Thread::Running { stop, handle };
        Ok(())
    }

    /// Stores what waits, closes the adapters and ends; each within its patience. Nothing can be attached
    /// from then on.
    pub fn stop(&self) {
        let running = std::mem::replace(&mut *lock(&self.thread), Thread::Stopped);
        let Thread::Running { stop, handle } = running else { return };
        drop(stop);
        if handle.join().is_err() {
            tracing::error!("the second tier's thread failed");
        }
    }
}

async fn run(
    shared: Arc<Shared>,
    [storing, loading, evicting]: [Arc<Task>; 3],
    stopped: oneshot::Receiver<()>,
) {
    let stores = Arc::clone(&shared);
    tokio::task::spawn_local(Tasks::keep_running(storing, move |task| store_all(Arc::clone(&stores), task)));
    let loads = Arc::clone(&shared);
    tokio::task::spawn_local(Tasks::keep_running(loading, move |task| {
        prefetch_all(Arc::clone(&loads), task)
    }));
    let evictions = Arc::clone(&shared);
    tokio::task::spawn_local(Tasks::keep_running(evicting, move |task| {
        eviction::evict_all(Arc::clone(&evictions), task)
    }));
    // An error means that the sender is gone, which is how a stop is told.
    _ = stopped.await;
    // What was not stored by then is told of below.
    _ = tokio::time::timeout(FLUSH_PATIENCE, all(shared.lanes(), async |lane| lane.settled().await)).await;
    for lane in shared.lanes() {
        let LaneReport { waiting: Backlog { objects, .. }, in_flight_bytes, .. } = lane.report();
        if objects > 0 || in_flight_bytes > 0 {
            tracing::warn!(
                "not all was stored in `{}` before the stop: {objects} objects waited, {in_flight_bytes} bytes were under way",
                lane.attached().id()
            );
        }
    }
    all(shared.roster.list().to_vec(), async |attached: Arc<Attached>| {
        let adapter = &attached.built().adapter;
        if tokio::time::timeout(CLOSE_PATIENCE, adapter.close()).await.is_err() {
            tracing::warn!("adapter `{}` did not close in time", attached.id());
        }
    })
    .await;
}

/// Does the same with all of them at once.
async fn all<T: 'static>(items: Vec<T>, act: impl AsyncFn(T) + Copy + 'static) {
    let mut running = JoinSet::new();
    for item in items {
        running.spawn_local(async move { act(item).await });
    }
    while running.join_next().await.is_some() {}
}

/// Keeps every lane running, for ever: what ends one is counted, and only that one is started anew.
async fn store_all(shared: Arc<Shared>, task: Arc<Task>) {
    let mut running = JoinSet::new();
    let mut handles: Vec<(Arc<Lane>, AbortHandle)> = Vec::new();
    loop {
        let lanes = shared.lanes();
        handles.retain(|(lane, handle)| {
            let stays = lanes.iter().any(|other| Arc::ptr_eq(lane, other));
            if !stays {
                handle.abort();
            }
            stays && !handle.is_finished()
        });
        for lane in lanes {
            if handles.iter().all(|(other, _)| !Arc::ptr_eq(&lane, other)) {
                let run = store::run(Arc::clone(&shared), Arc::clone(&lane), Arc::clone(&task));
                handles.push((lane, running.spawn_local(run)));
            }
        }
        tokio::select! {
            () = shared.lanes_changed.notified() => {}
            Some(Err(ended)) = running.join_next() => {
                if ended.is_panic() {
                    task.count_part_failed();
                    tracing::error!("stores to one adapter are started anew: {ended}");
                    tokio::time::sleep(LANE_RESTART_DELAY).await;
                }
            }
        }
    }
}

async fn prefetch_all(shared: Arc<Shared>, task: Arc<Task>) {
    loop {
        shared.engine.prefetches_due().await;
        task.count_run();
        loop {
            let permit = shared.prefetches.take().await;
            let Some(work) = shared.engine.take_prefetch() else { break };
            let loading = tokio::task::spawn_local(prefetch::prefetch(Arc::clone(&shared), work, permit));
            tokio::task::spawn_local(async move {
                if let Err(error) = loading.await {
                    tracing::error!("a prefetch failed: {error}");
                }
            });
        }
    }
}
