//! A trace through the object table's rules, with one of its policies.
//!
//! Mirrors what a lookup, a store and its commit do to the policy (`larder_core::cache`): a lookup touches
//! what it found, last chunk first; a store evicts nothing of its own prompt and stops at the first chunk
//! without room; a commit inserts last chunk first and refreshes the prompt.

use larder_core::eviction::{Arrival, EntryId, Policy, Removal, TenantId};

use super::background::Background;
use super::numbers::number;
use super::score::Score;
use super::trace::{ChunkId, Request, Trace};

/// Scores a policy on a trace with `capacity_bytes` of room, evicting what stores need, and in the background
/// if asked to.
pub(super) fn replay(
    trace: &Trace,
    capacity_bytes: u64,
    policy: Box<dyn Policy>,
    background: Option<Background>,
) -> Score {
    let mut replay = Replay {
        trace,
        policy,
        background,
        capacity_bytes,
        free_bytes: capacity_bytes,
        ids: vec![None; trace.distinct()],
        objects: Vec::new(),
        free_ids: Vec::new(),
        serial: 0,
        score: Score::default(),
    };
    for request in &trace.requests {
        replay.pass_until(request.time_ms);
        replay.serve(request);
    }
    replay.score
}

struct Replay<'a> {
    trace: &'a Trace,
    policy: Box<dyn Policy>,
    background: Option<Background>,
    capacity_bytes: u64,
    free_bytes: u64,
    /// Where each chunk is.
    ids: Vec<Option<EntryId>>,
    objects: Vec<Object>,
    free_ids: Vec<EntryId>,
    /// Number of the request, from 1.
    serial: u64,
    score: Score,
}

#[derive(Clone, Copy)]
struct Object {
    chunk: ChunkId,
    /// The request that leases it.
    leased_by: u64,
}

impl Replay<'_> {
    fn pass_until(&mut self, time_ms: u64) {
        loop {
            let used_share = 1.0 - self.free_bytes as f64 / self.capacity_bytes.max(1) as f64;
            let pass = self
                .background
                .as_mut()
                .and_then(|passes| passes.pass(time_ms, used_share, self.policy.len()));
            let Some(want) = pass else { return };
            for victim in self.policy.victims(&mut |_| true, want) {
                self.evict(victim);
            }
        }
    }

    fn serve(&mut self, request: &Request) {
        self.serial += 1;
        let chunks = &request.chunks;
        let hit = chunks.iter().take_while(|chunk| self.ids[**chunk as usize].is_some()).count();
        self.score.count(self.trace, request, hit);
        self.each_resident(&chunks[..hit], |policy, id| policy.touch(id));
        let mut stored = Vec::new();
        for (position, chunk) in chunks.iter().enumerate().skip(hit) {
            if self.ids[*chunk as usize].is_some() {
                continue;
            }
            let bytes = self.trace.chunk_bytes[*chunk as usize];
            if !self.make_room(bytes, chunks) {
                self.score.refused += (chunks.len() - position) as u64;
                break;
            }
            self.free_bytes -= bytes;
            stored.push((position, *chunk));
        }
        for (position, chunk) in stored.into_iter().rev() {
            self.insert(request.tenant, position, chunk);
        }
        self.each_resident(chunks, |policy, id| policy.refresh(id));
    }

    fn each_resident(&mut self, chunks: &[ChunkId], act: impl Fn(&mut dyn Policy, EntryId)) {
        for chunk in chunks.iter().rev() {
            if let Some(id) = self.ids[*chunk as usize] {
                act(&mut *self.policy, id);
            }
        }
    }

    fn make_room(&mut self, bytes: u64, prompt: &[ChunkId]) -> bool {
        if self.free_bytes >= bytes {
            return true;
        }
        for chunk in prompt {
            if let Some(id) = self.ids[*chunk as usize] {
                self.objects[id as usize].leased_by = self.serial;
            }
        }
        while self.free_bytes < bytes {
            let (objects, serial) = (&self.objects, self.serial);
            let victims = self.policy.victims(&mut |id| objects[id as usize].leased_by != serial, 1);
            let Some(&victim) = victims.first() else { return false };
            self.evict(victim);
        }
        true
    }

    fn evict(&mut self, victim: EntryId) {
        self.policy.remove(victim, Removal::Evicted);
        let chunk = self.objects[victim as usize].chunk;
        self.ids[chunk as usize] = None;
        self.free_ids.push(victim);
        self.free_bytes += self.trace.chunk_bytes[chunk as usize];
        self.score.evicted += 1;
    }

    fn insert(&mut self, tenant: u32, position: usize, chunk: ChunkId) {
        let object = Object { chunk, leased_by: 0 };
        let id = match self.free_ids.pop() {
            Some(id) => {
                self.objects[id as usize] = object;
                id
            }
            None => {
                self.objects.push(object);
                number(self.objects.len()) - 1
            }
        };
        self.ids[chunk as usize] = Some(id);
        let arrival = Arrival {
            // A chunk's hash is random; its number here is not.
            fingerprint: u64::from(chunk).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            tenant: TenantId(tenant),
            bytes: self.trace.chunk_bytes[chunk as usize],
            position: number(position),
        };
        self.policy.insert(id, arrival);
    }
}
