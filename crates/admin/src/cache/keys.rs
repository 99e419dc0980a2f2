//! Adapters and object keys as requests name them.

use larder_admin_api::cache::EncodedKey;
use larder_core::key::ObjectKey;
use larder_storage::Built;
use larder_tier::Tier;

use crate::reply::Refusal;

/// The key that a request means, if it can name an object.
pub(super) fn decode(key: &EncodedKey) -> Result<ObjectKey, String> {
    let EncodedKey { chunk_hash_hex, model_name, kv_rank, object_group_id, cache_salt } = key;
    let hash = decode_hash(chunk_hash_hex)
        .ok_or_else(|| format!("`{}` is not 64 hexadecimal digits", chunk_hash_hex.escape_debug()))?;
    ObjectKey::new(hash, model_name.as_str(), *kv_rank, *object_group_id, cache_salt.as_str())
        .map_err(|error| error.to_string())
}

/// A key as an answer tells it.
pub(super) fn encode(ObjectKey { chunk_hash, namespace }: &ObjectKey) -> EncodedKey {
    EncodedKey {
        chunk_hash_hex: chunk_hash.to_string(),
        model_name: namespace.model_name().to_string(),
        kv_rank: namespace.kv_rank(),
        object_group_id: namespace.object_group_id(),
        cache_salt: namespace.cache_salt().to_string(),
    }
}

fn decode_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(hash)
}

/// The adapter of an id or of a type, or the one of highest priority.
pub(super) fn adapter(tier: &Tier, id_or_type: Option<&str>) -> Result<Built, Refusal> {
    let adapters = tier.adapters();
    let found = match id_or_type {
        None => adapters.first(),
        Some(name) => adapters
            .iter()
            .find(|attached| attached.id() == name)
            .or_else(|| adapters.iter().find(|attached| attached.built().adapter.kind() == name)),
    };
    match (found, id_or_type) {
        (Some(attached), _) => Ok(attached.built().clone()),
        (None, Some(name)) if !adapters.is_empty() => {
            Err(Refusal::not_found(format!("no L2 adapter with type_name='{}'", name.escape_debug())))
        }
        (None, _) => Err(Refusal::unavailable("no L2 adapters configured")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_64_digits_and_nothing_else() {
        assert_eq!(decode_hash(&"0f".repeat(32)), Some([0x0f; 32]));
        assert_eq!(decode_hash(&"Ff".repeat(32)), Some([0xff; 32]));
        for text in ["", "0f", &"0g".repeat(32), &"0f".repeat(33), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(decode_hash(text), None, "{text}");
        }
    }
}
