//! `/quota`: how much each tenant may have. Sizes are in GiB, as the peer has them.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::Word;

/// `GET /quota`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// Tenants with a quota of their own, by salt.
    pub users: IndexMap<String, Usage>,
    /// The limit of all others; none without one.
    pub default_limit_gb: Option<f64>,
    /// Tenants without a quota that have most, by salt.
    pub without_quota: IndexMap<String, Usage>,
}

/// What one tenant has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// What it may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_gb: Option<f64>,
    /// What it has in all adapters.
    pub current_usage_gb: f64,
    /// What it has in memory.
    pub l1_usage_gb: f64,
}

/// `GET /quota/{cache_salt}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// The tenant.
    pub cache_salt: String,
    /// Its own limit; 0 without one.
    pub limit_gb: f64,
    /// What it has in all adapters.
    pub current_usage_gb: f64,
    /// Whether it has a limit of its own.
    pub exists: bool,
    /// The limit that holds for it; none without one.
    pub effective_limit_gb: Option<f64>,
    /// What it has in memory.
    pub l1_usage_gb: f64,
    /// What it has in each adapter, by id.
    pub usage_gb_by_adapter: IndexMap<String, f64>,
}

/// The answer to `PUT /quota/{cache_salt}`. Its body is `{"limit_gb": GIB}`, as loosely as the peer reads it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuotaSet {
    /// The tenant.
    pub cache_salt: String,
    /// Its limit now.
    pub limit_gb: f64,
    /// `ok`.
    pub status: Word,
}

/// The answer to `DELETE /quota/{cache_salt}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuotaRemoved {
    /// The tenant.
    pub cache_salt: String,
    /// `removed` or `not_found`.
    pub status: Word,
}
