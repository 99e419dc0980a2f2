//! The routes under `/plugins`.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use larder_admin_api::plugins::{AuditTrail, Plugin, PluginDetails, PluginList, Reloaded};
use serde_json::Value;

use super::control::{Action, CommandError, Plugins};
use super::{caller, view};
use crate::access;
use crate::reply::{Refusal, blocking};

/// All of them, and what is not run.
pub(crate) async fn list(State(plugins): State<Plugins>) -> Json<PluginList> {
    let usage = plugins.usage().await;
    let Some(supervisor) = plugins.supervisor() else { return Json(PluginList::default()) };
    Json(view::list(&supervisor.snapshot(), &usage, &plugins.skipped()))
}

/// One of them, with its manifest. Even without credentials, an environment says much about a machine, so
/// only callers on this machine get it.
pub(crate) async fn show(
    State(plugins): State<Plugins>,
    Path(name): Path<String>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Json<PluginDetails>, Refusal> {
    let status = plugins.find(&name)?;
    let supervisor = plugins.supervisor().cloned().ok_or(CommandError::NoPlugins)?;
    let usage = plugins.usage().await;
    let plugin = view::plugin(&status, usage.get(&status.name));
    let is_local = access::is_local(caller.ip(), &headers);
    // A plugin that is gone by now has no manifest, and one whose location does not answer shows none.
    let manifest = supervisor.manifest(&status.name).await.ok();
    Ok(Json(blocking(move || view::details(plugin, manifest.as_ref(), is_local)).await?))
}

/// The rules of a manifest.
pub(crate) async fn manifest_schema() -> Response {
    schema_answer(&larder_supervise::manifest_schema())
}

/// The rules a plugin's manifest has for its own keys; `null` where it has none.
pub(crate) async fn schema(
    State(plugins): State<Plugins>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let status = plugins.find(&name)?;
    let supervisor = plugins.supervisor().ok_or(CommandError::NoPlugins)?;
    let schema = supervisor.schema(&status.name).await.map_err(CommandError::from)?;
    Ok(schema_answer(&schema.unwrap_or_default()))
}

fn schema_answer(schema: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/schema+json")], schema.to_string()).into_response()
}

/// Who commanded what.
pub(crate) async fn audit(State(plugins): State<Plugins>) -> Json<AuditTrail> {
    Json(plugins.audit().trail())
}

/// Starts, stops, restarts, enables or disables one.
pub(crate) async fn command(
    State(plugins): State<Plugins>,
    Path((name, action)): Path<(String, String)>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Json<Plugin>, Refusal> {
    let action = Action::parse(&action).ok_or_else(|| Refusal::not_found("Not Found"))?;
    let status = plugins.command(who(caller, headers).await, action, name).await?;
    Ok(Json(view::plugin(&status, None)))
}

/// Who asks, for the audit trail.
async fn who(address: SocketAddr, headers: HeaderMap) -> String {
    let described = tokio::task::spawn_blocking(move || caller::describe(address, &headers)).await;
    described.unwrap_or_else(|_| address.to_string())
}

/// Looks through the locations again.
pub(crate) async fn reload(
    State(plugins): State<Plugins>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Json<Reloaded>, Refusal> {
    Ok(Json(view::reloaded(plugins.reload(who(caller, headers).await).await?)))
}
