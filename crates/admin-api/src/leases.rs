//! `/leases`: who keeps memory in place, and taking it back.

use serde::{Deserialize, Serialize};

/// `GET /leases`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leases {
    /// All leases.
    pub total: u64,
    /// By what holds them.
    pub by_owner: LeasesByOwner,
    /// Those nobody owns: a defect.
    pub leaked: u64,
    /// The holders that have been idle longest.
    pub holders: Vec<LeaseHolder>,
}

/// Leases by what holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeasesByOwner {
    /// Requests, for their retrieves.
    pub request: u64,
    /// Workers that are copying.
    pub retrieve: u64,
    /// Objects on their way to L2.
    pub l2_store: u64,
    /// Clients of the server before.
    pub adoption: u64,
}

/// A request or a worker that holds leases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseHolder {
    /// The model.
    pub model_name: String,
    /// The tenant.
    pub cache_salt: String,
    /// Leases it holds.
    pub leases: u64,
    /// Seconds since it was last heard of.
    pub idle_seconds: f64,
    /// Whether its connection is gone.
    pub orphaned: bool,
    /// The request, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The worker, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<i64>,
}

/// `POST /leases/release`: one of the two ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// A request.
    pub request_id: Option<String>,
    /// A worker.
    pub instance_id: Option<i64>,
    /// Why, for the log.
    pub reason: String,
}

/// The answer to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Released {
    /// Leases taken back.
    pub released: u64,
}
