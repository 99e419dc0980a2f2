//! Bodies of requests: how long they may be, how long they may take, and how many are in memory at a time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{self, Body};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use tokio::sync::Semaphore;

use super::reply::Refusal;

/// Longest body of most routes.
const BODY_BYTES_MAX: usize = 2 << 20;

/// Longest body of routes that take lists: a million token ids, ten thousand keys.
const LIST_BYTES_MAX: usize = 16 << 20;

/// Routes that take lists.
const LISTS: [(Method, &str); 2] = [(Method::POST, "/cache/prefetches"), (Method::DELETE, "/cache/objects")];

/// Bodies being received at a time; further ones wait their turn.
const AT_ONCE_MAX: usize = 4;

/// Longest that a body may take to come, its turn included.
const PATIENCE: Duration = Duration::from_secs(30);

/// The turns.
#[derive(Clone, Debug)]
pub(super) struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE_MAX)))
    }
}

/// The request with its whole body in memory.
///
/// # Errors
/// A body that is too long, or does not come.
pub(super) async fn received(bodies: &Bodies, request: Request) -> Result<Request, Refusal> {
    let (parts, body) = request.into_parts();
    let is_list = LISTS.iter().any(|(method, path)| parts.method == *method && parts.uri.path() == *path);
    let bytes_max = if is_list { LIST_BYTES_MAX } else { BODY_BYTES_MAX };
    let length =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > bytes_max) {
        return Err(Refusal::too_large(bytes_max));
    }
    let receiving = async {
        let _turn = bodies.0.acquire().await;
        body::to_bytes(body, bytes_max).await
    };
    match tokio::time::timeout(PATIENCE, receiving).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        // The length is not known before, or the connection is gone and nobody hears the answer.
        Ok(Err(_)) => Err(Refusal::too_large(bytes_max)),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outcome(method: Method, path: &str, body: Body) -> Result<usize, StatusCode> {
        let request = Request::builder().method(method).uri(path).body(body).unwrap();
        match received(&Bodies::default(), request).await {
            Ok(request) => Ok(body::to_bytes(request.into_body(), usize::MAX).await.unwrap().len()),
            Err(refusal) => Err(refusal.status()),
        }
    }

    #[tokio::test]
    async fn lists_may_be_longer_than_other_bodies_and_nothing_is_without_end() {
        let body = |bytes: usize| Body::from(vec![b' '; bytes]);
        let long = LIST_BYTES_MAX;
        assert_eq!(outcome(Method::POST, "/cache/prefetches", body(long)).await, Ok(long));
        assert_eq!(outcome(Method::DELETE, "/cache/objects", body(long)).await, Ok(long));
        let refused = Err(StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(outcome(Method::POST, "/cache/prefetches", body(long + 1)).await, refused);
        assert_eq!(outcome(Method::POST, "/cache/clear", body(BODY_BYTES_MAX + 1)).await, refused);
        assert_eq!(outcome(Method::GET, "/cache/objects", body(BODY_BYTES_MAX + 1)).await, refused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let body = Body::from_stream(Never);
        assert_eq!(outcome(Method::POST, "/cache/clear", body).await, Err(StatusCode::REQUEST_TIMEOUT));
    }

    /// A body that stays open.
    struct Never;

    impl futures_core::Stream for Never {
        type Item = Result<Vec<u8>, std::io::Error>;

        fn poll_next(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Pending
        }
    }
}
