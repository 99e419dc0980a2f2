//! Chunk hashing: how a token prefix becomes the identity of its cached chunks.
//!
//! Owns the digest type, the algorithm names and the hash chain. Must not know about models, ranks or
//! salts: those are part of an object's key, never of its hash (`spec/cache-semantics.md 1`).

mod algorithm;
mod chain;
mod digest;
mod sample;

pub use algorithm::{DEFAULT_SEED, HashAlgorithm, sha256_cbor_none_hash};
pub use chain::{ChunkHasher, ChunkSizeZero};
pub use digest::ChunkHash;
pub use sample::Sample;
