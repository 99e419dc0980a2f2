//! A share of all chunks that is followed one by one.

use super::ChunkHash;

/// A share of all chunks, chosen by their hashes: whoever asks gets the same answer for a chunk, every time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Chunks whose hash begins with a number below this one, of 2^32.
    below: u64,
}

impl Sample {
    /// The share, from 0 for no chunk to 1 for all.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of 2^32, not negative"
    )]
    pub fn of(share: f64) -> Self {
        Self { below: (share.clamp(0.0, 1.0) * (1_u64 << 32) as f64) as u64 }
    }

    /// Whether this chunk belongs to it.
    #[must_use]
    pub fn takes(self, chunk: &ChunkHash) -> bool {
        let [a, b, c, d, ..] = *chunk.as_bytes();
        u64::from(u32::from_be_bytes([a, b, c, d])) < self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(share: f64) -> usize {
        let chunks = (0..1000_u32).map(|number| number.wrapping_mul(0x9e37_79b9));
        let chunk = |number: u32| {
            let mut bytes = [0; ChunkHash::LEN];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            ChunkHash(bytes)
        };
        chunks.filter(|&number| Sample::of(share).takes(&chunk(number))).count()
    }

    #[test]
    fn a_sample_takes_its_share_of_all_chunks() {
        assert_eq!((taken(0.0), taken(1.0), taken(-1.0), taken(2.0)), (0, 1000, 0, 1000));
        assert!((80..120).contains(&taken(0.1)), "{}", taken(0.1));
    }
}
