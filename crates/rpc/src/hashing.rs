//! From the key of a request to the engine's, with its tokens hashed as far as the request is about them.

use std::sync::Arc;

use bytes::Bytes;
use larder_core::hash::{ChunkHash, ChunkHasher};
use larder_core::key::{self, TokenRange};
use larder_engine::{EngineError, PromptKey};
use larder_wire::ids::decode_prefix;
use larder_wire::{CacheKey, Request, decode_request_with};

use super::outcome::Refusal;
use super::prompts::{HashedPrompt, PromptSource};
use super::request::EncodedRequest;

/// The prompt of one request, hashed when somebody asks for it.
pub(super) struct Hashing<'r> {
    hasher: &'r ChunkHasher,
    payloads: &'r [Bytes],
    known: Option<Arc<[ChunkHash]>>,
    prompts: &'r mut dyn PromptSource,
}

impl<'r> Hashing<'r> {
    /// The request, and its prompt, whose hashes are there already if it is known.
    pub(super) fn decode(
        hasher: &'r ChunkHasher,
        EncodedRequest { operation, payloads, .. }: &'r EncodedRequest,
        prompts: &'r mut dyn PromptSource,
    ) -> Result<(Request<'r>, Self), Refusal> {
        let mut known = None;
        let request = decode_request_with(*operation, payloads, &mut |count, rest| {
            // Hashes belong to the ids they were found for, should there be ids twice.
            known = None;
            let (length, hashes) = prompts.recognise(count, rest)?;
            known = Some(hashes);
            Some(length)
        });
        Ok((request.map_err(Refusal::Wire)?, Self { hasher, payloads, known, prompts }))
    }

    /// Forgets the prompt of a request that has ended.
    pub(super) fn forget(&mut self, request_id: &str) {
        self.prompts.forget(request_id);
    }

    /// The key with its tokens hashed as far as it is about them, from the memo if the prompt was there.
    pub(super) fn key<'a>(&mut self, key: &CacheKey<'a>) -> Result<PromptKey<'a>, Refusal> {
        let unhashed = unhashed(key)?;
        let hasher = self.hasher;
        let chunks = unhashed.tokens.min(key.end) / hasher.chunk_size() as u64;
        if let Some(hashes) = self.known.take().filter(|hashes| hashes.len() as u64 >= chunks) {
            return Ok(PromptKey { hashes, ..unhashed });
        }
        // Every operation on a prompt has its key in the first payload.
        let frame = &self.payloads[0];
        let hashed = HashedPrompt::hash(hasher, &key.token_ids, key.end, frame, key.request_id)
            .map_err(|error| Refusal::Argument(format!("token_ids: {error}")))?;
        let hashes = Arc::clone(hashed.hashes());
        self.prompts.remember(hashed);
        Ok(PromptKey { hashes, ..unhashed })
    }
}

/// The tokens a key is about, from the start of the prompt.
pub(super) fn tokens_to_end(key: &CacheKey<'_>) -> Vec<u32> {
    let count = u32::try_from(key.end.min(key.token_ids.len() as u64)).unwrap_or(u32::MAX);
    let mut tokens = Vec::new();
    // Ids that were scanned decode; others come to nothing.
    _ = decode_prefix(count, key.token_ids.raw(), &mut tokens);
    tokens
}

/// The key without hashes, for operations that go by the request alone.
pub(super) fn unhashed<'a>(key: &CacheKey<'a>) -> Result<PromptKey<'a>, Refusal> {
    key::check_key(key.model_name, key.world_size, key.worker_id).map_err(EngineError::from)?;
    Ok(PromptKey {
        model_name: key.model_name,
        world_size: key.world_size,
        worker_id: key.worker_id,
        tokens: key.token_ids.len() as u64,
        hashes: Arc::default(),
        token_ids: None,
        range: TokenRange { start: key.start, end: key.end },
        request_id: key.request_id,
        cache_salt: key.cache_salt,
        readers: key.num_kv_readers,
    })
}
