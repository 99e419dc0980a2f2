//! A request's key with its tokens already hashed.

use std::ops::Range;
use std::sync::Arc;

use larder_core::hash::ChunkHash;
use larder_core::key::{self, KeyError, Namespace, Scope, TokenRange};
use larder_core::layout::ObjectLayout;

use crate::error::EngineError;

/// The key of one request (`spec/mp-protocol.md` 3.2), its token ids replaced by their chunk hashes.
#[derive(Clone, Debug)]
pub struct PromptKey<'a> {
    /// The model.
    pub model_name: &'a str,
    /// Number of ranks.
    pub world_size: u32,
    /// The rank that transfers, or `None` for the scheduler, who means all ranks.
    pub worker_id: Option<u32>,
    /// Number of token ids in the key.
    pub tokens: u64,
    /// Hashes of the complete chunks of the token ids, from the start of the prompt.
    pub hashes: Arc<[ChunkHash]>,
    /// The token ids themselves, up to the end of the range, for a lookup of whose chunks somebody is to be
    /// told; see
    /// [`Engine::wants_tokens_of_loads`](super::Engine::wants_tokens_of_loads).
    pub token_ids: Option<Arc<[u32]>>,
    /// The tokens the request is about.
    pub range: TokenRange,
    /// The request, for sessions; no part of what the key names.
    pub request_id: &'a str,
    /// The tenant.
    pub cache_salt: &'a str,
    /// Workers that will retrieve what a lookup finds.
    pub readers: u32,
}

impl PromptKey<'_> {
    /// Where the objects of `rank` are. Engine-driven objects are all in group 0. The name of the model is
    /// `known`, if it is the same, instead of one more copy.
    pub(crate) fn scope(
        &self,
        layout: &Arc<ObjectLayout>,
        rank: u32,
        known: &Arc<str>,
    ) -> Result<Scope, KeyError> {
        let is_known = *self.model_name == **known;
        let model_name = if is_known { Arc::clone(known) } else { self.model_name.into() };
        let namespace = Namespace::new(model_name, key::kv_rank(self.world_size, rank), 0, self.cache_salt)?;
        Ok(Scope { namespace, layout: Arc::clone(layout) })
    }

    /// The rank of a transfer.
    pub(crate) fn worker(&self) -> Result<u32, EngineError> {
        self.worker_id.ok_or(EngineError::WorkerIdMissing)
    }

    /// The chunks of a transfer, which must be whole and within the prompt.
    pub(crate) fn chunks(&self, chunk_size: u32) -> Result<Range<usize>, EngineError> {
        Ok(self.range.chunks(self.tokens, chunk_size)?)
    }

    /// Hashes a lookup is about: the complete chunks before `end`, whatever `start` says.
    pub(crate) fn lookup_hashes(&self, chunk_size: u32) -> &[ChunkHash] {
        let end = self.range.end.min(self.tokens);
        let chunks = usize::try_from(end / u64::from(chunk_size)).unwrap_or(usize::MAX);
        &self.hashes[..chunks.min(self.hashes.len())]
    }
}

/// A [`PromptKey`] that owns its text, for work that outlives the message it came in.
#[derive(Clone, Debug)]
pub struct OwnedKey {
    model_name: Box<str>,
    request_id: Box<str>,
    cache_salt: Box<str>,
    world_size: u32,
    worker_id: Option<u32>,
    tokens: u64,
    hashes: Arc<[ChunkHash]>,
    range: TokenRange,
    readers: u32,
}

impl From<&PromptKey<'_>> for OwnedKey {
    fn from(key: &PromptKey<'_>) -> Self {
        Self {
            model_name: key.model_name.into(),
            request_id: key.request_id.into(),
            cache_salt: key.cache_salt.into(),
            world_size: key.world_size,
            worker_id: key.worker_id,
            tokens: key.tokens,
            hashes: Arc::clone(&key.hashes),
            range: key.range,
            readers: key.readers,
        }
    }
}

impl OwnedKey {
    /// The key again.
    #[must_use]
    pub fn borrow(&self) -> PromptKey<'_> {
        PromptKey {
            model_name: &self.model_name,
            world_size: self.world_size,
            worker_id: self.worker_id,
            tokens: self.tokens,
            hashes: Arc::clone(&self.hashes),
            token_ids: None,
            range: self.range,
            request_id: &self.request_id,
            cache_salt: &self.cache_salt,
            readers: self.readers,
        }
    }
}
