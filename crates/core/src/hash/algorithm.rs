//! Which hash function a server uses, and the digest that stands before the first chunk.

use std::fmt;

use sha2::{Digest, Sha256};

use super::ChunkHash;
use crate::modes::HashName;

/// Seed of the `sha256_cbor` chain when `PYTHONHASHSEED` is not set
/// (`spec/cache-semantics.md 1.2`, as vLLM 0.32.0 computes it).
pub const DEFAULT_SEED: &str = "vllm-none-hash";

/// Hash function of the chunk chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// BLAKE3-256 of the previous digest and the chunk's tokens in big endian; the default.
    Blake3,
    /// SHA-256 of the canonical CBOR of `(previous digest, tokens, null)`, compatible with vLLM.
    Sha256Cbor {
        /// Digest that stands before the first chunk; see [`sha256_cbor_none_hash`].
        none_hash: ChunkHash,
    },
}

impl HashAlgorithm {
    /// The algorithm of this name.
    ///
    /// `python_hash_seed` is the value of `PYTHONHASHSEED` as the engine sees it (`None` when unset); only
    /// `sha256_cbor` depends on it. The peer also knows `builtin`, a process-local hash, which silently loses
    /// the cache (`spec/cache-semantics.md 1.2`); it has no name here.
    #[must_use]
    pub fn new(name: HashName, python_hash_seed: Option<&str>) -> Self {
        match name {
            HashName::Blake3 => Self::Blake3,
            HashName::Sha256Cbor | HashName::Sha256Cbor64Bit => {
                Self::Sha256Cbor { none_hash: sha256_cbor_none_hash(python_hash_seed) }
            }
        }
    }

    /// The digest that stands before the first chunk.
    #[must_use]
    pub fn none_hash(&self) -> ChunkHash {
        match self {
            // be64(0) followed by be32(0), spec/cache-semantics.md 1.1.
            Self::Blake3 => ChunkHash(*blake3::hash(&[0u8; 12]).as_bytes()),
            Self::Sha256Cbor { none_hash } => *none_hash,
        }
    }

    /// The canonical name, as `/status` and logs show it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256Cbor { .. } => "sha256_cbor",
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The first digest of the `sha256_cbor` chain: SHA-256 of the CBOR text string of the seed, which is
/// `PYTHONHASHSEED` when set and [`DEFAULT_SEED`] otherwise.
#[must_use]
pub fn sha256_cbor_none_hash(python_hash_seed: Option<&str>) -> ChunkHash {
    let seed = python_hash_seed.unwrap_or(DEFAULT_SEED);
    let mut encoded = Vec::with_capacity(seed.len() + 9);
    put_cbor_head(&mut encoded, 3, seed.len() as u64);
    encoded.extend_from_slice(seed.as_bytes());
    ChunkHash(Sha256::digest(&encoded).into())
}

/// Appends a CBOR item head: the major type and its argument in the shortest form (RFC 8949 4.2.1).
#[inline]
pub(super) fn put_cbor_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let (major, bytes) = (major << 5, argument.to_be_bytes());
    match argument {
        0..=23 => out.push(major | bytes[7]),
        24..=0xff => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blake3_none_hash_is_the_peers() {
        assert_eq!(
            HashAlgorithm::Blake3.none_hash().to_string(),
            "7e3eff9ef7613a50340eb12677ee03b83ac759fcba9bb32705f07248d56d473b"
        );
    }

    #[test]
    fn sha256_cbor_none_hash_follows_the_seed() {
        let unset = HashAlgorithm::new(HashName::Sha256Cbor, None).none_hash();
        assert_eq!(unset.to_string(), "9bd96a485ad84efdafb72ee48a1d7a69bcead0f8f0433173941b276b9581eef0");
        let zero = HashAlgorithm::new(HashName::Sha256Cbor64Bit, Some("0")).none_hash();
        assert_eq!(zero.to_string(), "4e1195df020de59e0d65a33a4279f1183e7ae4e5d980e309f8b55adff2e61c3e");
    }

    #[test]
    fn the_seed_is_for_one_algorithm_only() {
        assert_eq!(HashAlgorithm::new(HashName::Blake3, Some("1")), HashAlgorithm::Blake3);
    }

    #[test]
    fn cbor_heads_take_the_shortest_form() {
        let head = |argument| {
            let mut out = Vec::new();
            put_cbor_head(&mut out, 0, argument);
            out
        };
        assert_eq!(head(23), [0x17]);
        assert_eq!(head(24), [0x18, 24]);
        assert_eq!(head(255), [0x18, 0xff]);
        assert_eq!(head(256), [0x19, 1, 0]);
        assert_eq!(head(65_535), [0x19, 0xff, 0xff]);
        assert_eq!(head(65_536), [0x1a, 0, 1, 0, 0]);
        assert_eq!(head(1 << 32), [0x1b, 0, 0, 0, 1, 0, 0, 0, 0]);
    }
}
