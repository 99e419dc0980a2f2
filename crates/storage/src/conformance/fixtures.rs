//! Objects to test with: the key and the bytes of object `n` are always the same.

use std::ops::Range;
use std::sync::Arc;

use larder_core::key::ObjectKey;

use crate::adapter::{LoadItem, StoreItem};
use crate::buffer::HeapBuffer;

/// The key of object `index`. Every third has a salt, every fourth another model.
///
/// # Panics
/// Never: no field is one that a key refuses.
#[must_use]
pub fn object_key(index: usize) -> ObjectKey {
    let mut chunk_hash = [0x5a; 32];
    chunk_hash[..8].copy_from_slice(&(index as u64).to_be_bytes());
    chunk_hash[31] = chunk_hash[7];
    let model_name = if index % 4 == 3 { "org/other-model" } else { "org/model" };
    let cache_salt = if index % 3 == 2 { "tenant" } else { "" };
    match ObjectKey::new(chunk_hash, model_name, 0x0100_0100, 0, cache_salt) {
        Ok(key) => key,
        Err(error) => unreachable!("{error}"),
    }
}

/// The first `len` bytes of object `index`.
#[must_use]
pub fn object_bytes(index: usize, len: usize) -> Vec<u8> {
    // A small generator; what matters is that neighbours differ everywhere.
    let mut state = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Objects of a range, ready to store, without seals.
#[must_use]
pub fn store_items(range: Range<usize>, len: usize) -> Vec<StoreItem> {
    range
        .map(|index| StoreItem {
            key: object_key(index),
            buffer: HeapBuffer::copy_of(&object_bytes(index, len)),
            seal: None,
        })
        .collect()
}

/// Empty buffers for objects of a range, and handles to look into them.
#[must_use]
pub fn load_items(range: Range<usize>, len: usize) -> (Vec<LoadItem>, Vec<Arc<HeapBuffer>>) {
    range
        .map(|index| {
            let buffer = HeapBuffer::zeroed(len);
            (LoadItem { key: object_key(index), buffer: Arc::<HeapBuffer>::clone(&buffer) }, buffer)
        })
        .unzip()
}
