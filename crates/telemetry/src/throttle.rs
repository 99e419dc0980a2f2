//! One line per cause and period: what repeats itself thousands of times a minute is told once, with a count.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long a message that was let through keeps the next ones back.
const PERIOD: Duration = Duration::from_secs(60);

/// Causes that are told apart at a time; the one that was silent for longest makes room for a new one.
const CAUSES_MAX: usize = 256;

/// How many messages were kept back since the last one; reads as the end of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptBack(u64);

impl fmt::Display for KeptBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more like this since the last one)"),
        }
    }
}

#[derive(Debug)]
struct Last {
    at: Instant,
    kept_back: u64,
}

impl Last {
    fn pass(&mut self, now: Instant) -> Option<KeptBack> {
        if now.saturating_duration_since(self.at) < PERIOD {
            self.kept_back += 1;
            return None;
        }
        self.at = now;
        Some(KeptBack(std::mem::take(&mut self.kept_back)))
    }
}

/// Lets one message of each cause through per period.
#[derive(Debug)]
pub struct Throttles<K>(Mutex<HashMap<K, Last>>);

impl<K> Default for Throttles<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> Throttles<K> {
    /// Whether a message of this cause is to be written now, and how many were not since the last one.
    pub fn pass(&self, cause: &K) -> Option<KeptBack> {
        self.pass_at(cause, Instant::now())
    }

    fn pass_at(&self, cause: &K, now: Instant) -> Option<KeptBack> {
        let mut causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = causes.get_mut(cause) {
            return last.pass(now);
        }
        if causes.len() >= CAUSES_MAX
            && let Some(oldest) =
                causes.iter().min_by_key(|(_, last)| last.at).map(|(cause, _)| cause.clone())
        {
            causes.remove(&oldest);
        }
        causes.insert(cause.clone(), Last { at: now, kept_back: 0 });
        Some(KeptBack(0))
    }
}

/// As [`Throttles`], for a single cause.
#[derive(Debug, Default)]
pub struct Throttle(Throttles<()>);

impl Throttle {
    /// Whether the message is to be written now, and how many were not since the last one.
    pub fn pass(&self) -> Option<KeptBack> {
        self.0.pass(&())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_of_each_cause_passes_in_a_period_and_counts_the_others() {
        let throttles = Throttles::default();
        let start = Instant::now();
        assert_eq!(throttles.pass_at(&"a", start), Some(KeptBack(0)));
        for _ in 0..3 {
            assert_eq!(throttles.pass_at(&"a", start + PERIOD / 2), None);
        }
        assert_eq!(throttles.pass_at(&"b", start + PERIOD / 2), Some(KeptBack(0)));
        let again = throttles.pass_at(&"a", start + PERIOD).unwrap();
        assert_eq!(again.to_string(), " (3 more like this since the last one)");
        assert_eq!(throttles.pass_at(&"a", start + PERIOD * 2).unwrap().to_string(), "");
    }

    #[test]
    fn causes_are_bounded() {
        let throttles = Throttles::default();
        for cause in 0..2 * CAUSES_MAX {
            assert!(throttles.pass(&cause).is_some());
        }
        assert_eq!(throttles.0.lock().unwrap().len(), CAUSES_MAX);
    }
}
