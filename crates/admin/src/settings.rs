//! `/config` and `/config/live`: the effective configuration, and changing what may change while the server
//! runs.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use larder_admin_api::config::{
    Change, ChangeRequest, Changed, Changes, LiveConfig, LiveSetting, RollbackRequest, Version,
};
use larder_config::Live;
use larder_config::json::http_config_json;
use larder_config::live::{self, ChangeError, Origin, Proposal, Reread};
use larder_telemetry::events::Event;
use larder_telemetry::redaction::redact;
use serde_json::Value;

use super::reply::{Refusal, blocking, read};
use super::state::Admin;

/// Characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 200;

/// The configuration as the peer shows it.
pub(super) async fn config(State(admin): State<Admin>) -> Response {
    // Adapters come and go; those of the start are history.
    let mut config = (*admin.config()).clone();
    config.l2.adapters = admin.tier.adapters().iter().map(|attached| attached.config().clone()).collect();
    let body = http_config_json(&config, &admin.resolved);
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Every setting that can be changed, its value and where that came from, and the versions so far.
pub(super) async fn show(State(live): State<Arc<Live>>) -> Json<LiveConfig> {
    let settings = live.settings().into_iter().map(|(flag, value, source)| {
        let shown = LiveSetting {
            value: without_secrets(value),
            source: source.to_string(),
            accepted: flag.kind.accepted(),
            help: flag.help.to_owned(),
        };
        (flag.key(), shown)
    });
    Json(LiveConfig {
        version: live.version(),
        settings: settings.collect(),
        history: live.versions().iter().map(|version| shown(version)).collect(),
    })
}

fn shown(version: &live::Version) -> Version {
    let Origin { time, caller, reason } = version.origin.clone();
    Version { version: version.number, time, caller, reason, changes: changes(&version.changes) }
}

fn changes(changes: &[live::Change]) -> Changes {
    let change = |change: &live::Change| {
        let (from, to) = (without_secrets(change.from.clone()), without_secrets(change.to.clone()));
        (change.key.clone(), Change { from, to })
    };
    changes.iter().map(change).collect()
}

fn without_secrets(mut value: Value) -> Value {
    redact(&mut value);
    value
}

/// Changes settings.
pub(super) async fn change(
    State(admin): State<Admin>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> Result<Json<Changed>, Refusal> {
    let request: ChangeRequest = read(&body, None)?;
    let proposal = admin.live.propose(&request.settings, request.expected_version)?;
    carry_out(admin, proposal, caller, request.reason, request.dry_run).await
}

/// Makes the settings what they were in an earlier version.
pub(super) async fn roll_back(
    State(admin): State<Admin>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> Result<Json<Changed>, Refusal> {
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
) -> Result<Json<Changed>, Refusal> {
    let changes = changes(&proposal.changes);
    if dry_run {
        let version = admin.live.version();
        return Ok(Json(Changed { version, changes, applied: false }));
    }
    let origin = Origin {
        time: Timestamp::now().to_string(),
        caller: caller.to_string(),
        reason: reason.escape_debug().take(REASON_CHARS_MAX).collect(),
    };
    let version = blocking(move || make(&admin, proposal, origin)).await??;
    Ok(Json(Changed { version, changes, applied: true }))
}

/// Makes a change and tells whom it concerns. Blocks.
fn make(admin: &Admin, proposal: Proposal, origin: Origin) -> Result<u64, ChangeError> {
    let why = if origin.reason.is_empty() { String::new() } else { format!(" ({})", origin.reason) };
    // Plain data.
    let changed = serde_json::to_string(&changes(&proposal.changes)).unwrap_or_default();
    let told = format!("changing the configuration for {}{why}: {changed}", origin.caller);
    let version = admin.live.commit(proposal, origin, |before, after| admin.effects.apply(before, after))?;
    tracing::info!("{told}: version {version}");
    // Before the event: who hears of it finds the new one.
    admin.plugins.configure(&admin.config(), &admin.resolved);
    admin.engine.bus().publish(|| Event::Config { version });
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
