//! What a cache was worth to a trace.

use super::trace::{Request, Trace};

/// Tokens of context at which attending to them costs as much as everything else that a token costs: about
/// six times the hidden size of a dense model with 4096 dimensions.
const ATTENTION_EVEN_TOKENS: f64 = 24_576.0;

/// Sums over the requests of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Score {
    pub(super) requests: u64,
    /// Requests with at least one chunk served.
    pub(super) requests_hit: u64,
    pub(super) chunks: u64,
    pub(super) chunks_hit: u64,
    pub(super) bytes: u64,
    pub(super) bytes_hit: u64,
    /// Computation, in that of a token without context.
    pub(super) work: f64,
    pub(super) work_hit: f64,
    pub(super) evicted: u64,
    /// Chunks that found no room.
    pub(super) refused: u64,
}

impl Score {
    /// Counts a request of which the first `hit` chunks were served.
    pub(super) fn count(&mut self, trace: &Trace, request: &Request, hit: usize) {
        self.requests += 1;
        self.requests_hit += u64::from(hit > 0);
        for (position, chunk) in request.chunks.iter().enumerate() {
            let bytes = trace.chunk_bytes[*chunk as usize];
            let work = work(position, trace.chunk_tokens);
            self.chunks += 1;
            self.bytes += bytes;
            self.work += work;
            if position < hit {
                self.chunks_hit += 1;
                self.bytes_hit += bytes;
                self.work_hit += work;
            }
        }
    }

    /// Share of all chunks asked for, and so of all their tokens, that were served.
    pub(super) fn hit_ratio(&self) -> f64 {
        self.chunks_hit as f64 / (self.chunks as f64).max(1.0)
    }

    /// Share of the bytes asked for that were served.
    pub(super) fn byte_hit_ratio(&self) -> f64 {
        self.bytes_hit as f64 / (self.bytes as f64).max(1.0)
    }

    /// Share of the prefill computation that was saved.
    pub(super) fn work_saved(&self) -> f64 {
        self.work_hit / self.work.max(1.0)
    }

    /// Share of the requests that were served something.
    pub(super) fn request_hit_ratio(&self) -> f64 {
        self.requests_hit as f64 / (self.requests as f64).max(1.0)
    }
}

/// Computing one chunk: the same for every token, and attention to all before it.
fn work(position: usize, chunk_tokens: u32) -> f64 {
    let tokens = f64::from(chunk_tokens);
    let context = (position as f64 + 0.5) * tokens;
    tokens * (1.0 + context / ATTENTION_EVEN_TOKENS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_chunks_are_more_work() {
        assert!((work(0, 256) - 257.333).abs() < 0.01);
        assert!((work(96, 256) - 2.0 * 256.0).abs() < 2.0);
    }
}
