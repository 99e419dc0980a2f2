//! A trace in memory: who asked for which chunks, in order of time.
//!
//! Chunks are named by what leads to them, as a cache names them: the same block after another beginning is
//! another chunk. So any trace is a tree of prefixes here, whatever its blocks were hashed from.

use std::collections::HashMap;

use super::numbers::number;

/// Position of a distinct chunk in its trace.
pub(super) type ChunkId = u32;

/// Requests in order of time.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Where it comes from, for reports.
    pub(super) name: String,
    /// Tokens per chunk.
    pub(super) chunk_tokens: u32,
    pub(super) requests: Vec<Request>,
    /// Size of each distinct chunk, in bytes or in whatever unit the trace has.
    pub(super) chunk_bytes: Vec<u64>,
}

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) time_ms: u64,
    /// Number of the salt.
    pub(super) tenant: u32,
    /// Its whole chunks from the start.
    pub(super) chunks: Vec<ChunkId>,
}

impl Trace {
    /// Distinct chunks.
    pub(super) fn distinct(&self) -> usize {
        self.chunk_bytes.len()
    }

    /// Bytes of all distinct chunks together: a cache of that size evicts nothing.
    pub(super) fn footprint_bytes(&self) -> u64 {
        self.chunk_bytes.iter().sum()
    }
}

/// One request as a file or a generator tells it.
#[derive(Clone, Debug, Default)]
pub(super) struct Prompt<'a> {
    pub(super) time_ms: u64,
    /// Model and salt: prompts of different owners share nothing.
    pub(super) owner: &'a str,
    /// What each block is, by any number that is equal for equal blocks.
    pub(super) blocks: Vec<u64>,
    /// Bytes of one chunk.
    pub(super) chunk_bytes: u64,
}

/// Builds a trace from prompts in any order.
#[derive(Debug)]
pub(super) struct TraceBuilder {
    trace: Trace,
    /// Blocks that make one chunk.
    blocks_per_chunk: usize,
    chunks: HashMap<(Option<ChunkId>, u32, Vec<u64>), ChunkId>,
    owners: HashMap<String, u32>,
}

impl TraceBuilder {
    /// For prompts of blocks of `block_tokens`, of which as many make one chunk as fit into `chunk_tokens`,
    /// at least one.
    pub(super) fn new(name: &str, block_tokens: u32, chunk_tokens: u32) -> Self {
        let blocks_per_chunk = (chunk_tokens / block_tokens.max(1)).max(1);
        let trace = Trace {
            name: name.to_owned(),
            chunk_tokens: blocks_per_chunk * block_tokens,
            ..Trace::default()
        };
        Self {
            trace,
            blocks_per_chunk: blocks_per_chunk as usize,
            chunks: HashMap::new(),
            owners: HashMap::new(),
        }
    }

    /// Adds a prompt. Blocks that do not fill a chunk are left out: they are never stored.
    pub(super) fn add(&mut self, prompt: &Prompt<'_>) {
        let owners = number(self.owners.len());
        let tenant = match self.owners.get(prompt.owner) {
            Some(&tenant) => tenant,
            None => *self.owners.entry(prompt.owner.to_owned()).or_insert(owners),
        };
        let mut parent = None;
        let mut chunks = Vec::with_capacity(prompt.blocks.len() / self.blocks_per_chunk);
        for blocks in prompt.blocks.chunks_exact(self.blocks_per_chunk) {
            let next = number(self.trace.chunk_bytes.len());
            let chunk = *self.chunks.entry((parent, tenant, blocks.to_vec())).or_insert(next);
            if chunk == next {
                self.trace.chunk_bytes.push(prompt.chunk_bytes.max(1));
            }
            chunks.push(chunk);
            parent = Some(chunk);
        }
        self.trace.requests.push(Request { time_ms: prompt.time_ms, tenant, chunks });
    }

    /// The trace so far, in order of time.
    pub(super) fn build(mut self) -> Trace {
        self.trace.requests.sort_by_key(|request| request.time_ms);
        self.trace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(owner: &str, blocks: &[u64]) -> Prompt<'static> {
        Prompt { owner: owner.to_owned().leak(), blocks: blocks.to_vec(), chunk_bytes: 1, time_ms: 0 }
    }

    #[test]
    fn a_chunk_is_what_leads_to_it() {
        let mut builder = TraceBuilder::new("t", 256, 256);
        for (owner, blocks) in [("a", [1, 2, 3]), ("a", [1, 2, 4]), ("a", [2, 2, 3]), ("b", [1, 2, 3])] {
            builder.add(&prompt(owner, &blocks));
        }
        let trace = builder.build();
        let chunks: Vec<_> = trace.requests.iter().map(|request| request.chunks.clone()).collect();
        assert_eq!(chunks, [[0, 1, 2], [0, 1, 3], [4, 5, 6], [7, 8, 9]]);
        assert_eq!((trace.distinct(), trace.requests[3].tenant), (10, 1));
    }

    #[test]
    fn small_blocks_are_joined_and_the_rest_is_left_out() {
        let mut builder = TraceBuilder::new("t", 16, 48);
        builder.add(&prompt("", &[1, 2, 3, 4, 5, 6, 7]));
        builder.add(&prompt("", &[1, 2, 3, 4, 5, 7, 7]));
        let trace = builder.build();
        assert_eq!(
            (trace.chunk_tokens, &trace.requests[0].chunks, &trace.requests[1].chunks),
            (48, &vec![0, 1], &vec![0, 2])
        );
    }
}
