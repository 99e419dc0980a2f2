//! Values of the operations of engines that copy by themselves (`spec/wire.md 3.2`).

use std::borrow::Cow;

use crate::error::{ValueError, WireError};
use crate::limits;
use crate::msgpack::{Reader, Writer, required, set};
use crate::name;

/// What an engine tells about itself when it registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineContext<'a> {
    /// The engine worker, usually its process id.
    pub instance_id: i64,
    /// Model name.
    pub model_name: &'a str,
    /// Number of workers that each hold a part of the cache.
    pub world_size: u32,
    /// Tokens per engine block.
    pub block_size: u32,
    /// Layers held by this worker.
    pub num_layers: u32,
    /// Heads times head size.
    pub hidden_dim_size: u32,
    /// Element type by its torch name, such as `bfloat16`.
    pub dtype: &'a str,
    /// Whether keys and values share one plane (multi-head latent attention).
    pub use_mla: bool,
    /// Slots per chunk if it differs from the tokens per chunk. Zero is for the reader to refuse.
    pub num_physical_slots: Option<u32>,
}

impl<'a> EngineContext<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut instance_id = None;
        let mut model_name = None;
        let mut world_size = None;
        let mut block_size = None;
        let mut num_layers = None;
        let mut hidden_dim_size = None;
        let mut dtype = None;
        let mut use_mla = None;
        let mut num_physical_slots = None;
        reader.fields(|name, value| match name {
            "instance_id" => set(&mut instance_id, value.int_as()),
            "model_name" => set(&mut model_name, name::model(value)),
            "world_size" => set(&mut world_size, value.int_as()),
            "block_size" => set(&mut block_size, value.int_as()),
            "num_layers" => set(&mut num_layers, value.int_as()),
            "hidden_dim_size" => set(&mut hidden_dim_size, value.int_as()),
            "dtype_str" => set(&mut dtype, name::short(value)),
            "use_mla" => set(&mut use_mla, value.bool()),
            "num_physical_slots" => set(&mut num_physical_slots, value.optional(Reader::int_as)),
            _ => Ok(false),
        })?;
        Ok(Self {
            instance_id: required("instance_id", instance_id)?,
            model_name: required("model_name", model_name)?,
            world_size: required("world_size", world_size)?,
            block_size: required("block_size", block_size)?,
            num_layers: required("num_layers", num_layers)?,
            hidden_dim_size: required("hidden_dim_size", hidden_dim_size)?,
            dtype: required("dtype_str", dtype)?,
            use_mla: required("use_mla", use_mla)?,
            num_physical_slots: num_physical_slots.flatten(),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(9);
        writer.field("instance_id", |w| w.int(self.instance_id));
        writer.field("model_name", |w| w.str(self.model_name));
        writer.field("world_size", |w| w.uint(u64::from(self.world_size)));
        writer.field("block_size", |w| w.uint(u64::from(self.block_size)));
        writer.field("num_layers", |w| w.uint(u64::from(self.num_layers)));
        writer.field("hidden_dim_size", |w| w.uint(u64::from(self.hidden_dim_size)));
        writer.field("dtype_str", |w| w.str(self.dtype));
        writer.field("use_mla", |w| w.bool(self.use_mla));
        writer.field("num_physical_slots", |w| {
            w.optional(self.num_physical_slots, |w, slots| w.uint(u64::from(slots)));
        });
    }
}

/// Where a registered engine finds the pool. Empty name and size 0 mean "no shared memory: send data in
/// messages".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolLocation<'a> {
    /// Name of the shared-memory segment, without leading slash.
    pub shm_name: &'a str,
    /// Its size in bytes.
    pub pool_size: u64,
}

impl<'a> PoolLocation<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut shm_name = None;
        let mut pool_size = None;
        reader.fields(|name, value| match name {
            "shm_name" => set(&mut shm_name, value.str()),
            "pool_size" => set(&mut pool_size, value.int_as()),
            _ => Ok(false),
        })?;
        Ok(Self { shm_name: shm_name.unwrap_or_default(), pool_size: pool_size.unwrap_or_default() })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(2);
        writer.field("shm_name", |w| w.str(self.shm_name));
        writer.field("pool_size", |w| w.uint(self.pool_size));
    }
}

/// A piece of the pool that holds one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot<'a> {
    /// Bytes from the start of the segment.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// The tensor the bytes form.
    pub shape: Cow<'a, [u64]>,
    /// Its element type by torch name.
    pub dtype: &'a str,
}

