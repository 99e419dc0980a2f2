//! Least recently used first.

use super::{EntryId, Policy};

/// End of the list, in either direction.
const NIL: EntryId = EntryId::MAX;

/// Neighbours of one object; towards the cold end and towards the hot end.
#[derive(Clone, Copy, Debug)]
struct Link {
    colder: EntryId,
    hotter: EntryId,
}

/// A list linked through a vector, eight bytes per object.
#[derive(Debug)]
pub struct Lru {
    links: Vec<Link>,
    coldest: EntryId,
    hottest: EntryId,
    len: usize,
}

impl Default for Lru {
    fn default() -> Self {
        Self { links: Vec::new(), coldest: NIL, hottest: NIL, len: 0 }
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
    }

    fn link_hottest(&mut self, id: EntryId) {
        self.links[id as usize] = Link { colder: self.hottest, hotter: NIL };
        match self.hottest {
            NIL => self.coldest = id,
            hottest => self.links[hottest as usize].hotter = id,
        }
        self.hottest = id;
    }
}

impl Policy for Lru {
    fn name(&self) -> &'static str {
        "LRU"
    }

    fn insert(&mut self, id: EntryId) {
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

    fn remove(&mut self, id: EntryId) {
        self.unlink(id);
        self.len -= 1;
    }

    fn victims(&mut self, evictable: &mut dyn FnMut(EntryId) -> bool, want: usize) -> Vec<EntryId> {
        let mut victims = Vec::with_capacity(want.min(self.len));
        let mut next = self.coldest;
        while next != NIL && victims.len() < want {
            if evictable(next) {
                victims.push(next);
            }
            next = self.links[next as usize].hotter;
        }
        victims
    }

    fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
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
                    0 if !known => { lru.insert(id); model.push(id); }
                    1 if known => { lru.touch(id); model.retain(|&other| other != id); model.push(id); }
                    2 if known => { lru.remove(id); model.retain(|&other| other != id); }
                    _ => {}
                }
                prop_assert_eq!(lru.victims(&mut |_| true, usize::MAX), model.clone());
                let odd: Vec<u32> = model.iter().copied().filter(|id| id % 2 == 1).take(2).collect();
                prop_assert_eq!(lru.victims(&mut |id| id % 2 == 1, 2), odd);
                prop_assert_eq!(lru.len(), model.len());
            }
        }
    }
}
