//! What a prefix-aware policy counts of an object's uses, and remembers of objects it evicted.

/// Points for a use by a prompt that branches off; one that continues is worth one point.
pub(super) const BRANCH_POINTS: u16 = 4;

/// Ranks of sharing: one use, two or three, four to seven, and so on.
pub(super) const RANKS: usize = RANK_TOP as usize + 1;

/// The rank of whatever was shared more often still.
const RANK_TOP: u8 = 7;

/// The rank of an object of this many points.
pub(super) fn rank(points: u16) -> u8 {
    let doublings = (points / BRANCH_POINTS).max(1).ilog2();
    u8::try_from(doublings).unwrap_or(RANK_TOP).min(RANK_TOP)
}

/// Whether an object of this many points was shared by prompts that branch off.
fn is_shared(points: u16) -> bool {
    rank(points) > 0
}

/// What is remembered of one object; nobody's by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ghost {
    pub(super) fingerprint: u32,
    /// Its points when it left; 0 marks an empty place.
    pub(super) points: u16,
    /// Something was stored after it in a prompt.
    pub(super) continued: bool,
}

/// A table with one place for each fingerprint, which a later one takes over: old memories fade at random,
/// and memory is fixed.
#[derive(Debug, Default)]
pub(super) struct PrefixGhosts {
    places: Vec<Ghost>,
    once: usize,
    shared: usize,
}

impl PrefixGhosts {
    /// Makes at least `capacity` places. What was remembered moves, in time proportional to its number, each
    /// time they double.
    pub(super) fn reserve(&mut self, capacity: usize) {
        if capacity <= self.places.len() {
            return;
        }
        let places = vec![Ghost::default(); capacity.next_power_of_two()];
        let before = std::mem::replace(self, Self { places, once: 0, shared: 0 });
        before.places.into_iter().filter(|ghost| ghost.points > 0).for_each(|ghost| self.remember(ghost));
    }

    /// Remembers an object with at least one point.
    pub(super) fn remember(&mut self, ghost: Ghost) {
        let Some(place) = self.place(ghost.fingerprint) else { return };
        let before = std::mem::replace(&mut self.places[place], ghost);
        self.forgot(before);
        *self.counter(ghost.points) += 1;
    }

    /// What is remembered of an object; it is not any more.
    pub(super) fn take(&mut self, fingerprint: u32) -> Option<Ghost> {
        let place = self.place(fingerprint)?;
        let found = self.places[place];
        if found.points == 0 || found.fingerprint != fingerprint {
            return None;
        }
        self.places[place] = Ghost::default();
        self.forgot(found);
        Some(found)
    }

    /// Remembered objects that were not shared.
    pub(super) fn once(&self) -> usize {
        self.once
    }

    /// Remembered objects that were.
    pub(super) fn shared(&self) -> usize {
        self.shared
    }

    fn forgot(&mut self, ghost: Ghost) {
        if ghost.points > 0 {
            *self.counter(ghost.points) -= 1;
        }
    }

    fn counter(&mut self, points: u16) -> &mut usize {
        if is_shared(points) { &mut self.shared } else { &mut self.once }
    }

    fn place(&self, fingerprint: u32) -> Option<usize> {
        let mask = self.places.len().checked_sub(1)?;
        Some(fingerprint as usize & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_branches_used_is_shared() {
        let points = [0, 1, BRANCH_POINTS, 2 * BRANCH_POINTS - 1, 2 * BRANCH_POINTS, u16::MAX];
        assert_eq!(points.map(is_shared), [false, false, false, false, true, true]);
    }

    #[test]
    fn what_is_remembered_is_counted_and_taken_once() {
        let mut ghosts = PrefixGhosts::default();
        ghosts.remember(Ghost { fingerprint: 1, points: 4, continued: false });
        assert_eq!(ghosts.take(1), None, "there is no place yet");
        ghosts.reserve(3);
        for (fingerprint, points) in [(1, 4), (2, 9), (5, 30)] {
            ghosts.remember(Ghost { fingerprint, points, continued: true });
        }
        assert_eq!((ghosts.take(1), ghosts.once(), ghosts.shared()), (None, 0, 2), "5 has the place of 1");
        ghosts.reserve(8);
        assert_eq!(ghosts.take(2).map(|ghost| (ghost.points, ghost.continued)), Some((9, true)));
        assert_eq!((ghosts.take(2), ghosts.once(), ghosts.shared()), (None, 0, 1));
        assert_eq!(size_of::<Ghost>(), 8);
    }
}
