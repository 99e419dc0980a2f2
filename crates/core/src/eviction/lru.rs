//! Least recently used first.

use super::list::{Links, List};
use super::policy::{Arrival, EntryId, Policy, Removal};

/// One list by recency, eight bytes per object.
#[derive(Debug, Default)]
pub struct Lru {
    links: Links,
    list: List,
}

impl Lru {
    /// A policy without objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Policy for Lru {
    fn name(&self) -> &'static str {
        "LRU"
    }

    fn insert(&mut self, id: EntryId, _arrival: Arrival) {
        self.list.insert(&mut self.links, id);
    }

    fn touch(&mut self, id: EntryId) {
        self.list.touch(&mut self.links, id);
    }

    fn remove(&mut self, id: EntryId, _removal: Removal) {
        self.list.remove(&mut self.links, id);
    }

    fn victims(&mut self, evictable: &mut dyn FnMut(EntryId) -> bool, want: usize) -> Vec<EntryId> {
        self.list.victims(&self.links, evictable, want)
    }

    fn cold_to_hot(&mut self) -> Vec<EntryId> {
        self.list.iter(&self.links).collect()
    }

    fn len(&self) -> usize {
        self.list.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::super::list::SKIPS_MAX;
    use super::*;

    proptest! {
        /// Against a vector kept in order.
        #[test]
        fn orders_as_a_list_does(steps in prop::collection::vec((0..3u8, 0..12u32), 0..200)) {
            let (mut lru, mut model) = (Lru::new(), Vec::<u32>::new());
            for (step, id) in steps {
                let known = model.contains(&id);
                match step {
                    0 if !known => { lru.insert(id, Arrival::default()); model.push(id); }
                    1 if known => { lru.touch(id); model.retain(|&other| other != id); model.push(id); }
                    2 if known => { lru.remove(id, Removal::Evicted); model.retain(|&other| other != id); }
                    _ => {}
                }
                prop_assert_eq!(lru.victims(&mut |_| true, usize::MAX), model.clone());
                prop_assert_eq!(lru.len(), model.len());
            }
        }

        /// While objects come into use and out of it: victims are free and in order, and there is one
        /// whenever one is free.
        #[test]
        fn finds_every_free_object(
            steps in prop::collection::vec((0..5u8, 0..24u32), 0..300),
            want in 1..4usize,
        ) {
            let (mut lru, mut model, mut used) = (Lru::new(), Vec::<u32>::new(), HashSet::new());
            for (step, id) in steps {
                let known = model.contains(&id);
                match step {
                    0 if !known => { lru.insert(id, Arrival::default()); model.push(id); }
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
        (0..pinned + free).for_each(|id| lru.insert(id, Arrival::default()));
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
