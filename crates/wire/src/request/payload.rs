//! The payload frames of one request, taken in order.

use crate::error::{Fault, ValueError, WireError};
use crate::key::{CacheKey, KnownIds};
use crate::msgpack::{Family, Reader, narrow};
use crate::operation::Operation;

/// Takes payloads one after the other; errors name the operation and the payload.
pub(super) struct Payloads<'a, 'f, T> {
    operation: Operation,
    frames: &'a [T],
    next: usize,
    known: KnownIds<'f, 'a>,
}

impl<'a, 'f, T: AsRef<[u8]>> Payloads<'a, 'f, T> {
    pub(super) fn new(
        operation: Operation,
        frames: &'a [T],
        known: KnownIds<'f, 'a>,
    ) -> Result<Self, WireError> {
        let (expected, got) = (operation.payload_count(), frames.len());
        if expected != got {
            return Err(WireError::PayloadCount { operation, expected, got });
        }
        Ok(Self { operation, frames, next: 0, known })
    }

    /// Reads the next payload, which `read` must consume wholly.
    pub(super) fn read<V>(
        &mut self,
        read: impl FnOnce(&mut Reader<'a>) -> Result<V, ValueError>,
    ) -> Result<V, WireError> {
        let (operation, index) = (self.operation, self.next);
        self.next += 1;
        // The count was checked; an absent frame reads as a truncated one.
        let frame = self.frames.get(index).map(AsRef::as_ref).unwrap_or_default();
        Reader::document(frame, read).map_err(|source| WireError::Payload { operation, index, source })
    }

    pub(super) fn key(&mut self) -> Result<CacheKey<'a>, WireError> {
        let (operation, index) = (self.operation, self.next);
        self.next += 1;
        let frame = self.frames.get(index).map(AsRef::as_ref).unwrap_or_default();
        CacheKey::decode_with(frame, self.known).map_err(|source| WireError::Payload {
            operation,
            index,
            source,
        })
    }

    /// A payload declared `int`: lenient.
    pub(super) fn int(&mut self) -> Result<i64, WireError> {
        self.read(lenient_int)
    }

    /// A payload declared `bool`: lenient.
    pub(super) fn bool(&mut self) -> Result<bool, WireError> {
        self.read(lenient_bool)
    }

    pub(super) fn bin(&mut self) -> Result<&'a [u8], WireError> {
        self.read(Reader::bin)
    }
}

/// Payload frames declared exactly `int` or `bool` are coerced by the peer instead of checked
/// (`spec/wire.md 3`). Numbers that mean one integer are taken; strings and fractions, which the
/// peer also takes, are refused.
pub(super) fn lenient_int(reader: &mut Reader<'_>) -> Result<i64, ValueError> {
    match reader.family()? {
        Family::Bool => reader.bool().map(i64::from),
        Family::Float => {
            let value = reader.float()?;
            integral(value).ok_or_else(|| {
                Fault::OutOfRange { value: value.to_string(), accepted: "a signed 64-bit integer" }.here()
            })
        }
        _ => narrow(reader.int()?),
    }
}

/// The integer that a float is. Between -2^63 and 2^63 exclusive every integral one converts exactly.
#[expect(clippy::cast_possible_truncation, reason = "it has no fraction, and its range is checked")]
fn integral(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() < 9_223_372_036_854_775_808.0).then_some(value as i64)
}

/// See [`lenient_int`]; nil is false.
pub(super) fn lenient_bool(reader: &mut Reader<'_>) -> Result<bool, ValueError> {
    match reader.family()? {
        Family::Nil => reader.nil().map(|_| false),
        Family::Int => reader.int().map(|value| value != 0),
        Family::Float => reader.float().map(|value| value != 0.0),
        _ => reader.bool(),
    }
}
