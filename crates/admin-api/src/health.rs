//! `/`, `/healthcheck` and `/periodic-threads`: whether the server serves, and what runs in it.

use serde::{Deserialize, Serialize};

use crate::Word;

/// `GET /`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// `ok`.
    pub status: Word,
    /// The peer's name for the interface.
    pub service: Word,
}

/// `GET /healthcheck`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// `healthy` or `unhealthy`.
    pub status: Word,
    /// Why engines are not served as they should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `GET /periodic-threads`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Threads {
    /// All of them, whatever was asked for.
    pub summary: ThreadCounts,
    /// Those of the level that was asked for.
    pub threads: Vec<Thread>,
}

/// How many background tasks there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadCounts {
    /// All.
    pub total_count: usize,
    /// Those that run.
    pub running_count: usize,
    /// The same, in the peer's other word.
    pub active_count: usize,
}

/// One background task; the peer's are threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thread {
    /// Its name.
    pub name: Word,
    /// How much depends on it.
    pub level: Word,
    /// Whether it runs.
    pub is_running: bool,
    /// The same, in the peer's other word.
    pub is_active: bool,
    /// Seconds since it last did something.
    pub last_run_ago: Option<f64>,
    /// Times it did something.
    pub total_runs: u64,
    /// Times it stopped.
    pub failed_runs: u64,
}
