//! Reading descriptors. Unknown keys are errors at every level; the tag may come last.

use super::descriptor::{
    CpuShmTensor, CudaTensor, MusaTensor, NpuPlane, NpuTensor, RawCudaTensor, TensorDescriptor, VmmCudaTensor,
};
use super::metadata::TensorMetadata;
use super::write::EXT_CODE;
use crate::error::{Fault, ValueError, invalid};
use crate::limits;
use crate::msgpack::{Family, Opaque, Reader, required, set};
use crate::text::quoted;

impl<'a> TensorDescriptor<'a> {
    /// Decodes the data of an extension value of type 1: one map.
    ///
    /// # Errors
    /// Whatever breaks the rules of the tag.
    pub fn decode(data: &'a [u8]) -> Result<Self, ValueError> {
        // The tag decides what the other fields mean, so it is looked for first.
        let tag = Reader::document(data, read_tag)?;
        Reader::document(data, |reader| match tag {
            "cpu_shm" => CpuShmTensor::read(reader).map(Self::CpuShm),
            "cuda" => CudaTensor::read(reader).map(Self::Cuda),
            "cuda_raw" => RawCudaTensor::read(reader).map(Self::CudaRaw),
            "cuda_vmm" => VmmCudaTensor::read(reader).map(Self::CudaVmm),
            "musa" => MusaTensor::read(reader).map(Self::Musa),
            "npu" => NpuTensor::read(reader).map(Self::Npu),
            _ => Err(invalid(format!("unknown descriptor tag `{}`", quoted(tag))).in_field("type")),
        })
    }

    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        match reader.ext()? {
            (EXT_CODE, data) => Self::decode(data),
            (code, _) => Err(invalid(format!("extension type `{code}`, expected {EXT_CODE}"))),
        }
    }
}

fn read_tag<'a>(reader: &mut Reader<'a>) -> Result<&'a str, ValueError> {
    let mut tag = None;
    for _ in 0..reader.map()? {
        if reader.str()? == "type" {
            tag = Some(reader.str().map_err(|error| error.in_field("type"))?);
        } else {
            reader.skip()?;
        }
    }
    required("type", tag)
}

/// The fields every descriptor has.
#[derive(Default)]
struct Common<'a> {
    version: Option<()>,
    metadata: Option<TensorMetadata<'a>>,
}

impl<'a> Common<'a> {
    fn read(&mut self, name: &str, value: &mut Reader<'a>) -> Result<bool, ValueError> {
        match name {
            "type" => value.str().map(|_| true),
            "version" => set(&mut self.version, read_version(value)),
            "metadata" => set(&mut self.metadata, TensorMetadata::read(value)),
            _ => Ok(false),
        }
    }

    fn finish(self) -> Result<TensorMetadata<'a>, ValueError> {
        required("version", self.version)?;
        required("metadata", self.metadata)
    }
}

fn read_version(reader: &mut Reader<'_>) -> Result<(), ValueError> {
    match reader.int()? {
        1 => Ok(()),
        version => Err(invalid(format!("descriptor version `{version}`, expected 1"))),
    }
}

/// The view must lie within the `length` bytes that are shared.
fn check_span(metadata: &TensorMetadata<'_>, length: u64) -> Result<(), ValueError> {
    let span = metadata.byte_span();
    if span > u128::from(length) {
        return Err(invalid(format!("tensor ends at byte `{span}` but only `{length}` bytes are shared")));
    }
    Ok(())
}

fn read_fixed<'a, const N: usize>(reader: &mut Reader<'a>) -> Result<&'a [u8; N], ValueError> {
    let bytes = reader.bin()?;
    bytes.try_into().map_err(|_| invalid(format!("handle has `{}` bytes, expected {N}", bytes.len())))
}

