//! Who may change state over HTTP.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, Request};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Lets a request through if it comes from this machine and not from a web page.
///
/// A page in a browser on this machine could otherwise empty the cache: browsers send such requests without asking,
/// but they always say where they come from.
pub(super) async fn local_callers_only(
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if !caller.ip().to_canonical().is_loopback() {
        return refuse("this route changes state and is for callers on the server's own machine");
    }
    if request.headers().contains_key(header::ORIGIN) {
        return refuse("this route changes state and is not for web pages");
    }
    next.run(request).await
}

fn refuse(reason: &str) -> Response {
    (StatusCode::FORBIDDEN, Json(json!({ "detail": reason }))).into_response()
}
