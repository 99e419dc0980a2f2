//! Encoded output of one connection, and the permits which its writing gives back.

use std::collections::VecDeque;

use bytes::Bytes;

use super::peer::Permit;
use crate::codec::Encoder;

/// Output in order. A permit is dropped once the reply it was given for is written.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) encoder: Encoder,
    /// Bytes appended and bytes written since it was last empty.
    appended: u64,
    written: u64,
    /// Permits with the value of `written` that frees them, in order.
    permits: VecDeque<(u64, Permit)>,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.encoder.is_empty()
    }

    /// Appends a message; returns its bytes on the wire, 0 if it has no parts.
    pub(super) fn message(&mut self, parts: impl IntoIterator<Item = Bytes>) -> usize {
        let bytes = self.encoder.message(parts);
        self.appended += bytes as u64;
        bytes
    }

    /// Appends a command; returns its bytes on the wire.
    pub(super) fn command(&mut self, body: Vec<u8>) -> usize {
        let bytes = self.encoder.command(body);
        self.appended += bytes as u64;
        bytes
    }

    /// Keeps `permit` until all that was appended so far is written.
    pub(super) fn hold(&mut self, permit: Permit) {
        self.permits.push_back((self.appended, permit));
    }

    /// Notes that the encoder has `written` bytes less.
    pub(super) fn note_written(&mut self, written: usize) {
        self.written += written as u64;
        if self.encoder.is_empty() {
            self.permits.clear();
            self.appended = 0;
            self.written = 0;
            self.permits.shrink_to(16);
            return;
        }
        while self.permits.front().is_some_and(|(end, _)| *end <= self.written) {
            self.permits.pop_front();
        }
    }
}
