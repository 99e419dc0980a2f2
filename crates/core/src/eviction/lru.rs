//! Least recently used first.

use std::ops::Range;

use super::{EntryId, Policy, Removal};

/// End of the list, in either direction.
const NIL: EntryId = EntryId::MAX;

/// Objects passed over in one call because they can't be evicted, at most: what a call costs beyond its victims. A
/// call that finds nothing by then finds nothing; the next one goes on from there.
const SKIPS_MAX: usize = 1 << 16;

/// Neighbours of one object; towards the cold end and towards the hot end.
#[derive(Clone, Copy, Debug)]
struct Link {
    colder: EntryId,
    hotter: EntryId,
}

/// A list linked through a vector, eight bytes per object.
///
/// Objects in use gather at the cold end of a cache under pressure. A search does not begin with them every time: it goes on
/// where the last one ended, and begins anew once it has looked at as many objects as it leaves behind. So an object is
/// looked at twice at most for every time it has to be, and one that is free again is found soon.
#[derive(Debug)]
pub struct Lru {
    links: Vec<Link>,
    coldest: EntryId,
    hottest: EntryId,
    len: usize,
    /// Where the next search begins; [`NIL`] for the cold end.
    resume: EntryId,
    /// Objects between the cold end and `resume`, at most.
    skipped: usize,
    /// Objects looked at since the last search from the cold end reached `resume`.
    examined: usize,
}

impl Default for Lru {
    fn default() -> Self {
        Self { links: Vec::new(), coldest: NIL, hottest: NIL, len: 0, resume: NIL, skipped: 0, examined: 0 }
    }
}

impl Lru {
    /// A policy without objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn unlink(&mut self, id: EntryId) {
        let Link { colder, hotter } = self.links[id as usize];
        match colder {
            NIL => self.coldest = hotter,
            _ => self.links[colder as usize].hotter = hotter,
        }
        match hotter {
            NIL => self.hottest = colder,
            _ => self.links[hotter as usize].colder = colder,
        }
        if self.resume == id {
            self.resume = hotter;
        }
    }

    fn link_hottest(&mut self, id: EntryId) {
        self.links[id as usize] = Link { colder: self.hottest, hotter: NIL };
        match self.hottest {
            NIL => self.coldest = id,
            hottest => self.links[hottest as usize].hotter = id,
        }
        self.hottest = id;
    }

    /// Where a search begins.
    fn start(&mut self) -> EntryId {
        if self.resume == NIL || self.examined >= self.skipped {
            (self.resume, self.skipped, self.examined) = (NIL, 0, 0);
            return self.coldest;
        }
        self.resume
    }

    /// Looks at the objects of a range of the list until it has what it wants.
    fn search(
        &self,
        range: Range<EntryId>,
        want: usize,
        skips_max: usize,
        evictable: &mut dyn FnMut(EntryId) -> bool,
    ) -> Search {
        let mut found = Search { victims: Vec::new(), end: range.start, skips: 0, leading_skips: 0 };
        while found.end != range.end && found.victims.len() < want && found.skips < skips_max {
            if evictable(found.end) {
                found.victims.push(found.end);
            } else {
                found.skips += 1;
                found.leading_skips += usize::from(found.victims.is_empty());
            }
            found.end = self.links[found.end as usize].hotter;
        }
        found
    }
}

/// What a search found, and where it ended.
struct Search {
    victims: Vec<EntryId>,
    /// The first object not looked at.
    end: EntryId,
    skips: usize,
    /// Of the skips, those before the first victim.
    leading_skips: usize,
}

