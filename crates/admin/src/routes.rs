//! The routes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Extension, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{self, HostNames};
use super::bodies::Bodies;
use super::serve::HttpStats;
use super::{adapters, cache, events, metrics, plugins, quota, settings, status};
use crate::effects::Effects;
use larder_config::json::Resolved;
use larder_config::{Live, ServerConfig};
use larder_core::hash::ChunkHasher;
use larder_engine::Operator;
use larder_engine::QuotaTable;
use larder_engine::upkeep::Preparation;
use larder_rpc::Endpoint;
use larder_rpc::RpcStats;
use larder_telemetry::BuildInfo;
use larder_telemetry::tasks::Tasks;
use larder_tier::Tier;

/// The peer's release whose interface this server has.
const PEER_VERSION: &str = "0.5.6";

/// How long the RPC thread may take to say that it is there.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

/// What the routes look at.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Which build this is.
    pub build: BuildInfo,
    /// The cache.
    pub engine: Operator,
    /// The configuration, its history, and changes of it.
    pub live: Arc<Live>,
    /// What of it is only known once memory is prepared.
    pub resolved: Arc<Resolved>,
    /// What carries changes out.
    pub effects: Effects,
    /// The connections of this API.
    pub http: Arc<HttpStats>,
    /// Where engines are served.
    pub endpoints: Arc<[Endpoint]>,
    /// The RPC front's counters.
    pub rpc: Arc<RpcStats>,
    /// Background work.
    pub tasks: Tasks,
    /// The pool's preparation.
    pub preparation: Arc<Preparation>,
    /// Names chunks, for prompts that operators give.
    pub hasher: ChunkHasher,
    /// The second tier.
    pub tier: Arc<Tier>,
    /// Who may have how much.
    pub quotas: Arc<QuotaTable>,
    /// The runtime plugins.
    pub plugins: plugins::Plugins,
}

impl Admin {
    /// The configuration now.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.live.config()
    }
}

/// All routes.
pub fn router(admin: Admin) -> Router {
    let names = HostNames::new(&admin.config().http);
    Router::new()
        .route("/", get(async || Json(json!({ "status": "ok", "service": "LMCache HTTP API" }))))
        .route("/healthcheck", get(healthcheck))
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/status", get(async |State(admin): State<Admin>| Json(status::body(&admin))))
        .route("/version", get(version))
        .route("/lmc_version", get(async || Json(PEER_VERSION)))
        .route("/commit_id", get(async |State(admin): State<Admin>| Json(admin.build.commit)))
        .route("/events", get(events::follow))
        .route("/metrics", get(scrape))
        .route("/periodic-threads", get(tasks))
        .merge(cache::router())
        .merge(adapters::router())
        .merge(quota::router())
        .merge(settings::router())
        .merge(plugins::router())
        .fallback(async || (StatusCode::NOT_FOUND, Json(json!({ "detail": "Not Found" }))))
        .method_not_allowed_fallback(async || {
            (StatusCode::METHOD_NOT_ALLOWED, Json(json!({ "detail": "Method Not Allowed" })))
        })
        .layer(DefaultBodyLimit::disable())
        .layer(Extension(Bodies::default()))
        .layer(middleware::from_fn_with_state(names, access::by_known_names_only))
        .with_state(admin)
}

async fn version(State(admin): State<Admin>) -> Json<String> {
    Json(format!("{PEER_VERSION}-larder-{}", admin.build.version))
}

/// Why engines are not served as they should be: something critical does not run, or the thread that serves
/// them is stuck.
async fn trouble(tasks: &Tasks, rpc: &RpcStats) -> Option<String> {
    let missing = tasks.missing();
    if !missing.is_empty() {
        return Some(format!("not running: {}", missing.join(", ")));
    }
    match rpc.round_trip(ROUND_TRIP_MAX).await {
        Some(_) => None,
        None => Some(format!("the RPC thread did not answer within {ROUND_TRIP_MAX:?}")),
    }
}

/// Healthy means that engines are served, not merely that this answers.
async fn healthcheck(State(admin): State<Admin>) -> Response {
    match trouble(&admin.tasks, &admin.rpc).await {
        None => Json(json!({ "status": "healthy" })).into_response(),
        Some(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "unhealthy", "reason": reason })))
                .into_response()
        }
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match trouble(&admin.tasks, &admin.rpc).await {
        None => "ok".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

async fn scrape(State(admin): State<Admin>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    // For its metric; one that does not come is counted.
    _ = admin.rpc.round_trip(ROUND_TRIP_MAX).await;
    let plugins = admin.plugins.sample().await;
    (kind, metrics::scrape(&admin, &plugins)).into_response()
}

#[derive(Deserialize)]
struct TaskFilter {
    level: Option<String>,
}

async fn tasks(State(admin): State<Admin>, Query(filter): Query<TaskFilter>) -> Json<Value> {
    let wanted = |level: &str| filter.level.as_deref().is_none_or(|wanted| wanted == level);
    let tasks = admin.tasks.list();
    let threads: Vec<Value> = tasks
        .iter()
        .filter(|task| wanted(task.level().as_str()))
        .map(|task| {
            json!({
                "name": task.name(),
                "level": task.level().as_str(),
                "is_running": task.is_alive(),
                "is_active": task.is_alive(),
                "last_run_ago": task.idle().map(|idle| idle.as_secs_f64()),
                "total_runs": task.runs(),
                "failed_runs": task.failures(),
            })
        })
        .collect();
    let running = tasks.iter().filter(|task| task.is_alive()).count();
    Json(json!({
        "summary": { "total_count": tasks.len(), "running_count": running, "active_count": running },
        "threads": threads,
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use larder_zmtp::Limits;
    use tokio::sync::oneshot;

    use super::*;

    /// Only a failing test waits so long.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_server_whose_rpc_thread_is_stuck_is_not_ready() {
        let stats = Arc::new(RpcStats::default());
        let served = Arc::clone(&stats);
        let (attached, is_attached) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (end, ended) = oneshot::channel::<()>();
        let rpc_thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let endpoint = format!("ipc://@larder-stuck-{}", std::process::id()).parse().unwrap();
                let router = larder_zmtp::Router::bind(&[endpoint], Limits::default()).unwrap();
                served.attach(tokio::runtime::Handle::current(), router.handle());
                attached.send(()).unwrap();
                // Nothing else runs on this thread meanwhile.
                _ = released.recv_timeout(PATIENCE);
                _ = ended.await;
            });
        });
        is_attached.recv_timeout(PATIENCE).unwrap();
        let tasks = Tasks::default();
        let reason = trouble(&tasks, &stats).await.unwrap();
        assert!(reason.contains("the RPC thread did not answer within"), "{reason}");
        assert_eq!(stats.late_round_trips(), 1);

        release.send(()).unwrap();
        for _ in 0..PATIENCE.as_secs() {
            if trouble(&tasks, &stats).await.is_none() {
                break;
            }
        }
        assert_eq!(trouble(&tasks, &stats).await, None);
        end.send(()).unwrap();
        rpc_thread.join().unwrap();
    }
}
