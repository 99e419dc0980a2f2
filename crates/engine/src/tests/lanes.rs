//! The lanes to the second tier against a model: what waits, in which order, whose leases it has, and who
//! stored what.

use std::collections::VecDeque;
use std::sync::Arc;

use larder_core::hash::ChunkHash;
use proptest::prelude::*;

use super::*;

const LANES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Store { chunks: u32, is_large: bool },
    SetOpen { lane: usize, is_open: bool },
    Take { lane: usize, pages: u64 },
    PutBack { lane: usize },
    Finish { lane: usize, is_stored: bool },
    Clear,
    Replace { lane: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let lane = || 0..LANES;
    prop_oneof![
        4 => (1..4u32, any::<bool>()).prop_map(|(chunks, is_large)| Step::Store { chunks, is_large }),
        2 => (lane(), prop::bool::weighted(0.7)).prop_map(|(lane, is_open)| Step::SetOpen { lane, is_open }),
        4 => (lane(), 0..6u64).prop_map(|(lane, pages)| Step::Take { lane, pages }),
        1 => lane().prop_map(|lane| Step::PutBack { lane }),
        4 => (lane(), prop::bool::weighted(0.8)).prop_map(|(lane, is_stored)| Step::Finish { lane, is_stored }),
        1 => Just(Step::Clear),
        1 => lane().prop_map(|lane| Step::Replace { lane }),
    ]
}

/// What became of an object that was committed.
struct Object {
    hash: ChunkHash,
    bytes: u64,
    lanes_left: usize,
    is_missed: bool,
    is_cleared: bool,
}

impl Object {
    /// Whether this was the last lane, and all of them stored it.
    fn finish(&mut self, is_stored: bool) -> bool {
        self.lanes_left -= 1;
        self.is_missed |= !is_stored;
        self.lanes_left == 0 && !self.is_missed
    }
}

struct Lane {
    lane: StoreLane,
    is_open: bool,
    waiting: VecDeque<usize>,
    taken: VecDeque<(usize, TakenStore)>,
}

impl Lane {
    fn new(engine: &Arc<Engine>) -> Self {
        let (waiting, taken) = (VecDeque::new(), VecDeque::new());
        Self { lane: StoreLane::new(&engine.tiers()), is_open: false, waiting, taken }
    }

    /// Gives everything up that waits.
    fn give_up(&mut self, objects: &mut [Object]) {
        for index in self.waiting.drain(..) {
            assert!(!objects[index].finish(false));
        }
    }

    fn check(&self, objects: &[Object]) -> Result<(), TestCaseError> {
        let bytes: u64 = self.waiting.iter().map(|&index| objects[index].bytes).sum();
        prop_assert_eq!(self.lane.backlog(), Backlog { objects: self.waiting.len(), bytes });
        let next = self.waiting.front().map(|&index| objects[index].bytes);
        prop_assert_eq!(self.lane.next_bytes(), next);
        Ok(())
    }
}

/// A worker whose chunks take two pages.
const LARGE: i64 = 8;

fn commit(engine: &Arc<Engine>, seed: u32, chunks: u32, is_large: bool) -> Arc<[ChunkHash]> {
    let key = key("s", &prompt(seed, chunks), Some(0));
    let (instance, model_name) = if is_large { (LARGE, "large") } else { (WORKER, "m") };
    let key = PromptKey { model_name, ..key };
    assert_eq!(engine.requests().prepare_store(&key, instance, 1).unwrap().slots.len(), chunks as usize);
    assert!(engine.requests().commit_store(&key, instance, 1, None).unwrap());
    key.hashes
}

