//! The kinds of descriptors.

use super::metadata::TensorMetadata;

/// One tensor of an engine, in the form its platform shares memory (`spec/wire.md 3.3`).
///
/// Decoded descriptors satisfy the checks of the specification: the view lies in what is shared, and the
/// parts fit each other.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorDescriptor<'a> {
    /// POSIX shared memory.
    CpuShm(CpuShmTensor<'a>),
    /// A torch CUDA storage.
    Cuda(CudaTensor<'a>),
    /// A CUDA driver allocation.
    CudaRaw(RawCudaTensor<'a>),
    /// A CUDA virtual-memory allocation.
    CudaVmm(VmmCudaTensor<'a>),
    /// A MUSA handle, opaque here.
    Musa(MusaTensor<'a>),
    /// NPU handles, opaque here.
    Npu(NpuTensor<'a>),
}

impl<'a> TensorDescriptor<'a> {
    /// The tag on the wire.
    #[must_use]
    pub fn tag(&self) -> &'static str {
        match self {
            Self::CpuShm(_) => "cpu_shm",
            Self::Cuda(_) => "cuda",
            Self::CudaRaw(_) => "cuda_raw",
            Self::CudaVmm(_) => "cuda_vmm",
            Self::Musa(_) => "musa",
            Self::Npu(_) => "npu",
        }
    }

    /// The view described; for several planes, the first.
    #[must_use]
    pub fn metadata(&self) -> Option<&TensorMetadata<'a>> {
        match self {
            Self::CpuShm(it) => Some(&it.metadata),
            Self::Cuda(it) => Some(&it.metadata),
            Self::CudaRaw(it) => Some(&it.metadata),
            Self::CudaVmm(it) => Some(&it.metadata),
            Self::Musa(it) => Some(&it.metadata),
            Self::Npu(it) => it.planes.first().map(|plane| &plane.metadata),
        }
    }
}

/// A tensor in a POSIX shared-memory segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuShmTensor<'a> {
    /// Name of the segment with its leading slash; empty for a tensor without elements.
    pub shm_name: &'a str,
    /// Length of the whole segment in bytes.
    pub segment_length: u64,
    /// The view.
    pub metadata: TensorMetadata<'a>,
}

/// A tensor in a CUDA storage shared by torch (`spec/wire.md 3.3`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaTensor<'a> {
    /// Device index in the exporting process.
    pub device: i64,
    /// Handle of the allocation, in torch's form.
    pub storage_handle: Option<&'a [u8]>,
    /// Length of the storage in bytes.
    pub storage_length: u64,
    /// Bytes from the start of the allocation to the storage.
    pub storage_offset: u64,
    /// Name of torch's reference-counter file.
    pub ref_counter_handle: Option<&'a [u8]>,
    /// Which counter in that file.
    pub ref_counter_offset: u64,
    /// Handle of the event that orders the export.
    pub event_handle: Option<&'a [u8]>,
    /// Whether the event must be waited for.
    pub event_sync_required: bool,
    /// The view.
    pub metadata: TensorMetadata<'a>,
}

/// A tensor in a CUDA driver allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCudaTensor<'a> {
    /// Handle of the whole allocation.
    pub ipc_handle: &'a [u8; 64],
    /// Bytes from the start of the allocation to the range.
    pub alloc_offset: u64,
    /// Length of the range in bytes.
    pub length: u64,
    /// The view.
    pub metadata: TensorMetadata<'a>,
}

/// A tensor in a CUDA virtual-memory allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmmCudaTensor<'a> {
    /// Names the export when a file descriptor arrives apart.
    pub export_id: &'a [u8; 16],
    /// The fabric handle; none if the allocation is shared by a file descriptor.
    pub fabric_handle: Option<&'a [u8]>,
    /// Length of the allocation in bytes.
    pub alloc_length: u64,
    /// Bytes from the start of the allocation to the range.
    pub alloc_offset: u64,
    /// Length of the range in bytes.
    pub length: u64,
    /// The view.
    pub metadata: TensorMetadata<'a>,
}

/// A tensor behind a MUSA handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MusaTensor<'a> {
    /// The handle: one encoded value without extension values and with string keys only.
    pub handle: &'a [u8],
    /// The view.
    pub metadata: TensorMetadata<'a>,
}

/// A tensor made of one or more NPU planes, all on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NpuTensor<'a> {
    /// Whether the engine holds the one plane directly, not as a list.
    pub bare: bool,
    /// The planes, at least one.
    pub planes: Vec<NpuPlane<'a>>,
}

/// One plane of an NPU tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NpuPlane<'a> {
    /// The handle: one encoded, non-empty array of scalars.
    pub handle: &'a [u8],
    /// The view.
    pub metadata: TensorMetadata<'a>,
}
