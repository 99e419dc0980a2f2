//! Lists of CPU tensors as Python pickles, read without executing anything (`spec/wire.md 4`).
//!
//! A pickle is a program. The reader here runs a small part of the language with three constructors that only
//! build data, refuses every other instruction and name, and borrows tensor bytes from the input. The writer
//! produces the same form from shapes and bytes.

mod error;
mod limits;
mod ops;
mod reader;
mod storage;
mod tensor;
mod writer;

pub use error::PickleError;
pub use limits::TENSORS_MAX;
pub use reader::read_tensors;
pub use tensor::PickledTensor;
pub use writer::{Piece, TensorSpec, write_tensors};
