//! The 32-byte identity of one chunk and, through the chain, of everything before it.

use std::fmt;

/// Digest of one chunk of tokens, chained to the digest of the chunk before it.
///
/// Two equal digests mean equal token prefixes. `Display` is lowercase hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkHash(pub [u8; Self::LEN]);

impl ChunkHash {
    /// Length of a digest in bytes.
    pub const LEN: usize = 32;

    /// The digest as raw bytes, in the order they travel on the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Reads a digest from exactly [`ChunkHash::LEN`] bytes; any other length gives `None`.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads a digest from exactly 64 hexadecimal digits of either case; anything else gives `None`.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let mut bytes = [0; Self::LEN];
        let read = base16ct::mixed::decode(digits, &mut bytes).ok()?.len();
        (read == Self::LEN).then_some(Self(bytes))
    }
}

impl From<[u8; Self::LEN]> for ChunkHash {
    fn from(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 2 * Self::LEN];
        // There is room for all digits.
        f.pad(base16ct::lower::encode_str(&self.0, &mut text).unwrap_or_default())
    }
}

impl fmt::Debug for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_as_lowercase_hex() {
        let mut bytes = [0u8; 32];
        bytes[0] = 0xab;
        bytes[31] = 0x01;
        let text = ChunkHash(bytes).to_string();
        assert_eq!(text.len(), 64);
        assert!(text.starts_with("ab00") && text.ends_with("0001"));
        assert_eq!(format!("{:?}", ChunkHash(bytes)), format!("ChunkHash({text})"));
    }

    #[test]
    fn reads_only_the_exact_length() {
        assert_eq!(ChunkHash::from_slice(&[7; 32]), Some(ChunkHash([7; 32])));
        assert_eq!(ChunkHash::from_slice(&[7; 31]), None);
        assert_eq!(ChunkHash::from_slice(&[7; 33]), None);
    }

    #[test]
    fn reads_64_hexadecimal_digits_and_nothing_else() {
        assert_eq!(ChunkHash::from_hex(&"0f".repeat(32)), Some(ChunkHash([0x0f; 32])));
        assert_eq!(ChunkHash::from_hex(&"Ff".repeat(32)), Some(ChunkHash([0xff; 32])));
        let (odd, prefixed) = (&"0f".repeat(32)[1..], format!("0x{}", "0f".repeat(31)));
        let (short, long) = ("0f".repeat(31), "0f".repeat(33));
        let (other, signed, wide) = ("0g".repeat(32), "+1".repeat(32), "é".repeat(32));
        for text in ["", "0f", odd, &prefixed, &short, &long, &other, &signed, &wide] {
            assert_eq!(ChunkHash::from_hex(text), None, "{text}");
        }
    }
}
