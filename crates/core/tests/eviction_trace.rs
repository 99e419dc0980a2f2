//! What the order within a prompt is worth: a trace of conversations through a cache that is too small for
//! them.
//!
//! Users open conversations over one of a set of documents of 10k to 100k tokens, chosen by a Zipf law, and
//! come back for further turns. Each request looks its prompt up, uses the longest prefix that is there, and
//! stores the rest. The same LRU list runs twice: with every prompt applied last chunk first, as its contract
//! says, and first chunk first, as plain LRU would.

use larder_core::eviction::{Arc, Arrival, EntryId, Lru, Policy, Removal, S3Fifo};

const CHUNK_TOKENS: usize = 256;
const REQUESTS: usize = 2_000;
const DOCUMENTS: usize = 60;
const DOCUMENT_CHUNKS_MIN: u64 = 40;
const DOCUMENT_CHUNKS_MAX: u64 = 400;
const CONVERSATIONS_LIVE: usize = 16;
const TURN_CHUNKS_MAX: u64 = 8;
const TURNS_MAX: u64 = 6;

/// A generator of deterministic numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Rank by a Zipf law with exponent 1.
    fn zipf(&mut self, ranks: usize) -> usize {
        let total: f64 = (1..=ranks).map(|rank| 1.0 / rank as f64).sum();
        let mut point = (self.next() >> 11) as f64 / (1u64 << 53) as f64 * total;
        for rank in 1..=ranks {
            point -= 1.0 / rank as f64;
            if point <= 0.0 {
                return rank - 1;
            }
        }
        ranks - 1
    }
}

/// Prompts in the order they arrive; a chunk is named by a number that stands for its hash.
fn trace() -> Vec<Vec<u64>> {
    struct Conversation {
        chunks: Vec<u64>,
        turns_left: u64,
    }
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut next_chunk = DOCUMENTS as u64 * DOCUMENT_CHUNKS_MAX;
    let sizes: Vec<u64> = (0..DOCUMENTS)
        .map(|_| DOCUMENT_CHUNKS_MIN + dice.below(DOCUMENT_CHUNKS_MAX - DOCUMENT_CHUNKS_MIN))
        .collect();
    let mut live: Vec<Conversation> = Vec::new();
    let mut prompts = Vec::new();
    while prompts.len() < REQUESTS {
        let newcomer = live.len() < CONVERSATIONS_LIVE;
        let at = if newcomer { live.len() } else { dice.below(live.len() as u64) as usize };
        if newcomer {
            let document = dice.zipf(DOCUMENTS);
            let first = document as u64 * DOCUMENT_CHUNKS_MAX;
            let chunks = (first..first + sizes[document]).collect();
            live.push(Conversation { chunks, turns_left: 1 + dice.below(TURNS_MAX) });
        }
        let conversation = &mut live[at];
        for _ in 0..1 + dice.below(TURN_CHUNKS_MAX) {
            conversation.chunks.push(next_chunk);
            next_chunk += 1;
        }
        prompts.push(conversation.chunks.clone());
        conversation.turns_left -= 1;
        if conversation.turns_left == 0 {
            live.swap_remove(at);
        }
    }
    prompts
}

/// A cache of chunks of equal size under one policy.
struct Cache {
    policy: Box<dyn Policy>,
    /// Where each chunk is, by its number.
    ids: Vec<Option<EntryId>>,
    chunks: Vec<u64>,
    free: Vec<EntryId>,
    /// The request that last used a chunk: its prompt is leased while it is served, in either order.
    leased_by: Vec<usize>,
    request: usize,
}

impl Cache {
    fn new(policy: Box<dyn Policy>, capacity: usize, chunks: usize) -> Self {
        Self {
            policy,
            ids: vec![None; chunks],
            chunks: vec![0; capacity],
            free: (0..capacity as EntryId).collect(),
            leased_by: vec![0; capacity],
            request: 0,
        }
    }

    /// Serves a prompt and returns how many of its tokens need not be computed.
    fn serve(&mut self, prompt: &[u64], last_chunk_first: bool) -> usize {
        let hit = prompt.iter().take_while(|chunk| self.ids[**chunk as usize].is_some()).count();
        let mut order: Vec<usize> = (0..prompt.len()).collect();
        if last_chunk_first {
            order.reverse();
        }
        self.request += 1;
        self.touch(prompt, &order, |policy, id| policy.touch(id));
        for (at, chunk) in prompt.iter().enumerate().skip(hit) {
            if self.ids[*chunk as usize].is_none() && !self.store(prompt[at]) {
                break;
            }
        }
        // What was just added must be no hotter than what it hangs on.
        self.touch(prompt, &order, |policy, id| policy.refresh(id));
        hit * CHUNK_TOKENS
    }

