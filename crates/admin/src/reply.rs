//! Bodies, and answers that are not a success, in the peer's two shapes (`spec/http-api.md` 1).

use axum::Json;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use larder_admin_api::errors::{Detail, Error};
use serde::de::DeserializeOwned;

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    text: String,
    shape: Shape,
}

/// The peer has two.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Detail,
    Error,
}

impl Refusal {
    /// `{"detail": text}`, the shape of most routes.
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), shape: Shape::Detail }
    }

    /// `{"error": text}`, the shape of `/quota`.
    pub(super) fn error(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), shape: Shape::Error }
    }

    /// The request is understood and can't be right.
    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// A parameter or body that is not of its type.
    pub(super) fn unprocessable(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, text)
    }

    /// What the request names does not exist.
    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// Not now, or not on this server.
    pub(super) fn unavailable(text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// The body is longer than the route takes.
    pub(super) fn too_large(bytes_max: usize) -> Self {
        let text = format!("the body is longer than {bytes_max} bytes, which is the most this route takes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    /// A task of this server failed.
    pub(super) fn internal(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// The status, for tests.
    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, for tests.
    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, text, shape } = self;
        match shape {
            Shape::Detail => (status, Json(Detail { detail: text })).into_response(),
            Shape::Error => (status, Json(Error { error: text })).into_response(),
        }
    }
}

/// Reads a body; an empty one is `T`'s default, where it has one, which is told by `empty`.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes, empty: Option<T>) -> Result<T, Refusal> {
    match empty {
        Some(value) if body.is_empty() => Ok(value),
        _ => serde_json::from_slice(body).map_err(|error| Refusal::unprocessable(format!("body: {error}"))),
    }
}

/// Runs work to its end even if the caller leaves.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await.map_err(|error| Refusal::internal(format!("failed: {error}")))
}

/// Runs blocking work to its end, on a thread of its own, even if the caller leaves.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::internal(format!("failed: {error}")))
}
