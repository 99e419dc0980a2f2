//! The latest lines of a plugin, once or as a stream.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use larder_supervise::{LogLine, Stream, moment};
use serde::Deserialize;
use serde_json::json;

use super::control::Refusal;
use super::follow::{Cursor, Framing, stream};
use super::routes::refused;
use crate::reply;
use crate::routes::Admin;

/// Lines returned when the caller does not say how many.
const LINES_DEFAULT: usize = 100;

/// The query of the route. Of what the supervisor adds to the output, JSON has all and text nothing.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct LogQuery {
    lines: usize,
    follow: u8,
    format: Format,
    since: Option<String>,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Text,
}

impl Default for LogQuery {
    fn default() -> Self {
        Self { lines: LINES_DEFAULT, follow: 0, format: Format::Json, since: None }
    }
}

/// `GET /plugins/{name}/logs`.
pub(super) async fn logs(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    query: Result<Query<LogQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let query = match query {
        Ok(Query(query)) if query.since.as_ref().is_none_or(|since| since.parse::<Timestamp>().is_ok()) => {
            query
        }
        Ok(_) => return reply::Refusal::unprocessable("`since` is no RFC 3339 time").into_response(),
        Err(error) => return reply::Refusal::unprocessable(error.body_text()).into_response(),
    };
    tail_or_follow(&admin, &name, &query, &headers).unwrap_or_else(|refusal| refused(&refusal))
}

fn tail_or_follow(
    admin: &Admin,
    name: &str,
    query: &LogQuery,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let plugins = &admin.plugins;
    let found = plugins.find(name)?;
    let supervisor = plugins.supervisor().ok_or(Refusal::NoPlugins)?;
    if query.follow != 0 {
        let (framing, kind) = match query.format {
            Format::Json => (Framing::Events, "text/event-stream"),
            Format::Text => (Framing::Text, "text/plain; charset=utf-8"),
        };
        let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
        let cursor = after.map_or(Cursor::Newest(query.lines), Cursor::After);
        let lines = stream(Arc::clone(supervisor), found.name, cursor, framing, plugins.follower()?);
        let head = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")];
        return Ok((head, Body::from_stream(lines)).into_response());
    }
    let since = query.since.as_deref().and_then(|since| since.parse::<Timestamp>().ok()).map(moment);
    let mut lines = supervisor.tail(&found.name, usize::MAX)?;
    lines.retain(|line| {
        let is_recent = since.as_ref().is_none_or(|since| line.time >= *since);
        is_recent && (query.format == Format::Json || line.stream != Stream::Lifecycle)
    });
    let lines = lines.split_off(lines.len().saturating_sub(query.lines));
    Ok(match query.format {
        Format::Json => {
            Json(json!({ "name": found.name, "counts": found.lines, "lines": lines })).into_response()
        }
        Format::Text => text(&lines).into_response(),
    })
}

fn text(lines: &[LogLine]) -> String {
    lines.iter().map(|line| format!("{}\n", line.text)).collect()
}
