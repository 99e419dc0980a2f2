//! What looking at objects came to, in numbers.

use super::counter::Counter;

/// Where objects are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckPoint {
    /// On the way to L2.
    Store,
    /// On the way back.
    Load,
    /// Before a worker may read them.
    Retrieve,
}

impl CheckPoint {
    /// Every point, in the order counters list them.
    pub const ALL: [Self; 3] = [Self::Store, Self::Load, Self::Retrieve];

    /// The label metrics and events use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Load => "load",
            Self::Retrieve => "retrieve",
        }
    }
}

/// What checks came to, in objects.
#[derive(Debug, Default)]
pub struct ChecksumCounters {
    /// Sealed.
    pub sealed: Counter,
    /// Not sealed when they were committed, because too many waited.
    pub shed: Counter,
    /// Served without a check, because nobody had sealed them.
    pub unverified: Counter,
    verified: [Counter; 3],
    mismatches: [Counter; 3],
}

impl ChecksumCounters {
    /// Those whose bytes were right.
    pub fn verified(&self, at: CheckPoint) -> &Counter {
        &self.verified[at as usize]
    }

    /// Those whose bytes or layout were not right.
    pub fn mismatches(&self, at: CheckPoint) -> &Counter {
        &self.mismatches[at as usize]
    }
}
