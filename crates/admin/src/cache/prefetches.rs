//! `/cache/prefetches`: bringing a prompt into memory ahead of the requests that will need it.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use larder_admin_api::cache::{Prefetch, PrefetchBegun, PrefetchRequest, Tier};
use larder_core::name::{check_cache_salt, check_model_name};
use larder_engine::{Operator, WarmError, WarmStatus};

use crate::reply::{Refusal, blocking, read};
use crate::state::Admin;

/// Tokens in one prompt, at most.
const TOKENS_MAX: usize = 1_000_000;

/// Begins a prefetch and answers with its id.
pub(crate) async fn submit(
    State(admin): State<Admin>,
    body: Bytes,
) -> Result<(StatusCode, Json<PrefetchBegun>), Refusal> {
    let request: PrefetchRequest = read(&body, None)?;
    let (source, target) = (request.source_tier.unwrap_or(Tier::L2), request.target_tier.unwrap_or(Tier::L1));
    if (source, target) != (Tier::L2, Tier::L1) {
        let (source, target) = (source.as_str(), target.as_str());
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
        None => PrefetchBegun { request_id: None, chunks: 0, status: "noop".into() },
        Some(Ok(id)) => {
            PrefetchBegun { request_id: Some(id.to_string()), chunks, status: "submitted".into() }
        }
        Some(Err(WarmError::Key(error))) => return Err(Refusal::bad_request(error.to_string())),
        Some(Err(error)) => return Err(Refusal::unavailable(error.to_string())),
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// How a prefetch stands; its end is told once.
pub(crate) async fn status(
    State(engine): State<Operator>,
    Path(request_id): Path<String>,
) -> Result<Json<Prefetch>, Refusal> {
    let (status, found_keys, total_keys) = match engine.warm_status(&request_id) {
        Some(WarmStatus::Pending) => ("pending", None, None),
        Some(WarmStatus::Completed { found_keys, total_keys }) => {
            ("completed", Some(found_keys), Some(total_keys))
        }
        None => {
            return Err(Refusal::not_found(format!(
                "unknown prefetch request_id='{}' (already completed or never submitted)",
                request_id.escape_debug()
            )));
        }
    };
    Ok(Json(Prefetch { request_id, status: status.into(), found_keys, total_keys }))
}
