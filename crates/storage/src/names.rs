//! The two spellings by which backends know an object.
//!
//! Facts: `spec/cache-semantics.md` 2 and 11.3. The file name is the one of the peer's `fs` and `fs_native`
//! adapters; the wire name is that of its `resp`, `valkey` and `s3` adapters.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use larder_core::hash::ChunkHash;
use larder_core::key::ObjectKey;
use xxhash_rust::xxh3::xxh3_64;

use crate::mutex::lock;

/// Longest file name in bytes a Linux file system takes.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Suffix of a stored file.
pub const FILE_SUFFIX: &str = ".data";

/// Digits a rank is padded to.
const RANK_DIGITS_MIN: usize = 8;

/// What `/` in a model name is written as in file names. Not escaped: a model whose name contains it is
/// stored and found, but listed under another name (as the peer does).
const SLASH: &str = "-SEP-";

/// A file system that can't hold the name of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("file name of model `{model_name}` takes {bytes} bytes, more than {FILE_NAME_BYTES_MAX}")]
pub struct NameTooLong {
    /// The model.
    pub model_name: Arc<str>,
    /// Length of the whole name.
    pub bytes: usize,
}

/// `<model, "/" as "-SEP-">@0x<rank, 8+ hex>@<group hex>@<hash hex>[@<salt>].data`.
///
/// # Errors
/// [`NameTooLong`] beyond [`FILE_NAME_BYTES_MAX`].
pub fn file_name(key: &ObjectKey) -> Result<String, NameTooLong> {
    let model_name = key.namespace.model_name();
    let mut name = model_name.replace('/', SLASH);
    name.push_str("@0x");
    push_tail(&mut name, key);
    name.push_str(FILE_SUFFIX);
    if name.len() > FILE_NAME_BYTES_MAX {
        return Err(NameTooLong { model_name: Arc::clone(model_name), bytes: name.len() });
    }
    Ok(name)
}

/// `<model>@<rank, 8+ hex>@<group hex>@<hash hex>[@<salt>]`.
#[must_use]
pub fn wire_name(key: &ObjectKey) -> String {
    let mut name = key.namespace.model_name().to_string();
    name.push('@');
    push_tail(&mut name, key);
    name
}

/// A number that hardly any other key has.
pub(crate) fn fingerprint(key: &ObjectKey) -> u64 {
    xxh3_64(wire_name(key).as_bytes())
}

fn push_tail(name: &mut String, ObjectKey { chunk_hash, namespace }: &ObjectKey) {
    let salt = namespace.cache_salt();
    name.reserve(8 + 1 + 8 + 1 + 64 + 1 + salt.len() + FILE_SUFFIX.len());
    _ = write!(name, "{:08x}@{:x}@{chunk_hash}", namespace.kv_rank(), namespace.object_group_id());
    if !salt.is_empty() {
        name.push('@');
        name.push_str(salt);
    }
}

/// Turns stored names back into keys, sharing equal model names and salts between them.
#[derive(Debug, Default)]
pub struct KeyDecoder {
    strings: Mutex<HashSet<Arc<str>>>,
}

/// Distinct strings a [`KeyDecoder`] shares; beyond it keys own their strings.
const SHARED_STRINGS_MAX: usize = 65_536;

impl KeyDecoder {
    /// Reads a file name; none for a file that is not a stored object.
    #[must_use]
    pub fn file_name(&self, name: &str) -> Option<ObjectKey> {
        let stem = name.strip_suffix(FILE_SUFFIX)?;
        let (model, rest) = stem.split_once('@')?;
        let rest = rest.strip_prefix("0x").filter(|_| !model.contains('/'))?;
        self.fields(&model.replace(SLASH, "/"), rest)
    }

    /// Reads a wire name; none for a name this project or the peer would not have written.
    #[must_use]
    pub fn wire_name(&self, name: &str) -> Option<ObjectKey> {
        let (model, rest) = name.split_once('@')?;
        self.fields(model, rest)
    }

    fn fields(&self, model: &str, rest: &str) -> Option<ObjectKey> {
        let mut parts = rest.split('@');
        let kv_rank = parse_number(parts.next()?, RANK_DIGITS_MIN)?;
        let group = u32::try_from(parse_number(parts.next()?, 1)?).ok()?;
        let hash = parse_hash(parts.next()?)?;
        let salt = parts.next();
        if parts.next().is_some() || salt == Some("") {
            return None;
        }
        let salt = salt.unwrap_or_default();
        ObjectKey::new(hash, self.share(model), kv_rank, group, self.share(salt)).ok()
    }

    fn share(&self, text: &str) -> Arc<str> {
        let mut strings = lock(&self.strings);
        if let Some(shared) = strings.get(text) {
            return Arc::clone(shared);
        }
        let owned: Arc<str> = text.into();
        if strings.len() < SHARED_STRINGS_MAX {
            strings.insert(Arc::clone(&owned));
        }
        owned
    }
}

