//! `/leases`: who keeps memory in place, and taking it back.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::reply::{Refusal, read};
use super::super::routes::Admin;
use larder_engine::{LeaseHolder, LeaseOwner};

/// Holders shown, at most: those idle longest.
const HOLDERS_MAX: usize = 1_000;

/// Characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 200;

/// Leases by owner, and the holders that have been idle longest.
pub(super) async fn list(State(admin): State<Admin>) -> Json<Value> {
    let totals = admin.engine.lease_totals();
    let holders = admin.engine.lease_holders(HOLDERS_MAX);
    Json(json!({
        "total": totals.total,
        "by_owner": {
            "request": totals.requests, "retrieve": totals.retrieves, "l2_store": totals.l2_stores,
            "adoption": totals.adoption,
        },
        "leaked": totals.leaked(),
        "holders": holders.iter().map(holder).collect::<Vec<_>>(),
    }))
}

fn holder(holder: &LeaseHolder) -> Value {
    let mut shown = json!({
        "model_name": &*holder.model_name,
        "cache_salt": &*holder.cache_salt,
        "leases": holder.leases,
        "idle_seconds": holder.idle_ms as f64 / 1000.0,
        "orphaned": holder.is_orphaned,
    });
    match &holder.owner {
        LeaseOwner::Request(request_id) => shown["request_id"] = (&**request_id).into(),
        LeaseOwner::Instance(instance_id) => shown["instance_id"] = (*instance_id).into(),
    }
    shown
}

#[derive(Debug, Deserialize)]
struct ReleaseRequest {
    request_id: Option<String>,
    instance_id: Option<i64>,
    reason: String,
}

/// Takes back what a request or a worker holds. A reader that is alive after all finds its retrieve failed.
pub(super) async fn release(State(admin): State<Admin>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let request: ReleaseRequest = read(&body, None)?;
    let owner = match (request.request_id, request.instance_id) {
        (Some(request_id), None) => LeaseOwner::Request(request_id.into()),
        (None, Some(instance_id)) => LeaseOwner::Instance(instance_id),
        _ => return Err(Refusal::bad_request("say either `request_id` or `instance_id`")),
    };
    let reason: String = request.reason.escape_debug().take(REASON_CHARS_MAX).collect();
    if reason.trim().is_empty() {
        return Err(Refusal::bad_request("`reason` is empty; it goes to the log"));
    }
    match admin.engine.force_release(&owner, &reason) {
        Some(released) => Ok(Json(json!({ "released": released }))),
        None => Err(Refusal::not_found("nobody of that name holds anything")),
    }
}
