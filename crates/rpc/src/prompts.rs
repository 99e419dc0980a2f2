//! Chunk hashes of prompts: made here, and remembered by the exact encoded bytes of the prompt.
//!
//! A client sends the whole prompt with every operation of a request, six times and more. The memo skips
//! decoding and hashing all but the first: it compares the raw bytes of `token_ids` with `memcmp` and so
//! answers only for the very same tokens; a reused request id or two prompts of one length can't be confused.
//! Nothing in it is needed for correctness: what is missing is computed.

use std::sync::Arc;

use bytes::Bytes;
use larder_core::hash::{ChunkHash, ChunkHasher};
use larder_wire::TokenIds;
use larder_wire::ids::decode_prefix;

/// Most prompts remembered.
const PROMPTS_MAX: usize = 128;

/// Most bytes the memo keeps alive, all prompts together.
const MEMO_BYTES_MAX: usize = 16 << 20;

/// Encoded prompts shorter than this are hashed anew each time: that is as fast as finding them.
const PROMPT_BYTES_MIN: usize = 2 << 10;

/// Bytes at the start of a prompt that must agree before the rest is compared.
const HEAD_BYTES: usize = 16;

/// Token ids decoded at a time, and those to the end of their chunk, which bounds what hashing takes beside
/// the prompt itself.
const PIECE_TOKENS: usize = 64 << 10;

/// What a key may have beside its token ids to be looked for in the memo without being decoded.
const KEY_REST_BYTES_MAX: usize = 8 << 10;

/// What a prompt's hashes come from.
pub(super) trait PromptSource {
    /// Whether `rest` begins with the ids of a known prompt of `count` tokens: their length in bytes and the
    /// prompt's hashes.
    fn recognise(&mut self, count: u32, rest: &[u8]) -> Option<(usize, Arc<[ChunkHash]>)>;

    /// Takes note of hashes just made.
    fn remember(&mut self, prompt: HashedPrompt);

    /// Forgets the prompt of a request that has ended.
    fn forget(&mut self, request_id: &str);
}

/// A prompt and its hashes.
#[derive(Clone, Debug)]
pub(super) struct HashedPrompt {
    count: u32,
    /// The encoded ids, a part of the frame they came in, which they keep alive.
    raw: Bytes,
    frame_bytes: usize,
    hashes: Arc<[ChunkHash]>,
    request_id: Box<str>,
}

impl HashedPrompt {
    /// Hashes the complete chunks among the first `tokens` of `ids`, which came in `frame`.
    ///
    /// # Errors
    /// The ids cannot be decoded; impossible for ids that `larder-wire` has scanned.
    pub(super) fn hash(
        hasher: &ChunkHasher,
        ids: &TokenIds<'_>,
        tokens: u64,
        frame: &Bytes,
        request_id: &str,
    ) -> Result<Self, larder_wire::ValueError> {
        let chunk_size = hasher.chunk_size();
        let piece = PIECE_TOKENS.next_multiple_of(chunk_size);
        let mut left = usize::try_from(tokens).unwrap_or(usize::MAX).min(ids.len()) / chunk_size * chunk_size;
        let mut hashes: Vec<ChunkHash> = Vec::with_capacity(left / chunk_size);
        let (mut rest, mut decoded) = (ids.raw(), Vec::with_capacity(left.min(piece)));
        while left > 0 {
            let count = left.min(piece);
            decoded.clear();
            rest = &rest[decode_prefix(u32::try_from(count).unwrap_or(u32::MAX), rest, &mut decoded)?..];
            hasher.extend(hashes.last().copied(), &decoded, &mut hashes);
            left -= count;
        }
        Ok(Self {
            count: u32::try_from(ids.len()).unwrap_or(u32::MAX),
            raw: frame.slice_ref(ids.raw()),
            frame_bytes: frame.len(),
            hashes: hashes.into(),
            request_id: request_id.into(),
        })
    }

    /// The hashes, from the start of the prompt.
    pub(super) fn hashes(&self) -> &Arc<[ChunkHash]> {
        &self.hashes
    }

