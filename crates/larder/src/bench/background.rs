//! Eviction in the background, as either server does it: a share of all objects leaves while the pool is at
//! its watermark, at most once a second.

use super::numbers::{length, whole};

/// Shortest time from one pass to the next (`spec/cache-semantics.md` 10).
const INTERVAL_MS: u64 = 1_000;

/// When passes are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Background {
    watermark: f64,
    ratio: f64,
    next_pass_ms: u64,
}

impl Background {
    /// Passes that start from a pool filled to `watermark`, and evict `ratio` of its objects, both from 0 to
    /// 1.
    pub(super) fn new(watermark: f64, ratio: f64) -> Self {
        Self { watermark, ratio, next_pass_ms: 0 }
    }

    /// How many of `objects` the next pass before `time_ms` evicts; none if there is no other.
    pub(super) fn pass(&mut self, time_ms: u64, used_share: f64, objects: usize) -> Option<usize> {
        if self.next_pass_ms > time_ms {
            return None;
        }
        if used_share < self.watermark || self.ratio <= 0.0 || objects == 0 {
            // Nothing changes until the next request.
            self.next_pass_ms = time_ms - time_ms % INTERVAL_MS + INTERVAL_MS;
            return None;
        }
        self.next_pass_ms += INTERVAL_MS;
        Some(length(whole(objects as f64 * self.ratio)).max(1))
    }
}
