//! Values of the operations between nodes (`spec/wire.md 3.2`).

use crate::error::{Fault, ValueError, invalid};
use crate::limits;
use crate::msgpack::{Reader, Writer, required, set};
use crate::name;

/// Name of a stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey<'a> {
    /// Hash of the chunk and everything before it.
    pub chunk_hash: &'a [u8],
    /// Model name.
    pub model_name: &'a str,
    /// Which worker's part; may exceed 32 bits.
    pub kv_rank: u64,
    /// Which group of layers.
    pub object_group_id: u32,
    /// Separates caches of tenants; empty for none.
    pub cache_salt: &'a str,
}

impl<'a> ObjectKey<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut chunk_hash = None;
        let mut model_name = None;
        let mut kv_rank = None;
        let mut object_group_id = None;
        let mut cache_salt = None;
        reader.fields(|name, value| match name {
            "chunk_hash" => set(&mut chunk_hash, value.bin()),
            "model_name" => set(&mut model_name, name::model(value)),
            "kv_rank" => set(&mut kv_rank, value.int_as()),
            "object_group_id" => set(&mut object_group_id, value.int_as()),
            "cache_salt" => set(&mut cache_salt, name::cache_salt(value)),
            _ => Ok(false),
        })?;
        Ok(Self {
            chunk_hash: required("chunk_hash", chunk_hash)?,
            model_name: required("model_name", model_name)?,
            kv_rank: required("kv_rank", kv_rank)?,
            object_group_id: object_group_id.unwrap_or_default(),
            cache_salt: cache_salt.unwrap_or_default(),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(5);
        writer.field("chunk_hash", |w| w.bin(self.chunk_hash));
        writer.field("model_name", |w| w.str(self.model_name));
        writer.field("kv_rank", |w| w.uint(self.kv_rank));
        writer.field("object_group_id", |w| w.uint(u64::from(self.object_group_id)));
        writer.field("cache_salt", |w| w.str(self.cache_salt));
    }
}

/// Shapes and element types of the regions of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLayout<'a> {
    /// Shape of each region.
    pub shapes: Vec<Vec<u64>>,
    /// Element type of each region, as many as shapes.
    pub dtypes: Vec<&'a str>,
}

impl<'a> MemoryLayout<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut shapes = None;
        let mut dtypes = None;
        reader.fields(|name, value| match name {
            "shapes" => set(
                &mut shapes,
                value.list(limits::LAYOUT_SHAPES_MAX, |shape| {
                    shape.list(limits::TENSOR_RANK_MAX, Reader::int_as)
                }),
            ),
            "dtypes" => set(&mut dtypes, value.list(limits::LAYOUT_SHAPES_MAX, Reader::str)),
            _ => Ok(false),
        })?;
        let layout = Self { shapes: required("shapes", shapes)?, dtypes: required("dtypes", dtypes)? };
        if layout.shapes.len() != layout.dtypes.len() {
            let (shapes, dtypes) = (layout.shapes.len(), layout.dtypes.len());
            return Err(invalid(format!("`{shapes}` shapes but `{dtypes}` element types")));
        }
        Ok(layout)
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(2);
        writer.field("shapes", |w| w.list(&self.shapes, |w, shape| w.list(shape, |w, size| w.uint(*size))));
        writer.field("dtypes", |w| w.list(&self.dtypes, |w, dtype| w.str(dtype)));
    }
}

/// Layouts by object group, from a map with integer keys.
pub(crate) fn read_layouts<'a>(reader: &mut Reader<'a>) -> Result<Vec<(u32, MemoryLayout<'a>)>, ValueError> {
    let length = reader.map()?;
    if length > limits::LAYOUT_GROUPS_MAX {
        return Err(Fault::TooMany { limit: limits::LAYOUT_GROUPS_MAX }.here());
    }
    let mut layouts = Vec::new();
    for _ in 0..length {
        let group = reader.int_as::<u32>()?;
        let layout = MemoryLayout::read(reader).map_err(|error| error.at_index(group as usize))?;
        layouts.push((group, layout));
    }
    Ok(layouts)
}

pub(crate) fn write_layouts(writer: &mut Writer<'_>, layouts: &[(u32, MemoryLayout<'_>)]) {
    writer.map(layouts.len());
    for (group, layout) in layouts {
        writer.uint(u64::from(*group));
        layout.write(writer);
    }
}

/// Where another node finds an object in this node's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferAddress {
    /// Bytes from the start of the pool; negative for a miss.
    pub offset: i64,
    /// Length in bytes; 0 or less for a miss.
    pub size: i64,
}

impl TransferAddress {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ValueError> {
        let mut offset = None;
        let mut size = None;
        reader.fields(|name, value| match name {
            "offset" => set(&mut offset, value.int_as()),
            "size" => set(&mut size, value.int_as()),
            _ => Ok(false),
        })?;
        Ok(Self { offset: required("offset", offset)?, size: required("size", size)? })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(2);
        writer.field("offset", |w| w.int(self.offset));
        writer.field("size", |w| w.int(self.size));
    }
}
