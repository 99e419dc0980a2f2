//! `/config/live`: what of the configuration can be changed while the server runs. `GET /config` is the
//! peer's document, which `config` makes for plugins as well.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `GET /config/live`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveConfig {
    /// The version now.
    pub version: u64,
    /// Every setting that can be changed, by its key in the configuration file.
    pub settings: IndexMap<String, LiveSetting>,
    /// The versions so far, oldest first.
    pub history: Vec<Version>,
}

/// One setting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveSetting {
    /// Its value.
    pub value: Value,
    /// Where that came from.
    pub source: String,
    /// What would be accepted.
    pub accepted: String,
    /// What it does.
    pub help: String,
}

/// One version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Version {
    /// Its number; the start is 1.
    pub version: u64,
    /// When it was made.
    pub time: String,
    /// Who asked for it.
    pub caller: String,
    /// Why, in the caller's words.
    pub reason: String,
    /// What it changed, by key.
    pub changes: Changes,
}

/// Changed settings by key.
pub type Changes = IndexMap<String, Change>;

/// One setting that another version has otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// Its value before.
    pub from: Value,
    /// Its value after.
    pub to: Value,
}

/// `PATCH /config/live`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// New values by key; `null` is the default.
    pub settings: Map<String, Value>,
    /// The version the caller looked at; a change is refused if there is another by now.
    pub expected_version: Option<u64>,
    /// Only tells what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the history.
    #[serde(default)]
    pub reason: String,
}

/// `POST /config/live/rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version whose values shall hold again.
    pub version: u64,
    /// As for a change.
    pub expected_version: Option<u64>,
    /// As for a change.
    #[serde(default)]
    pub dry_run: bool,
    /// As for a change.
    #[serde(default)]
    pub reason: String,
}

/// The answer to both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changed {
    /// The version now.
    pub version: u64,
    /// What changed, or would.
    pub changes: Changes,
    /// Whether it was done.
    pub applied: bool,
}
