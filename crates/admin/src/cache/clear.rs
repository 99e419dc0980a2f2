//! `/cache/clear`: emptying a tier.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use larder_admin_api::cache::{ClearAnswer, ClearRequest, Cleared, ClearedAdapter, Tier};
use larder_engine::Operator;
use larder_storage::{Adapter, DeleteMode, Error, ListRequest};

use crate::reply::{Refusal, blocking, read, to_the_end};

/// Objects listed and deleted at a time.
const CLEARED_AT_ONCE: usize = 1_000;

/// Empties a tier, or both. Goes on to its end even if the caller leaves.
pub(crate) async fn clear(
    State(engine): State<Operator>,
    State(storage): State<Arc<larder_tier::Tier>>,
    body: Bytes,
) -> Result<Json<ClearAnswer>, Refusal> {
    let ClearRequest { tier, force } = read(&body, Some(ClearRequest::default()))?;
    if tier == Tier::L2 && storage.adapters().is_empty() {
        return Err(Refusal::unavailable("no L2 adapters configured"));
    }
    let mut cleared = Cleared { tier: tier.as_str().into(), adapters: None };
    if tier.has_l1() {
        blocking(move || engine.clear(force)).await?;
    }
    if tier.has_l2() {
        let adapters: Vec<_> =
            storage.adapters().iter().map(|attached| Arc::clone(&attached.built().adapter)).collect();
        let counts = to_the_end(async move {
            let mut counts = Vec::new();
            for adapter in adapters {
                counts.push(empty(&*adapter, force).await);
            }
            counts
        });
        cleared.adapters = Some(counts.await?);
    }
    Ok(Json(ClearAnswer { status: "ok".into(), cleared }))
}

/// Deletes page by page. A page is listed anew from the start for as long as deleting makes progress: tokens
/// need not survive deletions.
async fn empty(adapter: &dyn Adapter, force: bool) -> ClearedAdapter {
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
    ClearedAdapter { type_name: adapter.kind().into(), deleted, skipped, error }
}
