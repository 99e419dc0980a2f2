//! Descriptors of engine tensors that another process can map (`spec/mp-protocol.md 3.6`).

use crate::error::ValueError;
use crate::msgpack::{Reader, Writer};

/// Extension type of a descriptor.
const EXT_CODE: i8 = 1;

/// One tensor of an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorDescriptor<'a> {
    raw: &'a [u8],
}

impl<'a> TensorDescriptor<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let (_, raw) = reader.ext()?;
        Ok(Self { raw })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.ext(EXT_CODE, self.raw);
    }
}
