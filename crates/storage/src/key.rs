//! What a stored object is called, and the two spellings backends know it by.
//!
//! Facts: `spec/cache-semantics.md` 2 and 11.3. The file name is the one of the peer's `fs` and `fs_native`
//! adapters; the wire name is that of its `resp`, `valkey` and `s3` adapters.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use larder_core::name::{NameError, check_cache_salt, check_model_name};
use xxhash_rust::xxh3::xxh3_64;

/// Longest file name in bytes a Linux file system takes.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Suffix of a stored file.
pub const FILE_SUFFIX: &str = ".data";

/// Digits a rank is padded to.
const RANK_DIGITS_MIN: usize = 8;

/// What `/` in a model name is written as in file names. Not escaped: a model whose name contains it is
/// stored and found, but listed under another name (as the peer does).
const SLASH: &str = "-SEP-";

/// The name of one stored object. Cheap to clone: both strings are shared.
///
/// Its [fields](KeyFields) can be read, and are always as [`new`](Self::new) lets them through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(KeyFields);

/// What a [`Key`] is made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyFields {
    /// Hash of the token prefix the chunk ends.
    pub chunk_hash: [u8; 32],
    /// The model as the engine names it; never contains `@` or NUL.
    pub model_name: Arc<str>,
    /// The rank as encoded by the protocol; may exceed 32 bits.
    pub kv_rank: u64,
    /// Position of the object group.
    pub object_group_id: u32,
    /// The tenant; empty for none. Never contains `@`, `/`, `\` or NUL.
    pub cache_salt: Arc<str>,
}

impl Deref for Key {
    type Target = KeyFields;

    fn deref(&self) -> &KeyFields {
        &self.0
    }
}

/// Why a key is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A name that would break out of its field or of the directory.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The file system can't hold the name.
    #[error("file name of model `{model_name}` takes {bytes} bytes, more than {FILE_NAME_BYTES_MAX}")]
    NameTooLong {
        /// The model.
        model_name: Arc<str>,
        /// Length of the whole name.
        bytes: usize,
    },
}

impl Key {
    /// Makes a key after checking that its fields survive being part of a name.
    pub fn new(
        chunk_hash: [u8; 32],
        model_name: impl Into<Arc<str>>,
        kv_rank: u64,
        object_group_id: u32,
        cache_salt: impl Into<Arc<str>>,
    ) -> Result<Self, KeyError> {
        let (model_name, cache_salt) = (model_name.into(), cache_salt.into());
        check_model_name(&model_name)?;
        check_cache_salt(&cache_salt)?;
        Ok(Self(KeyFields { chunk_hash, model_name, kv_rank, object_group_id, cache_salt }))
    }

    /// The name of another chunk of the same model, rank, group and tenant.
    #[must_use]
    pub fn with_chunk_hash(&self, chunk_hash: [u8; 32]) -> Self {
        Self(KeyFields { chunk_hash, ..self.0.clone() })
    }

    /// `<model, "/" as "-SEP-">@0x<rank, 8+ hex>@<group hex>@<hash hex>[@<salt>].data`.
    pub fn file_name(&self) -> Result<String, KeyError> {
        let mut name = self.model_name.replace('/', SLASH);
        name.push_str("@0x");
        self.push_tail(&mut name);
        name.push_str(FILE_SUFFIX);
        if name.len() > FILE_NAME_BYTES_MAX {
            return Err(KeyError::NameTooLong {
                model_name: Arc::clone(&self.model_name),
                bytes: name.len(),
            });
        }
        Ok(name)
    }

    /// `<model>@<rank, 8+ hex>@<group hex>@<hash hex>[@<salt>]`.
    #[must_use]
    pub fn wire_name(&self) -> String {
        let mut name = self.model_name.to_string();
        name.push('@');
        self.push_tail(&mut name);
        name
    }

    /// A number that hardly any other key has.
    #[must_use]
    pub(crate) fn fingerprint(&self) -> u64 {
        xxh3_64(self.wire_name().as_bytes())
    }

    /// The chunk hash as lowercase hexadecimal.
    #[must_use]
    pub fn hash_hex(&self) -> String {
        let mut text = String::with_capacity(64);
        push_hex(&mut text, &self.chunk_hash);
        text
    }

