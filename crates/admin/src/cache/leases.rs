//! `/leases`: who keeps memory in place, and taking it back.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use larder_admin_api::leases::{LeaseHolder, Leases, LeasesByOwner, ReleaseRequest, Released};
use larder_engine::{LeaseOwner, Operator};

use crate::reply::{Refusal, read};

/// Holders shown, at most: those idle longest. The rest is in the totals.
const HOLDERS_MAX: usize = 1_000;

/// Characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 200;

/// Leases by owner, and the holders that have been idle longest.
pub(crate) async fn list(State(engine): State<Operator>) -> Json<Leases> {
    let totals = engine.lease_totals();
    Json(Leases {
        total: totals.total,
        by_owner: LeasesByOwner {
            request: totals.requests,
            retrieve: totals.retrieves,
            l2_store: totals.l2_stores,
            adoption: totals.adoption,
        },
        leaked: totals.leaked(),
        holders: engine.lease_holders(HOLDERS_MAX).iter().map(holder).collect(),
    })
}

fn holder(holder: &larder_engine::LeaseHolder) -> LeaseHolder {
    let (request_id, instance_id) = match &holder.owner {
        LeaseOwner::Request(request_id) => (Some(request_id.to_string()), None),
        LeaseOwner::Instance(instance_id) => (None, Some(*instance_id)),
    };
    LeaseHolder {
        model_name: holder.model_name.to_string(),
        cache_salt: holder.cache_salt.to_string(),
        leases: holder.leases,
        idle_seconds: holder.idle_ms as f64 / 1000.0,
        orphaned: holder.is_orphaned,
        request_id,
        instance_id,
    }
}

/// Takes back what a request or a worker holds. A reader that is alive after all finds its retrieve failed.
pub(crate) async fn release(State(engine): State<Operator>, body: Bytes) -> Result<Json<Released>, Refusal> {
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
    match engine.force_release(&owner, &reason) {
        Some(released) => Ok(Json(Released { released })),
        None => Err(Refusal::not_found("nobody of that name holds anything")),
    }
}