/// Parses hexadecimal digits as they are written here: lowercase, padded to `digits_min` and no further.
/// Another spelling of the same number would be another file, which nobody finds under its key.
fn parse_number(text: &str, digits_min: usize) -> Option<u64> {
    let is_padded = text.len() > digits_min && text.starts_with('0');
    let is_plain = text.len() >= digits_min && text.bytes().all(is_digit) && !is_padded;
    if is_plain { u64::from_str_radix(text, 16).ok() } else { None }
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// Parses a hash as it is written here: in lowercase digits.
pub(crate) fn parse_hash(text: &str) -> Option<ChunkHash> {
    ChunkHash::from_hex(text).filter(|_| text.bytes().all(is_digit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(model: &str, rank: u64, group: u32, salt: &str) -> ObjectKey {
        ObjectKey::new([0xab; 32], model, rank, group, salt).unwrap()
    }

    #[test]
    fn names_are_those_the_peer_writes() {
        let hash = "ab".repeat(32);
        // Seen in a directory written by lmcache 0.5.6 (`fs` and `fs_native`).
        assert_eq!(
            file_name(&key("org/model", 0x0100_0100, 0, "")).unwrap(),
            format!("org-SEP-model@0x01000100@0@{hash}.data")
        );
        assert_eq!(
            file_name(&key("m", 1, 0x1f, "salt")).unwrap(),
            format!("m@0x00000001@1f@{hash}@salt.data")
        );
        assert_eq!(
            file_name(&key("m", 0x1_00ff_00ff, 0, "")).unwrap(),
            format!("m@0x100ff00ff@0@{hash}.data"),
            "more than 32 bits are written in full"
        );
        assert_eq!(wire_name(&key("org/m", 1, 2, "s")), format!("org/m@00000001@2@{hash}@s"));
    }

    #[test]
    fn what_no_file_can_be_called_is_refused() {
        let long = key(&"m".repeat(200), 1, 0, "");
        assert!(matches!(file_name(&long), Err(NameTooLong { bytes: 283, .. })));
    }

    #[test]
    fn foreign_names_are_no_keys() {
        let hash = "ab".repeat(32);
        let decoder = KeyDecoder::default();
        for name in [
            "README.md".to_owned(),
            format!("m@0x00000001@0@{hash}"),
            format!("m@00000001@0@{hash}.data"),
            format!("m@0x00000001@{hash}.data"),
            format!("m@0x00000001@0@{}.data", &hash[2..]),
            format!("m@0xzz@0@{hash}.data"),
            format!("m@0x00000001@0@{hash}@a@b.data"),
            format!("m@0x00000001@0@{}.data", "zz".repeat(32)),
            format!("m@0x00000001@0@{}.data", "AB".repeat(32)),
            format!("m@0x1@0@{hash}.data"),
            format!("org/m@0x00000001@0@{hash}.data"),
            format!("m@0x0000000ff@0@{hash}.data"),
            format!("m@0x+0000001@0@{hash}.data"),
            format!("m@0x00000001@00@{hash}.data"),
            format!("m@0x00000001@0@{hash}@.data"),
        ] {
            assert_eq!(decoder.file_name(&name), None, "{name}");
        }
    }

    #[test]
    fn equal_strings_are_shared() {
        let decoder = KeyDecoder::default();
        let a = decoder.wire_name(&wire_name(&key("m", 1, 0, "s"))).unwrap();
        let b = decoder.wire_name(&wire_name(&key("m", 2, 0, "s"))).unwrap();
        let (a, b) = (a.namespace, b.namespace);
        assert!(Arc::ptr_eq(a.model_name(), b.model_name()) && Arc::ptr_eq(a.cache_salt(), b.cache_salt()));
    }

    proptest! {
        #[test]
        fn names_come_back(
            hash: [u8; 32], rank: u64, group: u32,
            model in "[a-zA-Z0-9._/-]{1,60}", salt in "[a-zA-Z0-9._-]{0,20}",
        ) {
            prop_assume!(!model.contains(SLASH));
            let key = ObjectKey::new(hash, model, rank, group, salt).unwrap();
            let decoder = KeyDecoder::default();
            prop_assert_eq!(decoder.wire_name(&wire_name(&key)), Some(key.clone()));
            prop_assert_eq!(decoder.file_name(&file_name(&key).unwrap()), Some(key));
        }

        #[test]
        fn no_text_panics_the_decoder(text in ".{0,200}") {
            let decoder = KeyDecoder::default();
            prop_assert!(decoder.file_name(&text).is_none_or(|key| file_name(&key).is_ok_and(|name| name == text)));
            prop_assert!(decoder.wire_name(&text).is_none_or(|key| wire_name(&key) == text));
        }
    }
}
