//! Whether engines are served, and what runs.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use larder_admin_api::health::{Health, Service, Thread, ThreadCounts, Threads};
use larder_rpc::RpcStats;
use larder_telemetry::BuildInfo;
use larder_telemetry::tasks::{Task, Tasks};
use serde::Deserialize;

/// The peer's release whose interface this server has.
const PEER_VERSION: &str = "0.5.6";

/// How long the RPC thread may take to say that it is there.
pub(super) const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

pub(super) async fn root() -> Json<Service> {
    Json(Service { status: "ok".into(), service: "LMCache HTTP API".into() })
}

pub(super) async fn livez() -> &'static str {
    "ok"
}

pub(super) async fn version(State(build): State<BuildInfo>) -> Json<String> {
    Json(format!("{PEER_VERSION}-larder-{}", build.version))
}

pub(super) async fn peer_version() -> Json<&'static str> {
    Json(PEER_VERSION)
}

pub(super) async fn commit(State(build): State<BuildInfo>) -> Json<&'static str> {
    Json(build.commit)
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
pub(super) async fn healthcheck(State(tasks): State<Tasks>, State(rpc): State<Arc<RpcStats>>) -> Response {
    match trouble(&tasks, &rpc).await {
        None => Json(Health { status: "healthy".into(), reason: None }).into_response(),
        reason => {
            let body = Health { status: "unhealthy".into(), reason };
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

pub(super) async fn readyz(State(tasks): State<Tasks>, State(rpc): State<Arc<RpcStats>>) -> Response {
    match trouble(&tasks, &rpc).await {
        None => "ok".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

#[derive(Deserialize)]
pub(super) struct ThreadQuery {
    level: Option<String>,
}

/// The background tasks, in the peer's word for its own.
pub(super) async fn threads(State(tasks): State<Tasks>, Query(query): Query<ThreadQuery>) -> Json<Threads> {
    let tasks = tasks.list();
    let is_wanted =
        |task: &&Arc<Task>| query.level.as_deref().is_none_or(|level| level == task.level().as_str());
    let running_count = tasks.iter().filter(|task| task.is_alive()).count();
    Json(Threads {
        summary: ThreadCounts { total_count: tasks.len(), running_count, active_count: running_count },
        threads: tasks.iter().filter(is_wanted).map(|task| thread(task)).collect(),
    })
}

fn thread(task: &Task) -> Thread {
    Thread {
        name: task.name().into(),
        level: task.level().as_str().into(),
        is_running: task.is_alive(),
        is_active: task.is_alive(),
        last_run_ago: task.idle().map(|idle| idle.as_secs_f64()),
        total_runs: task.runs(),
        failed_runs: task.failures(),
    }
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
