//! What an object is called: the scope it belongs to and the rank it was made by.
//!
//! Source of the facts: `spec/cache-semantics.md` 2 and 9.

use std::fmt;
use std::sync::Arc;

use crate::layout::ObjectLayout;
use crate::name::{NameError, check_model_name};

/// Most ranks one lookup may fan out to; a larger `world_size` is a mistake, not a node's share of a cluster.
pub const WORLD_SIZE_MAX: u32 = 1_024;

/// Everything that tells two objects with the same chunk hash apart.
///
/// A chunk hash names a token prefix only; the scope adds the model, the rank, the object group and
/// the tenant's salt. The layout is part of it as well, so that a model which registers with other
/// dimensions misses instead of reading bytes it would misinterpret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The model as the engine names it; as [`check_model_name`] lets it through.
    pub model_name: Arc<str>,
    /// The rank encoded as by [`kv_rank`].
    pub kv_rank: u64,
    /// Position of the object group; engine-driven registrations have group 0 only.
    pub object_group_id: u32,
    /// The tenant; empty when the engine sends none.
    pub cache_salt: Arc<str>,
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

/// Why a key can't name an object.
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
        Ok((start / size) as usize..(end / size) as usize)
    }
}

/// Checks the parts of a key that name objects.
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
