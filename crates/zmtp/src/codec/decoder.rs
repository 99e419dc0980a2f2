//! Frames out of a byte stream, joined into messages.

use bytes::buf::Limit;
use bytes::{BufMut, Bytes};

use super::frame::{FrameHeader, HEADER_BYTES_MAX};
use crate::error::{Error, LimitKind, Result};

/// Memory taken for a frame whose payload has not arrived yet; doubled as it arrives.
const PAYLOAD_START_BYTES: usize = 64 << 10;

/// Of a frame that has so much, all of the rest is reserved at once: what is not written to is address space,
/// not memory, and a buffer that keeps growing is copied from one place to the next by the thread that serves
/// others.
const PAYLOAD_GROWN_BYTES: usize = 1 << 20;

/// Most bytes read into place at a time, the rest later: a large message must not hold up the thread that
/// serves others.
const READ_BYTES_MAX: usize = 256 << 10;

/// What one part costs beside its bytes, so that many tiny parts are not free.
const PART_OVERHEAD_BYTES: u64 = 64;

/// The limits on frames and messages; see the fields of [`Limits`](crate::Limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented at `Limits`")]
pub struct FrameLimits {
    pub frame_bytes_max: u64,
    pub message_bytes_max: u64,
    pub dropped_bytes_max: u64,
    pub parts_max: usize,
    pub command_bytes_max: u64,
}

/// What a peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole message.
    Message {
        /// Its parts, at least one unless some were dropped.
        parts: Vec<Bytes>,
        /// Memory the parts take: their bytes and a fixed amount for each.
        cost_bytes: usize,
        /// Bytes of the parts that were read past because the message is too large to keep; they are the last
        /// ones.
        dropped_bytes: u64,
    },
    /// The payload of a command frame; see [`Command::parse`](super::Command::parse).
    Command(Bytes),
}

/// An incremental decoder. It owns the unfinished message and never writes to more memory than twice what
/// arrived (and 64 KiB), whatever a header declares. After an error the stream is lost and the decoder must
/// not be used again.
#[derive(Debug)]
pub struct Decoder {
    limits: FrameLimits,
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    body: Option<Body>,
    parts: Vec<Bytes>,
    /// Declared bytes of the finished parts and of the one in progress, as far as they are kept.
    message_bytes: u64,
    /// Declared bytes of the parts that are not kept.
    dropped_bytes: u64,
    /// The frame being read past: its header, and what of its payload is still to come.
    skipped: Option<(FrameHeader, u64)>,
}

/// A frame whose header is known and whose payload is not complete.
#[derive(Debug)]
struct Body {
    header: FrameHeader,
    payload: Vec<u8>,
}

impl Body {
    fn missing(&self) -> usize {
        self.header.kept_len() - self.payload.len()
    }

    /// Makes room in proportion to what has arrived, and exactly for the rest once that is much.
    fn grow(&mut self) {
        let (len, missing) = (self.payload.len(), self.missing());
        if len < self.payload.capacity() {
            return;
        }
        // Where address space is limited, the rest may not be had at once.
        if len < PAYLOAD_GROWN_BYTES || self.payload.try_reserve_exact(missing).is_err() {
            self.payload.reserve_exact(len.max(PAYLOAD_START_BYTES).min(missing));
        }
    }
}

impl Decoder {
    /// A decoder at the start of a frame.
    #[must_use]
    pub fn new(limits: FrameLimits) -> Self {
        Self {
            limits,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            body: None,
            parts: Vec::new(),
            message_bytes: 0,
            dropped_bytes: 0,
            skipped: None,
        }
    }

