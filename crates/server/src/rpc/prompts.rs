//! Prompts seen lately, by their exact encoded token ids, so that the many requests about one prompt decode and hash it once.
//!
//! A client sends the whole prompt with every operation of a request: lookup, one store per prefill step, retrieve, release. The memo
//! compares the encoded bytes with `memcmp` and so answers only for the very same tokens; a reused request id or
//! two prompts of one length can't be confused. Nothing in it is needed for correctness: what is missing is computed.

use std::sync::Arc;

use larder_core::hash::{ChunkHash, ChunkHasher};
use larder_wire::TokenIds;

/// Most prompts remembered.
const PROMPTS_MAX: usize = 128;

/// Most encoded bytes remembered, all prompts together.
const PROMPT_BYTES_MAX: usize = 16 << 20;

/// Encoded prompts shorter than this are hashed anew each time: that is as fast as finding them.
const PROMPT_BYTES_MIN: usize = 2 << 10;

/// Bytes at the start of a prompt that must agree before the rest is compared.
const HEAD_BYTES: usize = 16;

struct Known {
    count: u32,
    head: [u8; HEAD_BYTES],
    raw: Box<[u8]>,
    hashes: Arc<[ChunkHash]>,
    request_id: Box<str>,
    used: u64,
}

/// The memo. Used by one thread.
pub(super) struct Prompts {
    hasher: ChunkHasher,
    known: Vec<Known>,
    bytes: usize,
    clock: u64,
    tokens: Vec<u32>,
}

impl Prompts {
    /// An empty memo that hashes with `hasher`.
    pub(super) fn new(hasher: ChunkHasher) -> Self {
        Self { hasher, known: Vec::new(), bytes: 0, clock: 0, tokens: Vec::new() }
    }

    /// Whether `rest` begins with the ids of a known prompt of `count` tokens: their length in bytes and the prompt's hashes.
    pub(super) fn recognise(&mut self, count: u32, rest: &[u8]) -> Option<(usize, Arc<[ChunkHash]>)> {
        let head = rest.first_chunk::<HEAD_BYTES>()?;
        let same = |known: &&mut Known| {
            known.count == count
                && known.head == *head
                && rest.len() >= known.raw.len()
                && rest[..known.raw.len()] == *known.raw
        };
        let known = self.known.iter_mut().find(same)?;
        self.clock += 1;
        known.used = self.clock;
        Some((known.raw.len(), Arc::clone(&known.hashes)))
    }

    /// Hashes the complete chunks of a prompt and remembers it for `request_id`.
    ///
    /// # Errors
    /// The ids cannot be decoded; impossible for ids that `larder-wire` has scanned.
    pub(super) fn add(
        &mut self,
        ids: &TokenIds<'_>,
        request_id: &str,
    ) -> Result<Arc<[ChunkHash]>, larder_wire::ValueError> {
        self.tokens.clear();
        ids.decode_into(&mut self.tokens)?;
        let mut hashes = Vec::new();
        self.hasher.extend(None, &self.tokens, &mut hashes);
        let hashes: Arc<[ChunkHash]> = hashes.into();
        self.remember(ids, request_id, &hashes);
        Ok(hashes)
    }

    /// Forgets the prompt of a request that has ended.
    pub(super) fn forget(&mut self, request_id: &str) {
        if let Some(at) = self.known.iter().position(|known| *known.request_id == *request_id) {
            self.drop_at(at);
        }
    }

    fn remember(&mut self, ids: &TokenIds<'_>, request_id: &str, hashes: &Arc<[ChunkHash]>) {
        let raw = ids.raw();
        let Some(head) = raw.first_chunk::<HEAD_BYTES>() else { return };
        if !(PROMPT_BYTES_MIN..=PROMPT_BYTES_MAX).contains(&raw.len()) {
            return;
        }
        while self.known.len() >= PROMPTS_MAX || self.bytes + raw.len() > PROMPT_BYTES_MAX {
            let Some((at, _)) = self.known.iter().enumerate().min_by_key(|(_, known)| known.used) else {
                break;
            };
            self.drop_at(at);
        }
        self.clock += 1;
        self.bytes += raw.len();
        self.known.push(Known {
            count: ids.len() as u32,
            head: *head,
            raw: raw.into(),
            hashes: Arc::clone(hashes),
            request_id: request_id.into(),
            used: self.clock,
        });
    }

    fn drop_at(&mut self, at: usize) {
        let dropped = self.known.swap_remove(at);
        self.bytes -= dropped.raw.len();
    }
}

#[cfg(test)]
mod tests {
    use larder_core::hash::HashAlgorithm;
    use larder_wire::IdBuffer;

    use super::*;

    fn prompts() -> Prompts {
        Prompts::new(ChunkHasher::new(HashAlgorithm::Blake3, 16).unwrap())
    }

    fn add(prompts: &mut Prompts, ids: &IdBuffer, request: &str) -> Arc<[ChunkHash]> {
        prompts.add(&ids.as_array(), request).unwrap()
    }

    #[test]
    fn only_the_very_same_tokens_are_recognised() {
        let mut prompts = prompts();
        let mut ids: Vec<u32> = (0..1024).map(|i| i + 70_000).collect();
        let known = IdBuffer::new(&ids);
        let raw = known.as_array().raw();
        let hashes = add(&mut prompts, &known, "r");
        let rest = [raw, b"trailing"].concat();
        assert_eq!(prompts.recognise(1024, &rest), Some((raw.len(), hashes)));
        assert_eq!(prompts.recognise(1023, raw), None);
        assert_eq!(prompts.recognise(1024, &raw[..raw.len() - 1]), None);
        ids[1000] += 1;
        assert_eq!(prompts.recognise(1024, IdBuffer::new(&ids).as_array().raw()), None);
        prompts.forget("r");
        assert_eq!(prompts.recognise(1024, &rest), None);
    }

    #[test]
    fn memory_is_bounded_and_the_coldest_goes_first() {
        let mut prompts = prompts();
        let ids = |seed| (0..512).map(|i| i * 1000 + seed + 70_000).collect::<Vec<u32>>();
        let buffers: Vec<IdBuffer> = (0..=PROMPTS_MAX as u32).map(|seed| IdBuffer::new(&ids(seed))).collect();
        for buffer in &buffers[..PROMPTS_MAX] {
            add(&mut prompts, buffer, "r");
        }
        assert!(prompts.recognise(512, buffers[0].as_array().raw()).is_some());
        add(&mut prompts, &buffers[PROMPTS_MAX], "r");
        assert!(prompts.recognise(512, buffers[0].as_array().raw()).is_some());
        assert!(prompts.recognise(512, buffers[1].as_array().raw()).is_none());
    }
}