    /// Memory it keeps alive.
    fn bytes(&self) -> usize {
        self.frame_bytes + self.hashes.len() * size_of::<ChunkHash>() + self.request_id.len()
    }
}

struct Known {
    head: [u8; HEAD_BYTES],
    prompt: HashedPrompt,
    used: u64,
}

/// The memo. Used by one thread.
#[derive(Default)]
pub(super) struct Prompts {
    known: Vec<Known>,
    bytes: usize,
    clock: u64,
}

impl Prompts {
    /// Whether the key in `frame` is mostly a prompt that is known, so that decoding it takes no time to
    /// speak of.
    pub(super) fn has(&self, frame: &[u8]) -> bool {
        self.known.iter().any(|Known { head, prompt, .. }| {
            let Some(room) = frame.len().checked_sub(prompt.raw.len()) else { return false };
            if room > KEY_REST_BYTES_MAX {
                return false;
            }
            // Only the first place is looked at as a whole: a frame can have thousands where almost all of
            // the prompt agrees.
            let [_, _, count @ ..] = prompt.count.to_be_bytes();
            let begins = |(at, window): (usize, &[u8])| window == head && frame[..at].ends_with(&count);
            let first = frame[..room + HEAD_BYTES].windows(HEAD_BYTES).enumerate().position(begins);
            first.is_some_and(|at| frame[at..].starts_with(&prompt.raw))
        })
    }

    fn drop_at(&mut self, at: usize) {
        let dropped = self.known.swap_remove(at);
        self.bytes -= dropped.prompt.bytes();
    }
}

impl PromptSource for Prompts {
    fn recognise(&mut self, count: u32, rest: &[u8]) -> Option<(usize, Arc<[ChunkHash]>)> {
        let head = rest.first_chunk::<HEAD_BYTES>()?;
        let same = |known: &&mut Known| {
            known.prompt.count == count && known.head == *head && rest.starts_with(&known.prompt.raw)
        };
        let known = self.known.iter_mut().find(same)?;
        self.clock += 1;
        known.used = self.clock;
        Some((known.prompt.raw.len(), Arc::clone(&known.prompt.hashes)))
    }

    fn remember(&mut self, prompt: HashedPrompt) {
        let Some(head) = prompt.raw.first_chunk::<HEAD_BYTES>().copied() else { return };
        if prompt.raw.len() < PROMPT_BYTES_MIN || prompt.bytes() > MEMO_BYTES_MAX {
            return;
        }
        // The same prompt hashed further than before replaces itself.
        let same = |known: &Known| known.prompt.count == prompt.count && known.prompt.raw == prompt.raw;
        if let Some(at) = self.known.iter().position(same) {
            self.drop_at(at);
        }
        while self.known.len() >= PROMPTS_MAX || self.bytes + prompt.bytes() > MEMO_BYTES_MAX {
            let Some((at, _)) = self.known.iter().enumerate().min_by_key(|(_, known)| known.used) else {
                break;
            };
            self.drop_at(at);
        }
        self.clock += 1;
        self.bytes += prompt.bytes();
        self.known.push(Known { head, prompt, used: self.clock });
    }

    fn forget(&mut self, request_id: &str) {
        if let Some(at) = self.known.iter().position(|known| *known.prompt.request_id == *request_id) {
            self.drop_at(at);
        }
    }
}

/// For a thread that has no memo: knows nothing, and keeps what was hashed for the thread that has one.
#[derive(Debug, Default)]
pub(super) struct NoMemo {
    /// What was hashed.
    pub(super) hashed: Option<HashedPrompt>,
}

impl PromptSource for NoMemo {
    fn recognise(&mut self, _count: u32, _rest: &[u8]) -> Option<(usize, Arc<[ChunkHash]>)> {
        None
    }

    fn remember(&mut self, prompt: HashedPrompt) {
        self.hashed = Some(prompt);
    }

    fn forget(&mut self, _request_id: &str) {}
}

#[cfg(test)]
mod tests {
    use larder_core::hash::HashAlgorithm;
    use larder_wire::{CacheKey, IdBuffer};

