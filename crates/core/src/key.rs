//! What an object is called, and what the key of a request may say.
//!
//! Source of the facts: `spec/cache-semantics.md` 2 and 9.

use std::fmt;
use std::sync::Arc;

use crate::hash::ChunkHash;
use crate::layout::ObjectLayout;
use crate::name::{NameError, check_cache_salt, check_model_name};

/// Most ranks one lookup may fan out to; a larger `world_size` is a mistake, not a node's share of a cluster.
pub const WORLD_SIZE_MAX: u32 = 1_024;

/// What the names of many objects have in common: the model, the rank, the object group and the tenant's
/// salt. Its names are as [`crate::name`] lets them through, so that they survive being part of a file's.
///
/// Cheap to clone: both strings are shared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    model_name: Arc<str>,
    kv_rank: u64,
    object_group_id: u32,
    cache_salt: Arc<str>,
}

impl Namespace {
    /// The namespace of these objects, once its names are checked.
    ///
    /// # Errors
    /// [`NameError`] for a model name or a salt that can't be part of a stored name.
    pub fn new(
        model_name: impl Into<Arc<str>>,
        kv_rank: u64,
        object_group_id: u32,
        cache_salt: impl Into<Arc<str>>,
    ) -> Result<Self, NameError> {
        let (model_name, cache_salt) = (model_name.into(), cache_salt.into());
        check_model_name(&model_name)?;
        check_cache_salt(&cache_salt)?;
        Ok(Self { model_name, kv_rank, object_group_id, cache_salt })
    }

    /// The same of another rank.
    #[must_use]
    pub fn with_kv_rank(&self, kv_rank: u64) -> Self {
        Self { kv_rank, ..self.clone() }
    }

    /// The name of one of its objects.
    #[must_use]
    pub fn key(&self, chunk_hash: ChunkHash) -> ObjectKey {
        ObjectKey { chunk_hash, namespace: self.clone() }
    }

    /// The model as the engine names it; never with `@` or NUL.
    #[must_use]
    pub fn model_name(&self) -> &Arc<str> {
        &self.model_name
    }

    /// The rank encoded as by [`kv_rank`]; may exceed 32 bits.
    #[must_use]
    pub fn kv_rank(&self) -> u64 {
        self.kv_rank
    }

    /// Position of the object group; engine-driven registrations have group 0 only.
    #[must_use]
    pub fn object_group_id(&self) -> u32 {
        self.object_group_id
    }

    /// The tenant; empty when the engine sends none. Never with `@`, `/`, `\` or NUL.
    #[must_use]
    pub fn cache_salt(&self) -> &Arc<str> {
        &self.cache_salt
    }
}

/// The name of one stored object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Hash of the token prefix that the chunk ends.
    pub chunk_hash: ChunkHash,
    /// What it shares with other objects.
    pub namespace: Namespace,
}

impl ObjectKey {
    /// The name of the object of a chunk, as [`Namespace::new`].
    ///
    /// # Errors
    /// [`NameError`] for a model name or a salt that can't be part of a stored name.
    pub fn new(
        chunk_hash: impl Into<ChunkHash>,
        model_name: impl Into<Arc<str>>,
        kv_rank: u64,
        object_group_id: u32,
        cache_salt: impl Into<Arc<str>>,
    ) -> Result<Self, NameError> {
        Ok(Namespace::new(model_name, kv_rank, object_group_id, cache_salt)?.key(chunk_hash.into()))
    }
}

/// Everything that tells two objects with the same chunk hash apart.
///
/// A chunk hash names a token prefix only. The layout is part of it beside the [`Namespace`], so that a model
/// which registers with other dimensions misses instead of reading bytes it would misinterpret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// What its objects are called.
    pub namespace: Namespace,
    /// Shape and data type of every object of this scope.
    pub layout: Arc<ObjectLayout>,
}

