//! The best that any cache could have done, with the whole trace known beforehand.

use std::collections::BTreeSet;

use super::numbers::number;
use super::score::Score;
use super::trace::{ChunkId, Request, Trace};

/// A request that never comes.
const NEVER: u32 = u32::MAX;

/// Scores a trace under the rule to keep, after every request, those chunks that are used again soonest
/// (Belady).
///
/// A chunk is never used later than what continues it; of two used at the same time the later one in the
/// prompt leaves first. So what is kept is closed under prefixes, and every chunk kept for its next use is a
/// hit then. With chunks of one size no cache serves more chunks, whether it respects prefixes or not.
pub(super) fn offline(trace: &Trace, capacity_bytes: u64) -> Score {
    let next_uses = next_uses(trace);
    let mut kept = Kept { places: vec![None; trace.distinct()], order: BTreeSet::new(), bytes: 0 };
    let mut score = Score::default();
    for (request, next_uses) in trace.requests.iter().zip(&next_uses) {
        let hit = request.chunks.iter().take_while(|chunk| kept.places[**chunk as usize].is_some()).count();
        score.count(trace, request, hit);
        for (position, (&chunk, &next)) in request.chunks.iter().zip(next_uses).enumerate() {
            kept.put(trace, chunk, (next, number(position), chunk));
        }
        while kept.bytes > capacity_bytes && kept.pop(trace) {
            score.evicted += 1;
        }
    }
    score
}

/// When it is used next, where it is in its prompt, which chunk it is.
type Place = (u32, u32, ChunkId);

struct Kept {
    places: Vec<Option<Place>>,
    order: BTreeSet<Place>,
    bytes: u64,
}

impl Kept {
    fn put(&mut self, trace: &Trace, chunk: ChunkId, place: Place) {
        match self.places[chunk as usize].replace(place) {
            Some(before) => {
                self.order.remove(&before);
            }
            None => self.bytes += trace.chunk_bytes[chunk as usize],
        }
        self.order.insert(place);
    }

    fn pop(&mut self, trace: &Trace) -> bool {
        let Some((_, _, chunk)) = self.order.pop_last() else { return false };
        self.places[chunk as usize] = None;
        self.bytes -= trace.chunk_bytes[chunk as usize];
        true
    }
}

/// For every chunk of every request the number of the next request with it.
fn next_uses(trace: &Trace) -> Vec<Vec<u32>> {
    let mut next = vec![NEVER; trace.distinct()];
    let mut uses: Vec<Vec<u32>> = trace
        .requests
        .iter()
        .enumerate()
        .rev()
        .map(|(at, Request { chunks, .. })| {
            chunks.iter().map(|chunk| std::mem::replace(&mut next[*chunk as usize], number(at))).collect()
        })
        .collect();
    uses.reverse();
    uses
}
