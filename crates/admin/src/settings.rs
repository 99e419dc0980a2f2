//! `/config` and `/config/live`: the effective configuration, and changing what may change while the server
//! runs.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router, middleware};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::access;
use super::reply::{Refusal, blocking, read};
use super::routes::Admin;
use larder_config::json::http_config_json;
use larder_config::live::{Change, ChangeError, Origin, Proposal, Reread, Version};
use larder_telemetry::redaction::redact;

/// Characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 200;

/// All routes of this module.
pub(super) fn router() -> Router<Admin> {
    let mutating = Router::new()
        .route("/config/live", patch(change))
        .route("/config/live/rollback", post(roll_back))
        .layer(middleware::from_fn(access::local_callers_only));
    Router::new().route("/config", get(config)).route("/config/live", get(show)).merge(mutating)
}

async fn config(State(admin): State<Admin>) -> Response {
    // Adapters come and go; those of the start are history.
    let mut config = (*admin.config()).clone();
    config.l2.adapters = admin.tier.adapters().iter().map(|attached| attached.config().clone()).collect();
    let body = http_config_json(&config, &admin.resolved);
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Every setting that can be changed, its value and where that came from, and the versions so far.
async fn show(State(admin): State<Admin>) -> Json<Value> {
    let settings = admin.live.settings().into_iter().map(|(flag, value, source)| {
        let shown = json!({
            "value": without_secrets(value),
            "source": source.to_string(),
            "accepted": flag.kind.accepted(),
            "help": flag.help,
        });
        (flag.key(), shown)
    });
    Json(json!({
        "version": admin.live.version(),
        "settings": settings.collect::<Map<_, _>>(),
        "history": admin.live.versions().iter().map(|version| shown(version)).collect::<Vec<_>>(),
    }))
}

fn shown(version: &Version) -> Value {
    json!({
        "version": version.number,
        "time": version.origin.time,
        "caller": version.origin.caller,
        "reason": version.origin.reason,
        "changes": changes(&version.changes),
    })
}

fn changes(changes: &[Change]) -> Map<String, Value> {
    let change = |change: &Change| {
        let (from, to) = (without_secrets(change.from.clone()), without_secrets(change.to.clone()));
        (change.key.clone(), json!({ "from": from, "to": to }))
    };
    changes.iter().map(change).collect()
}

fn without_secrets(mut value: Value) -> Value {
    redact(&mut value);
    value
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeRequest {
    settings: Map<String, Value>,
    expected_version: Option<u64>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    reason: String,
}

async fn change(
    State(admin): State<Admin>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let request: ChangeRequest = read(&body, None)?;
    let proposal = admin.live.propose(&request.settings, request.expected_version)?;
    carry_out(admin, proposal, caller, request.reason, request.dry_run).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackRequest {
    version: u64,
    expected_version: Option<u64>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    reason: String,
}

async fn roll_back(
    State(admin): State<Admin>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let request: RollbackRequest = read(&body, None)?;
    let proposal = admin.live.propose_rollback(request.version, request.expected_version)?;
    carry_out(admin, proposal, caller, request.reason, request.dry_run).await
}

/// Makes a change to its end, even if the caller leaves; a dry run only tells what it would be.
async fn carry_out(
    admin: Admin,
    proposal: Proposal,
    caller: SocketAddr,
    reason: String,
    dry_run: bool,
) -> Result<Json<Value>, Refusal> {
    let changed = changes(&proposal.changes);
    if dry_run {
        let version = admin.live.version();
        return Ok(Json(json!({ "version": version, "changes": changed, "applied": false })));
    }
    let origin = Origin {
        time: Timestamp::now().to_string(),
        caller: caller.to_string(),
        reason: reason.escape_debug().take(REASON_CHARS_MAX).collect(),
    };
    let version = blocking(move || make(&admin, proposal, origin)).await??;
    Ok(Json(json!({ "version": version, "changes": changed, "applied": true })))
}

/// Makes a change and tells whom it concerns. Blocks.
fn make(admin: &Admin, proposal: Proposal, origin: Origin) -> Result<u64, ChangeError> {
    let why = if origin.reason.is_empty() { String::new() } else { format!(" ({})", origin.reason) };
    let told = Value::Object(changes(&proposal.changes));
    let told = format!("changing the configuration for {}{why}: {told}", origin.caller);
    let version = admin.live.commit(proposal, origin, |before, after| admin.effects.apply(before, after))?;
    tracing::info!("{told}: version {version}");
    // Before the event: who hears of it finds the new one.
    admin.plugins.configure(&admin.config(), &admin.resolved);
    admin.engine.bus().publish(|| larder_telemetry::events::Event::Config { version });
    Ok(version)
}

/// Makes of the configuration file, read again, what can be made of it while the server runs.
pub(super) async fn reread_file(admin: Admin) {
    let reread = blocking(move || {
        let Some(Reread { proposal, later }) = admin.live.propose_file()? else { return Ok(()) };
        if !later.is_empty() {
            tracing::warn!(
                "`{}` of the configuration file take effect when the server starts again",
                later.join("`, `")
            );
        }
        if proposal.changes.is_empty() {
            return Ok(());
        }
        let reason = "the configuration file".to_owned();
        let origin = Origin { time: Timestamp::now().to_string(), caller: "SIGHUP".to_owned(), reason };
        make(&admin, proposal, origin).map(|_| ())
    });
    if let Ok(Err(error)) = reread.await {
        tracing::error!("SIGHUP: the configuration stays as it is: {error}");
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        let status = match error {
            ChangeError::Conflict { .. } => StatusCode::CONFLICT,
            ChangeError::UnknownVersion(_) => StatusCode::NOT_FOUND,
            ChangeError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.to_string())
    }
}
