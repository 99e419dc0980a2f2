//! What an adapter says about itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Failure, FailureKind};

/// Room taken and left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects known to be held.
    pub objects: u64,
    /// Bytes they take.
    pub bytes_used: u64,
    /// The most they may take; none without a limit.
    pub bytes_capacity: Option<u64>,
    /// Bytes by tenant; the empty salt is traffic without one.
    pub bytes_by_salt: BTreeMap<Arc<str>, u64>,
    /// Objects a lookup holds locked.
    pub objects_locked: u64,
    /// Whether the numbers cover everything held. An index being rebuilt, or a remote that others write to as
    /// well, counts only what this process has seen.
    pub is_complete: bool,
}

impl Usage {
    /// Share of the capacity in use; none without a capacity.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for watermarks; 53 bits are plenty")]
    pub fn fraction(&self) -> Option<f64> {
        let capacity = self.bytes_capacity.filter(|capacity| *capacity > 0)?;
        Some(self.bytes_used as f64 / capacity as f64)
    }
}

/// How an adapter is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthState {
    /// Everything works.
    Ready,
    /// It serves, with something missing (an index being rebuilt, a wish not granted).
    Degraded,
    /// It serves what it holds and takes nothing more.
    Full,
    /// It answers and lets nothing be stored: no login, no permission, no bucket, a read-only directory.
    Refused,
    /// It can't be used at the moment.
    Unavailable,
    /// It was closed.
    Closed,
}

impl HealthState {
    /// The state that the failure of a store shows, for as long as it stands.
    #[must_use]
    pub fn after(failure: &Failure) -> Self {
        match failure.kind {
            FailureKind::Refused => Self::Refused,
            FailureKind::Full => Self::Full,
            _ => Self::Unavailable,
        }
    }

    /// The word status pages use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Full => "full",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Closed => "closed",
        }
    }
}

/// State, reason and particulars.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// The state.
    pub state: HealthState,
    /// Why, whenever it is not [`HealthState::Ready`].
    pub reason: Option<String>,
    /// Particulars of the adapter and of each decorator around it, for status pages.
    pub details: serde_json::Map<String, serde_json::Value>,
}

impl Health {
    /// All well, nothing to add.
    #[must_use]
    pub fn ready() -> Self {
        Self { state: HealthState::Ready, reason: None, details: serde_json::Map::new() }
    }

    /// Another state, with its reason.
    #[must_use]
    pub fn because(state: HealthState, reason: impl Into<String>) -> Self {
        Self { state, reason: Some(reason.into()), details: serde_json::Map::new() }
    }

    /// Adds a particular.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}
