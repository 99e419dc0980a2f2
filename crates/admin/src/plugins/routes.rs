//! The routes under `/plugins`.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use larder_supervise::SuperviseError;
use serde_json::{Value, json};

use super::control::{Action, Refusal};
use super::{caller, logs, view};
use crate::access;
use crate::routes::Admin;

/// All routes under `/plugins`.
pub(crate) fn router() -> Router<Admin> {
    let mutating = Router::new()
        .route("/plugins/{name}/{action}", post(command))
        .route("/plugins/reload", post(reload))
        .layer(middleware::from_fn(access::local_callers_only));
    Router::new()
        .route("/plugins", get(list))
        .route("/plugins/audit", get(audit))
        .route("/plugins/schema", get(async || schema_answer(larder_supervise::manifest_schema())))
        .route("/plugins/{name}/schema", get(schema))
        .route("/plugins/{name}", get(show))
        .route("/plugins/{name}/logs", get(logs::logs))
        .merge(mutating)
}

async fn list(State(admin): State<Admin>) -> Json<Value> {
    let usage = admin.plugins.usage().await;
    let Some(supervisor) = admin.plugins.supervisor() else {
        return Json(json!({ "plugins": [], "skipped": [] }));
    };
    Json(view::list(&supervisor.snapshot(), &usage, &admin.plugins.skipped()))
}

async fn show(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let (status, supervisor) = match (admin.plugins.find(&name), admin.plugins.supervisor().cloned()) {
        (Ok(status), Some(supervisor)) => (status, supervisor),
        (Err(refusal), _) => return refused(&refusal),
        (_, None) => return refused(&Refusal::NoPlugins),
    };
    let usage = admin.plugins.usage().await;
    let mut body = view::plugin(&status, usage.get(&status.name));
    let local = is_local(caller, &headers);
    // A plugin that is gone by now has no manifest, and one whose location does not answer shows none.
    let manifest = supervisor.manifest(&status.name).await.ok();
    let details = tokio::task::spawn_blocking(move || view::details(manifest.as_ref(), &status, local)).await;
    if let (Value::Object(fields), Ok(details)) = (&mut body, details) {
        fields.extend(details);
    }
    Json(body).into_response()
}

/// Whether the caller is a program on this machine. Even without credentials, an environment says much about
/// a machine, so a web page must not get it: neither by asking across origins nor by a name of its own that
/// leads here.
fn is_local(caller: SocketAddr, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    caller.ip().to_canonical().is_loopback()
        && !headers.contains_key(header::ORIGIN)
        && (is_address || name.eq_ignore_ascii_case("localhost"))
}

/// The rules a plugin's manifest has for its own keys; `null` where it has none.
async fn schema(State(admin): State<Admin>, Path(name): Path<String>) -> Response {
    let found = async {
        let status = admin.plugins.find(&name)?;
        let supervisor = admin.plugins.supervisor().ok_or(Refusal::NoPlugins)?;
        Ok::<_, Refusal>(supervisor.schema(&status.name).await?)
    };
    match found.await {
        Ok(schema) => schema_answer(schema.unwrap_or_default()),
        Err(refusal) => refused(&refusal),
    }
}

fn schema_answer(schema: Value) -> Response {
    ([(header::CONTENT_TYPE, "application/schema+json")], schema.to_string()).into_response()
}

async fn audit(State(admin): State<Admin>) -> Json<Value> {
    let audit = admin.plugins.audit();
    Json(json!({ "total": audit.total(), "entries": audit.entries() }))
}

async fn command(
    State(admin): State<Admin>,
    Path((name, action)): Path<(String, String)>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let Some(action) = Action::parse(&action) else {
        return (StatusCode::NOT_FOUND, Json(json!({ "detail": "Not Found" }))).into_response();
    };
    match admin.plugins.command(who(caller, headers).await, action, name).await {
        Ok(status) => Json(view::plugin(&status, None)).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

/// Who asks, for the audit trail.
async fn who(address: SocketAddr, headers: HeaderMap) -> String {
    let described = tokio::task::spawn_blocking(move || caller::describe(address, &headers)).await;
    described.unwrap_or_else(|_| address.to_string())
}

async fn reload(
    State(admin): State<Admin>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    match admin.plugins.reload(who(caller, headers).await).await {
        Ok(report) => Json(report).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

/// The answer to a request that cannot be carried out.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::NoPlugins | Refusal::Supervise(SuperviseError::Unknown(_)) => StatusCode::NOT_FOUND,
        Refusal::Busy | Refusal::TooManyFollowers | Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Supervise(SuperviseError::Stopped | SuperviseError::Unanswering(_)) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Refusal::Supervise(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(json!({ "detail": refusal.to_string() }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn local_means_this_machine_and_no_web_page() {
        let here = SocketAddr::from(([127, 0, 0, 1], 9));
        let host = |host: &str| HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
        for name in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "10.0.0.7"] {
            assert!(is_local(here, &host(name)), "{name}");
        }
        for name in ["rebound.example:8080", "127.0.0.1.example", "", "localhost.example:1"] {
            assert!(!is_local(here, &host(name)), "{name}");
        }
        assert!(!is_local(SocketAddr::from(([10, 0, 0, 7], 9)), &host("localhost")));
        let mut headers = host("localhost");
        headers.insert(header::ORIGIN, HeaderValue::from_static("http://localhost"));
        assert!(!is_local(here, &headers));
    }
}