proptest! {
    /// Whatever is stored, taken, put back and finished in lanes that open, close and go: each lane has what
    /// was committed while it was open, in that order and under leases of its own, and an object is stored
    /// everywhere when every lane said so.
    #[test]
    fn each_lane_has_what_was_committed_while_it_was_open(steps in prop::collection::vec(step(), 1..60)) {
        let engine = engine(1000);
        engine.requests().register(LARGE, "large", 1, geometry(2), 1).unwrap();
        let mut lanes: Vec<Lane> = (0..LANES).map(|_| Lane::new(&engine)).collect();
        let mut objects: Vec<Object> = Vec::new();
        for (seed, step) in steps.into_iter().enumerate() {
            match step {
                Step::Store { chunks, is_large } => {
                    let lanes_left = lanes.iter().filter(|lane| lane.is_open).count();
                    let bytes = if is_large { 2 * PAGE } else { PAGE };
                    for hash in commit(&engine, seed as u32 + 1, chunks, is_large).iter() {
                        for lane in lanes.iter_mut().filter(|lane| lane.is_open) {
                            lane.waiting.push_back(objects.len());
                        }
                        let (is_missed, is_cleared) = (false, false);
                        objects.push(Object { hash: *hash, bytes, lanes_left, is_missed, is_cleared });
                    }
                }
                Step::SetOpen { lane, is_open } => {
                    lanes[lane].lane.set_open(is_open);
                    lanes[lane].is_open = is_open;
                    if !is_open {
                        lanes[lane].give_up(&mut objects);
                    }
                }
                Step::Take { lane, pages } => {
                    let lane = &mut lanes[lane];
                    let mut left = pages * PAGE;
                    let taken = lane.lane.take(left);
                    prop_assert!(!taken.is_empty() || lane.waiting.is_empty(), "at least one is taken");
                    for (number, taken) in taken.into_iter().enumerate() {
                        let work = taken.work();
                        let index = lane.waiting.pop_front().unwrap();
                        let object = &objects[index];
                        prop_assert_eq!((work.hash, work.scope.layout.bytes()), (object.hash, object.bytes));
                        prop_assert_eq!(work.prompt[..work.prompt_end].last(), work.prompt.last());
                        prop_assert!(number == 0 || object.bytes <= left);
                        left = left.saturating_sub(object.bytes);
                        lane.taken.push_back((index, taken));
                    }
                    let next = lane.waiting.front().map(|&index| objects[index].bytes);
                    prop_assert!(next.is_none_or(|bytes| bytes > left), "there was room for one more");
                }
                Step::PutBack { lane } => {
                    let lane = &mut lanes[lane];
                    let back: Vec<_> = lane.taken.drain(..).collect();
                    lane.lane.put_back(back.iter().map(|(_, taken)| Arc::clone(taken.work())).collect());
                    for (index, _) in back.into_iter().rev() {
                        if lane.is_open && !objects[index].is_cleared {
                            lane.waiting.push_front(index);
                        } else {
                            objects[index].finish(false);
                        }
                    }
                }
                Step::Finish { lane, is_stored } => {
                    let Some((index, taken)) = lanes[lane].taken.pop_front() else { continue };
                    prop_assert_eq!(taken.work().finish(is_stored), objects[index].finish(is_stored));
                }
                Step::Clear => {
                    engine.operator().clear(true);
                    objects.iter_mut().for_each(|object| object.is_cleared = true);
                }
                Step::Replace { lane } => {
                    // Whoever took objects finishes them, whether their lane is there or not.
                    lanes[lane].give_up(&mut objects);
                    let taken = std::mem::take(&mut lanes[lane].taken);
                    lanes[lane] = Lane::new(&engine);
                    for (index, taken) in taken {
                        prop_assert_eq!(taken.work().finish(true), objects[index].finish(true));
                    }
                }
            }
            lanes.iter().try_for_each(|lane| lane.check(&objects))?;
            let waiting: usize = lanes.iter().map(|lane| lane.waiting.len()).sum();
            let taken: usize = lanes.iter().map(|lane| lane.taken.len()).sum();
            prop_assert_eq!(engine.operator().tier_backlog().0, waiting);
            let totals = engine.operator().lease_totals();
            prop_assert_eq!((totals.total, totals.l2_stores), ((waiting + taken) as u64, (waiting + taken) as u64));
        }
        drop(lanes);
        prop_assert_eq!((engine.operator().lease_totals().total, engine.counters().l2_shed_chunks.get()), (0, 0));
        engine.operator().clear(false);
        prop_assert_eq!(engine.operator().status().cache.used_bytes, 0);
    }
}

#[test]
fn a_lane_in_the_way_of_others_gives_up_what_is_more_than_its_share() {
    let engine = engine(40);
    let [busy, idle] = [StoreLane::new(&engine.tiers()), StoreLane::new(&engine.tiers())];
    busy.set_open(true);
    for seed in 1..6 {
        commit_small(&engine, seed);
    }
    idle.set_open(true);
    for seed in 6..9 {
        commit_small(&engine, seed);
    }
    // From the watermark of 32 pages on, a lane keeps ten. No commit pays for all that is more.
    assert_eq!((busy.shed_total(), idle.shed_total()), (16, 2));
    commit_small(&engine, 9);
    assert_eq!((busy.shed_total(), idle.shed_total()), (26, 6));
    assert_eq!((busy.backlog().objects, idle.backlog().objects), (10, 10));
    assert_eq!(engine.counters().l2_shed_chunks.get(), 32);
    assert_eq!(engine.operator().lease_totals().l2_stores, 20);
}

fn commit_small(engine: &Arc<Engine>, seed: u32) {
    _ = commit(engine, seed, 4, false);
}
