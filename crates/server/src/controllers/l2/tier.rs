//! The second tier as a whole: its adapters, its thread, its end.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use larder_core::hash::ChunkHash;
use larder_core::key::Scope;
use larder_storage::{Adapter, AdapterConfig, Built, ConfigError, Failure, Key, build};
use serde_json::Value as Json;
use tokio::sync::{Mutex, Semaphore, oneshot};

use super::{prefetch, store};
use crate::controllers::tasks::{Task, TaskLevel, Tasks};
use crate::engine::Engine;

/// How long objects that wait for their store get when the server stops.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// How long adapters get to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// What happens to an object in memory once every adapter holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorePolicy {
    /// It stays.
    Default,
    /// It goes.
    SkipL1,
}

/// What the second tier is made of.
#[derive(Clone, Debug)]
pub struct TierConfig {
    /// `--l2-adapter` values, in order of priority.
    pub adapters: Vec<Json>,
    /// What happens after a store.
    pub store_policy: StorePolicy,
    /// Most lookups that load at the same time.
    pub prefetches_max: usize,
}

/// Why there is no second tier.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    /// A configuration an adapter can't work with.
    #[error("adapter {index}: {source}")]
    Config {
        /// Position in the list.
        index: usize,
        /// What is wrong.
        source: ConfigError,
    },
    /// An adapter that could never work.
    #[error("adapter {index}: {source}")]
    Adapter {
        /// Position in the list.
        index: usize,
        /// What is wrong.
        source: Failure,
    },
    /// The system gives no thread or runtime.
    #[error("thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the tier's tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    pub(super) store_policy: StorePolicy,
    /// Held by who empties the store queue, so that a stop waits for what is under way.
    pub(super) storing: Mutex<()>,
    adapters: Vec<Arc<dyn Adapter>>,
}

impl Shared {
    /// The adapters, highest priority first.
    pub(super) fn adapters(&self) -> &[Arc<dyn Adapter>] {
        &self.adapters
    }

    /// The name of an object outside memory.
    pub(super) fn key(&self, scope: &Scope, hash: &ChunkHash) -> Key {
        Key {
            chunk_hash: hash.0,
            model_name: Arc::clone(&scope.model_name),
            kv_rank: scope.kv_rank,
            object_group_id: scope.object_group_id,
            cache_salt: Arc::clone(&scope.cache_salt),
        }
    }
}

/// A running second tier.
#[derive(Debug)]
pub struct Tier {
    built: Arc<[Built]>,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Tier {
    /// Builds the adapters and starts the controllers.
    ///
    /// # Errors
    /// [`TierError`] if an adapter can never work as configured. A backend that does not answer yet is no error.
    pub fn start(config: &TierConfig, engine: Arc<Engine>, tasks: &Tasks) -> Result<Self, TierError> {
        let built = config.adapters.iter().enumerate().map(|(index, adapter)| {
            let parsed = AdapterConfig::from_value(adapter, &|name| std::env::var(name).ok())
                .map_err(|source| TierError::Config { index, source })?;
            build(&parsed).map_err(|source| TierError::Adapter { index, source })
        });
        let built: Arc<[Built]> = built.collect::<Result<Vec<_>, TierError>>()?.into();
        let shared = Arc::new(Shared {
            engine,
            store_policy: config.store_policy,
            storing: Mutex::new(()),
            adapters: built.iter().map(|built| Arc::clone(&built.adapter)).collect(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let storing = tasks.register("l2-store", TaskLevel::High);
        let loading = tasks.register("l2-prefetch", TaskLevel::High);
        let prefetches = Arc::new(Semaphore::new(config.prefetches_max.max(1)));
        let (stop, stopped) = oneshot::channel();
        shared.engine.enable_tier();
        let thread = thread::Builder::new().name("larder-l2".into()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            runtime.block_on(local.run_until(run(shared, storing, loading, prefetches, stopped)));
            runtime.shutdown_background();
        })?;
        Ok(Self { built, stop, thread })
    }

    /// The adapters with their counters and breakers, highest priority first.
    pub fn adapters(&self) -> &Arc<[Built]> {
        &self.built
    }

    /// Stores what waits, closes the adapters and ends; each within its patience.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the second tier's thread failed");
        }
    }
}

async fn run(
    shared: Arc<Shared>,
    storing: Arc<Task>,
    loading: Arc<Task>,
    prefetches: Arc<Semaphore>,
    stopped: oneshot::Receiver<()>,
) {
    let stores = Arc::clone(&shared);
    tokio::task::spawn_local(Tasks::keep_running(storing, move |task| store_all(Arc::clone(&stores), task)));
    let loads = Arc::clone(&shared);
    tokio::task::spawn_local(Tasks::keep_running(loading, move |task| {
        prefetch_all(Arc::clone(&loads), task, Arc::clone(&prefetches))
    }));
    // An error means that the sender is gone, which is how a stop is told.
    _ = stopped.await;
    if tokio::time::timeout(FLUSH_PATIENCE, store::drain(&shared)).await.is_err() {
        tracing::warn!("{} objects were not stored in L2: no time left", shared.engine.tier_backlog().0);
    }
    for adapter in shared.adapters() {
        if tokio::time::timeout(CLOSE_PATIENCE, adapter.close()).await.is_err() {
            tracing::warn!("adapter `{}` did not close in time", adapter.kind());
        }
    }
}

async fn store_all(shared: Arc<Shared>, task: Arc<Task>) {
    loop {
        shared.engine.stores_due().await;
        task.count_run();
        store::drain(&shared).await;
    }
}

async fn prefetch_all(shared: Arc<Shared>, task: Arc<Task>, prefetches: Arc<Semaphore>) {
    loop {
        shared.engine.prefetches_due().await;
        task.count_run();
        loop {
            let Ok(permit) = Arc::clone(&prefetches).acquire_owned().await else { return };
            let Some(work) = shared.engine.take_prefetch() else { break };
            let shared = Arc::clone(&shared);
            tokio::task::spawn_local(async move {
                let loading = tokio::task::spawn_local(prefetch::prefetch(Arc::clone(&shared), work.clone()));
                if let Err(error) = loading.await {
                    tracing::error!("a prefetch failed: {error}");
                    shared.engine.finish_prefetch(&work, &[]);
                }
                drop(permit);
            });
        }
    }
}
