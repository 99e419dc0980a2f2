//! What can be wrong with bytes from a peer, in terms callers tell apart and people can read.

use std::fmt;

use thiserror::Error;

use crate::operation::Operation;
use crate::text::quoted;

/// Why a message, a payload or a result could not be turned into a value (or the reverse).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The operation frame is well formed but names nothing this protocol has.
    #[error("unknown operation `{operation}`")]
    UnknownOperation {
        /// The number or (shortened) name the peer sent.
        operation: String,
    },
    /// The operation frame is neither a MessagePack integer nor a string.
    #[error("operation frame: {source}")]
    OperationFrame {
        /// What is wrong with it.
        source: ValueError,
    },
    /// The message has too few frames to carry an operation.
    #[error("message has `{got}` frames, expected at least 2")]
    FrameCount {
        /// Frames received.
        got: usize,
    },
    /// A control message of a stream is not one of the known words.
    #[error("unknown stream control word")]
    UnknownControl,
    /// An operation was sent with the wrong number of payload frames.
    #[error("{operation}: expected {expected} payload frames, got {got}")]
    PayloadCount {
        /// The operation.
        operation: Operation,
        /// Frames the operation declares.
        expected: usize,
        /// Frames received.
        got: usize,
    },
    /// One payload frame does not decode.
    #[error("{operation}: payload {index}: {source}")]
    Payload {
        /// The operation.
        operation: Operation,
        /// Which payload, counted from 0.
        index: usize,
        /// What is wrong and where.
        source: ValueError,
    },
    /// The result frame of a response does not decode, or is absent where it must not be.
    #[error("{operation}: result: {source}")]
    Result {
        /// The operation.
        operation: Operation,
        /// What is wrong and where.
        source: ValueError,
    },
    /// The other side refused the operation with the fail-fast reply
    /// ([`crate::reply::ERROR_OPERATION_FRAME`]).
    #[error("{operation}: refused by the server: {reason}")]
    Refused {
        /// The operation that was refused.
        operation: Operation,
        /// The server's text.
        reason: String,
    },
    /// A response answers another operation than the one asked.
    #[error("{operation}: response names another operation")]
    WrongOperation {
        /// The operation that was asked.
        operation: Operation,
    },
    /// A value is longer than MessagePack can express (2^32 - 1 bytes or elements).
    #[error("value of `{length}` bytes or elements does not fit a message")]
    TooLarge {
        /// The length asked for.
        length: usize,
    },
}

impl WireError {
    /// The fault inside one value, if this error is about a value.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::OperationFrame { source } | Self::Payload { source, .. } | Self::Result { source, .. } => {
                Some(source.fault())
            }
            _ => None,
        }
    }
}

/// A fault inside one MessagePack value, with the path to it.
#[derive(Clone, PartialEq, Eq)]
pub struct ValueError(Box<Located>);

#[derive(Clone, PartialEq, Eq)]
struct Located {
    fault: Fault,
    /// Innermost step first: steps are added while the error travels outwards.
    path: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

/// What is wrong with one value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The bytes end inside a value.
    #[error("message ends inside a value")]
    Truncated,
    /// Bytes follow a complete value.
    #[error("`{count}` bytes follow the value")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// The value has another type.
    #[error("expected {expected}, got {got}")]
    WrongType {
        /// Accepted type.
        expected: &'static str,
        /// Type found.
        got: &'static str,
    },
    /// A number is outside the accepted range.
    #[error("`{value}` is out of range, expected {accepted}")]
    OutOfRange {
        /// The number found.
        value: String,
        /// The accepted range in words.
        accepted: &'static str,
    },
    /// An array has a fixed length and this one differs.
    #[error("expected array of length {expected}, got {got}")]
    WrongLength {
        /// Accepted length.
        expected: usize,
        /// Length found.
        got: usize,
    },
    /// A required map key is absent.
    #[error("missing field `{field}`")]
    MissingField {
        /// The key.
        field: &'static str,
    },
    /// A map key came twice.
    #[error("the field came twice")]
    RepeatedField,
    /// A map key is not known where unknown keys are refused.
    #[error("unknown field `{field}`")]
    UnknownField {
        /// The (shortened) key.
        field: String,
    },
    /// Values are nested deeper than the limit.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A list has more elements than the limit.
    #[error("more than {limit} elements")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// A string has more bytes than the limit.
    #[error("`{length}` bytes, expected at most {limit}")]
    TooLong {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A string is not UTF-8.
    #[error("string is not UTF-8")]
    NotUtf8,
    /// The one tag MessagePack never uses (`c1`).
    #[error("reserved tag `c1`")]
    ReservedTag,
    /// A result frame is absent where the operation must have one, or present where it must not.
    #[error("expected {expected}, got {got}")]
    Presence {
        /// What the operation requires.
        expected: &'static str,
        /// What was found.
        got: &'static str,
    },
    /// The value decodes but breaks a rule of its type.
    #[error("{0}")]
    Invalid(String),
}

impl Fault {
    /// The fault as an error without a path yet.
    pub(crate) fn here(self) -> ValueError {
        ValueError(Box::new(Located { fault: self, path: Vec::new() }))
    }
}

/// Rule violation with a text for people.
pub(crate) fn invalid(reason: impl Into<String>) -> ValueError {
    Fault::Invalid(reason.into()).here()
}

impl ValueError {
    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> &Fault {
        &self.0.fault
    }

    pub(crate) fn in_field(mut self, name: &str) -> Self {
        self.0.path.push(Step::Field(quoted(name)));
        self
    }

    pub(crate) fn at_index(mut self, index: usize) -> Self {
        self.0.path.push(Step::Index(index));
        self
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.path.is_empty() {
            f.write_str("field `")?;
            for (position, step) in self.0.path.iter().rev().enumerate() {
                match step {
                    Step::Field(name) if position == 0 => f.write_str(name)?,
                    Step::Field(name) => write!(f, ".{name}")?,
                    Step::Index(index) => write!(f, "[{index}]")?,
                }
            }
            f.write_str("`: ")?;
        }
        self.0.fault.fmt(f)
    }
}

impl fmt::Debug for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueError({self})")
    }
}

impl std::error::Error for ValueError {}
