//! The frame that names an operation, both ways.

use crate::error::WireError;
use crate::msgpack::{Family, Reader, Writer};
use crate::operation::Operation;
use crate::text::quoted;

impl Operation {
    /// Reads an operation frame: an integer of any width or a string (`spec/wire.md 1`).
    ///
    /// # Errors
    /// [`WireError::OperationFrame`] for anything else, [`WireError::UnknownOperation`] for a number or name
    /// that is not in the table.
    pub fn from_frame(frame: &[u8]) -> Result<Self, WireError> {
        let malformed = |source| WireError::OperationFrame { source };
        let family = Reader::new(frame).family().map_err(malformed)?;
        if family == Family::Str {
            let name = Reader::document(frame, Reader::str).map_err(malformed)?;
            return Self::from_name(name)
                .ok_or_else(|| WireError::UnknownOperation { operation: quoted(name) });
        }
        let id = Reader::document(frame, Reader::int).map_err(malformed)?;
        Self::from_id(id).ok_or_else(|| WireError::UnknownOperation { operation: id.to_string() })
    }

    /// The frame an unmodified client sends: the number where there is one, else the name.
    #[must_use]
    pub fn to_frame(self) -> Vec<u8> {
        let mut frame = Vec::new();
        let mut writer = Writer::new(&mut frame);
        match self.legacy_id() {
            Some(id) => writer.uint(u64::from(id)),
            None => writer.str(self.name()),
        }
        frame
    }
}
