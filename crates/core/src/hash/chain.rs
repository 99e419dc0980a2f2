//! The hash chain over whole chunks of tokens.

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::algorithm::put_cbor_head;
use super::{ChunkHash, HashAlgorithm};

/// Computes chunk digests for one algorithm and one chunk size.
///
/// Holds no state between calls: a caller that keeps the last digest of a prompt extends it instead of
/// hashing the prompt again.
#[derive(Clone, Debug)]
pub struct ChunkHasher {
    algorithm: HashAlgorithm,
    none_hash: ChunkHash,
    chunk_size: usize,
}

/// The chunk size was zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("chunk size `0` is not a positive number of tokens")]
pub struct ChunkSizeZero;

impl ChunkHasher {
    /// A hasher of chunks of `chunk_size` tokens.
    ///
    /// # Errors
    /// [`ChunkSizeZero`].
    pub fn new(algorithm: HashAlgorithm, chunk_size: usize) -> Result<Self, ChunkSizeZero> {
        if chunk_size == 0 {
            return Err(ChunkSizeZero);
        }
        Ok(Self { algorithm, none_hash: algorithm.none_hash(), chunk_size })
    }

    /// The algorithm in use.
    #[must_use]
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Tokens in one chunk.
    #[must_use]
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// The digest that stands before the first chunk.
    #[must_use]
    pub fn none_hash(&self) -> ChunkHash {
        self.none_hash
    }

    /// Appends to `out` one digest for every whole chunk of `tokens`, the first of which follows the chunk
    /// with digest `previous` (`None` at the start of a prompt). The trailing tokens that do not fill a
    /// chunk are ignored.
    pub fn extend(&self, previous: Option<ChunkHash>, tokens: &[u32], out: &mut Vec<ChunkHash>) {
        let chunks = tokens.chunks_exact(self.chunk_size);
        out.reserve(chunks.len());
        let previous = previous.unwrap_or(self.none_hash);
        match self.algorithm {
            HashAlgorithm::Blake3 => blake3_chain(previous, chunks, out),
            HashAlgorithm::Sha256Cbor { .. } => sha256_cbor_chain(previous, chunks, out),
        }
    }
}

/// `BLAKE3(previous ‖ be32(token)...)` per chunk, from one buffer that is reused.
fn blake3_chain(previous: ChunkHash, chunks: std::slice::ChunksExact<'_, u32>, out: &mut Vec<ChunkHash>) {
    let mut previous = previous;
    let mut buffer: Vec<u8> = Vec::new();
    for chunk in chunks {
        buffer.resize(ChunkHash::LEN + 4 * chunk.len(), 0);
        let (prefix, body) = buffer.split_at_mut(ChunkHash::LEN);
        prefix.copy_from_slice(previous.as_bytes());
        for (bytes, token) in body.chunks_exact_mut(4).zip(chunk) {
            bytes.copy_from_slice(&token.to_be_bytes());
        }
        previous = ChunkHash(*blake3::hash(&buffer).as_bytes());
        out.push(previous);
    }
}

/// `SHA-256(CBOR [previous, [token...], null])` per chunk.
fn sha256_cbor_chain(
    previous: ChunkHash,
    chunks: std::slice::ChunksExact<'_, u32>,
    out: &mut Vec<ChunkHash>,
) {
    const ARRAY: u8 = 4;
    const BYTES: u8 = 2;
    const UNSIGNED: u8 = 0;
    const NULL: u8 = 0xf6;
    let mut previous = previous;
    let mut buffer = Vec::new();
    for chunk in chunks {
        buffer.clear();
        put_cbor_head(&mut buffer, ARRAY, 3);
        put_cbor_head(&mut buffer, BYTES, ChunkHash::LEN as u64);
        buffer.extend_from_slice(previous.as_bytes());
        put_cbor_head(&mut buffer, ARRAY, chunk.len() as u64);
        for token in chunk {
            put_cbor_head(&mut buffer, UNSIGNED, u64::from(*token));
        }
        buffer.push(NULL);
        previous = ChunkHash(Sha256::digest(&buffer).into());
        out.push(previous);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modes::HashName;

    fn hashes(algorithm: HashAlgorithm, chunk_size: usize, tokens: &[u32]) -> Vec<String> {
        let mut out = Vec::new();
        ChunkHasher::new(algorithm, chunk_size).unwrap().extend(None, tokens, &mut out);
        out.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn extending_equals_hashing_at_once() {
        let tokens: Vec<u32> = (0..100).map(|i: u32| i.wrapping_mul(2_654_435_761)).collect();
        for algorithm in [HashAlgorithm::Blake3, HashAlgorithm::new(HashName::Sha256Cbor, None)] {
            let hasher = ChunkHasher::new(algorithm, 8).unwrap();
            let mut whole = Vec::new();
            hasher.extend(None, &tokens, &mut whole);
            assert_eq!(whole.len(), 12);
            let mut parts = Vec::new();
            hasher.extend(None, &tokens[..40], &mut parts);
            let last = parts.last().copied();
            hasher.extend(last, &tokens[40..], &mut parts);
            assert_eq!(parts, whole);
        }
    }

    #[test]
    fn sha256_cbor_reproduces_both_observed_chains() {
        let tokens: Vec<u32> = (0..16).collect();
        let unset = HashAlgorithm::new(HashName::Sha256Cbor, None);
        assert_eq!(
            hashes(unset, 16, &tokens),
            ["dc918a88b139e5afe60b88eda27508d4aee16c10fdc354791efea06206ac0749"]
        );
        let zero = HashAlgorithm::new(HashName::Sha256Cbor, Some("0"));
        assert_eq!(
            hashes(zero, 16, &tokens),
            ["d830de3d42c00f25a2949b5d12d98642664a44872c1614c5b0147556276afc9c"]
        );
    }

    #[test]
    fn a_chunk_size_of_zero_is_refused() {
        assert_eq!(ChunkHasher::new(HashAlgorithm::Blake3, 0).unwrap_err(), ChunkSizeZero);
    }
}
