//! One record and its encoding.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of an encoded record.
pub(super) const RECORD_BYTES: usize = 128;

/// Bytes of a record that its checksum covers: all but the checksum itself, which is first.
const CHECK_BYTES: usize = 8;

/// Set in the flags of a record with a seal.
const SEALED: u8 = 1;

/// Set in the flags of a record of memory that a client was told to write.
const BEING_WRITTEN: u8 = 2;

/// A piece of the pool's memory that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRecord {
    /// Rises with every write: later records have higher numbers. Never 0.
    pub sequence: u64,
    /// First byte in the pool.
    pub offset: u64,
    /// Bytes that mean something.
    pub bytes: u64,
    /// The chunk.
    pub hash: [u8; 32],
    /// Which of the directory's scopes it is in.
    pub scope: u32,
    /// Chunks before it in its prompt.
    pub position: u16,
    /// Its seal, if it has one.
    pub seal: Option<u64>,
    /// Whether somebody may be writing there.
    pub is_being_written: bool,
    /// When the server was found dead whose client may be touching it, in seconds since the boot; none for a
    /// client of the server that wrote the record. Never 0.
    pub left_at_s: Option<u64>,
}

impl SlotRecord {
    pub(super) fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.hash);
        bytes[64..72].copy_from_slice(&self.seal.unwrap_or_default().to_le_bytes());
        bytes[72..76].copy_from_slice(&self.scope.to_le_bytes());
        bytes[76..78].copy_from_slice(&self.position.to_le_bytes());
        let sealed = if self.seal.is_some() { SEALED } else { 0 };
        bytes[78] = sealed | if self.is_being_written { BEING_WRITTEN } else { 0 };
        bytes[80..88].copy_from_slice(&self.left_at_s.unwrap_or_default().to_le_bytes());
        let check = xxh3_64(&bytes[CHECK_BYTES..]);
        bytes[..CHECK_BYTES].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads a record; none for one that is empty, torn or of no sense.
    pub(super) fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if number(8) == 0 || number(0) != xxh3_64(&bytes[CHECK_BYTES..]) {
            return None;
        }
        Some(Self {
            sequence: number(8),
            offset: number(16),
            bytes: number(24),
            hash: bytes[32..64].try_into().expect("32 bytes"),
            scope: u32::from_le_bytes(bytes[72..76].try_into().expect("4 bytes")),
            position: u16::from_le_bytes(bytes[76..78].try_into().expect("2 bytes")),
            seal: (bytes[78] & SEALED != 0).then(|| number(64)),
            is_being_written: bytes[78] & BEING_WRITTEN != 0,
            left_at_s: Some(number(80)).filter(|&at| at != 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let record = SlotRecord {
            sequence: 3,
            offset: 4096,
            bytes: 100,
            hash: [7; 32],
            scope: 2,
            position: 9,
            seal: Some(u64::MAX),
            is_being_written: false,
            left_at_s: Some(5),
        };
        let bytes = record.encode();
        assert_eq!(SlotRecord::decode(&bytes), Some(record));
        for bit in 0..RECORD_BYTES * 8 {
            let mut torn = bytes;
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SlotRecord::decode(&torn), None, "bit {bit}");
        }
        assert_eq!(SlotRecord::decode(&[0; RECORD_BYTES]), None);
        for (seal, is_being_written) in [(None, false), (None, true), (Some(0), true)] {
            let other = SlotRecord { seal, is_being_written, ..record };
            assert_eq!(SlotRecord::decode(&other.encode()), Some(other));
        }
    }
}
