//! Writing descriptors: tag first, then the fields of the kind, version and metadata, as the peer's encoders
//! do.

use super::descriptor::{
    CpuShmTensor, CudaTensor, MusaTensor, NpuTensor, RawCudaTensor, TensorDescriptor, VmmCudaTensor,
};
use crate::error::WireError;
use crate::msgpack::Writer;

/// Extension type of a descriptor.
pub(super) const EXT_CODE: i8 = 1;

impl TensorDescriptor<'_> {
    /// Encodes the data of the extension value.
    ///
    /// # Errors
    /// [`WireError::TooLarge`].
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        Writer::document(|writer| self.write_data(writer))
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        let mut data = Vec::new();
        self.write_data(&mut Writer::new(&mut data));
        writer.ext(EXT_CODE, &data);
    }

    fn write_data(&self, writer: &mut Writer<'_>) {
        match self {
            Self::CpuShm(it) => it.write(writer, self.tag()),
            Self::Cuda(it) => it.write(writer, self.tag()),
            Self::CudaRaw(it) => it.write(writer, self.tag()),
            Self::CudaVmm(it) => it.write(writer, self.tag()),
            Self::Musa(it) => it.write(writer, self.tag()),
            Self::Npu(it) => it.write(writer, self.tag()),
        }
    }
}

impl CpuShmTensor<'_> {
    fn write(&self, writer: &mut Writer<'_>, tag: &str) {
        writer.map(5);
        writer.field("type", |w| w.str(tag));
        writer.field("shm_name", |w| w.str(self.shm_name));
        writer.field("nbytes", |w| w.uint(self.segment_length));
        writer.field("version", |w| w.uint(1));
        writer.field("metadata", |w| self.metadata.write(w));
    }
}

impl CudaTensor<'_> {
    fn write(&self, writer: &mut Writer<'_>, tag: &str) {
        writer.map(4);
        writer.field("type", |w| w.str(tag));
        writer.field("handle", |w| {
            w.array(8);
            w.int(self.device);
            w.optional(self.storage_handle, Writer::bin);
            w.uint(self.storage_length);
            w.uint(self.storage_offset);
            w.optional(self.ref_counter_handle, Writer::bin);
            w.uint(self.ref_counter_offset);
            w.optional(self.event_handle, Writer::bin);
            w.bool(self.event_sync_required);
        });
        writer.field("version", |w| w.uint(1));
        writer.field("metadata", |w| self.metadata.write(w));
    }
}

impl RawCudaTensor<'_> {
    fn write(&self, writer: &mut Writer<'_>, tag: &str) {
        writer.map(6);
        writer.field("type", |w| w.str(tag));
        writer.field("ipc_handle", |w| w.bin(self.ipc_handle));
        writer.field("alloc_offset", |w| w.uint(self.alloc_offset));
        writer.field("nbytes", |w| w.uint(self.length));
        writer.field("version", |w| w.uint(1));
        writer.field("metadata", |w| self.metadata.write(w));
    }
}

impl VmmCudaTensor<'_> {
    fn write(&self, writer: &mut Writer<'_>, tag: &str) {
        writer.map(9);
        writer.field("type", |w| w.str(tag));
        writer.field("export_id", |w| w.bin(self.export_id));
        writer.field("kind", |w| w.str(if self.fabric_handle.is_some() { "fabric" } else { "posix_fd" }));
        writer.field("fabric_blob", |w| w.optional(self.fabric_handle, Writer::bin));
        writer.field("alloc_size", |w| w.uint(self.alloc_length));
        writer.field("alloc_offset", |w| w.uint(self.alloc_offset));
        writer.field("nbytes", |w| w.uint(self.length));
        writer.field("version", |w| w.uint(1));
        writer.field("metadata", |w| self.metadata.write(w));
    }
}

impl MusaTensor<'_> {
    fn write(&self, writer: &mut Writer<'_>, tag: &str) {
        writer.map(4);
        writer.field("type", |w| w.str(tag));
        writer.field("handle", |w| w.raw(self.handle));
        writer.field("version", |w| w.uint(1));
        writer.field("metadata", |w| self.metadata.write(w));
    }
}

impl NpuTensor<'_> {
    fn write(&self, writer: &mut Writer<'_>, tag: &str) {
        writer.map(4);
        writer.field("type", |w| w.str(tag));
        writer.field("version", |w| w.uint(1));
        writer.field("bare", |w| w.bool(self.bare));
        writer.field("planes", |w| {
            w.list(&self.planes, |w, plane| {
                w.map(2);
                w.field("handle", |w| w.raw(plane.handle));
                w.field("metadata", |w| plane.metadata.write(w));
            });
        });
    }
}
