//! Objects that were evicted lately, remembered by their fingerprints.

use std::collections::VecDeque;

use hashbrown::HashMap;

/// A bounded memory, the oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    /// When each was remembered.
    known: HashMap<u64, u64>,
    /// The same in order, with entries that were taken or remembered again since.
    order: VecDeque<(u64, u64)>,
    clock: u64,
}

impl Ghosts {
    /// Remembers `fingerprint` and forgets the oldest beyond `capacity`.
    pub(super) fn remember(&mut self, fingerprint: u64, capacity: usize) {
        self.clock += 1;
        self.known.insert(fingerprint, self.clock);
        self.order.push_back((fingerprint, self.clock));
        while self.known.len() > capacity || self.order.len() > 2 * capacity + 1 {
            let Some((oldest, at)) = self.order.pop_front() else { break };
            if self.known.get(&oldest) == Some(&at) {
                self.known.remove(&oldest);
            }
        }
    }

    /// Whether `fingerprint` was remembered; it is not any more.
    pub(super) fn take(&mut self, fingerprint: u64) -> bool {
        self.known.remove(&fingerprint).is_some()
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_memory_stays_bounded() {
        let mut ghosts = Ghosts::default();
        for fingerprint in 0..10 {
            ghosts.remember(fingerprint, 4);
        }
        assert_eq!((0..10).filter(|&fingerprint| ghosts.take(fingerprint)).collect::<Vec<_>>(), [6, 7, 8, 9]);
        for _ in 0..1_000 {
            ghosts.remember(1, 4);
            ghosts.take(1);
        }
        assert!(ghosts.order.len() <= 9, "{}", ghosts.order.len());
        assert_eq!(ghosts.len(), 0);
    }
}
