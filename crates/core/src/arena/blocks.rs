//! Table of physical blocks: neighbours by link, position by hash.

/// Index that stands for "no block".
pub(super) const NIL: u32 = u32::MAX;
/// Value of [`Block::link_next`] that marks a block as taken.
const TAKEN: u32 = u32::MAX - 1;

/// One run of units, free or taken. 28 bytes; with its hash bucket 32 bytes a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// First unit.
    pub(super) start: u32,
    /// Units.
    pub(super) len: u32,
    /// Physical neighbour below, [`NIL`] at the bottom.
    pub(super) below: u32,
    /// Physical neighbour above, [`NIL`] at the top; the next spare entry when unused.
    pub(super) above: u32,
    /// Free: previous block of its size class. Taken: the owner.
    pub(super) link_prev: u32,
    /// Free: next block of its size class. Taken: a marker.
    pub(super) link_next: u32,
    /// Next block in the same hash bucket.
    chain: u32,
}

impl Block {
    /// Who holds the block, `None` when it is free.
    pub(super) fn owner(&self) -> Option<u32> {
        (self.link_next == TAKEN).then_some(self.link_prev)
    }

    pub(super) fn is_free(&self) -> bool {
        self.link_next != TAKEN
    }

    /// Marks the block as taken; it must not be in a free list.
    pub(super) fn take(&mut self, owner: u32) {
        self.link_prev = owner;
        self.link_next = TAKEN;
    }

    /// Marks the block as free and in no list.
    pub(super) fn release(&mut self) {
        self.link_prev = NIL;
        self.link_next = NIL;
    }
}

/// All blocks of an arena, found by index, by neighbour or by first unit.
///
/// Lookup is a linear-hashing table: it grows one bucket at a time, so no insertion ever pays for
/// rehashing the others.
#[derive(Debug)]
pub(super) struct BlockTable {
    blocks: Vec<Block>,
    buckets: Vec<u32>,
    spare: u32,
    live: u32,
}

impl BlockTable {
    pub(super) fn new() -> Self {
        Self { blocks: Vec::new(), buckets: vec![NIL], spare: NIL, live: 0 }
    }

    /// Blocks in use, free and taken.
    pub(super) fn live(&self) -> usize {
        self.live as usize
    }

    pub(super) fn get(&self, index: u32) -> &Block {
        &self.blocks[index as usize]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Block {
        &mut self.blocks[index as usize]
    }

    /// Adds a free block between two physical neighbours and links it to them.
    pub(super) fn insert(&mut self, start: u32, len: u32, below: u32, above: u32) -> u32 {
        let bucket = self.bucket_of(start);
        let block =
            Block { start, len, below, above, link_prev: NIL, link_next: NIL, chain: self.buckets[bucket] };
        let index = if self.spare == NIL {
            self.blocks.push(block);
            u32::try_from(self.blocks.len() - 1).expect("an arena has fewer blocks than 2^32 units")
        } else {
            let index = self.spare;
            self.spare = self.get(index).above;
            *self.get_mut(index) = block;
            index
        };
        self.buckets[bucket] = index;
        self.live += 1;
        if below != NIL {
            self.get_mut(below).above = index;
        }
        if above != NIL {
            self.get_mut(above).below = index;
        }
        if self.live as usize > self.buckets.len() {
            self.split_bucket();
        }
        index
    }

    /// Removes a block whose units now belong to the neighbour below it.
    pub(super) fn remove(&mut self, index: u32) {
        let Block { start, below, above, chain, .. } = *self.get(index);
        if below != NIL {
            self.get_mut(below).above = above;
        }
        if above != NIL {
            self.get_mut(above).below = below;
        }
        let bucket = self.bucket_of(start);
        if self.buckets[bucket] == index {
            self.buckets[bucket] = chain;
        } else {
            let mut at = self.buckets[bucket];
            while self.get(at).chain != index {
                at = self.get(at).chain;
            }
            self.get_mut(at).chain = chain;
        }
        self.get_mut(index).above = self.spare;
        self.spare = index;
        self.live -= 1;
    }

    /// The block that begins at unit `start`.
    pub(super) fn find(&self, start: u32) -> Option<u32> {
        let mut at = self.buckets[self.bucket_of(start)];
        while at != NIL {
            let block = self.get(at);
            if block.start == start {
                return Some(at);
            }
            at = block.chain;
        }
        None
    }

    fn bucket_of(&self, start: u32) -> usize {
        bucket_among(self.buckets.len(), start)
    }

    /// Adds one bucket and moves into it what now hashes there.
    fn split_bucket(&mut self) {
        let added = self.buckets.len();
        let source = added - (added + 1).next_power_of_two() / 2;
        self.buckets.push(NIL);
        let mut at = std::mem::replace(&mut self.buckets[source], NIL);
        while at != NIL {
            let Block { start, chain, .. } = *self.get(at);
            let bucket = self.bucket_of(start);
            self.get_mut(at).chain = self.buckets[bucket];
            self.buckets[bucket] = at;
            at = chain;
        }
    }
}

/// Linear hashing: the low bits that cover `count` buckets, folded once for those not there yet.
fn bucket_among(count: usize, start: u32) -> usize {
    let hash = (u64::from(start).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
    let span = count.next_power_of_two();
    let bucket = hash & (span - 1);
    if bucket < count { bucket } else { bucket - span / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_found_while_buckets_are_added() {
        let mut table = BlockTable::new();
        let mut indices = Vec::new();
        for start in 0..3000u32 {
            indices.push(table.insert(start * 8, 8, NIL, NIL));
            for probe in [0, start / 2, start] {
                assert_eq!(table.find(probe * 8), Some(indices[probe as usize]));
            }
        }
        assert_eq!(table.find(4), None);
        for (start, index) in indices.iter().enumerate().filter(|(start, _)| start % 3 == 0) {
            table.remove(*index);
            assert_eq!(table.find(start as u32 * 8), None);
        }
        assert_eq!(table.live(), 2000);
        let reused = table.insert(5, 1, NIL, NIL);
        assert!(indices.contains(&reused));
    }

    #[test]
    fn a_block_costs_at_most_forty_bytes() {
        assert!(size_of::<Block>() + size_of::<u32>() <= 40);
    }
}