    use super::*;

    fn frame(ids: &[u32], request_id: &str) -> Bytes {
        let buffer = IdBuffer::new(ids);
        let key = CacheKey {
            model_name: "m",
            world_size: 1,
            worker_id: None,
            token_ids: buffer.as_array(),
            start: 0,
            end: ids.len() as u64,
            request_id,
            cache_salt: "",
            request_configs: None,
            num_kv_readers: 1,
        };
        key.encode().unwrap().into()
    }

    fn hash(frame: &Bytes, tokens: u64) -> HashedPrompt {
        let hasher = ChunkHasher::new(HashAlgorithm::Blake3, 16).unwrap();
        let key = CacheKey::decode(frame).unwrap();
        HashedPrompt::hash(&hasher, &key.token_ids, tokens, frame, key.request_id).unwrap()
    }

    fn add(prompts: &mut Prompts, ids: &[u32], request_id: &str) -> Bytes {
        let frame = frame(ids, request_id);
        prompts.remember(hash(&frame, u64::MAX));
        frame
    }

    fn wide(count: u32, seed: u32) -> Vec<u32> {
        (0..count).map(|i| i * 1000 + seed + 70_000).collect()
    }

    #[test]
    fn only_the_very_same_tokens_are_recognised() {
        let mut prompts = Prompts::default();
        let mut ids = wide(1024, 0);
        let known = add(&mut prompts, &ids, "r");
        let buffer = IdBuffer::new(&ids);
        let raw = buffer.as_array().raw();
        let hashes = Arc::clone(hash(&known, u64::MAX).hashes());
        let rest = [raw, b"trailing"].concat();
        assert_eq!(prompts.recognise(1024, &rest), Some((raw.len(), hashes)));
        assert_eq!(prompts.recognise(1023, raw), None);
        assert_eq!(prompts.recognise(1024, &raw[..raw.len() - 1]), None);
        assert!(prompts.has(&known) && prompts.has(&frame(&ids, "another request")));
        ids[1000] += 1;
        assert_eq!(prompts.recognise(1024, IdBuffer::new(&ids).as_array().raw()), None);
        assert!(!prompts.has(&frame(&ids, "r")));
        prompts.forget("r");
        assert_eq!(prompts.recognise(1024, &rest), None);
        assert!(!prompts.has(&known) && prompts.bytes == 0);
    }

    #[test]
    fn a_key_full_of_something_else_is_not_taken_for_a_known_prompt() {
        let mut prompts = Prompts::default();
        let known = add(&mut prompts, &wide(1024, 0), "r");
        for stuffing in [0, KEY_REST_BYTES_MAX, 4 * KEY_REST_BYTES_MAX] {
            let stuffed = [&vec![0; stuffing][..], &known].concat();
            assert_eq!(prompts.has(&stuffed), stuffing == 0, "{stuffing}");
        }
        assert!(!prompts.has(b"short"));
    }

    /// All but the last of its places agree with a known prompt but for its last token. Looking at each of
    /// them as a whole would compare eight gigabytes.
    #[test]
    fn a_key_that_almost_agrees_in_many_places_costs_one_comparison() {
        let mut prompts = Prompts::default();
        let mut ids = vec![0; 1 << 20];
        *ids.last_mut().unwrap() = 1;
        let known = add(&mut prompts, &ids, "r");
        assert!(prompts.has(&known));
        let hostile = frame(&vec![0; (1 << 20) + 4096], "r");
        for _ in 0..1000 {
            assert!(!prompts.has(&hostile));
        }
    }

    #[test]
    fn hashing_in_pieces_is_hashing_at_once_and_goes_no_further_than_asked() {
        let ids = wide(PIECE_TOKENS as u32 * 2 + 100, 0);
        let frame = frame(&ids, "r");
        let mut whole = Vec::new();
        ChunkHasher::new(HashAlgorithm::Blake3, 16).unwrap().extend(None, &ids, &mut whole);
        assert_eq!(**hash(&frame, u64::MAX).hashes(), whole);
        for (tokens, chunks) in [(0, 0), (15, 0), (47, 2), (PIECE_TOKENS as u64 + 16, PIECE_TOKENS / 16 + 1)]
        {
            assert_eq!(**hash(&frame, tokens).hashes(), whole[..chunks]);
        }
    }

