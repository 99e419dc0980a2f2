//! The arena: allocation, release and growth, with immediate coalescing.

use super::blocks::{BlockTable, NIL};
use super::classes::FreeClasses;

/// A taken byte range of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte, a multiple of the arena's alignment.
    pub offset: u64,
    /// Bytes set aside: the request rounded up to the alignment.
    pub len: u64,
}

/// One block of an arena, as a walk in address order sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaBlock {
    /// Where the block lies.
    pub extent: Extent,
    /// Who holds it, `None` when it is free.
    pub owner: Option<u32>,
}

/// Bookkeeping of one arena, in units of its alignment.
///
/// `alloc` and `free` take constant time, but for an allocation that only a block of its own size class can
/// serve, which walks that class once. Two free blocks are never adjacent. A block costs 32 bytes.
#[derive(Debug)]
pub struct Arena {
    pub(super) blocks: BlockTable,
    classes: FreeClasses,
    align: u64,
    units: u32,
    units_used: u32,
    blocks_used: u32,
    top: u32,
}

impl Arena {
    /// An arena of `capacity_bytes`, rounded down to whole units of `align` bytes (at least 1).
    ///
    /// The capacity is at most `2^32 - 4` units: 16 TiB at an alignment of 4096.
    #[must_use]
    pub fn new(capacity_bytes: u64, align: u64) -> Self {
        let mut arena = Self {
            blocks: BlockTable::new(),
            classes: FreeClasses::new(),
            align: align.max(1),
            units: 0,
            units_used: 0,
            blocks_used: 0,
            top: NIL,
        };
        arena.grow(capacity_bytes);
        arena
    }

    /// Extends the arena at its end. A capacity not above the present one changes nothing.
    pub fn grow(&mut self, capacity_bytes: u64) {
        let units = u32::try_from(capacity_bytes / self.align).unwrap_or(u32::MAX).min(u32::MAX - 3);
        if units <= self.units {
            return;
        }
        let block = self.blocks.insert(self.units, units - self.units, self.top, NIL);
        self.top = block;
        self.units = units;
        self.coalesce(block);
    }

    /// Takes at least `bytes` for `owner`. `None` when no free block is large enough, or `bytes` is zero.
    pub fn alloc(&mut self, bytes: u64, owner: u32) -> Option<Extent> {
        let len = self.units_for(bytes)?;
        let index = self.classes.find(&self.blocks, len)?;
        self.classes.remove(&mut self.blocks, index);
        Some(self.take(index, len, owner))
    }

    /// Takes at least `bytes` at `offset` for `owner`. `None`, and no change, when some of it is taken or
    /// beyond the end, `offset` is not aligned, or `bytes` is zero.
    ///
    /// Takes constant time in order of ascending offsets; otherwise it walks the blocks above.
    pub fn alloc_at(&mut self, offset: u64, bytes: u64, owner: u32) -> Option<Extent> {
        let len = self.units_for(bytes)?;
        let start = u32::try_from(offset / self.align).ok().filter(|_| offset.is_multiple_of(self.align))?;
        let end = start.checked_add(len).filter(|end| *end <= self.units)?;
        let mut index = self.top;
        while self.blocks.get(index).start > start {
            index = self.blocks.get(index).below;
        }
        let found = *self.blocks.get(index);
        if !found.is_free() || found.start + found.len < end {
            return None;
        }
        self.classes.remove(&mut self.blocks, index);
        if found.start == start {
            return Some(self.take(index, len, owner));
        }
        let before = start - found.start;
        let upper = self.split(index, before);
        self.classes.insert(&mut self.blocks, index);
        Some(self.take(upper, len, owner))
    }

    /// Returns the taken block that begins at `offset` and tells who held it. `None`, and no change, when no
    /// taken block begins there.
    pub fn free(&mut self, offset: u64) -> Option<u32> {
        let index = self.taken_at(offset)?;
        let block = self.blocks.get_mut(index);
        let owner = block.owner();
        let len = block.len;
        block.release();
        debug_assert!(len <= self.units_used && self.blocks_used > 0, "only what was taken is freed");
        self.units_used -= len;
        self.blocks_used -= 1;
        self.coalesce(index);
        owner
    }

    /// Who holds the block that begins at `offset`.
    #[must_use]
    pub fn owner_at(&self, offset: u64) -> Option<u32> {
        self.blocks.get(self.taken_at(offset)?).owner()
    }

    /// Hands the taken block at `offset` to another owner. False when no taken block begins there.
    pub fn set_owner(&mut self, offset: u64, owner: u32) -> bool {
        let Some(index) = self.taken_at(offset) else { return false };
        self.blocks.get_mut(index).take(owner);
        true
    }

    /// The taken range that begins at `offset`.
    #[must_use]
    pub fn extent_at(&self, offset: u64) -> Option<Extent> {
        Some(self.extent_of(self.taken_at(offset)?))
    }

    /// Bytes of one unit; every offset is a multiple of it.
    #[must_use]
    pub fn align(&self) -> u64 {
        self.align
    }

