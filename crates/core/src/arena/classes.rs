//! Free blocks by size class, found in constant time.

use super::blocks::{BlockTable, NIL};

/// Second-level classes per power of two; a class spans about 3 % of its size.
const STEPS: u32 = 1 << STEP_BITS;
const STEP_BITS: u32 = 5;
/// First-level groups: sizes below `STEPS` share group 0, one class a size.
const GROUPS: usize = (u32::BITS - STEP_BITS + 1) as usize;
const CLASSES: usize = GROUPS * STEPS as usize;
/// Blocks of the request's own class that are compared before a larger class is split.
const PROBES: usize = 16;

/// Segregated free lists: the newest block of a class first.
#[derive(Debug)]
pub(super) struct FreeClasses {
    groups: u32,
    classes: [u32; GROUPS],
    heads: Box<[u32; CLASSES]>,
    /// No block of the class is longer than this. Exact after a search that found nothing, so that
    /// searches for what is not there do not walk the class again.
    bounds: Box<[u32; CLASSES]>,
}

impl FreeClasses {
    pub(super) fn new() -> Self {
        Self {
            groups: 0,
            classes: [0; GROUPS],
            heads: Box::new([NIL; CLASSES]),
            bounds: Box::new([0; CLASSES]),
        }
    }

    pub(super) fn insert(&mut self, blocks: &mut BlockTable, index: u32) {
        let len = blocks.get(index).len;
        let class = class_of(len);
        let head = self.heads[class];
        if head != NIL {
            blocks.get_mut(head).link_prev = index;
        }
        let block = blocks.get_mut(index);
        block.link_prev = NIL;
        block.link_next = head;
        self.heads[class] = index;
        self.bounds[class] = self.bounds[class].max(len);
        self.classes[class / STEPS as usize] |= 1 << (class % STEPS as usize);
        self.groups |= 1 << (class / STEPS as usize);
    }

    pub(super) fn remove(&mut self, blocks: &mut BlockTable, index: u32) {
        let block = *blocks.get(index);
        let class = class_of(block.len);
        if block.link_next != NIL {
            blocks.get_mut(block.link_next).link_prev = block.link_prev;
        }
        if block.link_prev != NIL {
            blocks.get_mut(block.link_prev).link_next = block.link_next;
            return;
        }
        self.heads[class] = block.link_next;
        if block.link_next == NIL {
            self.bounds[class] = 0;
            let group = class / STEPS as usize;
            self.classes[group] &= !(1 << (class % STEPS as usize));
            if self.classes[group] == 0 {
                self.groups &= !(1 << group);
            }
        }
    }

    /// A free block of at least `len` units: a close fit of the same class, else the nearest larger class.
    /// Finds one whenever one exists.
    pub(super) fn find(&mut self, blocks: &BlockTable, len: u32) -> Option<u32> {
        let class = class_of(len);
        if self.bounds[class] >= len
            && let Some(index) = self.closest(blocks, class, len, PROBES)
        {
            return Some(index);
        }
        if let Some(larger) = self.next_class(class + 1) {
            return Some(self.heads[larger]);
        }
        if self.bounds[class] < len {
            return None;
        }
        let found = self.closest(blocks, class, len, usize::MAX);
        if found.is_none() {
            self.bounds[class] = self.longest(blocks, class);
        }
        found
    }

    /// Length of the longest free block; walks one class.
    pub(super) fn longest_free(&self, blocks: &BlockTable) -> u32 {
        if self.groups == 0 {
            return 0;
        }
        let group = self.groups.ilog2();
        let class = group * STEPS + self.classes[group as usize].ilog2();
        self.longest(blocks, class as usize)
    }

    /// The shortest fitting block among the first `probes` of a class.
    fn closest(&self, blocks: &BlockTable, class: usize, len: u32, probes: usize) -> Option<u32> {
        let fitting = self.walk(blocks, class).take(probes).filter(|index| blocks.get(*index).len >= len);
        let mut best = None;
        for index in fitting {
            let found = blocks.get(index).len;
            if found == len {
                return Some(index);
            }
            if best.is_none_or(|(shortest, _)| found < shortest) {
                best = Some((found, index));
            }
        }
        best.map(|(_, index)| index)
    }

    fn longest(&self, blocks: &BlockTable, class: usize) -> u32 {
        self.walk(blocks, class).map(|index| blocks.get(index).len).max().unwrap_or(0)
    }

    fn walk<'a>(&self, blocks: &'a BlockTable, class: usize) -> impl Iterator<Item = u32> + 'a {
        let listed = |index: u32| (index != NIL).then_some(index);
        std::iter::successors(listed(self.heads[class]), move |index| listed(blocks.get(*index).link_next))
    }

    /// The lowest non-empty class that is `from` or above.
    fn next_class(&self, from: usize) -> Option<usize> {
        let (group, step) = (from / STEPS as usize, from % STEPS as usize);
        if group >= GROUPS {
            return None;
        }
        let here = self.classes[group] & (u32::MAX << step);
        if here != 0 {
            return Some(group * STEPS as usize + here.trailing_zeros() as usize);
        }
        let above = self.groups & (u32::MAX << group) & !(1 << group);
        if above == 0 {
            return None;
        }
        let group = above.trailing_zeros() as usize;
        Some(group * STEPS as usize + self.classes[group].trailing_zeros() as usize)
    }
}

/// The class whose sizes include `len`. Every size of a higher class is larger.
fn class_of(len: u32) -> usize {
    if len < STEPS {
        return len as usize;
    }
    let power = len.ilog2();
    let step = (len >> (power - STEP_BITS)) - STEPS;
    ((power - STEP_BITS + 1) * STEPS + step) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_grow_with_the_size_and_stay_in_range() {
        let mut last = 0;
        for len in (1..100_000).chain([1 << 20, (1 << 31) - 1, 1 << 31, u32::MAX]) {
            let class = class_of(len);
            assert!(class >= last && class < CLASSES, "len {len} class {class}");
            last = class;
        }
        assert_eq!(class_of(u32::MAX), CLASSES - 1);
        assert_eq!(class_of(31) + 1, class_of(32));
        assert_eq!(class_of(63) + 1, class_of(64));
    }
}
