//! What an operation comes to: an answer, or what has to happen before there is one.

use std::time::Duration;

use larder_engine::EngineError;

use super::answer::Answer;

/// What became of a request.
pub(super) enum Outcome {
    /// It is answered.
    Now(Answer),
    /// It is answered when this work is done, which is too long for the RPC thread.
    Job(Job),
    /// It opens a stream.
    Subscribed(Subscription),
    /// It is answered when the lookup of this request is, or after so long with nothing.
    WaitForLookup(Box<str>, Duration),
    /// The pool is still being prepared and has no room yet: to be asked again when it has grown.
    RoomIsComing,
    /// Handling it failed by a defect of the server.
    Panicked,
}

/// Work that is too long for the RPC thread.
pub(super) struct Job {
    /// What it does.
    pub(super) work: Box<dyn FnOnce() -> Answer + Send>,
    /// Whether its answer carries chunks, so that there has to be room for it before it is made.
    pub(super) answers_with_chunks: bool,
}

/// A subscription to KV events.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The subscriber; it has one stream at a time.
    pub(super) instance_id: i64,
    /// The model it wants to hear about.
    pub(super) model_name: Box<str>,
    /// The last position it has seen.
    pub(super) cursor: u64,
    /// Most events per batch.
    pub(super) max_events: usize,
}

/// Why a request is not done.
pub(super) enum Refusal {
    /// The engine says no.
    Engine(EngineError),
    /// The operation belongs to a part this server does not have.
    Unsupported(&'static str),
    /// An argument is out of range.
    Argument(String),
    /// The request does not decode, or the answer does not encode.
    Wire(larder_wire::WireError),
}

impl<E: Into<EngineError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}
