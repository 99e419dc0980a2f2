//! The MessagePack reader and writer everything else in this crate is written with.

mod reader;
mod writer;

pub(crate) use reader::{Family, Opaque, Reader, narrow, required, set};
pub(crate) use writer::Writer;
