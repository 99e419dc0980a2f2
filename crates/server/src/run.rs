//! Start, wait for a signal, stop.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use larder_core::hash::{ChunkHasher, HashAlgorithm, Sample};
use larder_pool::Segment;
use larder_supervise::{Supervisor, SupervisorConfig};
use larder_zmtp::Endpoint;
use tokio::net::TcpListener;

use super::announce::{self, Running};
use super::error::{StartError, http_url};
use super::pool;
use super::serve::{RpcServer, Service, bind_rpc};
use super::service_manager::ServiceManager;
use super::shutdown::Shutdown;
use crate::effects;
use larder_admin::{Admin, Effects, Plugins};
use larder_config::json::{Resolved, plugin_config_json, plugin_extra_config_json};
use larder_config::{Live, ServerConfig};
use larder_engine::QuotaTable;
use larder_engine::upkeep::{Preparation, Sealer};
use larder_engine::{Engine, EngineConfig};
use larder_rpc::{FrontConfig, RpcStats};
use larder_telemetry::BuildInfo;
use larder_telemetry::LogHandle;
use larder_telemetry::events::EventBus;
use larder_telemetry::tasks::Tasks;
use larder_tier::{Tier, TierConfig};

/// Work for the admin API that waits for files or the process table. Each location of plugins has one thread
/// more, which it may block.
const BLOCKING_THREADS_MAX: usize = 2;

/// Runs a server of this build until SIGTERM or SIGINT, then stops it; a second signal stops it at once.
/// `log` is the log whose level may be changed meanwhile.
///
/// # Errors
/// [`StartError`] if it can't start.
pub fn run(build: BuildInfo, live: Live, log: Option<LogHandle>) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX + live.config().plugins.locations.len())
        .build()
        .map_err(|source| StartError::System { what: "control runtime", source })?;
    let control = tokio::task::LocalSet::new();
    let served = runtime.block_on(control.run_until(Node::start(build, live, log)));
    // A file system that does not answer must not keep the server from ending.
    runtime.shutdown_background();
    served
}

/// Allows as many open files as the system lets a process ask for: every connection is one.
fn raise_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::warn!("open files stay limited to {:?}: {error}", limit.current);
    }
}

/// The parts of a running server.
struct Node {
    build: BuildInfo,
    endpoints: Vec<Endpoint>,
    tasks: Tasks,
    engine: Arc<Engine>,
    tier: Arc<Tier>,
    quotas: Arc<QuotaTable>,
    sealer: Sealer,
    rpc: RpcServer,
    preparation: Arc<Preparation>,
    preparing: thread::JoinHandle<()>,
    adopting: Option<thread::JoinHandle<()>>,
    manager: Arc<ServiceManager>,
}

