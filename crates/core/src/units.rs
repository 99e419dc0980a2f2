//! Sizes in GiB, as people give and read them, and in bytes, as everything else has them.

/// Bytes of one GiB.
pub const GIB: u64 = 1 << 30;

/// Bytes of `gib` GiB, cut to whole bytes as the peer does. What is negative is 0, and what is more than
/// there are numbers is the largest one.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "cut and saturating, as said; a GiB is a power of two"
)]
pub fn gib_to_bytes(gib: f64) -> u64 {
    (gib * GIB as f64) as u64
}

/// GiB of so many bytes, as the peer divides them.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for people; a GiB is a power of two")]
pub fn bytes_to_gib(bytes: u64) -> f64 {
    bytes as f64 / GIB as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_cut_as_the_peer_cuts_them() {
        assert_eq!(gib_to_bytes(0.001), 1_073_741);
        assert_eq!(gib_to_bytes(10.0), 10_737_418_240);
        assert_eq!(gib_to_bytes(0.25), 268_435_456);
        assert_eq!((gib_to_bytes(-1.0), gib_to_bytes(1e300)), (0, u64::MAX));
        assert_eq!(bytes_to_gib(3 << 29), 1.5);
    }
}
