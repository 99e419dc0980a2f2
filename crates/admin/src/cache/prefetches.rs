//! `/cache/prefetches`: bringing a prompt into memory ahead of the requests that will need it.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use larder_core::name::{check_cache_salt, check_model_name};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::reply::{Refusal, blocking, read};
use super::super::routes::Admin;
use super::keys::Tier;
use larder_engine::{WarmError, WarmStatus};

/// Tokens in one prompt, at most.
const TOKENS_MAX: usize = 1_000_000;

#[derive(Debug, Deserialize)]
struct PrefetchRequest {
    model_name: String,
    world_size: u32,
    token_ids: Vec<u32>,
    #[serde(default)]
    cache_salt: String,
    source_tier: Option<Tier>,
    target_tier: Option<Tier>,
}

/// Begins a prefetch and answers with its id.
pub(super) async fn submit(
    State(admin): State<Admin>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let request: PrefetchRequest = read(&body, None)?;
    let (source, target) = (request.source_tier.unwrap_or(Tier::L2), request.target_tier.unwrap_or(Tier::L1));
    if (source, target) != (Tier::L2, Tier::L1) {
        let (source, target) = (source.word(), target.word());
        return Err(Refusal::bad_request(format!(
            "unsupported prefetch direction '{source}'->'{target}'; only 'l2'->'l1'"
        )));
    }
    if request.token_ids.len() > TOKENS_MAX {
        let tokens = request.token_ids.len();
        return Err(Refusal::bad_request(format!("{tokens} token ids are more than {TOKENS_MAX}")));
    }
    check_model_name(&request.model_name)
        .and_then(|()| check_cache_salt(&request.cache_salt))
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    let (chunks, begun) = blocking(move || {
        let mut hashes = Vec::new();
        admin.hasher.extend(None, &request.token_ids, &mut hashes);
        let hashes: Arc<[_]> = hashes.into();
        if hashes.is_empty() {
            return (0, None);
        }
        let PrefetchRequest { model_name, world_size, cache_salt, token_ids, .. } = &request;
        let chunks = hashes.len();
        (chunks, Some(admin.engine.warm(model_name, *world_size, cache_salt, hashes, token_ids)))
    })
    .await?;
    let answer = match begun {
        None => json!({ "chunks": 0, "status": "noop" }),
        Some(Ok(id)) => json!({ "request_id": &*id, "chunks": chunks, "status": "submitted" }),
        Some(Err(WarmError::Key(error))) => return Err(Refusal::bad_request(error.to_string())),
        Some(Err(error)) => return Err(Refusal::unavailable(error.to_string())),
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// How a prefetch stands; its end is told once.
pub(super) async fn status(
    State(admin): State<Admin>,
    Path(request_id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    match admin.engine.warm_status(&request_id) {
        Some(WarmStatus::Pending) => Ok(Json(json!({ "request_id": request_id, "status": "pending" }))),
        Some(WarmStatus::Completed { found_keys, total_keys }) => Ok(Json(json!({
            "request_id": request_id, "status": "completed",
            "found_keys": found_keys, "total_keys": total_keys,
        }))),
        None => Err(Refusal::not_found(format!(
            "unknown prefetch request_id='{}' (already completed or never submitted)",
            request_id.escape_debug()
        ))),
    }
}
