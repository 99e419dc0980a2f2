//! Numbers of one kind as another, where something may be lost.

/// A number without its fraction; what is negative is 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut and saturating, as said")]
pub(super) fn whole(number: f64) -> u64 {
    number as u64
}

/// A place in a list, as entries are numbered. No trace that fits into memory has more.
pub(super) fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// A count as the length of a list.
pub(super) fn length(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
