//! Answers and bodies in the shapes `/cache/*` uses.

use axum::Json;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Refusal(StatusCode, String);

impl Refusal {
    /// The request is understood and can't be right.
    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }

    /// A parameter or body that is not of its type.
    pub(super) fn unprocessable(text: impl Into<String>) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, text.into())
    }

    /// What the request names does not exist.
    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, text.into())
    }

    /// Not now, or not on this server.
    pub(super) fn unavailable(text: impl Into<String>) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, text.into())
    }

    /// A task of this server failed.
    pub(super) fn internal(text: impl Into<String>) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, text.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "detail": self.1 }))).into_response()
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
