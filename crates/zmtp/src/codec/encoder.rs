//! Messages into as few writable pieces as possible.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::frame::FrameHeader;

/// Frames up to this size are copied behind their header; longer ones are written from where they are.
pub(super) const FRAME_COPY_BYTES_MAX: usize = 8 << 10;

/// Buffer capacity kept when everything is written.
const KEPT_BYTES_MAX: usize = 1 << 10;

/// Encoded output waiting to be written: small frames and headers run together in one buffer, large payloads
/// stand between as they are.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Pieces before `tail`, in order.
    pieces: VecDeque<Bytes>,
    /// Copied bytes after the last piece.
    tail: Vec<u8>,
    /// Bytes of `tail` written already; not 0 only while `pieces` is empty.
    tail_written: usize,
    len: usize,
}

impl Encoder {
    /// Bytes not yet written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether everything is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a message; returns the bytes it takes on the wire. A message has at least one part: nothing is
    /// appended for an empty one.
    pub fn message(&mut self, parts: impl IntoIterator<Item = Bytes>) -> usize {
        let before = self.len;
        let mut parts = parts.into_iter().peekable();
        while let Some(part) = parts.next() {
            self.frame(
                FrameHeader { more: parts.peek().is_some(), command: false, len: part.len() as u64 },
                part,
            );
        }
        self.len - before
    }

    /// Appends a command; returns the bytes it takes on the wire.
    pub fn command(&mut self, body: Vec<u8>) -> usize {
        let before = self.len;
        self.frame(FrameHeader { more: false, command: true, len: body.len() as u64 }, Bytes::from(body));
        self.len - before
    }

    /// Appends bytes that are no frame, such as a greeting.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    fn frame(&mut self, header: FrameHeader, payload: Bytes) {
        let tail_len = self.tail.len();
        header.encode(&mut self.tail);
        self.len += self.tail.len() - tail_len + payload.len();
        if payload.len() <= FRAME_COPY_BYTES_MAX {
            self.tail.extend_from_slice(&payload);
        } else {
            let mut copied = Bytes::from(std::mem::take(&mut self.tail));
            copied.advance(std::mem::take(&mut self.tail_written));
            self.pieces.push_back(copied);
            self.pieces.push_back(payload);
        }
    }

    /// Fills `slices` with what comes next; returns how many are used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = &self.tail[self.tail_written..];
        let pieces = self.pieces.iter().map(|piece| &piece[..]).chain((!tail.is_empty()).then_some(tail));
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            used += 1;
        }
        used
    }

    /// Drops the first `written` bytes.
    pub fn advance(&mut self, mut written: usize) {
        debug_assert!(written <= self.len);
        self.len -= written;
        while let Some(piece) = self.pieces.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
        self.tail_written += written;
        if self.tail_written == self.tail.len() {
            self.tail.clear();
            self.tail_written = 0;
            if self.tail.capacity() > KEPT_BYTES_MAX {
                self.tail = Vec::new();
            }
        }
    }
}