impl<'a> CpuShmTensor<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut common = Common::default();
        let mut shm_name = None;
        let mut nbytes = None;
        reader.fields_strict(|name, value| match name {
            "shm_name" => set(&mut shm_name, value.str()),
            "nbytes" => set(&mut nbytes, value.int_as()),
            _ => common.read(name, value),
        })?;
        let tensor = Self {
            shm_name: required("shm_name", shm_name)?,
            segment_length: required("nbytes", nbytes)?,
            metadata: common.finish()?,
        };
        check_span(&tensor.metadata, tensor.segment_length)?;
        Ok(tensor)
    }
}

impl<'a> CudaTensor<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut common = Common::default();
        let mut handle = None;
        reader.fields_strict(|name, value| match name {
            "handle" => set(&mut handle, CudaHandle::read(value)),
            _ => common.read(name, value),
        })?;
        let handle = required("handle", handle)?;
        let tensor = handle.with(common.finish()?);
        check_span(&tensor.metadata, tensor.storage_length)?;
        Ok(tensor)
    }
}

/// The eight-element array of a torch CUDA storage, before the view is known.
struct CudaHandle<'a> {
    device: i64,
    storage_handle: Option<&'a [u8]>,
    storage_length: u64,
    storage_offset: u64,
    ref_counter_handle: Option<&'a [u8]>,
    ref_counter_offset: u64,
    event_handle: Option<&'a [u8]>,
    event_sync_required: bool,
}

impl<'a> CudaHandle<'a> {
    const LENGTH: usize = 8;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let got = reader.array()?;
        if got != Self::LENGTH {
            return Err(Fault::WrongLength { expected: Self::LENGTH, got }.here());
        }
        let bin = |reader: &mut Reader<'a>, index| {
            reader.optional(Reader::bin).map_err(|error: ValueError| error.at_index(index))
        };
        let length = |reader: &mut Reader<'a>, index| reader.int_as().map_err(|error| error.at_index(index));
        Ok(Self {
            device: reader.int_as().map_err(|error| error.at_index(0))?,
            storage_handle: bin(reader, 1)?,
            storage_length: length(reader, 2)?,
            storage_offset: length(reader, 3)?,
            ref_counter_handle: bin(reader, 4)?,
            ref_counter_offset: length(reader, 5)?,
            event_handle: bin(reader, 6)?,
            event_sync_required: reader.bool().map_err(|error| error.at_index(7))?,
        })
    }

    fn with(self, metadata: TensorMetadata<'a>) -> CudaTensor<'a> {
        CudaTensor {
            device: self.device,
            storage_handle: self.storage_handle,
            storage_length: self.storage_length,
            storage_offset: self.storage_offset,
            ref_counter_handle: self.ref_counter_handle,
            ref_counter_offset: self.ref_counter_offset,
            event_handle: self.event_handle,
            event_sync_required: self.event_sync_required,
            metadata,
        }
    }
}

impl<'a> RawCudaTensor<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut common = Common::default();
        let mut ipc_handle = None;
        let mut alloc_offset = None;
        let mut nbytes = None;
        reader.fields_strict(|name, value| match name {
            "ipc_handle" => set(&mut ipc_handle, read_fixed(value)),
            "alloc_offset" => set(&mut alloc_offset, value.int_as()),
            "nbytes" => set(&mut nbytes, value.int_as()),
            _ => common.read(name, value),
        })?;
        let tensor = Self {
            ipc_handle: required("ipc_handle", ipc_handle)?,
            alloc_offset: required("alloc_offset", alloc_offset)?,
            length: required("nbytes", nbytes)?,
            metadata: common.finish()?,
        };
        check_span(&tensor.metadata, tensor.length)?;
        Ok(tensor)
    }
}

