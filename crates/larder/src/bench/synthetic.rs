//! Workloads from nothing but a seed.

use super::dice::{Dice, Zipf};
use super::numbers::{length, whole};
use super::trace::{Prompt, Trace, TraceBuilder};

const CHUNK_TOKENS: u32 = 256;

/// A workload by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    /// Questions about documents whose popularity follows a Zipf law.
    Zipf,
    /// Many conversations side by side, each of which grows from turn to turn.
    Conversations,
}

impl Workload {
    pub(super) const NAMES: [&'static str; 2] = ["zipf", "conversations"];

    pub(super) fn by_name(name: &str) -> Option<Self> {
        match name {
            "zipf" => Some(Self::Zipf),
            "conversations" => Some(Self::Conversations),
            _ => None,
        }
    }

    /// The workload's trace; the same for the same arguments.
    pub(super) fn trace(self, requests: usize, seed: u64) -> Trace {
        match self {
            Self::Zipf => zipf(requests, seed),
            Self::Conversations => conversations(requests, seed),
        }
    }
}

/// Independent requests: a document of 4 to 64 chunks, rank by a Zipf law with exponent 1, and one chunk of a
/// question that never comes again. There is a document for every tenth request.
fn zipf(requests: usize, seed: u64) -> Trace {
    let mut dice = Dice::new(seed);
    let documents = (requests / 10).max(1);
    let popularity = Zipf::new(documents, 1.0);
    let sizes: Vec<u64> = (0..documents).map(|_| 4 * whole(2f64.powf(4.0 * dice.unit()))).collect();
    let mut builder = TraceBuilder::new("zipf", CHUNK_TOKENS, CHUNK_TOKENS);
    let mut fresh = u64::MAX;
    let mut time_ms = 0.0;
    for _ in 0..requests {
        let document = popularity.draw(&mut dice);
        let mut blocks = vec![document as u64; length(sizes[document])];
        blocks.push(fresh);
        fresh -= 1;
        builder.add(&Prompt { time_ms: whole(time_ms), owner: "", blocks, chunk_bytes: 1 });
        time_ms += dice.exponential(200.0);
    }
    builder.build()
}

/// Conversations begin at random, over one of 32 system prompts of 2 to 16 chunks chosen by a Zipf law. Each
/// has a geometric number of turns, 6 on average; from one to the next pass 60 s in the median (log-normal,
/// sigma 1) and come 3 chunks on average.
fn conversations(requests: usize, seed: u64) -> Trace {
    const TURNS_MEAN: f64 = 6.0;
    let mut dice = Dice::new(seed);
    let popularity = Zipf::new(32, 1.0);
    let systems: Vec<u64> = (0..32).map(|_| 2 + dice.below(15)).collect();
    let mut builder = TraceBuilder::new("conversations", CHUNK_TOKENS, CHUNK_TOKENS);
    let mut fresh = u64::MAX;
    let (mut begin_ms, mut made) = (0.0, 0);
    while made < requests {
        begin_ms += dice.exponential(200.0 * TURNS_MEAN);
        let mut time_ms = begin_ms;
        let system = popularity.draw(&mut dice);
        let mut blocks = vec![system as u64; length(systems[system])];
        for _ in 0..dice.geometric(TURNS_MEAN) {
            for _ in 0..dice.geometric(3.0) {
                blocks.push(fresh);
                fresh -= 1;
            }
            builder.add(&Prompt {
                time_ms: whole(time_ms),
                owner: "",
                blocks: blocks.clone(),
                chunk_bytes: 1,
            });
            time_ms += dice.log_normal(60_000.0, 1.0);
            made += 1;
        }
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_trace() {
        for workload in [Workload::Zipf, Workload::Conversations] {
            let [one, same, other] = [1, 1, 2].map(|seed| workload.trace(300, seed).requests);
            assert!(one == same && one != other);
            assert!(one.len() >= 300 && one.is_sorted_by_key(|request| request.time_ms));
        }
    }
}
