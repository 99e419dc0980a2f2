//! `/cache/*` and `/leases`: what is cached, and taking it out or bringing it in by hand (`spec/http-api.md`
//! 2).

mod clear;
mod keys;
mod leases;
mod objects;
mod prefetches;

use axum::routing::{get, post};
use axum::{Router, middleware};

use super::access;
use super::routes::Admin;

/// The routes of this module.
pub(super) fn router() -> Router<Admin> {
    let mutating = Router::new()
        .route("/cache/clear", post(clear::clear))
        .route("/cache/objects", axum::routing::delete(objects::delete))
        .route("/cache/prefetches", post(prefetches::submit))
        .route("/leases/release", post(leases::release))
        .layer(middleware::from_fn(access::local_callers_only));
    Router::new()
        .route("/cache/objects", get(objects::list))
        .route("/cache/prefetches/{request_id}", get(prefetches::status))
        .route("/leases", get(leases::list))
        .merge(mutating)
}
