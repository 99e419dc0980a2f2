//! Why a pickle was refused.

use larder_core::dtype::Dtype;
use thiserror::Error;

use crate::text::quoted;

/// Why a pickle is not a list of CPU tensors, or a tensor does not fit its destination.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PickleError {
    /// The bytes end inside an instruction.
    #[error("pickle ends early")]
    Truncated,
    /// Bytes follow the end of the program.
    #[error("`{count}` bytes follow the pickle")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// An instruction that a list of tensors does not need.
    #[error("instruction `{opcode:#04x}` at byte `{position}` is not allowed")]
    Opcode {
        /// The instruction.
        opcode: u8,
        /// Where it stands.
        position: usize,
    },
    /// A pickle protocol other than 3, 4 and 5.
    #[error("pickle protocol `{protocol}` is not supported, expected 3, 4 or 5")]
    Protocol {
        /// The protocol named.
        protocol: u8,
    },
    /// A name outside the allowed ones. Whoever sent it may have meant it to be executed.
    #[error("name `{name}` is not allowed")]
    Global {
        /// Module and name, shortened.
        name: String,
    },
    /// The program is made of allowed parts that do not form a list of tensors.
    #[error("not a list of tensors: {0}")]
    Structure(&'static str),
    /// A size limit was exceeded.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A tensor's bytes are not in the form torch writes.
    #[error("tensor storage: {0}")]
    Storage(&'static str),
    /// A tensor reaches outside its storage.
    #[error("tensor ends at byte `{end}` of a storage of `{length}` bytes")]
    OutsideStorage {
        /// Byte after the last of the view.
        end: u128,
        /// Bytes in the storage.
        length: usize,
    },
    /// A tensor has another element type than its destination.
    #[error("tensor has element type `{got}`, expected `{expected}`")]
    WrongDtype {
        /// Of the destination.
        expected: Dtype,
        /// Of the tensor.
        got: Dtype,
    },
    /// A tensor has another size than its destination.
    #[error("tensor has `{got}` bytes, expected `{expected}`")]
    WrongLength {
        /// Bytes of the destination.
        expected: usize,
        /// Bytes of the tensor.
        got: u128,
    },
    /// An element type that has no pickled form here.
    #[error("element type `{0}` cannot be pickled")]
    UnsupportedDtype(Dtype),
}

impl PickleError {
    /// For a name outside the allowed ones.
    pub(super) fn refused(module: &str, name: &str) -> Self {
        Self::Global { name: quoted(&format!("{module}.{name}")) }
    }
}
