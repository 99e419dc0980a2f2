//! `/config/adapters`: the second tier's adapters.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Word;

/// `GET /config/adapters`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdapterList {
    /// In order of priority.
    pub adapters: Vec<Adapter>,
}

/// One adapter: the peer's keys, then ours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Adapter {
    /// Its place in the list.
    pub index: usize,
    /// Its type.
    pub type_name: Word,
    /// `l2`.
    pub tier: Word,
    /// Whether it is the first.
    pub primary: bool,
    /// Whether its configuration can be changed in place; never.
    pub reconfigurable: bool,
    /// Its id.
    pub id: String,
    /// Whether it gets new work: `active`, `paused`, `draining`.
    pub phase: Word,
    /// Whether that is `paused`.
    pub paused: bool,
    /// Whether that is `draining`.
    pub draining: bool,
    /// Stores and loads that use it.
    pub in_use_by: usize,
    /// Calls that lookups do not wait for, because it was silent.
    pub late_with: Vec<Word>,
    /// How it does.
    pub state: Word,
    /// Why it does not do well.
    pub reason: Option<String>,
    /// Its circuit breaker, if it has one.
    pub breaker: Option<Breaker>,
    /// Its configuration, without secrets.
    pub config: Value,
}

/// A circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Breaker {
    /// `closed`, `open` or `half_open`.
    pub state: Word,
    /// Times it opened.
    pub openings: u64,
}

/// `POST /config/adapters`; the answer is an [`Adapter`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// As for `--l2-adapter`.
    pub config: Value,
    /// Its place in the list; the last unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
}

/// The answer to `DELETE /config/adapters/{adapter}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detached {
    /// `detached`.
    pub status: Word,
    /// Its id.
    pub id: String,
    /// Whether everything that used it came to its end in time.
    pub drained: bool,
    /// Stores and loads that were cut short.
    pub in_use_by: usize,
    /// Whether it closed in time; if not, it goes on closing by itself.
    pub closed: bool,
}