    #[test]
    fn chunks_that_fill_no_piece_are_hashed_whole() {
        let ids = wide(PIECE_TOKENS as u32 * 2, 0);
        let frame = frame(&ids, "r");
        let key = CacheKey::decode(&frame).unwrap();
        for chunk_size in [48, PIECE_TOKENS + 1] {
            let hasher = ChunkHasher::new(HashAlgorithm::Blake3, chunk_size).unwrap();
            let mut whole = Vec::new();
            hasher.extend(None, &ids, &mut whole);
            let hashed = HashedPrompt::hash(&hasher, &key.token_ids, u64::MAX, &frame, "r").unwrap();
            assert_eq!(**hashed.hashes(), whole, "{chunk_size}");
        }
    }

    #[test]
    fn short_prompts_and_those_that_fill_the_memo_are_not_remembered() {
        let mut prompts = Prompts::default();
        let known = |prompts: &Prompts| prompts.known.len();
        add(&mut prompts, &vec![1; PROMPT_BYTES_MIN - 1], "r");
        assert_eq!(known(&prompts), 0);
        add(&mut prompts, &vec![1; PROMPT_BYTES_MIN], "r");
        assert_eq!(known(&prompts), 1);
        let large = HashedPrompt {
            request_id: "r".repeat(MEMO_BYTES_MAX).into(),
            ..hash(&frame(&[2; PROMPT_BYTES_MIN], "r"), u64::MAX)
        };
        prompts.remember(large);
        assert_eq!(known(&prompts), 1);
    }

    #[test]
    fn who_has_no_memo_keeps_what_was_hashed_for_the_one_who_has() {
        let frame = frame(&wide(1024, 0), "r");
        let mut none = NoMemo::default();
        none.remember(hash(&frame, 320));
        assert_eq!(none.hashed.map(|prompt| prompt.hashes().len()), Some(20));
    }

    #[test]
    fn a_prompt_hashed_further_replaces_itself() {
        let mut prompts = Prompts::default();
        let known = frame(&wide(1024, 0), "r");
        for tokens in [160, 320] {
            prompts.remember(hash(&known, tokens));
        }
        let buffer = IdBuffer::new(&wide(1024, 0));
        let (_, hashes) = prompts.recognise(1024, buffer.as_array().raw()).unwrap();
        assert_eq!((prompts.known.len(), hashes.len()), (1, 20));
    }

    #[test]
    fn memory_is_bounded_and_the_coldest_goes_first() {
        let mut prompts = Prompts::default();
        let raw = |seed| IdBuffer::new(&wide(512, seed));
        for seed in 0..PROMPTS_MAX as u32 {
            add(&mut prompts, &wide(512, seed), "r");
        }
        assert!(prompts.recognise(512, raw(0).as_array().raw()).is_some());
        add(&mut prompts, &wide(512, PROMPTS_MAX as u32), "r");
        assert!(prompts.recognise(512, raw(0).as_array().raw()).is_some());
        assert!(prompts.recognise(512, raw(1).as_array().raw()).is_none());
        // In the order they were used, not in that of their places.
        add(&mut prompts, &wide(512, PROMPTS_MAX as u32 + 1), "r");
        assert!(prompts.recognise(512, raw(2).as_array().raw()).is_none());
        assert!(prompts.recognise(512, raw(PROMPTS_MAX as u32 - 1).as_array().raw()).is_some());
        // One-byte ids have hashes of twice their own length.
        for seed in 0..100 {
            add(&mut prompts, &vec![seed; 1 << 16], &"r".repeat(1000));
            let held: usize = prompts.known.iter().map(|known| known.prompt.bytes()).sum();
            assert!(held == prompts.bytes && held <= MEMO_BYTES_MAX);
        }
    }
}
