//! So many lines at once and so many a second in the long run; those beyond are counted.

use std::time::{Duration, Instant};

use crate::rate::{LineRate, TokenBucket};

/// Lines a second in the long run, and at once.
const LINES: LineRate = LineRate { per_second: 20, burst: 200 };

/// What one kind of line may still write.
#[derive(Debug)]
pub struct Allowance {
    bucket: TokenBucket,
    begun: Instant,
    left_out: u64,
}

impl Allowance {
    /// An allowance of which nothing is used.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { bucket: TokenBucket::new(LINES, Duration::ZERO), begun: now, left_out: 0 }
    }

    /// Whether one more line is to be written, and how many were not since the last one.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if !self.bucket.take(now.saturating_duration_since(self.begun)) {
            self.left_out += 1;
            return None;
        }
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_what_was_left_out_is_counted() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        let passed = (0..LINES.burst + 50).filter(|_| allowance.pass(now).is_some()).count();
        assert_eq!(passed, LINES.burst as usize);
        assert_eq!(allowance.pass(now + Duration::from_secs(1)), Some(50));
        assert_eq!(allowance.pass(now + Duration::from_secs(1)), Some(0));
    }
}