/// Encodes a rank as object keys carry it: `world_size<<24 | worker_id<<16 | world_size<<8 | worker_id`.
///
/// Not masked: from 256 ranks on the value exceeds 32 bits, as the peer's does.
#[must_use]
pub fn kv_rank(world_size: u32, worker_id: u32) -> u64 {
    let (world, worker) = (u64::from(world_size), u64::from(worker_id));
    world << 24 | worker << 16 | world << 8 | worker
}

/// Why the key of a request can't name objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A name that can't be part of stored names.
    #[error(transparent)]
    Name(#[from] NameError),
    /// `world_size` is 0 or beyond [`WORLD_SIZE_MAX`].
    #[error("world size `{0}` is out of range 1..={WORLD_SIZE_MAX}")]
    WorldSize(u32),
    /// `worker_id` is not a rank of the world.
    #[error("worker id `{worker_id}` is out of range 0..{world_size}")]
    WorkerId {
        /// The rank as received.
        worker_id: u32,
        /// Number of ranks.
        world_size: u32,
    },
    /// `start` or `end` does not fall on a chunk boundary inside the token list.
    #[error("range {range} must be chunk aligned and within {tokens} tokens (chunk size {chunk_size})")]
    Range {
        /// The range as received.
        range: TokenRange,
        /// Length of the token list.
        tokens: u64,
        /// Tokens per chunk.
        chunk_size: u32,
    },
}

/// A range of token positions as received, `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRange {
    /// First token.
    pub start: u64,
    /// One past the last token.
    pub end: u64,
}

impl fmt::Display for TokenRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl TokenRange {
    /// The chunks the range covers, if both ends are chunk boundaries inside `tokens` tokens.
    ///
    /// # Errors
    /// [`KeyError::Range`] for an unaligned, reversed or overlong range.
    pub fn chunks(self, tokens: u64, chunk_size: u32) -> Result<std::ops::Range<usize>, KeyError> {
        let Self { start, end } = self;
        let size = u64::from(chunk_size);
        if start > end || end > tokens || !start.is_multiple_of(size) || !end.is_multiple_of(size) {
            return Err(KeyError::Range { range: self, tokens, chunk_size });
        }
        let chunk = |token: u64| usize::try_from(token / size).unwrap_or(usize::MAX);
        Ok(chunk(start)..chunk(end))
    }
}

/// Checks the parts of a request's key that name objects.
///
/// # Errors
/// The first [`KeyError`] found.
pub fn check_key(model_name: &str, world_size: u32, worker_id: Option<u32>) -> Result<(), KeyError> {
    check_model_name(model_name)?;
    if !(1..=WORLD_SIZE_MAX).contains(&world_size) {
        return Err(KeyError::WorldSize(world_size));
    }
    match worker_id {
        Some(worker_id) if worker_id >= world_size => Err(KeyError::WorkerId { worker_id, world_size }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_encode_as_recorded() {
        assert_eq!(kv_rank(1, 0), 0x0100_0100);
        assert_eq!(kv_rank(2, 1), 0x0201_0201);
        assert_eq!(kv_rank(8, 7), 0x0807_0807);
        assert_eq!(kv_rank(256, 255), 0x1_00ff_00ff);
    }

    #[test]
    fn ranges_must_be_aligned_and_inside() {
        let chunks = |start, end| TokenRange { start, end }.chunks(64, 16);
        assert_eq!(chunks(0, 64), Ok(0..4));
        assert_eq!(chunks(16, 16), Ok(1..1));
        for (start, end) in [(8, 32), (0, 40), (0, 80), (32, 16), (0, u64::MAX)] {
            assert!(chunks(start, end).is_err(), "{start}..{end}");
        }
    }

    #[test]
    fn keys_are_checked_field_by_field() {
        assert_eq!(check_key("m", 2, Some(1)), Ok(()));
        assert_eq!(check_key("m", 2, None), Ok(()));
        assert!(matches!(check_key("m@x", 1, None), Err(KeyError::Name(_))));
        assert!(matches!(check_key("m", 0, None), Err(KeyError::WorldSize(0))));
        assert!(matches!(check_key("m", 2, Some(2)), Err(KeyError::WorkerId { .. })));
    }
}
