//! The processes of workers: until one has ended it may write where it was told to, whatever became of its
//! connections.
//!
//! Nothing in a request tells the process. The one that holds the other end of the worker's connection and
//! has the pool mapped is taken for it. Of other workers, in another container or under another user, nothing
//! but their connections tell.

use std::fmt;
use std::sync::Arc;

use larder_pool::Mapper;

/// How long what a closed connection held is kept for a client that reconnects.
pub(crate) const ORPHAN_GRACE_MS: u64 = 2_000;

/// A process that has the pool mapped.
pub(crate) type Process = Arc<dyn Watched>;

/// What is to be known of a process.
pub(crate) trait Watched: fmt::Debug + Send + Sync {
    /// Its id.
    fn pid(&self) -> u32;
    /// Whether it has ended, with all of its threads.
    fn has_ended(&self) -> bool;
}

impl Watched for Mapper {
    fn pid(&self) -> u32 {
        self.pid()
    }

    fn has_ended(&self) -> bool {
        self.has_ended()
    }
}

/// That the last connection of a worker is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Orphaned {
    /// Since when.
    pub since_ms: u64,
    /// How long it keeps what it may still touch.
    pub grace_ms: u64,
}

impl Orphaned {
    /// Whether it can't touch anything any more.
    pub(crate) fn is_over(self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.since_ms) > self.grace_ms
    }
}

/// Whether a worker can't touch the pool any more, by what is known of its process and of its connections.
pub(crate) fn is_over(process: Option<&Process>, orphaned: Option<Orphaned>, now_ms: u64) -> bool {
    match process {
        Some(process) => process.has_ended(),
        None => orphaned.is_some_and(|orphaned| orphaned.is_over(now_ms)),
    }
}