impl Node {
    async fn start(build: BuildInfo, live: Live, log: Option<LogHandle>) -> Result<(), StartError> {
        raise_open_files();
        let config = live.config();
        let mut shutdown = Shutdown::listen()?;
        let algorithm = HashAlgorithm::new(config.mp.hash_algorithm, config.mp.python_hash_seed.as_deref());
        let hasher =
            ChunkHasher::new(algorithm, config.mp.chunk_size as usize).expect("a checked chunk size");
        tracing::info!(
            "token hasher: chunk_size={}, hash_algorithm={}, NONE_HASH={}",
            config.mp.chunk_size,
            config.mp.hash_algorithm.as_str(),
            hasher.none_hash()
        );
        // What may keep a server from starting comes before it takes over what the one before left.
        let rpc = bind_rpc(&format!("tcp://{}:{}", config.mp.host, config.mp.port))?;
        let http = listen_http(&config).await?;
        let pool::Pool { segment, memory } = pool::open(&config)?;
        let pool = Arc::new(segment);
        let engine = Arc::new(Engine::new(
            engine_config(&config, algorithm),
            Arc::clone(&pool),
            config.eviction.policy.new_policy(),
        ));
        let quotas = Arc::new(QuotaTable::new(config.quotas.clone()));
        engine.operator().set_quotas(&config.quotas);
        let tasks = Tasks::default();
        let tier = Arc::new(Tier::start(&tier_config(&config, &quotas), engine.tiers(), &tasks)?);
        let sealer = Sealer::start(&engine.upkeep(), &tasks)
            .map_err(|source| StartError::System { what: "sealing thread", source })?;
        let adopting = pool::remember(&engine.upkeep(), memory)?;
        if engine.is_adopting() {
            // Lookups wait for objects of the server before as they wait for adapters.
            tier.ensure_running()?;
        }
        let stats = Arc::new(RpcStats::default());
        let endpoints = rpc.endpoints().to_vec();
        for endpoint in &endpoints {
            tracing::info!("LMCache ZMQ cache server is running on {endpoint}");
        }
        let rpc = rpc.serve(Service {
            engine: Arc::clone(&engine),
            hasher: hasher.clone(),
            front: front_config(&config, &pool),
            stats: Arc::clone(&stats),
            tasks: tasks.clone(),
        })?;
        let preparation = Arc::new(Preparation::default());
        let preparing = pool::prepare(&config, &engine.upkeep(), &preparation)?;
        let node = Self {
            build,
            endpoints,
            engine,
            tier,
            quotas,
            tasks,
            sealer,
            rpc,
            preparation,
            preparing,
            adopting,
            manager: Arc::new(ServiceManager::of(std::process::id(), |name| std::env::var_os(name))),
        };
        let served = node.serve(live, log, http, hasher, stats, &mut shutdown).await;
        node.stop();
        served
    }

    /// Serves HTTP and runs the plugins until a signal comes.
    async fn serve(
        &self,
        live: Live,
        log: Option<LogHandle>,
        (listener, url): (TcpListener, String),
        hasher: ChunkHasher,
        rpc: Arc<RpcStats>,
        shutdown: &mut Shutdown,
    ) -> Result<(), StartError> {
        let config = live.config();
        let resolved = Resolved {
            shm_name: self.engine.pool().name().map(pool::short_name).unwrap_or_default().to_owned(),
            ..Resolved::requested(&config)
        };
        let control = Plugins::default();
        let (engine, tier) = (self.engine.operator(), Arc::clone(&self.tier));
        let admin = Admin {
            build: self.build,
            engine: self.engine.operator(),
            live: Arc::new(live),
            resolved: Arc::new(resolved.clone()),
            effects: Effects::new(move |before, after| {
                effects::apply(&engine, &tier, log.as_ref(), before, after)
            }),
            http: Arc::default(),
            endpoints: self.endpoints.as_slice().into(),
            rpc,
            tasks: self.tasks.clone(),
            preparation: Arc::clone(&self.preparation),
            hasher,
            tier: Arc::clone(&self.tier),
            quotas: Arc::clone(&self.quotas),
            plugins: control.clone(),
        };
        let teller = Arc::new(Admin { plugins: Plugins::default(), ..admin.clone() });
        tracing::info!("LMCache cache server is running... (HTTP on {url})");
        self.announce(&config, &url, Arc::clone(&admin.rpc));
        let connections = Arc::clone(&admin.http);
        let hangups_of = admin.clone();
        let http =
            tokio::task::spawn_local(larder_admin::serve(listener, larder_admin::router(admin), connections));
        if let Some(hangups) = shutdown.take_hangups() {
            tokio::task::spawn_local(larder_admin::follow_hangups(hangups_of, hangups));
        }
        let mut plugins = None;
        let serving = async {
            plugins = start_plugins(&config, &resolved, teller, self.engine.bus()).await.map(Arc::new);
            if let Some(plugins) = &plugins {
                control.attach(Arc::clone(plugins));
                tokio::task::spawn_local(larder_admin::follow_locations(control, Arc::clone(plugins)));
            }
            std::future::pending().await
        };
        let signal = tokio::select! {
            signal = shutdown.signalled() => signal,
            never = serving => never,
        };
        tracing::info!("stopping: {signal}");
        self.manager.tell_stopping(signal).await;
        http.abort();
        if let Some(plugins) = plugins {
            tokio::select! {
                report = plugins.stop() => tracing::debug!("plugins stopped: {report:?}"),
                signal = shutdown.signalled() => tracing::warn!("stopping at once: {signal}"),
            }
        }
        Ok(())
    }