    /// Bytes the arena spans.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        u64::from(self.units) * self.align
    }

    /// Bytes taken, rounding included.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        u64::from(self.units_used) * self.align
    }

    /// Bytes not taken.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.capacity_bytes() - self.used_bytes()
    }

    /// The largest request that would succeed now. Walks one size class.
    #[must_use]
    pub fn largest_free_bytes(&self) -> u64 {
        u64::from(self.classes.longest_free(&self.blocks)) * self.align
    }

    /// Taken blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks_used as usize
    }

    /// Free blocks; the more of them for the same free bytes, the more fragmented the arena.
    #[must_use]
    pub fn holes(&self) -> usize {
        self.blocks.live() - self.blocks()
    }

    /// All blocks from the highest address to the lowest.
    pub fn iter_down(&self) -> impl Iterator<Item = ArenaBlock> + '_ {
        let listed = |index: u32| (index != NIL).then_some(index);
        std::iter::successors(listed(self.top), move |index| listed(self.blocks.get(*index).below))
            .map(|index| ArenaBlock { extent: self.extent_of(index), owner: self.blocks.get(index).owner() })
    }

    /// Units for `bytes`; `None` for zero and for more than any arena holds.
    pub(super) fn units_for(&self, bytes: u64) -> Option<u32> {
        u32::try_from(bytes.div_ceil(self.align)).ok().filter(|units| *units > 0)
    }

    /// The block, free or taken, that begins at `offset`.
    pub(super) fn block_at(&self, offset: u64) -> Option<u32> {
        if !offset.is_multiple_of(self.align) {
            return None;
        }
        self.blocks.find(u32::try_from(offset / self.align).ok()?)
    }

    /// Hands the first `len` units of a free, unlisted block to `owner` and lists the rest.
    fn take(&mut self, index: u32, len: u32, owner: u32) -> Extent {
        if self.blocks.get(index).len > len {
            let rest = self.split(index, len);
            self.classes.insert(&mut self.blocks, rest);
        }
        self.blocks.get_mut(index).take(owner);
        self.units_used += len;
        self.blocks_used += 1;
        self.extent_of(index)
    }

    /// Shortens a free, unlisted block to `len` units and returns the block of the units above, also
    /// unlisted.
    fn split(&mut self, index: u32, len: u32) -> u32 {
        let found = *self.blocks.get(index);
        let rest = self.blocks.insert(found.start + len, found.len - len, index, found.above);
        if found.above == NIL {
            self.top = rest;
        }
        self.blocks.get_mut(index).len = len;
        rest
    }

    fn taken_at(&self, offset: u64) -> Option<u32> {
        self.block_at(offset).filter(|index| !self.blocks.get(*index).is_free())
    }

    fn extent_of(&self, index: u32) -> Extent {
        let block = self.blocks.get(index);
        Extent { offset: u64::from(block.start) * self.align, len: u64::from(block.len) * self.align }
    }

    /// Joins a free, unlisted block with its free neighbours and lists the result.
    fn coalesce(&mut self, index: u32) {
        let mut index = index;
        let above = self.blocks.get(index).above;
        if above != NIL && self.blocks.get(above).is_free() {
            self.classes.remove(&mut self.blocks, above);
            self.absorb_above(index, above);
        }
        let below = self.blocks.get(index).below;
        if below != NIL && self.blocks.get(below).is_free() {
            self.classes.remove(&mut self.blocks, below);
            self.absorb_above(below, index);
            index = below;
        }
        self.classes.insert(&mut self.blocks, index);
    }

    fn absorb_above(&mut self, index: u32, above: u32) {
        let len = self.blocks.get(above).len;
        self.blocks.get_mut(index).len += len;
        self.blocks.remove(above);
        if self.top == above {
            self.top = index;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up_and_offsets_follow() {
        let mut arena = Arena::new(64 * 1024, 4096);
        let first = arena.alloc(1152, 1).unwrap();
        let second = arena.alloc(4097, 2).unwrap();
        assert_eq!(first, Extent { offset: 0, len: 4096 });
        assert_eq!(second, Extent { offset: 4096, len: 8192 });
        assert_eq!(arena.used_bytes(), 12288);
        assert_eq!((arena.owner_at(4096), arena.owner_at(8192), arena.owner_at(1)), (Some(2), None, None));
        assert_eq!(arena.free(8192), None);
        assert_eq!(arena.free(0), Some(1));
        assert_eq!(arena.free(0), None);
        assert_eq!(arena.alloc(0, 1), None);
        assert_eq!(arena.alloc(u64::MAX, 1), None);
    }

    #[test]
    fn growth_joins_the_free_end() {
        let mut arena = Arena::new(8 * 4096 + 100, 4096);
        assert_eq!(arena.capacity_bytes(), 8 * 4096);
        arena.alloc(6 * 4096, 1).unwrap();
        assert_eq!(arena.alloc(4 * 4096, 2), None);
        arena.grow(16 * 4096);
        assert_eq!(arena.largest_free_bytes(), 10 * 4096);
        assert_eq!(arena.alloc(10 * 4096, 2).unwrap().offset, 6 * 4096);
        arena.grow(0);
        assert_eq!((arena.capacity_bytes(), arena.holes()), (16 * 4096, 0));
        arena.grow(17 * 4096);
        assert_eq!(arena.alloc(4096, 3).unwrap().offset, 16 * 4096);
    }

    #[test]
    fn a_hole_that_fits_is_taken_before_a_larger_one() {
        let mut arena = Arena::new(16 * 4096, 4096);
        let offsets = [4, 1, 2, 1].map(|pages| arena.alloc(pages * 4096, 1).unwrap().offset);
        assert_eq!((arena.free(offsets[0]), arena.free(offsets[2])), (Some(1), Some(1)));
        assert_eq!(arena.alloc(2 * 4096, 2).map(|extent| extent.offset), Some(offsets[2]));
    }

    #[test]
    fn an_owner_can_be_replaced() {
        let mut arena = Arena::new(4096, 64);
        let extent = arena.alloc(64, 1).unwrap();
        assert!(arena.set_owner(extent.offset, 9));
        assert!(!arena.set_owner(extent.offset + 64, 9));
        assert_eq!(arena.free(extent.offset), Some(9));
    }
}
