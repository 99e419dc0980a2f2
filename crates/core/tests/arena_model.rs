//! The arena against a list of ranges, and against a long life of mixed sizes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use larder_core::arena::{Arena, ArenaBlock, Extent};
use proptest::prelude::*;

const ALIGN: u64 = 64;

/// Ranges in address order, free ones joined.
#[derive(Debug)]
struct Model {
    capacity: u64,
    taken: Vec<(Extent, u32)>,
}

impl Model {
    fn used(&self) -> u64 {
        self.taken.iter().map(|(extent, _)| extent.len).sum()
    }

    fn blocks(&self) -> Vec<ArenaBlock> {
        let mut blocks = Vec::new();
        let mut at = 0;
        let free = |offset, len| ArenaBlock { extent: Extent { offset, len }, owner: None };
        for (extent, owner) in &self.taken {
            if extent.offset > at {
                blocks.push(free(at, extent.offset - at));
            }
            blocks.push(ArenaBlock { extent: *extent, owner: Some(*owner) });
            at = extent.offset + extent.len;
        }
        if at < self.capacity {
            blocks.push(free(at, self.capacity - at));
        }
        blocks
    }

    fn largest_free(&self) -> u64 {
        self.blocks()
            .iter()
            .filter(|block| block.owner.is_none())
            .map(|block| block.extent.len)
            .max()
            .unwrap_or(0)
    }