    fn announce(&self, config: &ServerConfig, http_url: &str, rpc: Arc<RpcStats>) {
        let adapters = self.tier.adapters();
        let adapters: Vec<&str> = adapters.iter().map(|attached| attached.id()).collect();
        let running = Running {
            build: self.build,
            shared_as: self.engine.pool().name(),
            adapters: &adapters,
            endpoints: &self.endpoints,
            http_url,
        };
        let summary = announce::summary(config, &running);
        tracing::info!("{summary}");
        if let Some(option) = announce::vllm_option(&self.endpoints) {
            tracing::info!("point vLLM at it with {option}");
        }
        tokio::task::spawn_local(Arc::clone(&self.manager).follow(rpc, summary));
    }

    fn stop(self) {
        self.preparation.stop();
        self.preparing.thread().unpark();
        self.rpc.stop();
        self.tier.stop();
        self.sealer.stop();
        pool::close(&self.engine.upkeep(), self.adopting);
        if self.preparing.join().is_err() {
            tracing::error!("the pool's preparation failed");
        }
        tracing::info!("stopped");
    }
}

fn front_config(config: &ServerConfig, pool: &Segment) -> FrontConfig {
    FrontConfig {
        shm_name: pool.name().unwrap_or_default().to_owned(),
        pool_bytes: pool.len_bytes(),
        log_transfers: config.observability.enabled && config.observability.logging_enabled,
        experimental: if config.mp.kv_event_log_size > 0 {
            vec!["kv_event_stream".into()]
        } else {
            Vec::new()
        },
    }
}

fn engine_config(config: &ServerConfig, hash_algorithm: HashAlgorithm) -> EngineConfig {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    EngineConfig {
        chunk_size: config.mp.chunk_size,
        hash_algorithm,
        align_bytes: config.l1.align_bytes,
        checksum: config.l1.checksum,
        limits: effects::limits(config),
        kv_event_log_size: config.mp.kv_event_log_size,
        incarnation_ns: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
        sample: Sample::of(if config.observability.enabled && config.observability.metrics_enabled {
            config.observability.metrics_sample_rate
        } else {
            0.0
        }),
    }
}

fn tier_config(config: &ServerConfig, quotas: &Arc<QuotaTable>) -> TierConfig {
    TierConfig {
        adapters: config.l2.adapters.clone(),
        store_policy: config.l2.store_policy,
        prefetches_max: config.l2.prefetch_max_in_flight as usize,
        prefetch_bytes_max: config.l2.prefetch_bytes_max,
        patience: Duration::from_secs_f64(config.l2.patience_seconds),
        quotas: Arc::clone(quotas),
    }
}

async fn listen_http(config: &ServerConfig) -> Result<(TcpListener, String), StartError> {
    let (host, port) = (config.http.host.as_str(), config.http.port);
    let failed = |source| StartError::Http { address: format!("{host}:{port}"), source };
    let listener = TcpListener::bind((host, port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, http_url(address)))
}

/// Starts the plugins. A server whose plugins can't be supervised serves all the same, and says so.
async fn start_plugins(
    config: &ServerConfig,
    resolved: &Resolved,
    teller: Arc<Admin>,
    bus: &EventBus,
) -> Option<Supervisor> {
    if config.plugins.locations.is_empty() {
        return None;
    }
    let locations = config.plugins.locations.iter().map(Into::into).collect();
    let plugins = SupervisorConfig {
        extra_config: plugin_extra_config_json(config),
        sole_parent: true,
        control: Some(teller),
        events: bus.log().clone(),
        defaults: config.plugins.defaults.clone(),
        interpreters: config.plugins.interpreters.clone(),
        redact_secrets: config.plugins.redact_secrets,
        writable_by_others: config.plugins.writable_by_others,
        stop_budget: config.plugins.stop_budget,
        ..SupervisorConfig::new(locations, plugin_config_json(config, resolved))
    };
    Supervisor::start(plugins).await.inspect_err(|error| tracing::error!("no plugin runs: {error}")).ok()
}
