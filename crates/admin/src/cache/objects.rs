//! `/cache/objects`: listing and deleting by name.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use larder_admin_api::cache::{DeleteRequest, Deleted, ObjectEntry, ObjectPage, Tier};
use larder_core::cache;
use larder_core::key::ObjectKey;
use larder_engine::Operator;
use larder_storage::{Adapter, DeleteMode, Error, FailureKind, ListRequest, Listed};
use serde::Deserialize;

use super::keys::{adapter, decode, encode};
use crate::reply::{Refusal, blocking, read, to_the_end};

/// Objects on a page, at most.
const PAGE_SIZE_MAX: usize = 5_000;

/// Objects on a page unless the caller says otherwise.
const PAGE_SIZE_DEFAULT: usize = 500;

/// Keys in one deletion, at most.
const DELETED_KEYS_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
pub(crate) struct ListQuery {
    tier: Option<Tier>,
    adapter: Option<String>,
    model_name: Option<String>,
    page_size: Option<usize>,
    page_token: Option<String>,
}

/// One page of what a tier holds.
pub(crate) async fn list(
    State(engine): State<Operator>,
    State(storage): State<Arc<larder_tier::Tier>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<ObjectPage>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::unprocessable(error.body_text()))?;
    let page_size = query.page_size.unwrap_or(PAGE_SIZE_DEFAULT);
    if !(1..=PAGE_SIZE_MAX).contains(&page_size) {
        return Err(Refusal::unprocessable(format!(
            "page_size `{page_size}` is out of range 1..={PAGE_SIZE_MAX}"
        )));
    }
    match query.tier.unwrap_or(Tier::L2) {
        Tier::L1 => list_l1(engine, query, page_size).await.map(Json),
        Tier::L2 => list_l2(&storage, query, page_size).await.map(Json),
        Tier::All => Err(Refusal::bad_request("a listing is of one tier: 'l1' or 'l2'")),
    }
}

async fn list_l1(engine: Operator, query: ListQuery, page_size: usize) -> Result<ObjectPage, Refusal> {
    let from = match query.page_token.as_deref().map(str::parse::<u32>) {
        None => 0,
        Some(Ok(from)) => from,
        Some(Err(_)) => return Err(Refusal::bad_request("page_token is not one this server gave")),
    };
    let page = blocking(move || engine.list_objects(from, page_size, query.model_name.as_deref())).await?;
    let entry = |object: &cache::Listed| ObjectEntry {
        key: encode(&object.scope.namespace.key(object.hash)),
        size_bytes: object.scope.layout.bytes(),
        leases: Some(object.leases),
    };
    Ok(ObjectPage {
        adapter: None,
        shared: false,
        entries: page.objects.iter().map(entry).collect(),
        next_page_token: page.next.map(|next| next.to_string()),
    })
}

async fn list_l2(
    storage: &larder_tier::Tier,
    query: ListQuery,
    page_size: usize,
) -> Result<ObjectPage, Refusal> {
    let built = adapter(storage, query.adapter.as_deref())?;
    let request =
        ListRequest { model_name: query.model_name, page_token: query.page_token, entries_max: page_size };
    let page = built.adapter.list(request).await.map_err(|failure| match failure.kind {
        FailureKind::Invalid => Refusal::bad_request(failure.text.to_string()),
        _ => Refusal::unavailable(format!("adapter `{}`: {}", built.adapter.kind(), failure.text)),
    })?;
    let entry =
        |entry: &Listed| ObjectEntry { key: encode(&entry.key), size_bytes: entry.bytes, leases: None };
    Ok(ObjectPage {
        adapter: Some(built.adapter.kind().into()),
        shared: built.is_shared,
        entries: page.entries.iter().map(entry).collect(),
        next_page_token: page.next_page_token,
    })
}

/// Deletes objects by name. Counts what was there and is gone, unlike the peer, which counts what it was
/// asked for.
pub(crate) async fn delete(
    State(engine): State<Operator>,
    State(storage): State<Arc<larder_tier::Tier>>,
    body: Bytes,
) -> Result<Json<Deleted>, Refusal> {
    let request: DeleteRequest = read(&body, None)?;
    if request.keys.len() > DELETED_KEYS_MAX {
        let keys = request.keys.len();
        return Err(Refusal::bad_request(format!("{keys} keys are more than {DELETED_KEYS_MAX}")));
    }
    let keys = request.keys.iter().enumerate().map(|(index, key)| {
        decode(key).map_err(|error| Refusal::bad_request(format!("keys[{index}]: {error}")))
    });
    let keys: Vec<ObjectKey> = keys.collect::<Result<_, _>>()?;
    let tier = request.tier.unwrap_or(Tier::L2);
    let storage = match tier.has_l2() {
        true => Some(adapter(&storage, request.adapter.as_deref())?.adapter),
        false => None,
    };
    tracing::info!("deleting {} objects from {}, force={}", keys.len(), tier.as_str(), request.force);
    let outcome = to_the_end(delete_from(engine, tier, storage, keys, request.force)).await??;
    let DeleteOutcome { deleted, skipped, error } = outcome;
    Ok(Json(Deleted { deleted, skipped, ok: error.is_none(), error }))
}

#[derive(Debug, Default)]
struct DeleteOutcome {
    deleted: usize,
    skipped: usize,
    error: Option<String>,
}

async fn delete_from(
    engine: Operator,
    tier: Tier,
    storage: Option<Arc<dyn Adapter>>,
    keys: Vec<ObjectKey>,
    force: bool,
) -> Result<DeleteOutcome, Refusal> {
    let mut outcome = DeleteOutcome::default();
    if tier.has_l1() {
        let keys = keys.clone();
        let removed = blocking(move || engine.remove_objects(&keys, force)).await?;
        (outcome.deleted, outcome.skipped) = (removed.deleted, removed.skipped);
    }
    if let Some(storage) = storage {
        let mode = if force { DeleteMode::Forced } else { DeleteMode::IfUnlocked };
        for result in storage.delete(keys, mode).await {
            match result {
                Ok(_) => outcome.deleted += 1,
                Err(Error::Absent) => {}
                Err(Error::Busy(_)) => outcome.skipped += 1,
                Err(Error::Failed(failure)) => outcome.error = Some(failure.text.to_string()),
            }
        }
    }
    Ok(outcome)
}
