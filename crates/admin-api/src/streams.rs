//! What server-sent events carry beside the events themselves, which `telemetry::events` writes, and lines of
//! logs, which are [`LogLine`](crate::plugins::LogLine)s.

use serde::{Deserialize, Serialize};

/// `event: lost` of `/events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Events that left before the reader asked for them.
    pub lost: u64,
}

/// `event: gap` of a plugin's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Lines that were suppressed, or left before the reader asked for them.
    pub lines: u64,
}
