//! `/config/adapters`: the second tier's adapters, and changing them while the server runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::Refusal;
use super::routes::Admin;
use super::{access, l2};
use larder_tier::{Attached, RosterError, TierError};

/// How long a detachment waits for what runs, unless the caller says otherwise.
const DRAIN_SECONDS: f64 = 30.0;

/// Longest wait a caller may ask for.
const DRAIN_SECONDS_MAX: f64 = 600.0;

/// All routes under `/config/adapters`.
pub(super) fn router() -> Router<Admin> {
    let mutating = Router::new()
        .route("/config/adapters", post(attach))
        .route("/config/adapters/{adapter}", delete(detach))
        .route("/config/adapters/{adapter}/pause", post(pause))
        .route("/config/adapters/{adapter}/resume", post(resume))
        .route("/config/adapters/{adapter}/breaker/reset", post(reset_breaker))
        .layer(middleware::from_fn(access::local_callers_only));
    Router::new()
        .route("/config/adapters", get(list))
        .route("/config/adapters/{adapter}", get(show))
        .merge(mutating)
}

async fn list(State(admin): State<Admin>) -> Json<Value> {
    let adapters = admin.tier.adapters();
    let listed = adapters.iter().enumerate().map(|(index, attached)| l2::listed(index, attached));
    Json(json!({ "adapters": listed.collect::<Vec<_>>() }))
}

async fn show(State(admin): State<Admin>, Path(adapter): Path<String>) -> Result<Json<Value>, Refusal> {
    Ok(Json(view(&admin, &*admin.tier.find(&adapter)?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttachRequest {
    config: Value,
    index: Option<usize>,
}

/// Attaching goes on to its end even if the caller leaves.
async fn attach(
    State(admin): State<Admin>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let request: AttachRequest = serde_json::from_slice(&body)
        .map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("body: {error}")))?;
    let tier = Arc::clone(&admin.tier);
    tracing::info!("{caller} attaches an adapter");
    let attached = tokio::task::spawn_blocking(move || tier.attach(&request.config, request.index));
    let attached = attached.await.map_err(|_| TierError::Stopping)??;
    attached.probed().await;
    Ok((StatusCode::CREATED, Json(view(&admin, &attached))).into_response())
}

#[derive(Deserialize)]
struct DetachRequest {
    timeout_seconds: Option<f64>,
}

/// Detaching goes on to its end even if the caller leaves.
async fn detach(
    State(admin): State<Admin>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    Path(adapter): Path<String>,
    query: Result<Query<DetachRequest>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(request) =
        query.map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.body_text()))?;
    let seconds = request.timeout_seconds.unwrap_or(DRAIN_SECONDS);
    if !(0.0..=DRAIN_SECONDS_MAX).contains(&seconds) {
        let text = format!("`timeout_seconds` is `{seconds}`, not a number from 0 to {DRAIN_SECONDS_MAX}");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    }
    let id = admin.tier.find(&adapter)?.id().to_owned();
    let (tier, named) = (Arc::clone(&admin.tier), id.clone());
    tracing::info!("{caller} detaches adapter `{id}`");
    let detaching = tokio::spawn(async move { tier.detach(&named, Duration::from_secs_f64(seconds)).await });
    let detachment = detaching.await.map_err(|_| TierError::Stopping)??;
    Ok(Json(json!({
        "status": "detached",
        "id": id,
        "drained": detachment.is_drained,
        "in_use_by": detachment.users_left,
        "closed": detachment.is_closed,
    })))
}

async fn pause(
    State(admin): State<Admin>,
    Path(adapter): Path<String>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
) -> Result<Json<Value>, Refusal> {
    tracing::info!("{caller} pauses adapter `{}`", adapter.escape_debug());
    Ok(Json(view(&admin, &*admin.tier.set_paused(&adapter, true)?)))
}

async fn resume(
    State(admin): State<Admin>,
    Path(adapter): Path<String>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
) -> Result<Json<Value>, Refusal> {
    tracing::info!("{caller} resumes adapter `{}`", adapter.escape_debug());
    Ok(Json(view(&admin, &*admin.tier.set_paused(&adapter, false)?)))
}

async fn reset_breaker(
    State(admin): State<Admin>,
    Path(adapter): Path<String>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
) -> Result<Json<Value>, Refusal> {
    tracing::info!("{caller} resets the breaker of adapter `{}`", adapter.escape_debug());
    let attached = admin.tier.reset_breaker(&adapter)?;
    Ok(Json(view(&admin, &attached)))
}

fn view(admin: &Admin, attached: &Attached) -> Value {
    let adapters = admin.tier.adapters();
    let index = adapters.iter().position(|other| other.id() == attached.id());
    l2::listed(index.unwrap_or(adapters.len()), attached)
}

impl From<TierError> for Refusal {
    fn from(error: TierError) -> Self {
        let status = match &error {
            TierError::Roster(RosterError::Unknown(_)) => StatusCode::NOT_FOUND,
            TierError::Roster(
                RosterError::Draining(_) | RosterError::Full | RosterError::Directory { .. },
            )
            | TierError::NoBreaker(_) => StatusCode::CONFLICT,
            TierError::Busy | TierError::Stopping | TierError::Thread(_) => StatusCode::SERVICE_UNAVAILABLE,
            TierError::Config(_)
            | TierError::Adapter(_)
            | TierError::At { .. }
            | TierError::EvictionWithoutLimit
            | TierError::Roster(RosterError::Place { .. }) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}
