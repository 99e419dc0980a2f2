//! The 64 bytes each side sends first.

use crate::error::Violation;

/// Length of a greeting.
pub(super) const GREETING_BYTES: usize = 64;

const MECHANISM: std::ops::Range<usize> = 12..32;
const MAJOR: usize = 10;

/// Our greeting: version 3.1, mechanism NULL.
pub const GREETING: [u8; GREETING_BYTES] = {
    let mut greeting = [0; GREETING_BYTES];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[MAJOR] = 3;
    greeting[MAJOR + 1] = 1;
    let name = b"NULL";
    let mut index = 0;
    while index < name.len() {
        greeting[MECHANISM.start + index] = name[index];
        index += 1;
    }
    greeting
};

/// Reads the peer's greeting as it arrives and refuses at the first wrong byte, so that a client of some
/// other protocol is not kept waiting.
#[derive(Debug)]
pub(super) struct GreetingReader {
    bytes: [u8; GREETING_BYTES],
    len: usize,
}

impl Default for GreetingReader {
    fn default() -> Self {
        Self { bytes: [0; GREETING_BYTES], len: 0 }
    }
}

impl GreetingReader {
    /// Takes bytes from `input`; true when the greeting is complete and acceptable.
    ///
    /// # Errors
    ///
    /// The signature is not ZMTP 3's, the version is below 3 or the mechanism is not NULL. The minor version,
    /// the as-server bit and the filler are ignored, as RFC 23 asks.
    pub(super) fn advance(&mut self, input: &mut &[u8]) -> Result<bool, Violation> {
        let take = input.len().min(GREETING_BYTES - self.len);
        let (taken, rest) = input.split_at(take);
        self.bytes[self.len..self.len + take].copy_from_slice(taken);
        self.len += take;
        *input = rest;
        self.check()
    }

    fn check(&self) -> Result<bool, Violation> {
        let bytes = &self.bytes[..self.len];
        if let Some(&value) = bytes.first().filter(|&&value| value != 0xff) {
            return Err(Violation::Signature { index: 0, value });
        }
        if let Some(&value) = bytes.get(9).filter(|&&value| value & 1 == 0) {
            return Err(Violation::Signature { index: 9, value });
        }
        if let Some(&major) = bytes.get(MAJOR).filter(|&&major| major < 3) {
            return Err(Violation::Version(major));
        }
        if bytes.len() < GREETING_BYTES {
            return Ok(false);
        }
        if self.bytes[MECHANISM] != GREETING[MECHANISM] {
            let name = self.bytes[MECHANISM].split(|&byte| byte == 0).next().unwrap_or_default();
            return Err(Violation::Mechanism(name.escape_ascii().to_string()));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<bool, Violation> {
        GreetingReader::default().advance(&mut &*bytes)
    }

    #[test]
    fn own_greeting_is_accepted_in_any_pieces() {
        for split in 0..=GREETING_BYTES {
            let mut reader = GreetingReader::default();
            let (mut first, mut second) = GREETING.split_at(split);
            assert_eq!(reader.advance(&mut first), Ok(split == GREETING_BYTES));
            assert_eq!(reader.advance(&mut second), Ok(true));
        }
    }

    #[test]
    fn bytes_after_the_greeting_are_left() {
        let mut bytes = GREETING.to_vec();
        bytes.extend([1, 2, 3]);
        let mut input = &bytes[..];
        assert_eq!(GreetingReader::default().advance(&mut input), Ok(true));
        assert_eq!(input, [1, 2, 3]);
    }

    #[test]
    fn refusals_come_at_the_first_wrong_byte() {
        assert_eq!(read(b"G"), Err(Violation::Signature { index: 0, value: b'G' }));
        assert_eq!(
            read(&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
            Err(Violation::Signature { index: 9, value: 0 })
        );
        assert_eq!(read(&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 1]), Err(Violation::Version(1)));
        let mut curve = GREETING;
        curve[MECHANISM][..5].copy_from_slice(b"CURVE");
        assert_eq!(read(&curve), Err(Violation::Mechanism("CURVE".to_owned())));
    }

    #[test]
    fn version_3_0_and_later_ones_are_accepted() {
        for version in [[3, 0], [3, 1], [3, 9], [4, 0]] {
            let mut greeting = GREETING;
            greeting[MAJOR..MAJOR + 2].copy_from_slice(&version);
            assert_eq!(read(&greeting), Ok(true));
        }
    }
}
