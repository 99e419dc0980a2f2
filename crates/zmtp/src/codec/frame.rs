//! The header in front of every frame: a flags byte, then the length in one or eight bytes.

use crate::error::Violation;

/// Longest frame header: flags and a 64-bit length.
pub(super) const HEADER_BYTES_MAX: usize = 9;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Another frame of the same message follows.
    pub more: bool,
    /// The frame carries a command, not a part of a message.
    pub command: bool,
    /// Length of the payload, as declared.
    pub len: u64,
}

impl FrameHeader {
    /// Length of a payload that is kept: the limits let it pass, so it fits memory.
    pub(super) fn kept_len(&self) -> usize {
        usize::try_from(self.len).unwrap_or(usize::MAX)
    }

    /// Length of the whole header whose first byte is `flags`.
    ///
    /// # Errors
    ///
    /// Reserved bits are set, or a command claims to be followed by more.
    pub fn size(flags: u8) -> Result<usize, Violation> {
        if flags & !(MORE | LONG | COMMAND) != 0 || flags & (MORE | COMMAND) == MORE | COMMAND {
            return Err(Violation::Flags(flags));
        }
        Ok(if flags & LONG != 0 { HEADER_BYTES_MAX } else { 2 })
    }

    /// Reads a header from the start of `bytes`; `None` when there are too few of them. Returns the header
    /// and its length.
    ///
    /// # Errors
    ///
    /// As [`FrameHeader::size`].
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&flags) = bytes.first() else { return Ok(None) };
        let size = Self::size(flags)?;
        let Some(length) = bytes.get(1..size) else { return Ok(None) };
        let len = length.iter().fold(0u64, |len, &byte| len << 8 | u64::from(byte));
        Ok(Some((Self { more: flags & MORE != 0, command: flags & COMMAND != 0, len }, size)))
    }

    /// Appends the header to `out`, in the short form where the length allows it.
    pub fn encode(self, out: &mut Vec<u8>) {
        let flags = if self.more { MORE } else { 0 } | if self.command { COMMAND } else { 0 };
        match u8::try_from(self.len) {
            Ok(len) => out.extend_from_slice(&[flags, len]),
            Err(_) => {
                out.push(flags | LONG);
                out.extend_from_slice(&self.len.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_form() {
        let cases: [(FrameHeader, &[u8]); 4] = [
            (FrameHeader { more: false, command: false, len: 0 }, &[0, 0]),
            (FrameHeader { more: true, command: false, len: 255 }, &[1, 255]),
            (FrameHeader { more: true, command: false, len: 256 }, &[3, 0, 0, 0, 0, 0, 0, 1, 0]),
            (FrameHeader { more: false, command: true, len: 5 }, &[4, 5]),
        ];
        for (header, bytes) in cases {
            let mut out = Vec::new();
            header.encode(&mut out);
            assert_eq!(out, bytes);
            assert_eq!(FrameHeader::parse(bytes).unwrap(), Some((header, bytes.len())));
            assert_eq!(FrameHeader::parse(&bytes[..bytes.len() - 1]).unwrap(), None);
        }
    }

    #[test]
    fn largest_length_is_read_as_declared() {
        let header = FrameHeader::parse(&[2, 255, 255, 255, 255, 255, 255, 255, 255]).unwrap();
        assert_eq!(header, Some((FrameHeader { more: false, command: false, len: u64::MAX }, 9)));
    }

    #[test]
    fn every_other_flag_is_refused() {
        for flags in 0..=u8::MAX {
            let allowed = matches!(flags, 0 | 1 | 2 | 3 | 4 | 6);
            assert_eq!(FrameHeader::size(flags).is_ok(), allowed, "{flags:#x}");
        }
    }
}