impl<'a> VmmCudaTensor<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut common = Common::default();
        let mut export_id = None;
        let mut is_fabric = None;
        let mut fabric_handle = None;
        let mut alloc_length = None;
        let mut alloc_offset = None;
        let mut nbytes = None;
        reader.fields_strict(|name, value| match name {
            "export_id" => set(&mut export_id, read_fixed(value)),
            "kind" => set(&mut is_fabric, read_is_fabric(value)),
            "fabric_blob" => set(&mut fabric_handle, value.optional(Reader::bin)),
            "alloc_size" => set(&mut alloc_length, value.int_as()),
            "alloc_offset" => set(&mut alloc_offset, value.int_as()),
            "nbytes" => set(&mut nbytes, value.int_as()),
            _ => common.read(name, value),
        })?;
        let tensor = Self {
            export_id: required("export_id", export_id)?,
            fabric_handle: required("fabric_blob", fabric_handle)?,
            alloc_length: required("alloc_size", alloc_length)?,
            alloc_offset: required("alloc_offset", alloc_offset)?,
            length: required("nbytes", nbytes)?,
            metadata: common.finish()?,
        };
        check_span(&tensor.metadata, tensor.length)?;
        let end = u128::from(tensor.alloc_offset) + u128::from(tensor.length);
        if end > u128::from(tensor.alloc_length) {
            let length = tensor.alloc_length;
            return Err(invalid(format!("range ends at byte `{end}` of an allocation of `{length}` bytes")));
        }
        if required("kind", is_fabric)? != tensor.fabric_handle.is_some() {
            return Err(invalid("a fabric handle must come with kind `fabric` and only with it"));
        }
        Ok(tensor)
    }
}

fn read_is_fabric(reader: &mut Reader<'_>) -> Result<bool, ValueError> {
    match reader.str()? {
        "posix_fd" => Ok(false),
        "fabric" => Ok(true),
        kind => Err(invalid(format!("unknown allocation kind `{}`", quoted(kind)))),
    }
}

impl<'a> MusaTensor<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut common = Common::default();
        let mut handle = None;
        reader.fields_strict(|name, value| match name {
            "handle" => set(&mut handle, value.skip_checked(Opaque::PlainStrKeys)),
            _ => common.read(name, value),
        })?;
        Ok(Self { handle: required("handle", handle)?, metadata: common.finish()? })
    }
}

impl<'a> NpuTensor<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut version = None;
        let mut bare = None;
        let mut planes = None;
        reader.fields_strict(|name, value| match name {
            "type" => value.str().map(|_| true),
            "version" => set(&mut version, read_version(value)),
            "bare" => set(&mut bare, value.bool()),
            "planes" => set(&mut planes, value.list(limits::PLANES_MAX, NpuPlane::read)),
            _ => Ok(false),
        })?;
        required("version", version)?;
        let tensor = Self { bare: required("bare", bare)?, planes: required("planes", planes)? };
        let count = tensor.planes.len();
        if count == 0 || (tensor.bare && count != 1) {
            return Err(invalid(format!("`{count}` planes, expected one or, if not bare, more")));
        }
        let device = tensor.planes[0].metadata.device_uuid;
        if tensor.planes.iter().any(|plane| plane.metadata.device_uuid != device) {
            return Err(invalid("planes lie on different devices"));
        }
        Ok(tensor)
    }
}

impl<'a> NpuPlane<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut handle = None;
        let mut metadata = None;
        reader.fields_strict(|name, value| match name {
            "handle" => set(&mut handle, read_scalars(value)),
            "metadata" => set(&mut metadata, TensorMetadata::read(value)),
            _ => Ok(false),
        })?;
        Ok(Self { handle: required("handle", handle)?, metadata: required("metadata", metadata)? })
    }
}

/// A non-empty array of integers, strings, bytes, bools and nils, as its bytes.
fn read_scalars<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], ValueError> {
    let whole = reader.rest();
    let items = reader.list(limits::PLANES_MAX, |item| {
        match item.family()? {
            Family::Nil | Family::Bool | Family::Int | Family::Str | Family::Bin => item.skip()?,
            got => return Err(Fault::WrongType { expected: "a scalar", got: got.name() }.here()),
        };
        Ok(())
    })?;
    if items.is_empty() {
        return Err(invalid("handle is empty"));
    }
    Ok(&whole[..whole.len() - reader.rest().len()])
}
