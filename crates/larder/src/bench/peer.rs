//! A trace through the rules of the reference server's first tier (`spec/cache-semantics.md` 5 and 10).
//!
//! A store takes memory for all of its absent chunks or for none, and evicts nothing. Once a second, if the
//! pool is at its watermark, a share of all objects is evicted at once. A prompt counts as used when its
//! request ends.

use larder_core::eviction::{Arrival, EntryId, Policy, Removal};

use super::background::Background;
use super::score::Score;
use super::trace::{ChunkId, Request, Trace};

/// Scores the peer on a trace; chunks of the trace are its objects.
pub(super) fn peer(
    trace: &Trace,
    capacity_bytes: u64,
    policy: Box<dyn Policy>,
    background: Background,
) -> Score {
    let mut peer = Peer {
        trace,
        policy,
        capacity_bytes,
        used_bytes: 0,
        resident: vec![false; trace.distinct()],
        background,
        score: Score::default(),
    };
    for request in &trace.requests {
        peer.pass_until(request.time_ms);
        peer.serve(request);
    }
    peer.score
}

struct Peer<'a> {
    trace: &'a Trace,
    policy: Box<dyn Policy>,
    capacity_bytes: u64,
    used_bytes: u64,
    /// By chunk, whose number is its id.
    resident: Vec<bool>,
    background: Background,
    score: Score,
}

impl Peer<'_> {
    fn pass_until(&mut self, time_ms: u64) {
        let share = |used: u64, capacity: u64| used as f64 / capacity.max(1) as f64;
        while let Some(want) =
            self.background.pass(time_ms, share(self.used_bytes, self.capacity_bytes), self.policy.len())
        {
            for victim in self.policy.victims(&mut |_| true, want) {
                self.policy.remove(victim, Removal::Evicted);
                self.resident[victim as usize] = false;
                self.used_bytes -= self.trace.chunk_bytes[victim as usize];
                self.score.evicted += 1;
            }
        }
    }

    fn serve(&mut self, request: &Request) {
        let chunks = &request.chunks;
        let hit = chunks.iter().take_while(|chunk| self.resident[**chunk as usize]).count();
        self.score.count(self.trace, request, hit);
        let is_absent = |chunk: &&ChunkId| !self.resident[**chunk as usize];
        let absent: Vec<ChunkId> = chunks.iter().filter(is_absent).copied().collect();
        let bytes: u64 = absent.iter().map(|chunk| self.trace.chunk_bytes[*chunk as usize]).sum();
        let fits = self.used_bytes + bytes <= self.capacity_bytes;
        if fits {
            self.used_bytes += bytes;
        } else {
            self.score.refused += absent.len() as u64;
        }
        for &chunk in chunks.iter().rev() {
            if self.resident[chunk as usize] {
                self.policy.touch(chunk);
            } else if fits {
                self.resident[chunk as usize] = true;
                self.policy.insert(chunk as EntryId, arrival(chunk));
            }
        }
    }
}

fn arrival(chunk: ChunkId) -> Arrival {
    Arrival { fingerprint: u64::from(chunk), bytes: 1, ..Arrival::default() }
}
