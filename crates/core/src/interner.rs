//! Numbers for what many objects have in common, so that a record carries four bytes instead of strings.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::ops::{Index, IndexMut};

use hashbrown::{DefaultHashBuilder, HashTable};

/// Names in use, each with a number and something noted with it. Uses are counted: a name without any is
/// forgotten, so that hostile names cost nothing, and its number is used again.
#[derive(Debug)]
pub struct Interner<N, T> {
    hasher: DefaultHashBuilder,
    numbers: HashTable<u32>,
    slots: Vec<Slot<N, T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<N, T> {
    hash: u64,
    uses: u64,
    /// None while the number is free.
    named: Option<(N, T)>,
}

impl<N, T> Default for Interner<N, T> {
    fn default() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            numbers: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<N, T> Interner<N, T> {
    /// The number of a name in use.
    pub fn find<Q: Hash + Eq + ?Sized>(&self, name: &Q) -> Option<u32>
    where
        N: Borrow<Q>,
    {
        self.find_hashed(self.hasher.hash_one(name), name)
    }

    /// Counts one more use of a name and returns its number. For one that is not in use `new` makes what is
    /// kept of it, equal to `name`, and what is noted with it.
    pub fn acquire<Q: Hash + Eq + ?Sized>(&mut self, name: &Q, new: impl FnOnce() -> (N, T)) -> u32
    where
        N: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(name);
        if let Some(number) = self.find_hashed(hash, name) {
            self.slots[number as usize].uses += 1;
            return number;
        }
        let slot = Slot { hash, uses: 1, named: Some(new()) };
        let number = match self.free.pop() {
            Some(number) => {
                debug_assert!(self.slots[number as usize].named.is_none(), "a free number names nothing");
                self.slots[number as usize] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("fewer names are in use than fit in memory")
            }
        };
        let slots = &self.slots;
        self.numbers.insert_unique(hash, number, |&number| slots[number as usize].hash);
        number
    }

    /// Counts one use of a number less. The last one takes the name with it, and returns what was noted.
    pub fn release(&mut self, number: u32) -> Option<T> {
        let slot = &mut self.slots[number as usize];
        debug_assert!(slot.uses > 0 && slot.named.is_some(), "only what is in use is released");
        slot.uses -= 1;
        if slot.uses > 0 {
            return None;
        }
        let (hash, named) = (slot.hash, slot.named.take());
        if let Ok(entry) = self.numbers.find_entry(hash, |&other| other == number) {
            entry.remove();
        }
        self.free.push(number);
        debug_assert_eq!(self.numbers.len() + self.free.len(), self.slots.len(), "each is free or in use");
        named.map(|(_, noted)| noted)
    }

    /// The name behind a number in use.
    ///
    /// # Panics
    /// When the number is not in use.
    #[must_use]
    pub fn name(&self, number: u32) -> &N {
        &self.named(number).0
    }

    /// What was noted with a number, if it is in use.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.named.as_ref().map(|(_, noted)| noted)
    }

    /// A number that hardly any other name has, and the same whenever this one comes again.
    #[must_use]
    pub fn hash(&self, number: u32) -> u64 {
        self.slots[number as usize].hash
    }

    /// All that is in use.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &N, &T)> {
        (0..).zip(&self.slots).filter_map(|(number, slot)| {
            let (name, noted) = slot.named.as_ref()?;
            Some((number, name, noted))
        })
    }

    /// The same, to change what is noted.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &N, &mut T)> {
        (0..).zip(&mut self.slots).filter_map(|(number, slot)| {
            let (name, noted) = slot.named.as_mut()?;
            Some((number, &*name, noted))
        })
    }

    /// How many names are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    fn find_hashed<Q: Eq + ?Sized>(&self, hash: u64, name: &Q) -> Option<u32>
    where
        N: Borrow<Q>,
    {
        let same = |&number: &u32| self.name(number).borrow() == name;
        self.numbers.find(hash, same).copied()
    }

    fn named(&self, number: u32) -> &(N, T) {
        self.slots[number as usize].named.as_ref().expect("a number is asked about while it is in use")
    }
}

/// What was noted with a number in use.
///
/// # Panics
/// When the number is not in use.
impl<N, T> Index<u32> for Interner<N, T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.named(number).1
    }
}

/// The same, to change it.
impl<N, T> IndexMut<u32> for Interner<N, T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        let named = self.slots[number as usize].named.as_mut();
        &mut named.expect("a number is asked about while it is in use").1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_has_one_number_until_its_last_use_is_gone() {
        let mut names = Interner::<String, char>::default();
        let one = names.acquire("one", || ("one".into(), '1'));
        let hash = names.hash(one);
        assert_eq!(names.acquire("one", || unreachable!()), one);
        let two = names.acquire("two", || ("two".into(), '2'));
        assert_eq!((names.name(one).as_str(), names[two], names.len()), ("one", '2', 2));
        assert_eq!(names.release(one), None);
        assert_eq!((names.release(one), names.find("one"), names.get(one)), (Some('1'), None, None));
        assert_eq!(names.acquire("three", || ("three".into(), '3')), one, "its number is used again");
        names[one] = 'x';
        assert_eq!(
            names.iter().collect::<Vec<_>>(),
            [(one, &"three".to_owned(), &'x'), (two, &"two".to_owned(), &'2')]
        );
        names.release(one);
        let back = names.acquire("one", || ("one".into(), '1'));
        assert_eq!(names.hash(back), hash);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map_of_counts(steps in prop::collection::vec((any::<bool>(), 0_u8..12), 0..400)) {
            let mut names = Interner::<u8, u8>::default();
            let mut model = BTreeMap::<u8, u64>::new();
            for (is_acquired, name) in steps {
                if is_acquired {
                    names.acquire(&name, || (name, name));
                    *model.entry(name).or_default() += 1;
                } else if let Some(number) = names.find(&name) {
                    let is_last = model[&name] == 1;
                    prop_assert_eq!(names.release(number), is_last.then_some(name));
                    *model.get_mut(&name).unwrap() -= 1;
                    model.retain(|_, uses| *uses > 0);
                }
                prop_assert_eq!(names.len(), model.len());
                prop_assert!(model.keys().all(|name| names.find(name).is_some_and(|n| names[n] == *name)));
                prop_assert!(names.slots.len() <= 12, "numbers stay small");
            }
        }
    }
}
