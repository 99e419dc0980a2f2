//! Values of `server_module_call` (`spec/wire.md 3.2`).

use crate::error::ValueError;
use crate::msgpack::{Reader, Writer, required, set};

/// A call of a server-side extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleCall<'a> {
    /// Method, usually `module.name`.
    pub method: &'a str,
    /// Bytes for the method.
    pub payload: &'a [u8],
}

impl<'a> ModuleCall<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut method = None;
        let mut payload = None;
        reader.fields(|name, value| match name {
            "method" => set(&mut method, value.str()),
            "payload" => set(&mut payload, value.bin()),
            _ => Ok(false),
        })?;
        Ok(Self { method: required("method", method)?, payload: required("payload", payload)? })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(2);
        writer.field("method", |w| w.str(self.method));
        writer.field("payload", |w| w.bin(self.payload));
    }
}

/// What the extension answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleCallResult<'a> {
    /// Whether the call worked.
    pub success: bool,
    /// Bytes from the method.
    pub payload: &'a [u8],
    /// What went wrong, empty on success.
    pub error: &'a str,
}

impl<'a> ModuleCallResult<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut success = None;
        let mut payload = None;
        let mut error = None;
        reader.fields(|name, value| match name {
            "success" => set(&mut success, value.bool()),
            "payload" => set(&mut payload, value.bin()),
            "error" => set(&mut error, value.str()),
            _ => Ok(false),
        })?;
        Ok(Self {
            success: required("success", success)?,
            payload: payload.unwrap_or_default(),
            error: error.unwrap_or_default(),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(3);
        writer.field("success", |w| w.bool(self.success));
        writer.field("payload", |w| w.bin(self.payload));
        writer.field("error", |w| w.str(self.error));
    }
}