impl Policy for Lru {
    fn name(&self) -> &'static str {
        "LRU"
    }

    fn insert(&mut self, id: EntryId, _fingerprint: u64) {
        if self.links.len() <= id as usize {
            self.links.resize(id as usize + 1, Link { colder: NIL, hotter: NIL });
        }
        self.link_hottest(id);
        self.len += 1;
    }

    fn touch(&mut self, id: EntryId) {
        if self.hottest != id {
            self.unlink(id);
            self.link_hottest(id);
        }
    }

    fn remove(&mut self, id: EntryId, _removal: Removal) {
        self.unlink(id);
        self.len -= 1;
    }

    fn victims(&mut self, evictable: &mut dyn FnMut(EntryId) -> bool, want: usize) -> Vec<EntryId> {
        let first = self.start();
        let resumed = first != self.coldest;
        let search = self.search(first..NIL, want, SKIPS_MAX, evictable);
        if resumed && search.end == NIL && search.victims.len() < want {
            // Only what was left behind can still be free.
            self.resume = NIL;
            let skips_left = SKIPS_MAX - search.skips;
            let behind = self.search(self.coldest..first, want - search.victims.len(), skips_left, evictable);
            return [behind.victims, search.victims].concat();
        }
        if search.leading_skips > 0 {
            // The next search need not look again at what was passed over before the first victim.
            self.resume = search.victims.first().copied().unwrap_or(search.end);
            self.skipped += search.leading_skips;
        }
        if resumed {
            self.examined += search.skips + search.victims.len();
        }
        search.victims
    }

    fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a vector kept in order.
        #[test]
        fn orders_as_a_list_does(steps in prop::collection::vec((0..3u8, 0..12u32), 0..200)) {
            let (mut lru, mut model) = (Lru::new(), Vec::<u32>::new());
            for (step, id) in steps {
                let known = model.contains(&id);
                match step {
                    0 if !known => { lru.insert(id, 0); model.push(id); }
                    1 if known => { lru.touch(id); model.retain(|&other| other != id); model.push(id); }
                    2 if known => { lru.remove(id, Removal::Evicted); model.retain(|&other| other != id); }
                    _ => {}
                }
                prop_assert_eq!(lru.victims(&mut |_| true, usize::MAX), model.clone());
                prop_assert_eq!(lru.len(), model.len());
            }
        }

        /// While objects come into use and out of it: victims are free and in order, and there is one whenever one is free.
        #[test]
        fn finds_every_free_object(
            steps in prop::collection::vec((0..5u8, 0..24u32), 0..300),
            want in 1..4usize,
        ) {
            let (mut lru, mut model, mut used) = (Lru::new(), Vec::<u32>::new(), HashSet::new());
            for (step, id) in steps {
                let known = model.contains(&id);
                match step {
                    0 if !known => { lru.insert(id, 0); model.push(id); }
                    1 if known => { lru.touch(id); model.retain(|&other| other != id); model.push(id); }
                    2 if known => { lru.remove(id, Removal::Evicted); model.retain(|&other| other != id); }
                    3 => { used.insert(id); }
                    4 => { used.remove(&id); }
                    _ => {}
                }
                let free: Vec<u32> = model.iter().copied().filter(|id| !used.contains(id)).collect();
                let victims = lru.victims(&mut |id| !used.contains(&id), want);
                let places: Vec<_> = victims.iter().map(|id| free.iter().position(|other| other == id)).collect();
                prop_assert!(places.iter().all(Option::is_some) && places.is_sorted() && victims.len() <= want);
                prop_assert_eq!(victims.is_empty(), free.is_empty());
            }
        }
    }

    fn pinned_then_free(pinned: u32, free: u32) -> Lru {
        let mut lru = Lru::new();
        (0..pinned + free).for_each(|id| lru.insert(id, 0));
        lru
    }

    #[test]
    fn objects_in_use_are_not_looked_at_for_every_victim() {
        let (pinned, free) = (3000, 3000);
        let mut lru = pinned_then_free(pinned, free);
        let mut looks = 0u32;
        for expected in pinned..pinned + free {
            let victims = lru.victims(
                &mut |id| {
                    looks += 1;
                    id >= pinned
                },
                1,
            );
            assert_eq!(victims, [expected]);
            lru.remove(expected, Removal::Evicted);
        }
        assert!(looks <= 3 * (pinned + free), "{looks} looks");
    }

    #[test]
    fn a_call_is_bounded_and_the_next_goes_on() {
        let pinned = 3 * SKIPS_MAX as u32 / 2;
        let mut lru = pinned_then_free(pinned, 2);
        let mut looks = 0;
        assert_eq!(
            lru.victims(
                &mut |id| {
                    looks += 1;
                    id >= pinned
                },
                1
            ),
            []
        );
        assert_eq!(looks, SKIPS_MAX);
        assert_eq!(lru.victims(&mut |id| id >= pinned, 2), [pinned, pinned + 1]);
    }

    #[test]
    fn an_object_out_of_use_is_the_coldest_again_soon() {
        let mut lru = pinned_then_free(10, 100);
        assert_eq!(lru.victims(&mut |id| id >= 10, 1), [10]);
        let found = (0..20).position(|_| {
            let victim = lru.victims(&mut |_| true, 1)[0];
            lru.remove(victim, Removal::Evicted);
            victim == 0
        });
        assert!(found.is_some_and(|searches| searches <= 10), "{found:?}");
    }
}
