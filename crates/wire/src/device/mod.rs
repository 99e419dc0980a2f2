//! Descriptors of engine tensors that another process can map.

mod descriptor;
mod metadata;
mod read;
mod write;

pub use descriptor::{
    CpuShmTensor, CudaTensor, MusaTensor, NpuPlane, NpuTensor, RawCudaTensor, TensorDescriptor, VmmCudaTensor,
};
pub use metadata::TensorMetadata;
pub(crate) use metadata::view_span;
