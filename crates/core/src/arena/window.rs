//! Which neighbours to evict so that a request fits: room under mixed sizes.

use super::blocks::NIL;
use super::space::Arena;

/// A block that may be part of a window.
struct Candidate {
    len: u64,
    owner: Option<u32>,
}

impl Arena {
    /// The owners to evict so that one free block of at least `bytes` arises around the block that begins at
    /// `start_offset`, lowest address first; free space between them counts and costs nothing.
    ///
    /// Among all runs of adjacent free or evictable blocks that include that block, the one that evicts the
    /// fewest bytes is chosen. `None` when there is no such run, or `start_offset` is not the start of a
    /// block. An empty answer means that there is room already.
    ///
    /// Asks `evictable` at most once per block and looks no further than `bytes` to each side, which bounds
    /// the work by `2 * bytes / align` blocks.
    pub fn cheapest_window(
        &self,
        bytes: u64,
        start_offset: u64,
        evictable: &mut dyn FnMut(u32) -> bool,
    ) -> Option<Vec<u32>> {
        let need = u64::from(self.units_for(bytes)?);
        let start = self.block_at(start_offset)?;
        let centre = self.candidate(start, evictable)?;
        let mut run = self.usable(self.blocks.get(start).below, need, evictable, |block| block.0);
        run.reverse();
        let pivot = run.len();
        run.push(centre);
        run.extend(self.usable(self.blocks.get(start).above, need, evictable, |block| block.1));
        let (first, end) = cheapest_run(&run, pivot, need)?;
        Some(run[first..end].iter().filter_map(|candidate| candidate.owner).collect())
    }

    /// Free or evictable blocks from `from` outwards, up to the first that is neither or to `need` units.
    fn usable(
        &self,
        from: u32,
        need: u64,
        evictable: &mut dyn FnMut(u32) -> bool,
        step: fn((u32, u32)) -> u32,
    ) -> Vec<Candidate> {
        let mut found = Vec::new();
        let (mut at, mut total) = (from, 0);
        while at != NIL && total < need {
            let Some(candidate) = self.candidate(at, evictable) else { break };
            total += candidate.len;
            found.push(candidate);
            let block = self.blocks.get(at);
            at = step((block.below, block.above));
        }
        found
    }

    fn candidate(&self, index: u32, evictable: &mut dyn FnMut(u32) -> bool) -> Option<Candidate> {
        let block = self.blocks.get(index);
        let owner = block.owner();
        owner.is_none_or(evictable).then_some(Candidate { len: u64::from(block.len), owner })
    }
}

/// The sub-run that includes `pivot`, holds `need` units and evicts the fewest; ties go to fewer owners.
fn cheapest_run(run: &[Candidate], pivot: usize, need: u64) -> Option<(usize, usize)> {
    let cost = |candidate: &Candidate| candidate.owner.map_or(0, |_| candidate.len);
    let mut end = pivot + 1;
    let mut units: u64 = run[..end].iter().map(|candidate| candidate.len).sum();
    let mut evicted: u64 = run[..end].iter().map(cost).sum();
    let mut best: Option<(u64, usize, usize, usize)> = None;
    for first in 0..=pivot {
        while units < need && end < run.len() {
            units += run[end].len;
            evicted += cost(&run[end]);
            end += 1;
        }
        if units < need {
            break;
        }
        let candidate = (evicted, end - first, first, end);
        if best.is_none_or(|best| candidate < best) {
            best = Some(candidate);
        }
        units -= run[first].len;
        evicted -= cost(&run[first]);
    }
    best.map(|(_, _, first, end)| (first, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units taken by owners 0.. in address order, with the listed owners freed again.
    fn arena(sizes: &[u64], freed: &[u32]) -> (Arena, Vec<u64>) {
        let mut arena = Arena::new(sizes.iter().sum(), 1);
        let offsets: Vec<u64> = sizes
            .iter()
            .enumerate()
            .map(|(owner, size)| arena.alloc(*size, owner as u32).unwrap().offset)
            .collect();
        for owner in freed {
            arena.free(offsets[*owner as usize]).unwrap();
        }
        (arena, offsets)
    }

    #[test]
    fn free_neighbours_are_preferred_to_taken_ones() {
        let (arena, offsets) = arena(&[4, 2, 4, 2, 4], &[1]);
        assert_eq!(arena.cheapest_window(6, offsets[2], &mut |_| true), Some(vec![2]));
        assert_eq!(arena.cheapest_window(8, offsets[2], &mut |_| true), Some(vec![2, 3]));
        assert_eq!(arena.cheapest_window(4, offsets[2], &mut |_| true), Some(vec![2]));
        assert_eq!(arena.cheapest_window(2, offsets[1], &mut |_| true), Some(vec![]));
    }

    #[test]
    fn pinned_blocks_bound_the_window() {
        let (arena, offsets) = arena(&[4, 4, 4, 4], &[]);
        assert_eq!(arena.cheapest_window(12, offsets[1], &mut |owner| owner != 3), Some(vec![0, 1, 2]));
        assert_eq!(arena.cheapest_window(12, offsets[1], &mut |owner| owner != 2), None);
        assert_eq!(arena.cheapest_window(4, offsets[1], &mut |owner| owner != 1), None);
        assert_eq!(arena.cheapest_window(4, 1, &mut |_| true), None);
        assert_eq!(arena.cheapest_window(17, offsets[1], &mut |_| true), None);
    }
}
