//! Messages around requests and responses: what a request message holds, stream control, and the fail-fast
//! reply.

use crate::error::WireError;
use crate::msgpack::{Reader, Writer};
use crate::operation::Operation;
use crate::response::Response;

/// The operation frame of a reply that refuses a request: the string `error`.
///
/// The protocol has no error reply. A three-frame message whose operation is not the one asked makes an
/// unmodified client raise at once instead of waiting for its timeout (`spec/wire.md 1.1`); the third
/// frame is text for clients of ours.
pub const ERROR_OPERATION_FRAME: &[u8] = b"\xa5error";

/// Longest reason sent, in bytes; the rest is cut off.
const REASON_BYTES_MAX: usize = 1024;

/// The frames after the uid of a reply that refuses a request.
#[must_use]
pub fn error_reply(reason: &str) -> [Vec<u8>; 2] {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let mut body = Vec::new();
    Writer::new(&mut body).str(reason);
    [ERROR_OPERATION_FRAME.to_vec(), body]
}

/// Reads a response to `asked` as a client does, from its operation frame and result frame.
///
/// # Errors
/// [`WireError::Refused`] for an error reply, [`WireError::WrongOperation`] for any other operation than the
/// one asked, and [`WireError::Result`].
pub fn decode_reply<'a>(
    asked: Operation,
    operation_frame: &[u8],
    body: Option<&'a [u8]>,
) -> Result<Response<'a>, WireError> {
    if operation_frame == ERROR_OPERATION_FRAME {
        let reason = body.and_then(|body| Reader::document(body, Reader::str).ok()).unwrap_or_default();
        return Err(WireError::Refused { operation: asked, reason: reason.to_owned() });
    }
    match Operation::from_frame(operation_frame) {
        Ok(operation) if operation == asked => Response::decode(asked, body),
        _ => Err(WireError::WrongOperation { operation: asked }),
    }
}

/// A message from a client, by its frames after the identity (`spec/wire.md 1`, `1.2`).
#[derive(Clone, Copy, Debug)]
pub enum Incoming<'a, T> {
    /// A request. The operation frame is to be echoed as it is.
    Request {
        /// Opaque, echoed.
        uid: &'a [u8],
        /// Names the operation; echoed.
        operation_frame: &'a [u8],
        /// Payload frames.
        payloads: &'a [T],
    },
    /// A word about a running stream.
    Control {
        /// The uid of the request that opened the stream.
        uid: &'a [u8],
        /// The word.
        control: StreamControl,
    },
}

/// What a client says about a stream it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamControl {
    /// It took a batch: one more may be sent. A flag, not a counter.
    Ack,
    /// It wants no more.
    Cancel,
}

impl StreamControl {
    /// The word, raw ASCII.
    #[must_use]
    pub fn word(self) -> &'static [u8] {
        match self {
            Self::Ack => b"ack",
            Self::Cancel => b"cancel",
        }
    }
}

impl<'a, T: AsRef<[u8]>> Incoming<'a, T> {
    /// Sorts out the frames of a message.
    ///
    /// # Errors
    /// [`WireError::FrameCount`] for fewer than two frames, [`WireError::UnknownControl`].
    pub fn parse(frames: &'a [T]) -> Result<Self, WireError> {
        let [uid, operation_frame, payloads @ ..] = frames else {
            return Err(WireError::FrameCount { got: frames.len() });
        };
        let (uid, operation_frame) = (uid.as_ref(), operation_frame.as_ref());
        if !operation_frame.is_empty() {
            return Ok(Self::Request { uid, operation_frame, payloads });
        }
        let [word] = payloads else { return Err(WireError::UnknownControl) };
        [StreamControl::Ack, StreamControl::Cancel]
            .into_iter()
            .find(|control| control.word() == word.as_ref())
            .map(|control| Self::Control { uid, control })
            .ok_or(WireError::UnknownControl)
    }
}
