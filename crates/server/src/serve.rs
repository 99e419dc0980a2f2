//! The RPC thread.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use larder_core::hash::ChunkHasher;
use larder_zmtp::{Endpoint, Limits, Router};
use tokio::sync::oneshot;

use super::error::StartError;
use larder_engine::{Engine, Upkeep, upkeep};
use larder_rpc::{Front, FrontConfig, RpcStats};
use larder_telemetry::tasks::{TaskLevel, Tasks};

/// How long answers that are being written may take when the server stops.
const DRAIN: Duration = Duration::from_millis(100);

/// Most copies at a time.
const COPIES_MAX: usize = 4;

/// Largest message where payloads travel through shared memory: a prompt of `TOKEN_IDS_MAX` tokens and what
/// goes with it.
const PROMPT_MESSAGE_BYTES_MAX: u64 = 96 << 20;

/// A thread for copies ends when it has had nothing to do for this long.
const COPY_THREAD_IDLE: Duration = Duration::from_secs(10);

/// What the RPC thread serves.
pub(super) struct Service {
    pub(super) engine: Arc<Engine>,
    pub(super) hasher: ChunkHasher,
    pub(super) front: FrontConfig,
    pub(super) stats: Arc<RpcStats>,
    pub(super) tasks: Tasks,
}

/// The RPC thread with its port bound: clients that connect wait until there is something to serve. Dropping
/// it ends the thread.
pub(super) struct BoundRpc {
    endpoints: Vec<Endpoint>,
    start: oneshot::Sender<Service>,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl BoundRpc {
    /// Where it listens.
    pub(super) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Begins to serve.
    pub(super) fn serve(self, service: Service) -> Result<RpcServer, StartError> {
        let Self { start, stop, thread, .. } = self;
        start.send(service).map_err(|_| StartError::RpcThread)?;
        Ok(RpcServer { stop, thread })
    }
}

/// The RPC front on its thread.
pub(super) struct RpcServer {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl RpcServer {
    /// Stops accepting, gives answers on their way a moment, and ends.
    pub(super) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the RPC thread failed");
        }
    }
}

/// Starts the RPC thread and returns when its port is bound.
pub(super) fn bind_rpc(address: &str) -> Result<BoundRpc, StartError> {
    let endpoint: Endpoint = address.parse()?;
    let (bound, is_bound) = mpsc::sync_channel(1);
    let (start, started) = oneshot::channel::<Service>();
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("larder-rpc".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(COPIES_MAX)
                .thread_keep_alive(COPY_THREAD_IDLE)
                .thread_name("larder-copy")
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(source) => {
                    _ = bound.send(Err(StartError::System { what: "RPC runtime", source }));
                    return;
                }
            };
            let local = tokio::task::LocalSet::new();
            runtime.block_on(local.run_until(async move {
                let router = match Router::bind(&[endpoint], Limits::default()) {
                    Ok(router) => router,
                    Err(error) => {
                        _ = bound.send(Err(error.into()));
                        return;
                    }
                };
                _ = bound.send(Ok(router.endpoints()));
                // An error means that the start came to nothing.
                let Ok(Service { engine, hasher, front, stats, tasks }) = started.await else { return };
                let router = router.with_limits(limits(&front));
                let sockets = router.handle();
                stats.attach(tokio::runtime::Handle::current(), sockets.clone());
                let front = Front::new(engine.requests(), hasher, front, stats);
                start_tasks(&tasks, &engine.upkeep(), sockets, &front);
                serve(router, front, stopped).await;
            }));
            runtime.shutdown_background();
        })
        .map_err(|source| StartError::System { what: "RPC thread", source })?;
    let endpoints = is_bound.recv().map_err(|_| StartError::RpcThread)??;
    Ok(BoundRpc { endpoints, start, stop, thread })
}

/// What clients may hold: much less where no payload travels in a message.
fn limits(front: &FrontConfig) -> Limits {
    if front.shm_name.is_empty() {
        return Limits::default();
    }
    Limits {
        frame_bytes_max: PROMPT_MESSAGE_BYTES_MAX,
        message_bytes_max: PROMPT_MESSAGE_BYTES_MAX,
        connection_budget_bytes: 16 << 20,
        total_budget_bytes: 512 << 20,
        outgoing_bytes_max: 16 << 20,
        total_outgoing_bytes_max: 128 << 20,
        ..Limits::default()
    }
}

async fn serve(router: Router, front: Arc<Front>, stopped: oneshot::Receiver<()>) {
    let handle = router.handle();
    let serving = router.serve_local(front);
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => tracing::error!("the RPC front ended"),
        _ = stopped => {
            handle.close();
            drop(tokio::time::timeout(DRAIN, serving).await);
        }
    }
}

fn start_tasks(tasks: &Tasks, engine: &Upkeep, sockets: larder_zmtp::Handle, front: &Arc<Front>) {
    let eviction = tasks.register("l1-eviction", TaskLevel::Critical);
    let sweeper = tasks.register("sweeper", TaskLevel::Critical);
    let events = tasks.register("kv-events", TaskLevel::High);
    let shared = engine.clone();
    let evict = move |task| upkeep::evict(shared.clone(), task);
    tokio::task::spawn_local(Tasks::keep_running(eviction, evict));
    let shared = engine.clone();
    let sweep = move |task| larder_rpc::sweep(shared.clone(), sockets.clone(), task);
    tokio::task::spawn_local(Tasks::keep_running(sweeper, sweep));
    let front = Arc::clone(front);
    let pump = move |task| Arc::clone(&front).pump_events(task);
    tokio::task::spawn_local(Tasks::keep_running(events, pump));
}
