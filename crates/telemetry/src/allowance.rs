//! So many lines at once and so many a second in the long run; those beyond are counted.

use std::time::Instant;

/// Lines at once.
const LINES_BURST: f64 = 200.0;

/// Lines a second, in the long run.
const LINES_PER_SECOND: f64 = 20.0;

/// What one kind of line may still write.
#[derive(Debug)]
pub struct Allowance {
    lines: f64,
    refilled: Instant,
    left_out: u64,
}

impl Allowance {
    /// An allowance of which nothing is used.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { lines: LINES_BURST, refilled: now, left_out: 0 }
    }

    /// Whether one more line is to be written, and how many were not since the last one.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        let waited = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.lines = (self.lines + waited * LINES_PER_SECOND).min(LINES_BURST);
        if self.lines < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.lines -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_what_was_left_out_is_counted() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        let passed = (0..LINES_BURST as usize + 50).filter(|_| allowance.pass(now).is_some()).count();
        assert_eq!(passed, LINES_BURST as usize);
        assert_eq!(allowance.pass(now + Duration::from_secs(1)), Some(50));
        assert_eq!(allowance.pass(now + Duration::from_secs(1)), Some(0));
    }
}
