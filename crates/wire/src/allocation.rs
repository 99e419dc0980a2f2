//! Reports of engine block allocations (`spec/wire.md 3.2`).

use crate::error::ValueError;
use crate::ids::{IdArray, TokenIds};
use crate::msgpack::{Reader, Writer, required, set};
use crate::name;

/// Blocks newly allocated to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocationRecord<'a> {
    /// The request.
    pub request_id: &'a str,
    /// The blocks.
    pub new_block_ids: IdArray<'a>,
    /// The tokens they are for.
    pub new_token_ids: TokenIds<'a>,
}

impl<'a> AllocationRecord<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut request_id = None;
        let mut new_block_ids = None;
        let mut new_token_ids = None;
        reader.fields(|name, value| match name {
            "req_id" => set(&mut request_id, name::request_id(value)),
            "new_block_ids" => set(&mut new_block_ids, IdArray::read(value)),
            "new_token_ids" => set(&mut new_token_ids, IdArray::read(value)),
            _ => Ok(false),
        })?;
        Ok(Self {
            request_id: required("req_id", request_id)?,
            new_block_ids: required("new_block_ids", new_block_ids)?,
            new_token_ids: required("new_token_ids", new_token_ids)?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(3);
        writer.field("req_id", |w| w.str(self.request_id));
        writer.field("new_block_ids", |w| self.new_block_ids.write(w));
        writer.field("new_token_ids", |w| self.new_token_ids.write(w));
    }
}