    fn insert(&mut self, extent: Extent, owner: u32) {
        let at = self.taken.partition_point(|(other, _)| other.offset < extent.offset);
        self.taken.insert(at, (extent, owner));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Alloc(u64),
    AllocAt(u64, u64),
    Free(prop::sample::Index),
    FreeNowhere(u64),
    Grow(u64),
    Window(prop::sample::Index, u64, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![0..400u64, 0..9000u64].prop_map(Step::Alloc),
        2 => (0..20_000u64, 0..3000u64).prop_map(|(offset, bytes)| Step::AllocAt(offset, bytes)),
        2 => (0..300u64, 0..20u64).prop_map(|(unit, units)| Step::AllocAt(unit * ALIGN, units * ALIGN)),
        4 => any::<prop::sample::Index>().prop_map(Step::Free),
        1 => (0..20_000u64).prop_map(Step::FreeNowhere),
        1 => (0..20_000u64).prop_map(Step::Grow),
        2 => (any::<prop::sample::Index>(), 0..6000u64, any::<u32>()).prop_map(|(at, bytes, pins)| Step::Window(at, bytes, pins)),
    ]
}

/// The fewest bytes to evict for `bytes` around block `pivot`, by trying every run.
fn cheapest_by_trying(
    blocks: &[ArenaBlock],
    pivot: usize,
    bytes: u64,
    pinned: &dyn Fn(u32) -> bool,
) -> Option<u64> {
    let usable = |block: &ArenaBlock| block.owner.is_none_or(|owner| !pinned(owner));
    let runs = (0..=pivot).flat_map(|first| (pivot + 1..=blocks.len()).map(move |end| &blocks[first..end]));
    runs.filter(|run| run.iter().all(usable))
        .filter(|run| run.iter().map(|block| block.extent.len).sum::<u64>() >= bytes)
        .map(|run| run.iter().filter(|block| block.owner.is_some()).map(|block| block.extent.len).sum())
        .min()
}

fn apply(arena: &mut Arena, model: &mut Model, owner: u32, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Alloc(bytes) => {
            let len = bytes.next_multiple_of(ALIGN);
            let room = bytes > 0 && model.largest_free() >= len;
            let extent = arena.alloc(bytes, owner);
            prop_assert_eq!(extent.is_some(), room);
            if let Some(extent) = extent {
                prop_assert_eq!((extent.len, extent.offset % ALIGN), (len, 0));
                model.insert(extent, owner);
            }
        }
        Step::AllocAt(offset, bytes) => {
            let len = bytes.next_multiple_of(ALIGN);
            let apart = |other: &Extent| offset + len <= other.offset || other.offset + other.len <= offset;
            let inside = bytes > 0 && offset.is_multiple_of(ALIGN) && offset + len <= model.capacity;
            let room = inside && model.taken.iter().all(|(other, _)| apart(other));
            let expected = room.then_some(Extent { offset, len });
            prop_assert_eq!(arena.alloc_at(offset, bytes, owner), expected);
            expected.into_iter().for_each(|extent| model.insert(extent, owner));
        }
        Step::Free(at) if !model.taken.is_empty() => {
            let (extent, owner) = model.taken.remove(at.index(model.taken.len()));
            prop_assert_eq!(arena.owner_at(extent.offset), Some(owner));
            prop_assert_eq!(arena.free(extent.offset), Some(owner));
        }
        Step::Free(_) => {}
        Step::FreeNowhere(offset) => {
            if model.taken.iter().all(|(extent, _)| extent.offset != offset) {
                prop_assert_eq!(arena.free(offset), None);
            }
        }
        Step::Grow(capacity) => {
            arena.grow(capacity);
            model.capacity = model.capacity.max(capacity / ALIGN * ALIGN);
        }
        Step::Window(at, bytes, pins) => {
            let blocks = model.blocks();
            if blocks.is_empty() || bytes == 0 {
                return Ok(());
            }
            let pivot = at.index(blocks.len());
            let pinned = |owner: u32| pins >> (owner % 32) & 1 == 1 && owner.is_multiple_of(3);
            let need = bytes.next_multiple_of(ALIGN);
            let expected = cheapest_by_trying(&blocks, pivot, need, &pinned);
            let window =
                arena.cheapest_window(bytes, blocks[pivot].extent.offset, &mut |owner| !pinned(owner));
            let evicted: Option<u64> = window.as_ref().map(|owners| {
                let held = |owner: &u32| model.taken.iter().find(|(_, other)| other == owner).unwrap().0.len;
                owners.iter().map(held).sum()
            });
            prop_assert_eq!(evicted, expected);
            for owner in window.into_iter().flatten() {
                let at = model.taken.iter().position(|(_, other)| *other == owner).unwrap();
                arena.free(model.taken.remove(at).0.offset);
            }
            if expected.is_some() {
                prop_assert!(arena.largest_free_bytes() >= need);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn behaves_as_a_list_of_ranges(
        capacity in 0..12_000u64,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut arena = Arena::new(capacity, ALIGN);
        let mut model = Model { capacity: capacity / ALIGN * ALIGN, taken: Vec::new() };
        for (owner, step) in steps.into_iter().enumerate() {
            apply(&mut arena, &mut model, owner as u32, step)?;
            let mut blocks: Vec<ArenaBlock> = arena.iter_down().collect();
            blocks.reverse();
            prop_assert_eq!(&blocks, &model.blocks());
            prop_assert_eq!(arena.capacity_bytes(), model.capacity);
            prop_assert_eq!(arena.used_bytes(), model.used());
            prop_assert_eq!(arena.free_bytes(), model.capacity - model.used());
            prop_assert_eq!(arena.largest_free_bytes(), model.largest_free());
            prop_assert_eq!(arena.blocks(), model.taken.len());
            prop_assert_eq!(arena.blocks() + arena.holes(), blocks.len());
        }
    }
}

/// A generator of small deterministic numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A full arena of mixed sizes in which every second object is small: the fragmentation that first fit dies
/// of. A large object always finds room by evicting a window, and never evicts much more than its own size.
#[test]
fn a_large_object_always_fits_after_evicting_a_bounded_window() {
    const PAGE: u64 = 4096;
    const LARGE: u64 = 512 * PAGE;
    const MEDIUM_MAX: u64 = 64 * PAGE;
    let mut arena = Arena::new(64 << 20, PAGE);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut offsets: Vec<Option<u64>> = Vec::new();
    let mut evicted_most = 0;
    for round in 0..20_000u32 {
        let bytes = match round % 50 {
            0 => LARGE,
            even if even % 2 == 0 => PAGE * (1 + dice.below(MEDIUM_MAX / PAGE)),
            _ => PAGE,
        };
        let owner = offsets.len() as u32;
        let extent = match arena.alloc(bytes, owner) {
            Some(extent) => extent,
            None => {
                let resident: Vec<u64> = offsets.iter().flatten().copied().collect();
                let coldest = resident[dice.below(resident.len() as u64) as usize];
                let window = arena.cheapest_window(bytes, coldest, &mut |_| true).expect("nothing is pinned");
                let mut evicted = 0;
                for victim in window {
                    let offset = offsets[victim as usize].take().unwrap();
                    evicted += arena.extent_at(offset).unwrap().len;
                    assert_eq!(arena.free(offset), Some(victim));
                }
                // Beyond its own size a window costs at most the objects at its two ends.
                assert!(evicted <= bytes + 2 * LARGE);
                if bytes == LARGE {
                    evicted_most = evicted_most.max(evicted);
                }
                arena.alloc(bytes, owner).expect("the window made room")
            }
        };
        offsets.push(Some(extent.offset));
    }
    assert!(evicted_most > 0, "the arena never was full");
    assert!(evicted_most <= 2 * LARGE, "a large object evicted {evicted_most} bytes");
    assert!(
        arena.used_bytes() * 10 >= arena.capacity_bytes() * 8,
        "{} of {}",
        arena.used_bytes(),
        arena.capacity_bytes()
    );
}

/// Objects of one size leave no hole that none of them fits.
#[test]
fn one_size_fills_the_arena_whatever_the_order() {
    const SIZE: u64 = 2100 * 64;
    let mut arena = Arena::new(1000 * SIZE, 64);
    let mut taken: Vec<u64> = (0..1000).map(|owner| arena.alloc(SIZE, owner).unwrap().offset).collect();
    let mut dice = Dice(7);
    for round in 0..10_000 {
        let at = dice.below(taken.len() as u64) as usize;
        arena.free(taken.swap_remove(at)).unwrap();
        if round % 3 == 0 {
            let at = dice.below(taken.len() as u64) as usize;
            arena.free(taken.swap_remove(at)).unwrap();
        }
        while let Some(extent) = arena.alloc(SIZE, round) {
            taken.push(extent.offset);
        }
        assert_eq!((arena.free_bytes(), arena.holes()), (0, 0));
    }
}
