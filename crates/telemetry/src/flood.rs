//! Lines that clients can cause are bounded: what one of them does a hundred thousand times a second is not
//! told as often.
//!
//! Each place in the code has an allowance of its own, so that a flood of one kind of line keeps no other
//! kind back.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tracing::{Level, Metadata, callsite};

/// Crates whose lines are about what clients ask. Each has a test that it is still called so.
pub const CLIENT_CRATES: [&str; 2] = ["larder_engine", "larder_rpc"];

/// Lines of one place at once, and a second in the long run.
const LINES_BURST: f64 = 200.0;
const LINES_PER_SECOND: f64 = 20.0;

/// The allowances. There is one for each place in the code that has written a line.
#[derive(Debug, Default)]
pub(super) struct Flood(Mutex<HashMap<callsite::Identifier, Allowance>>);

#[derive(Debug)]
struct Allowance {
    lines: f64,
    refilled: Instant,
    left_out: u64,
}

impl Flood {
    /// Whether a line of this place is to be written, and how many were not since the last one. Debugging is
    /// not bounded.
    pub(super) fn pass(&self, metadata: &Metadata<'static>, now: Instant) -> Option<u64> {
        let is_bounded = *metadata.level() <= Level::INFO
            && CLIENT_CRATES.iter().any(|name| metadata.target().starts_with(name));
        if !is_bounded {
            return Some(0);
        }
        let mut allowances = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = || Allowance { lines: LINES_BURST, refilled: now, left_out: 0 };
        allowances.entry(metadata.callsite()).or_insert_with(full).pass(now)
    }
}

impl Allowance {
    fn pass(&mut self, now: Instant) -> Option<u64> {
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
        let mut allowance = Allowance { lines: LINES_BURST, refilled: now, left_out: 0 };
        let passed = (0..LINES_BURST as usize + 50).filter(|_| allowance.pass(now).is_some()).count();
        assert_eq!(passed, LINES_BURST as usize);
        assert_eq!(allowance.pass(now + Duration::from_secs(1)), Some(50));
        assert_eq!(allowance.pass(now + Duration::from_secs(1)), Some(0));
    }
}
