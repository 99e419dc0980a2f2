//! Adapters and object keys as requests name them.

use larder_admin_api::cache::EncodedKey;
use larder_core::hash::ChunkHash;
use larder_core::key::ObjectKey;
use larder_storage::Built;
use larder_tier::Tier;

use crate::reply::Refusal;

/// The key that a request means, if it can name an object.
pub(super) fn decode(key: &EncodedKey) -> Result<ObjectKey, String> {
    let EncodedKey { chunk_hash_hex, model_name, kv_rank, object_group_id, cache_salt } = key;
    let hash = ChunkHash::from_hex(chunk_hash_hex)
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
