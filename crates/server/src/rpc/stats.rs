//! What the RPC front counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one front, readable from any thread.
#[derive(Debug, Default)]
pub struct RpcStats {
    requests: AtomicU64,
    refused: AtomicU64,
    malformed: AtomicU64,
    panics: AtomicU64,
    jobs_waiting: AtomicU64,
}

impl RpcStats {
    /// Requests answered, well or badly.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests that were refused: undecodable, unknown, or not possible.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Messages that could not be answered because they are no requests.
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    /// Requests whose handler panicked; each failed alone.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Copies that wait for a worker or run.
    pub fn jobs_waiting(&self) -> u64 {
        self.jobs_waiting.load(Ordering::Relaxed)
    }

    pub(super) fn count_request(&self, refused: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.refused.fetch_add(u64::from(refused), Ordering::Relaxed);
    }

    pub(super) fn count_malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn job_started(&self) {
        self.jobs_waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn job_ended(&self) {
        self.jobs_waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