    /// Takes bytes from `input` until something is complete. `None` means that all of `input` is consumed.
    ///
    /// # Errors
    ///
    /// A violation of the protocol or of a limit.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Event>> {
        loop {
            if let Some((header, missing)) = self.skipped {
                let take = usize::try_from(missing).unwrap_or(usize::MAX).min(input.len());
                *input = &input[take..];
                let missing = missing - take as u64;
                self.skipped = (missing > 0).then_some((header, missing));
                if missing > 0 {
                    return Ok(None);
                }
                if let Some(event) = self.end_part(header) {
                    return Ok(Some(event));
                }
            } else if let Some(body) = &mut self.body {
                while body.missing() > 0 && !input.is_empty() {
                    body.grow();
                    let room = body.payload.capacity() - body.payload.len();
                    let take = room.min(body.missing()).min(input.len());
                    let (taken, rest) = input.split_at(take);
                    body.payload.extend_from_slice(taken);
                    *input = rest;
                }
                if body.missing() > 0 {
                    return Ok(None);
                }
                if let Some(body) = self.body.take()
                    && let Some(event) = self.finish(body.header, Bytes::from(body.payload))
                {
                    return Ok(Some(event));
                }
            } else {
                let Some(header) = self.take_header(input)? else { return Ok(None) };
                if !self.keeps(header)? {
                    self.skipped = Some((header, header.len));
                    continue;
                }
                match input.split_at_checked(header.kept_len()) {
                    Some((payload, rest)) => {
                        *input = rest;
                        if let Some(event) = self.finish(header, Bytes::copy_from_slice(payload)) {
                            return Ok(Some(event));
                        }
                    }
                    None => self.body = Some(Body { header, payload: Vec::new() }),
                }
            }
        }
    }

    /// Memory held for the unfinished message or command: bytes which arrived, and a fixed amount for each
    /// part.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        let arrived = match &self.body {
            // A command's bytes are not among those of the message.
            Some(body) if body.header.command => self.message_bytes + body.payload.len() as u64,
            Some(body) => self.message_bytes - body.missing() as u64,
            None => self.message_bytes,
        };
        arrived + self.parts.len() as u64 * PART_OVERHEAD_BYTES
    }

    /// [`Decoder::pending_bytes`] as budgets count it: it is memory, so it fits.
    pub(crate) fn held_bytes(&self) -> usize {
        usize::try_from(self.pending_bytes()).unwrap_or(usize::MAX)
    }

    /// Whether a frame or message has begun and not ended.
    #[must_use]
    pub fn in_message(&self) -> bool {
        self.header_len > 0 || self.body.is_some() || self.skipped.is_some() || self.has_parts()
    }

    /// Bytes which the frame in progress still lacks; 0 when its header is not complete.
    pub fn missing_bytes(&self) -> usize {
        self.body.as_ref().map_or(0, Body::missing)
    }

    /// Where the next bytes of the frame in progress belong, so that they can be read straight into place.
    /// Never longer than the frame, nor than what one read may take. After filling it call
    /// [`Decoder::decode`], with no input if need be.
    pub fn payload_mut(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        let body = self.body.as_mut().filter(|body| body.missing() > 0)?;
        body.grow();
        let room = (body.payload.capacity() - body.payload.len()).min(body.missing()).min(READ_BYTES_MAX);
        Some((&mut body.payload).limit(room))
    }

    /// Completes the header from `input` and checks what it declares.
    fn take_header(&mut self, input: &mut &[u8]) -> Result<Option<FrameHeader>> {
        let header = if self.header_len == 0
            && let Some((header, size)) = FrameHeader::parse(input)?
        {
            *input = &input[size..];
            header
        } else {
            loop {
                let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
                *input = rest;
                self.header[self.header_len] = byte;
                self.header_len += 1;
                if let Some((header, _)) = FrameHeader::parse(&self.header[..self.header_len])? {
                    self.header_len = 0;
                    break header;
                }
            }
        };
        Ok(Some(header))
    }

    /// Checks what a header declares, and whether the frame is kept or read past: once one is not, none after
    /// it is.
    fn keeps(&mut self, header: FrameHeader) -> Result<bool> {
        let limits = &self.limits;
        let message_bytes = self.message_bytes.saturating_add(header.len);
        let fits = header.len <= limits.frame_bytes_max && message_bytes <= limits.message_bytes_max;
        let is_usual = fits && !header.command && self.dropped_bytes == 0;
        if is_usual && self.parts.len() < limits.parts_max {
            self.message_bytes = message_bytes;
            return Ok(true);
        }
        self.keeps_unusual(header)
    }

    /// The same for commands, and for what is at a limit or beyond.
    #[cold]
    fn keeps_unusual(&mut self, header: FrameHeader) -> Result<bool> {
        let within = |limit, value, max| {
            if value > max { Err(Error::Limit { limit, value, max }) } else { Ok(()) }
        };
        let limits = &self.limits;
        if header.command {
            within(LimitKind::CommandBytes, header.len, limits.command_bytes_max)?;
            return Ok(true);
        }
        within(LimitKind::Parts, self.parts.len() as u64 + 1, limits.parts_max as u64)?;
        let most = |kept: u64| kept.max(limits.dropped_bytes_max);
        within(LimitKind::FrameBytes, header.len, most(limits.frame_bytes_max))?;
        // A part without bytes counts as one, so that their number is bounded as well.
        self.dropped_bytes = self.dropped_bytes.saturating_add(header.len.max(1));
        let whole = self.message_bytes.saturating_add(self.dropped_bytes);
        within(LimitKind::MessageBytes, whole, most(limits.message_bytes_max))?;
        Ok(false)
    }

    /// A frame is complete: a command, the last part of a message, or one more part.
    fn finish(&mut self, header: FrameHeader, payload: Bytes) -> Option<Event> {
        if header.command {
            return Some(Event::Command(payload));
        }
        if self.parts.is_empty() {
            self.parts.reserve(4);
        }
        self.parts.push(payload);
        self.end_part(header)
    }

    /// A part of a message is over; the message is too unless more follows.
    fn end_part(&mut self, header: FrameHeader) -> Option<Event> {
        if header.more {
            return None;
        }
        let cost_bytes = self.held_bytes();
        self.message_bytes = 0;
        let dropped_bytes = std::mem::take(&mut self.dropped_bytes);
        Some(Event::Message { parts: std::mem::take(&mut self.parts), cost_bytes, dropped_bytes })
    }

    /// Whether parts of an unfinished message are over.
    fn has_parts(&self) -> bool {
        !self.parts.is_empty() || self.dropped_bytes > 0
    }
}
