//! How a tensor lies in its storage.

use larder_core::dtype::Dtype;

use crate::error::{ValueError, invalid};
use crate::limits;
use crate::msgpack::{Reader, Writer, required, set};
use crate::text::quoted;

/// A view into a storage (`spec/wire.md 3.3`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMetadata<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Elements per dimension.
    pub shape: Vec<u64>,
    /// Elements between neighbours, per dimension; as many as `shape`.
    pub stride: Vec<u64>,
    /// Elements before the first.
    pub storage_offset: u64,
    /// The device, `cpu` for host memory.
    pub device_uuid: &'a str,
}

impl<'a> TensorMetadata<'a> {
    /// Bytes from the start of the storage to the end of the view; 0 for a view without elements.
    #[must_use]
    pub fn byte_span(&self) -> u128 {
        view_span(&self.shape, &self.stride, self.storage_offset) * u128::from(self.dtype.item_bytes())
    }

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut dtype = None;
        let mut shape = None;
        let mut stride = None;
        let mut storage_offset = None;
        let mut device_uuid = None;
        reader.fields_strict(|name, value| match name {
            "dtype" => set(&mut dtype, read_dtype(value)),
            "shape" => set(&mut shape, value.list(limits::TENSOR_RANK_MAX, Reader::int_as)),
            "stride" => set(&mut stride, value.list(limits::TENSOR_RANK_MAX, Reader::int_as)),
            "storage_offset" => set(&mut storage_offset, value.int_as()),
            "device_uuid" => set(&mut device_uuid, value.str()),
            _ => Ok(false),
        })?;
        let metadata = Self {
            dtype: required("dtype", dtype)?,
            shape: required("shape", shape)?,
            stride: required("stride", stride)?,
            storage_offset: required("storage_offset", storage_offset)?,
            device_uuid: required("device_uuid", device_uuid)?,
        };
        let (shape, stride) = (metadata.shape.len(), metadata.stride.len());
        if shape != stride {
            return Err(invalid(format!("shape has `{shape}` dimensions but stride has `{stride}`")));
        }
        Ok(metadata)
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(5);
        writer.field("dtype", |w| w.str(self.dtype.name()));
        writer.field("shape", |w| w.list(&self.shape, |w, size| w.uint(*size)));
        writer.field("stride", |w| w.list(&self.stride, |w, step| w.uint(*step)));
        writer.field("storage_offset", |w| w.uint(self.storage_offset));
        writer.field("device_uuid", |w| w.str(self.device_uuid));
    }
}

fn read_dtype(reader: &mut Reader<'_>) -> Result<Dtype, ValueError> {
    let name = reader.str()?;
    Dtype::from_name(name).ok_or_else(|| invalid(format!("unknown element type `{}`", quoted(name))))
}

/// Elements from the start of the storage to the end of a view. Saturates: no sum of 64-bit products of the
/// allowed rank overflows 128 bits by more than that.
pub(crate) fn view_span(shape: &[u64], stride: &[u64], storage_offset: u64) -> u128 {
    if shape.contains(&0) {
        return 0;
    }
    let last = shape.iter().zip(stride).map(|(size, step)| u128::from(size - 1) * u128::from(*step));
    // Bounded to 2^100 so that multiplying by an element size cannot overflow.
    last.fold(u128::from(storage_offset) + 1, |sum, term| sum.saturating_add(term).min(1 << 100))
}
