//! How many lines somebody may log: a token bucket in exact integer arithmetic.

use std::time::Duration;

/// Lines a second, and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineRate {
    /// Sustained lines a second.
    pub per_second: u32,
    /// Lines that may come at once after a quiet time.
    pub burst: u32,
}

impl Default for LineRate {
    /// 1,000 lines a second, 10,000 at once.
    fn default() -> Self {
        Self { per_second: 1_000, burst: 10_000 }
    }
}

/// A bucket that starts full.
#[derive(Debug)]
pub struct TokenBucket {
    rate: LineRate,
    /// Billionths of a token, so that refilling in small steps loses nothing.
    level: u64,
    filled_at: Duration,
}

const UNIT: u64 = 1_000_000_000;

impl TokenBucket {
    /// A bucket with as many tokens as may come at once.
    #[must_use]
    pub fn new(rate: LineRate, now: Duration) -> Self {
        Self { rate, level: u64::from(rate.burst) * UNIT, filled_at: now }
    }

    /// Takes a token if there is one. `now` counts from any fixed point and does not go back.
    pub fn take(&mut self, now: Duration) -> bool {
        let elapsed = u64::try_from(now.saturating_sub(self.filled_at).as_nanos()).unwrap_or(u64::MAX);
        let gained = elapsed.saturating_mul(u64::from(self.rate.per_second));
        self.level = self.level.saturating_add(gained).min(u64::from(self.rate.burst) * UNIT);
        self.filled_at = now;
        let granted = self.level >= UNIT;
        if granted {
            self.level -= UNIT;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn burst_then_rate() {
        let mut bucket = TokenBucket::new(LineRate { per_second: 10, burst: 3 }, Duration::ZERO);
        let at = |ms| Duration::from_millis(ms);
        assert_eq!([0; 4].map(|ms| bucket.take(at(ms))), [true, true, true, false]);
        assert!(!bucket.take(at(99)));
        assert!(bucket.take(at(100)));
        assert!(!bucket.take(at(199)));
        assert_eq!([10_000; 4].map(|ms| bucket.take(at(ms))), [true, true, true, false]);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate(steps in proptest::collection::vec(0u64..50, 1..400), per_second in 0u32..2000, burst in 0u32..50) {
            let mut bucket = TokenBucket::new(LineRate { per_second, burst }, Duration::ZERO);
            let (mut now, mut granted) = (0u64, 0u64);
            for step in steps {
                now += step;
                granted += u64::from(bucket.take(Duration::from_millis(now)));
                prop_assert!(granted * 1000 <= u64::from(burst) * 1000 + now * u64::from(per_second));
            }
        }
    }
}
