//! How a request is answered on the wire (`spec/mp-protocol.md` 1).

use bytes::Bytes;
use larder_wire::{Response, WireError};
use larder_zmtp::Permit;

/// What an operation came to.
#[derive(Debug)]
pub(super) enum Answer {
    /// Done, nothing to say: two frames.
    Done,
    /// An encoded result: three frames.
    Body(Bytes),
    /// It could not be done and the operation has no result that says so. The text is for the client's log.
    Refused(String),
}

impl Answer {
    /// The answer with this result.
    pub(super) fn encode(response: &Response<'_>) -> Result<Self, WireError> {
        // Exactly as long as it is, a buffer needs no count of who else has it.
        Ok(response.encode()?.map_or(Self::Done, |body| Self::Body(body.into_boxed_slice().into())))
    }

    /// The same where failing to encode is just another refusal.
    pub(super) fn of(response: &Response<'_>) -> Self {
        Self::encode(response).unwrap_or_else(|error| Self::Refused(error.to_string()))
    }
}

/// The two frames a client recognises its answer by.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    /// Request uid, echoed and never looked at.
    pub(super) uid: Bytes,
    /// Operation frame, echoed.
    pub(super) operation: Bytes,
}

impl Ticket {
    /// Sends the answer. A peer that is gone needs none.
    pub(super) fn reply(self, permit: Permit, answer: Answer) {
        let sent = match answer {
            Answer::Done => permit.reply([self.uid, self.operation]),
            Answer::Body(body) => permit.reply([self.uid, self.operation, body]),
            Answer::Refused(text) => {
                let [operation, body] = larder_wire::reply::error_reply(&text).map(Bytes::from);
                permit.reply([self.uid, operation, body])
            }
        };
        _ = sent;
    }
}