impl<'a> Slot<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut offset = None;
        let mut length = None;
        let mut shape = None;
        let mut dtype = None;
        reader.fields(|name, value| match name {
            "offset" => set(&mut offset, value.int_as()),
            "length" => set(&mut length, value.int_as()),
            "shape" => set(&mut shape, value.list(limits::TENSOR_RANK_MAX, Reader::int_as)),
            "dtype" => set(&mut dtype, value.str()),
            _ => Ok(false),
        })?;
        Ok(Self {
            offset: required("offset", offset)?,
            length: required("length", length)?,
            shape: Cow::Owned(required("shape", shape)?),
            dtype: required("dtype", dtype)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.map(4);
        writer.field("offset", |w| w.uint(self.offset));
        writer.field("length", |w| w.uint(self.length));
        writer.field("shape", |w| w.list(&self.shape, |w, size| w.uint(*size)));
        writer.field("dtype", |w| w.str(self.dtype));
    }
}

fn read_slots<'a>(reader: &mut Reader<'a>) -> Result<Vec<Slot<'a>>, ValueError> {
    reader.list(limits::OBJECTS_MAX, Slot::read)
}

/// The answer to `prepare_store`: what to write where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrepareStoreResult<'a> {
    /// Data comes with `commit_store`; nothing is reserved.
    InMessage,
    /// Write these slots. Both lists empty: nothing to do.
    Slots {
        /// Reserved pieces of the pool.
        slots: Vec<Slot<'a>>,
        /// For each slot, which chunk of the key's range it is for, counted from 0.
        chunk_indices: Cow<'a, [u32]>,
    },
}

impl<'a> PrepareStoreResult<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut result = None;
        reader.fields(|name, value| match name {
            "context" => set(&mut result, Self::read_context(value)),
            _ => Ok(false),
        })?;
        required("context", result)
    }

    fn read_context(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut slots = None;
        let mut chunk_indices = None;
        reader.fields(|name, value| match name {
            "slots" => set(&mut slots, read_slots(value)),
            "chunk_indices" => set(&mut chunk_indices, value.list(limits::OBJECTS_MAX, Reader::int_as)),
            _ => Ok(false),
        })?;
        if slots.is_none() && chunk_indices.is_none() {
            return Ok(Self::InMessage);
        }
        Ok(Self::Slots {
            slots: required("slots", slots)?,
            chunk_indices: Cow::Owned(required("chunk_indices", chunk_indices)?),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(1);
        writer.field("context", |w| match self {
            Self::InMessage => w.map(0),
            Self::Slots { slots, chunk_indices } => {
                w.map(2);
                w.field("slots", |w| w.list(slots, |w, slot| slot.write(w)));
                w.field("chunk_indices", |w| {
                    w.list(chunk_indices, |w, index| w.uint(u64::from(*index)));
                });
            }
        });
    }
}

/// The answer to `prepare_retrieve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareRetrieveResult<'a> {
    /// Whether everything asked for can be read.
    pub success: bool,
    /// The data itself when there is no shared memory: a pickled list of tensors ([`crate::pickle`]).
    pub data: &'a [u8],
    /// Pieces of the pool to read, in chunk order; none when there is no shared memory.
    pub slots: Option<Vec<Slot<'a>>>,
}

impl<'a> PrepareRetrieveResult<'a> {
    /// Nothing to read.
    #[must_use]
    pub fn miss() -> Self {
        Self { success: false, data: &[], slots: None }
    }

    /// Read these slots.
    #[must_use]
    pub fn slots(slots: Vec<Slot<'a>>) -> Self {
        Self { success: true, data: &[], slots: Some(slots) }
    }

    /// The bytes before and after `data_length` bytes of data in a successful answer without shared memory,
    /// for those who send the data from where it lies.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] when the data does not fit one message.
    pub fn around_data(data_length: usize) -> Result<(Vec<u8>, Vec<u8>), WireError> {
        let head = Writer::document(|writer| {
            writer.map(3);
            writer.field("success", |w| w.bool(true));
            writer.field("data", |w| w.bin_head(data_length));
        })?;
        let tail = Writer::document(|writer| writer.field("context", |w| w.map(0)))?;
        Ok((head, tail))
    }

    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut success = None;
        let mut data = None;
        let mut slots = None;
        reader.fields(|name, value| match name {
            "success" => set(&mut success, value.bool()),
            "data" => set(&mut data, value.bin()),
            "context" => {
                value.fields(|name, value| match name {
                    "slots" => set(&mut slots, read_slots(value)),
                    _ => Ok(false),
                })?;
                Ok(true)
            }
            _ => Ok(false),
        })?;
        Ok(Self { success: required("success", success)?, data: data.unwrap_or_default(), slots })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(3);
        writer.field("success", |w| w.bool(self.success));
        writer.field("data", |w| w.bin(self.data));
        writer.field("context", |w| match &self.slots {
            None => w.map(0),
            Some(slots) => {
                w.map(1);
                w.field("slots", |w| w.list(slots, |w, slot| slot.write(w)));
            }
        });
    }
}
