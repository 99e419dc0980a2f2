//! The latest lines of a plugin, once or as a stream.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use larder_admin_api::plugins::LogPage;
use larder_supervise::{LogLine, Stream, moment};
use serde::Deserialize;

use super::control::{CommandError, Plugins};
use super::follow::{Cursor, Framing, stream};
use super::view;
use crate::reply::Refusal;

/// Lines returned when the caller does not say how many.
const LINES_DEFAULT: usize = 100;

/// The query of the route. Of what the supervisor adds to the output, JSON has all and text nothing.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct LogQuery {
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
pub(crate) async fn logs(
    State(plugins): State<Plugins>,
    Path(name): Path<String>,
    query: Result<Query<LogQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = match query {
        Ok(Query(query)) if query.since.as_ref().is_none_or(|since| since.parse::<Timestamp>().is_ok()) => {
            query
        }
        Ok(_) => return Err(Refusal::unprocessable("`since` is no RFC 3339 time")),
        Err(error) => return Err(Refusal::unprocessable(error.body_text())),
    };
    Ok(tail_or_follow(&plugins, &name, &query, &headers)?)
}

fn tail_or_follow(
    plugins: &Plugins,
    name: &str,
    query: &LogQuery,
    headers: &HeaderMap,
) -> Result<Response, CommandError> {
    let found = plugins.find(name)?;
    let supervisor = plugins.supervisor().ok_or(CommandError::NoPlugins)?;
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
            let (name, counts) = (found.name, view::line_counts(found.lines));
            Json(LogPage { name, counts, lines: lines.iter().map(view::line).collect() }).into_response()
        }
        Format::Text => text(&lines).into_response(),
    })
}

fn text(lines: &[LogLine]) -> String {
    lines.iter().map(|line| format!("{}\n", line.text)).collect()
}
