//! What the RPC front counts.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_telemetry::Throttle;
use tokio::runtime;

/// Counters of one front, readable from any thread.
#[derive(Debug, Default)]
pub struct RpcStats {
    requests: AtomicU64,
    refused: AtomicU64,
    malformed: AtomicU64,
    panics: AtomicU64,
    jobs_waiting: AtomicU64,
    cut: AtomicU64,
    rpc_thread: OnceLock<(runtime::Handle, larder_zmtp::Handle)>,
    /// Microseconds of the last round trip, and how many there were that did not end in time.
    round_trip_us: AtomicU64,
    round_trips_late: AtomicU64,
    /// Lines of the log about messages that were cut.
    cut_lines: Throttle,
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

    /// Requests that were not done because a part of them was larger than a message may be.
    pub fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }

    /// Tells which runtime serves clients, and through which sockets.
    pub fn attach(&self, runtime: runtime::Handle, sockets: larder_zmtp::Handle) {
        // There is one front, attached once.
        _ = self.rpc_thread.set((runtime, sockets));
    }

    /// The sockets that clients are connected to, once they are served.
    pub fn sockets(&self) -> Option<&larder_zmtp::Handle> {
        self.rpc_thread.get().map(|(_, sockets)| sockets)
    }

    /// Has the thread that serves clients do nothing, and tells how long that took; `None` if it did not come
    /// to it `within` that time.
    pub async fn round_trip(&self, within: Duration) -> Option<Duration> {
        let (runtime, _) = self.rpc_thread.get()?;
        let asked = Instant::now();
        let answered = tokio::time::timeout(within, runtime.spawn(async {})).await;
        let Ok(Ok(())) = answered else {
            self.round_trips_late.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let took = asked.elapsed();
        self.round_trip_us.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Some(took)
    }

    /// How long the last [`Self::round_trip`] took.
    pub fn last_round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_us.load(Ordering::Relaxed))
    }

    /// How many times [`Self::round_trip`] gave up.
    pub fn late_round_trips(&self) -> u64 {
        self.round_trips_late.load(Ordering::Relaxed)
    }

    /// Work on other threads: copies, long prompts, clears. It waits for a worker or runs.
    pub fn jobs_waiting(&self) -> u64 {
        self.jobs_waiting.load(Ordering::Relaxed)
    }

    pub(super) fn count_request(&self, refused: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if refused {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that was too large to be kept; true if it is time for the log to say so.
    pub(super) fn count_cut(&self) -> bool {
        self.cut.fetch_add(1, Ordering::Relaxed);
        self.cut_lines.pass().is_some()
    }

    pub(super) fn job_started(&self) {
        self.jobs_waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn job_ended(&self) {
        let jobs = self.jobs_waiting.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(jobs > 0, "what ends was started");
    }
}
