//! How often something was asked for lately, in fixed memory: for tiers that should take in only what comes
//! again (Einziger, Friedman and Manes, "TinyLFU: a highly efficient cache admission policy", 2017).
//!
//! Knows fingerprints and no objects; who is let in, and at how many uses, is the caller's to say.

/// Counters per fingerprint; the smallest one counts.
const ROWS: u32 = 4;
/// Largest value of a counter of four bits.
const COUNT_MAX: u32 = 15;
/// Records until every count is halved, per object the sketch is made for.
const RECORDS_PER_OBJECT: u64 = 10;
/// Bits of the doorkeeper per object.
const DOOR_BITS_PER_OBJECT: usize = 8;

/// A count of recent uses by fingerprint: never too low, seldom too high, and halved as time goes on.
///
/// The first use of a fingerprint only marks it in a filter, the *doorkeeper*; those that follow are counted
/// in four of the sketch's counters. What is used once, which most is, hardly touches the counts. Nine to
/// eighteen bytes per object it is made for, allocated at once.
#[derive(Debug)]
pub struct TinyLfu {
    /// Sixteen counters a word, four for each row.
    counters: Box<[u64]>,
    door: Box<[u64]>,
    records: u64,
    records_max: u64,
}

impl TinyLfu {
    /// A sketch for about as many objects as a tier holds, at least 64. More do not break it: it forgets
    /// sooner.
    #[must_use]
    pub fn new(objects: usize) -> Self {
        let words = objects.max(64).next_power_of_two();
        Self {
            counters: vec![0; words].into_boxed_slice(),
            door: vec![0; words * DOOR_BITS_PER_OBJECT / 64].into_boxed_slice(),
            records: 0,
            records_max: objects.max(64) as u64 * RECORDS_PER_OBJECT,
        }
    }

    /// Counts a use and returns the estimate with it. Every so many records all counts are halved, in time
    /// proportional to the sketch.
    pub fn record(&mut self, fingerprint: u64) -> u32 {
        if self.records == self.records_max {
            self.age();
        }
        self.records += 1;
        if self.enter(fingerprint) {
            let places = self.places(fingerprint);
            let least = self.least(&places);
            // Only the smallest counters are too low for the new count.
            for (word, shift) in places {
                let count = self.counters[word] >> shift & u64::from(COUNT_MAX);
                if count == least && count < u64::from(COUNT_MAX) {
                    self.counters[word] += 1 << shift;
                }
            }
        }
        self.estimate(fingerprint)
    }

    /// Uses since they were last halved and half of those before, up to 16; at least the
    /// true number.
    #[must_use]
    pub fn estimate(&self, fingerprint: u64) -> u32 {
        let known = self.door_bits(fingerprint).iter().all(|(word, bit)| self.door[*word] & bit != 0);
        u32::try_from(self.least(&self.places(fingerprint))).unwrap_or(COUNT_MAX) + u32::from(known)
    }

    /// Whether one is asked for more often than another: whether it should take its place.
    #[must_use]
    pub fn prefers(&self, candidate: u64, victim: u64) -> bool {
        self.estimate(candidate) > self.estimate(victim)
    }

    /// Bytes allocated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.counters) + size_of_val(&*self.door)
    }

    /// Halves every count and forgets who was seen once.
    fn age(&mut self) {
        for word in &mut self.counters {
            *word = *word >> 1 & 0x7777_7777_7777_7777;
        }
        self.door.fill(0);
        self.records = 0;
    }

    /// Marks a fingerprint in the doorkeeper; whether it was there.
    fn enter(&mut self, fingerprint: u64) -> bool {
        let mut known = true;
        for (word, bit) in self.door_bits(fingerprint) {
            known &= self.door[word] & bit != 0;
            self.door[word] |= bit;
        }
        known
    }

    fn door_bits(&self, fingerprint: u64) -> [(usize, u64); 2] {
        [ROWS, ROWS + 1].map(|row| {
            let hash = spread(fingerprint, row);
            ((hash >> 32) as usize & (self.door.len() - 1), 1 << (hash & 63))
        })
    }

    fn places(&self, fingerprint: u64) -> [(usize, u32); ROWS as usize] {
        [0, 1, 2, 3].map(|row| {
            let hash = spread(fingerprint, row);
            ((hash >> 32) as usize & (self.counters.len() - 1), 4 * (4 * row + (hash & 3) as u32))
        })
    }

    fn least(&self, places: &[(usize, u32)]) -> u64 {
        places
            .iter()
            .map(|(word, shift)| self.counters[*word] >> shift & u64::from(COUNT_MAX))
            .min()
            .unwrap_or(0)
    }
}

/// A hash of its own for every row (the finish of splitmix64).
fn spread(fingerprint: u64, row: u32) -> u64 {
    let mut hash = fingerprint.wrapping_add(u64::from(row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against exact counts that age at the same time: never below them, and the same while there are
        /// few.
        #[test]
        fn an_estimate_is_never_too_low(uses in prop::collection::vec(0..40u64, 0..2_500), few in 1..41u64) {
            let mut sketch = TinyLfu::new(64);
            let (mut seen, mut counts) = (HashSet::new(), HashMap::<u64, u64>::new());
            for (at, fingerprint) in uses.into_iter().map(|fingerprint| fingerprint % few).enumerate() {
                if at > 0 && at % 640 == 0 {
                    seen.clear();
                    counts.values_mut().for_each(|count| *count /= 2);
                }
                if !seen.insert(fingerprint) {
                    let count = counts.entry(fingerprint).or_default();
                    *count = (*count + 1).min(u64::from(COUNT_MAX));
                }
                let truth = |other: u64| counts.get(&other).copied().unwrap_or(0) as u32 + u32::from(seen.contains(&other));
                prop_assert!(sketch.record(fingerprint) >= truth(fingerprint));
                if at % 64 == 0 {
                    prop_assert!((0..few).all(|other| sketch.estimate(other) >= truth(other)));
                }
                if few <= 4 {
                    prop_assert!((0..few).all(|other| sketch.estimate(other) == truth(other)));
                }
            }
        }
    }

    #[test]
    fn what_was_never_used_is_hardly_ever_taken_for_it() {
        let mut sketch = TinyLfu::new(10_000);
        for fingerprint in 0..10_000u64 {
            for _ in 0..1 + fingerprint % 4 {
                sketch.record(fingerprint);
            }
        }
        let wrong = (1_000_000..1_010_000u64).filter(|&fingerprint| sketch.estimate(fingerprint) > 0).count();
        assert!(wrong < 600, "{wrong} of 10000");
        let high = (0..10_000u64).filter(|&f| sketch.estimate(f) > 1 + (f % 4) as u32).count();
        assert!(high < 600, "{high} of 10000");
    }

    #[test]
    fn what_was_popular_is_forgotten() {
        let mut sketch = TinyLfu::new(64);
        (0..100).for_each(|_| assert!(sketch.record(7) <= COUNT_MAX + 1));
        assert!(sketch.prefers(7, 8) && !sketch.prefers(8, 7));
        (0..640 * 5).for_each(|other| {
            sketch.record(1_000 + other % 64);
        });
        assert!(sketch.prefers(1_000, 7), "{} to {}", sketch.estimate(1_000), sketch.estimate(7));
    }

    #[test]
    fn memory_is_fixed() {
        let mut sketch = TinyLfu::new(1 << 20);
        let bytes = sketch.bytes();
        assert_eq!(bytes, 9 << 20);
        (0..100_000).for_each(|fingerprint| {
            sketch.record(fingerprint);
        });
        assert_eq!(sketch.bytes(), bytes);
    }
}
