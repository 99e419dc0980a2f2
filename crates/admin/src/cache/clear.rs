//! `/cache/clear`: emptying a tier.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use larder_storage::{Adapter, DeleteMode, Error, ListRequest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::reply::{Refusal, blocking, read, to_the_end};
use super::super::routes::Admin;
use super::keys::Tier;

/// Objects listed and deleted at a time.
const CLEARED_AT_ONCE: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct ClearRequest {
    tier: Tier,
    force: bool,
}

impl Default for ClearRequest {
    fn default() -> Self {
        Self { tier: Tier::L1, force: false }
    }
}

/// Empties a tier, or both. Goes on to its end even if the caller leaves.
pub(super) async fn clear(State(admin): State<Admin>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let ClearRequest { tier, force } = read(&body, Some(ClearRequest::default()))?;
    if tier == Tier::L2 && admin.tier.adapters().is_empty() {
        return Err(Refusal::unavailable("no L2 adapters configured"));
    }
    let mut cleared = json!({ "tier": tier.word() });
    if tier.has_l1() {
        let engine = admin.engine.clone();
        blocking(move || engine.clear(force)).await?;
    }
    if tier.has_l2() {
        let adapters: Vec<_> =
            admin.tier.adapters().iter().map(|attached| Arc::clone(&attached.built().adapter)).collect();
        let counts = to_the_end(async move {
            let mut counts = Vec::new();
            for adapter in adapters {
                counts.push(empty(&*adapter, force).await);
            }
            counts
        });
        cleared["adapters"] = counts.await?.into();
    }
    Ok(Json(json!({ "status": "ok", "cleared": cleared })))
}

/// Deletes page by page. A page is listed anew from the start for as long as deleting makes progress: tokens
/// need not survive deletions.
async fn empty(adapter: &dyn Adapter, force: bool) -> Value {
    let mode = if force { DeleteMode::Forced } else { DeleteMode::IfUnlocked };
    let (mut deleted, mut skipped, mut error) = (0, 0, None);
    let mut page_token = None;
    loop {
        let request = ListRequest { model_name: None, page_token, entries_max: CLEARED_AT_ONCE };
        let page = match adapter.list(request).await {
            Ok(page) => page,
            Err(failure) => {
                error = Some(failure.text.to_string());
                break;
            }
        };
        let keys = page.entries.into_iter().map(|entry| entry.key).collect();
        for result in adapter.delete(keys, mode).await {
            match result {
                Ok(_) => deleted += 1,
                Err(Error::Absent) => {}
                Err(Error::Busy(_)) => skipped += 1,
                Err(Error::Failed(failure)) => error = Some(failure.text.to_string()),
            }
        }
        page_token = page.next_page_token;
        if page_token.is_none() {
            break;
        }
    }
    tracing::info!("cleared `{}`: {deleted} objects deleted, {skipped} in use", adapter.kind());
    json!({ "type_name": adapter.kind(), "deleted": deleted, "skipped": skipped, "error": error })
}