    fn push_tail(&self, name: &mut String) {
        name.reserve(8 + 1 + 8 + 1 + 64 + 1 + self.cache_salt.len() + FILE_SUFFIX.len());
        _ = write!(name, "{:08x}@{:x}@", self.kv_rank, self.object_group_id);
        push_hex(name, &self.chunk_hash);
        if !self.cache_salt.is_empty() {
            name.push('@');
            name.push_str(&self.cache_salt);
        }
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
    pub fn file_name(&self, name: &str) -> Option<Key> {
        let stem = name.strip_suffix(FILE_SUFFIX)?;
        let (model, rest) = stem.split_once('@')?;
        let rest = rest.strip_prefix("0x").filter(|_| !model.contains('/'))?;
        self.fields(&model.replace(SLASH, "/"), rest)
    }

    /// Reads a wire name; none for a name this project or the peer would not have written.
    #[must_use]
    pub fn wire_name(&self, name: &str) -> Option<Key> {
        let (model, rest) = name.split_once('@')?;
        self.fields(model, rest)
    }

    fn fields(&self, model: &str, rest: &str) -> Option<Key> {
        let mut parts = rest.split('@');
        let kv_rank = parse_number(parts.next()?, RANK_DIGITS_MIN)?;
        let group = u32::try_from(parse_number(parts.next()?, 1)?).ok()?;
        let hash = parse_hash(parts.next()?)?;
        let salt = parts.next();
        if parts.next().is_some() || salt == Some("") {
            return None;
        }
        let salt = salt.unwrap_or_default();
        Key::new(hash, self.share(model), kv_rank, group, self.share(salt)).ok()
    }

    fn share(&self, text: &str) -> Arc<str> {
        let mut strings = self.strings.lock().unwrap_or_else(PoisonError::into_inner);
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

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
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

/// Parses exactly 64 lowercase hexadecimal digits.
pub(crate) fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().copied().all(is_digit) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(model: &str, rank: u64, group: u32, salt: &str) -> Key {
        Key::new([0xab; 32], model, rank, group, salt).unwrap()
    }

    #[test]
    fn names_are_those_the_peer_writes() {
        let hash = "ab".repeat(32);
        // Seen in a directory written by lmcache 0.5.6 (`fs` and `fs_native`).
        assert_eq!(
            key("org/model", 0x0100_0100, 0, "").file_name().unwrap(),
            format!("org-SEP-model@0x01000100@0@{hash}.data")
        );
        assert_eq!(
            key("m", 1, 0x1f, "salt").file_name().unwrap(),
            format!("m@0x00000001@1f@{hash}@salt.data")
        );
        assert_eq!(
            key("m", 0x1_00ff_00ff, 0, "").file_name().unwrap(),
            format!("m@0x100ff00ff@0@{hash}.data"),
            "more than 32 bits are written in full"
        );
        assert_eq!(key("org/m", 1, 2, "s").wire_name(), format!("org/m@00000001@2@{hash}@s"));
    }

    #[test]
    fn hostile_fields_are_refused() {
        assert!(matches!(Key::new([0; 32], "a@b", 0, 0, ""), Err(KeyError::Name(_))));
        for salt in ["a/b", "a@b", "a\\b", "a\0", &"s".repeat(129)] {
            assert!(matches!(Key::new([0; 32], "m", 0, 0, salt), Err(KeyError::Name(_))), "{salt}");
        }
        let long = key(&"m".repeat(200), 1, 0, "");
        assert!(matches!(long.file_name(), Err(KeyError::NameTooLong { bytes: 283, .. })));
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
        let a = decoder.wire_name(&key("m", 1, 0, "s").wire_name()).unwrap();
        let b = decoder.wire_name(&key("m", 2, 0, "s").wire_name()).unwrap();
        assert!(Arc::ptr_eq(&a.model_name, &b.model_name) && Arc::ptr_eq(&a.cache_salt, &b.cache_salt));
    }

    proptest! {
        #[test]
        fn names_come_back(
            hash: [u8; 32], rank: u64, group: u32,
            model in "[a-zA-Z0-9._/-]{1,60}", salt in "[a-zA-Z0-9._-]{0,20}",
        ) {
            prop_assume!(!model.contains(SLASH));
            let key = Key::new(hash, model, rank, group, salt).unwrap();
            let decoder = KeyDecoder::default();
            prop_assert_eq!(decoder.wire_name(&key.wire_name()), Some(key.clone()));
            prop_assert_eq!(decoder.file_name(&key.file_name().unwrap()), Some(key));
        }

        #[test]
        fn no_text_panics_the_decoder(text in ".{0,200}") {
            let decoder = KeyDecoder::default();
            prop_assert!(decoder.file_name(&text).is_none_or(|key| key.file_name().is_ok_and(|name| name == text)));
            prop_assert!(decoder.wire_name(&text).is_none_or(|key| key.wire_name() == text));
        }
    }
}
