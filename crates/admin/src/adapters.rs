//! `/config/adapters`: the second tier's adapters, and changing them while the server runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use larder_admin_api::Word;
use larder_admin_api::adapters::{Adapter, AdapterList, AttachRequest, Breaker, Detached};
use larder_tier::{Attached, Phase, Promptness, RosterError, Tier, TierError};
use serde::Deserialize;

use super::reply::{Refusal, read};

/// How long a detachment waits for what runs, unless the caller says otherwise.
const DRAIN_SECONDS: f64 = 30.0;

/// Longest wait a caller may ask for.
const DRAIN_SECONDS_MAX: f64 = 600.0;

/// All of them.
pub(super) async fn list(State(tier): State<Arc<Tier>>) -> Json<AdapterList> {
    let adapters = tier.adapters();
    let adapters = adapters.iter().enumerate().map(|(index, attached)| listed(index, attached)).collect();
    Json(AdapterList { adapters })
}

/// One of them.
pub(super) async fn show(
    State(tier): State<Arc<Tier>>,
    Path(adapter): Path<String>,
) -> Result<Json<Adapter>, Refusal> {
    Ok(Json(view(&tier, &*tier.find(&adapter)?)))
}

/// Attaching goes on to its end even if the caller leaves.
pub(super) async fn attach(
    State(tier): State<Arc<Tier>>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> Result<(StatusCode, Json<Adapter>), Refusal> {
    let request: AttachRequest = read(&body, None)?;
    tracing::info!("{caller} attaches an adapter");
    let attaching = Arc::clone(&tier);
    let attached = tokio::task::spawn_blocking(move || attaching.attach(&request.config, request.index));
    let attached = attached.await.map_err(|_| TierError::Stopping)??;
    attached.probed().await;
    Ok((StatusCode::CREATED, Json(view(&tier, &attached))))
}

#[derive(Deserialize)]
pub(super) struct DetachQuery {
    timeout_seconds: Option<f64>,
}

/// Detaching goes on to its end even if the caller leaves.
pub(super) async fn detach(
    State(tier): State<Arc<Tier>>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    Path(adapter): Path<String>,
    query: Result<Query<DetachQuery>, QueryRejection>,
) -> Result<Json<Detached>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::unprocessable(error.body_text()))?;
    let seconds = query.timeout_seconds.unwrap_or(DRAIN_SECONDS);
    if !(0.0..=DRAIN_SECONDS_MAX).contains(&seconds) {
        let text = format!("`timeout_seconds` is `{seconds}`, not a number from 0 to {DRAIN_SECONDS_MAX}");
        return Err(Refusal::bad_request(text));
    }
    let id = tier.find(&adapter)?.id().to_owned();
    let named = id.clone();
    tracing::info!("{caller} detaches adapter `{id}`");
    let detaching = tokio::spawn(async move { tier.detach(&named, Duration::from_secs_f64(seconds)).await });
    let detachment = detaching.await.map_err(|_| TierError::Stopping)??;
    Ok(Json(Detached {
        status: "detached".into(),
        id,
        drained: detachment.is_drained,
        in_use_by: detachment.users_left,
        closed: detachment.is_closed,
    }))
}

/// Keeps new work from it.
pub(super) async fn pause(
    State(tier): State<Arc<Tier>>,
    Path(adapter): Path<String>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
) -> Result<Json<Adapter>, Refusal> {
    tracing::info!("{caller} pauses adapter `{}`", adapter.escape_debug());
    Ok(Json(view(&tier, &*tier.set_paused(&adapter, true)?)))
}

/// Lets it have new work again.
pub(super) async fn resume(
    State(tier): State<Arc<Tier>>,
    Path(adapter): Path<String>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
) -> Result<Json<Adapter>, Refusal> {
    tracing::info!("{caller} resumes adapter `{}`", adapter.escape_debug());
    Ok(Json(view(&tier, &*tier.set_paused(&adapter, false)?)))
}

/// Lets it be tried again at once.
pub(super) async fn reset_breaker(
    State(tier): State<Arc<Tier>>,
    Path(adapter): Path<String>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
) -> Result<Json<Adapter>, Refusal> {
    tracing::info!("{caller} resets the breaker of adapter `{}`", adapter.escape_debug());
    let attached = tier.reset_breaker(&adapter)?;
    Ok(Json(view(&tier, &attached)))
}

fn view(tier: &Tier, attached: &Attached) -> Adapter {
    let adapters = tier.adapters();
    let index = adapters.iter().position(|other| other.id() == attached.id());
    listed(index.unwrap_or(adapters.len()), attached)
}

fn listed(index: usize, attached: &Attached) -> Adapter {
    let (built, health, phase) = (attached.built(), attached.health(), attached.phase());
    Adapter {
        index,
        type_name: built.adapter.kind().into(),
        tier: "l2".into(),
        primary: index == 0,
        reconfigurable: false,
        id: attached.id().to_owned(),
        phase: phase.label().into(),
        paused: phase == Phase::Paused,
        draining: phase == Phase::Draining,
        in_use_by: attached.users(),
        late_with: late_with(attached),
        state: health.state.label().into(),
        reason: health.reason,
        breaker: built
            .breaker
            .as_ref()
            .map(|breaker| Breaker { state: breaker.state().label().into(), openings: breaker.openings() }),
        config: attached.config().clone(),
    }
}

/// What lookups do not wait for.
pub(super) fn late_with(attached: &Attached) -> Vec<Word> {
    let late = Promptness::ALL.into_iter().filter(|with| attached.pulse().is_late(*with));
    late.map(|with| with.label().into()).collect()
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