    fn touch(&mut self, prompt: &[u64], order: &[usize], act: impl Fn(&mut dyn Policy, EntryId)) {
        for &at in order {
            if let Some(id) = self.ids[prompt[at] as usize] {
                act(&mut *self.policy, id);
                self.leased_by[id as usize] = self.request;
            }
        }
    }

    fn store(&mut self, chunk: u64) -> bool {
        let Some(id) = self.free.pop().or_else(|| self.evict()) else { return false };
        self.chunks[id as usize] = chunk;
        self.leased_by[id as usize] = self.request;
        self.ids[chunk as usize] = Some(id);
        self.policy.insert(id, Arrival { fingerprint: chunk, bytes: 1, ..Arrival::default() });
        true
    }

    fn evict(&mut self) -> Option<EntryId> {
        let (leased_by, request) = (&self.leased_by, self.request);
        let victim = *self.policy.victims(&mut |id| leased_by[id as usize] != request, 1).first()?;
        self.policy.remove(victim, Removal::Evicted);
        self.ids[self.chunks[victim as usize] as usize] = None;
        Some(victim)
    }
}

/// One more than the highest chunk number.
fn chunks_of(trace: &[Vec<u64>]) -> usize {
    trace.iter().flatten().max().map_or(0, |last| *last as usize + 1)
}

/// Share of all prompt tokens that need not be computed.
fn saved(trace: &[Vec<u64>], policy: Box<dyn Policy>, capacity: usize, last_chunk_first: bool) -> f64 {
    let mut cache = Cache::new(policy, capacity, chunks_of(trace));
    let hit: usize = trace.iter().map(|prompt| cache.serve(prompt, last_chunk_first)).sum();
    let asked: usize = trace.iter().map(|prompt| prompt.len() * CHUNK_TOKENS).sum();
    hit as f64 / asked as f64
}

#[test]
fn evicting_later_chunks_first_saves_more_than_plain_lru() {
    let trace = trace();
    let distinct = trace.iter().flatten().collect::<std::collections::HashSet<_>>().len();
    println!("{} prompts, {distinct} distinct chunks of {CHUNK_TOKENS} tokens", trace.len());
    println!("{:>8} {:>12} {:>12}", "chunks", "later first", "plain LRU");
    // The smaller the cache next to its prompts, the more of it plain LRU fills with chunks nothing can use.
    for (capacity, gain) in [(500, 1.25), (1_000, 1.1), (2_000, 1.02), (4_000, 1.0)] {
        let lru = || Box::new(Lru::new());
        let (ours, plain) = (saved(&trace, lru(), capacity, true), saved(&trace, lru(), capacity, false));
        println!("{capacity:>8} {:>11.1}% {:>11.1}%", 100.0 * ours, 100.0 * plain);
        assert!(ours > gain * plain, "{capacity} chunks: {ours} against {plain}");
    }
}

#[test]
fn every_policy_saves_something_and_none_is_far_behind() {
    let trace = trace();
    println!("{:>8} {:>8} {:>8} {:>8}", "chunks", "LRU", "ARC", "S3FIFO");
    for capacity in [500, 1_000, 2_000, 4_000] {
        let policies: [Box<dyn Policy>; 3] =
            [Box::new(Lru::new()), Box::new(Arc::new()), Box::new(S3Fifo::new())];
        let [lru, arc, s3fifo] = policies.map(|policy| saved(&trace, policy, capacity, true));
        println!("{capacity:>8} {:>7.1}% {:>7.1}% {:>7.1}%", 100.0 * lru, 100.0 * arc, 100.0 * s3fifo);
        for (name, share) in [("ARC", arc), ("S3FIFO", s3fifo)] {
            assert!(share > 0.6 * lru, "{name} at {capacity} chunks: {share} against {lru}");
        }
    }
}

/// The invariant behind it: what is left of a prompt is always its beginning.
#[test]
fn what_is_left_of_a_prompt_is_its_beginning() {
    let trace = trace();
    let mut cache = Cache::new(Box::new(Lru::new()), 1_500, chunks_of(&trace));
    for prompt in trace.iter().take(1_000) {
        cache.serve(prompt, true);
        let present: Vec<bool> = prompt.iter().map(|chunk| cache.ids[*chunk as usize].is_some()).collect();
        assert!(present.is_sorted_by(|before, after| before >= after), "{present:?}");
    }
}
