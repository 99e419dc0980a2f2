//! `GET /events`: what happens on the node, as server-sent events with a cursor.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use larder_admin_api::streams::Lost;
use larder_engine::Operator;
use larder_telemetry::events::{EventBus, EventPage};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::chunks::Chunks;
use super::reply::Refusal;

/// Most readers at a time.
const READERS_MAX: usize = 64;

/// Most events sent in one piece.
const PIECE_EVENTS: usize = 256;

/// Silence after which a comment shows the reader, and proxies between, that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A reader that takes nothing for this long is given up.
const STALLED_AFTER: Duration = Duration::from_secs(300);

/// What a reader wants.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// The last position it has seen; without it the stream begins with what comes next.
    cursor: Option<u64>,
    /// Kinds, separated by commas; all of them without it.
    kinds: Option<String>,
}

/// Streams events until the reader leaves. `Last-Event-ID` continues a broken stream where `cursor` does not
/// say.
pub(super) async fn follow(
    State(engine): State<Operator>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let wanted = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(error) => return Refusal::unprocessable(error.body_text()).into_response(),
    };
    let bus = Arc::clone(engine.bus());
    if bus.readers() >= READERS_MAX {
        let text = format!("{READERS_MAX} readers follow the events already");
        return Refusal::unavailable(text).into_response();
    }
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let cursor = wanted.cursor.or(resumed).unwrap_or_else(|| bus.position());
    let (sender, chunks) = mpsc::channel(1);
    // Before the caller has the answer's head: from then on it is told everything.
    let reading = bus.subscribe();
    tokio::spawn(async move {
        let _reading = reading;
        tokio::select! {
            () = sender.closed() => {}
            () = feed(bus, cursor, wanted.kinds, &sender) => {}
        }
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (kind, Body::from_stream(Chunks::new(chunks))).into_response()
}

async fn feed(
    bus: Arc<EventBus>,
    mut cursor: u64,
    kinds: Option<String>,
    sender: &mpsc::Sender<axum::body::Bytes>,
) {
    loop {
        let piece = match timeout(KEEP_ALIVE, bus.next(cursor, PIECE_EVENTS)).await {
            Ok(page) => {
                cursor = page.next_cursor;
                frame(&page, kinds.as_deref())
            }
            Err(_silent) => ": still here\n\n".to_owned(),
        };
        if !piece.is_empty() && !matches!(timeout(STALLED_AFTER, sender.send(piece.into())).await, Ok(Ok(())))
        {
            return;
        }
    }
}

fn frame(page: &EventPage, kinds: Option<&str>) -> String {
    let mut text = String::new();
    if page.lost > 0 {
        // Plain data.
        let data = serde_json::to_string(&Lost { lost: page.lost }).unwrap_or_default();
        text.push_str(&format!("event: lost\ndata: {data}\n\n"));
    }
    for line in &page.lines {
        if kinds.is_none_or(|kinds| kinds.split(',').any(|kind| kind.trim() == line.kind)) {
            text.push_str(&format!("id: {}\nevent: {}\ndata: {}\n\n", line.seq, line.kind, line.json));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_telemetry::events::Event;

    #[tokio::test]
    async fn events_are_framed_with_their_position_and_losses_are_said() {
        let bus = Arc::new(EventBus::default());
        let _reading = bus.subscribe();
        bus.publish(|| Event::Clear { force: true });
        bus.publish(|| Event::Evict { objects: 1, used_bytes: 2 });
        let mut page = bus.next(0, 10).await;
        page.lost = 3;
        let text = frame(&page, Some("evict, store"));
        assert!(
            text.starts_with("event: lost\ndata: {\"lost\":3}\n\nid: 2\nevent: evict\ndata: {\"seq\":2,"),
            "{text}"
        );
        assert_eq!(frame(&page, None).matches("\nid: ").count(), 2);
    }
}
