//! The key that names a range of a prompt, sent with every cache operation.

use crate::error::{ValueError, WireError};
use crate::ids::{IdArray, TokenIds};
use crate::limits;
use crate::msgpack::{Opaque, Reader, Writer, required, set};
use crate::name;

/// Recognises token ids seen before: gets the number of ids and every byte after the array's head, answers
/// how many bytes the ids take.
pub type KnownIds<'f, 'a> = &'f mut dyn FnMut(u32, &'a [u8]) -> Option<usize>;

/// A range of tokens of one request, for one model and worker (`spec/wire.md 3.1`, peer's
/// `IPCCacheServerKey`).
#[derive(Clone, Copy, Debug)]
pub struct CacheKey<'a> {
    /// Model name.
    pub model_name: &'a str,
    /// Number of workers that each hold a part of the cache.
    pub world_size: u32,
    /// The worker, or none for "all of them" (scheduler operations).
    pub worker_id: Option<u32>,
    /// Token ids from the start of the prompt.
    pub token_ids: TokenIds<'a>,
    /// First token of the range.
    pub start: u64,
    /// Token after the last of the range.
    pub end: u64,
    /// The request, for sessions and logs.
    pub request_id: &'a str,
    /// Separates caches of tenants; empty for none.
    pub cache_salt: &'a str,
    /// Per-request settings: one encoded map with string keys, free of extension values.
    pub request_configs: Option<&'a [u8]>,
    /// How many workers will read what a lookup locks; 0 means "not sent".
    pub num_kv_readers: u32,
}

impl<'a> CacheKey<'a> {
    /// Decodes a key frame.
    ///
    /// # Errors
    /// Whatever is wrong with the frame, with the field's name.
    pub fn decode(frame: &'a [u8]) -> Result<Self, ValueError> {
        Self::decode_with(frame, &mut |_, _| None)
    }

    /// Decodes a key frame with help for the token ids, which are most of its bytes.
    ///
    /// `known` is called when the token array is reached. If the bytes begin with ids the caller has seen
    /// validated before (it compares memory, or decodes the part it does not know with
    /// [`crate::ids::decode_prefix`]), it returns their length and the array is not scanned again. `None` has
    /// this crate scan and validate it. A wrong length makes the frame fail to decode or
    /// [`IdArray::decode_into`] fail later; it never reads outside the frame.
    ///
    /// # Errors
    /// As [`CacheKey::decode`].
    pub fn decode_with(frame: &'a [u8], known: KnownIds<'_, 'a>) -> Result<Self, ValueError> {
        Reader::document(frame, |reader| Self::read(reader, known))
    }

    pub(crate) fn read(reader: &mut Reader<'a>, known: KnownIds<'_, 'a>) -> Result<Self, ValueError> {
        let mut model_name = None;
        let mut world_size = None;
        let mut worker_id = None;
        let mut token_ids = None;
        let mut start = None;
        let mut end = None;
        let mut request_id = None;
        let mut cache_salt = None;
        let mut request_configs = None;
        let mut num_kv_readers = None;
        reader.fields(|name, value| match name {
            "model_name" => set(&mut model_name, name::model(value)),
            "world_size" => set(&mut world_size, value.int_as()),
            "worker_id" => set(&mut worker_id, value.optional(Reader::int_as)),
            "token_ids" => set(&mut token_ids, IdArray::read_with(value, limits::TOKEN_IDS_MAX, known)),
            "start" => set(&mut start, value.int_as()),
            "end" => set(&mut end, value.int_as()),
            "request_id" => set(&mut request_id, name::request_id(value)),
            "cache_salt" => set(&mut cache_salt, name::cache_salt(value)),
            "request_configs" => set(&mut request_configs, value.optional(read_configs)),
            "num_kv_readers" => set(&mut num_kv_readers, value.int_as()),
            _ => Ok(false),
        })?;
        Ok(Self {
            model_name: required("model_name", model_name)?,
            world_size: required("world_size", world_size)?,
            worker_id: required("worker_id", worker_id)?,
            token_ids: required("token_ids", token_ids)?,
            start: required("start", start)?,
            end: required("end", end)?,
            request_id: required("request_id", request_id)?,
            cache_salt: cache_salt.unwrap_or_default(),
            request_configs: request_configs.flatten(),
            num_kv_readers: num_kv_readers.unwrap_or_default(),
        })
    }

    /// Encodes the key as an unmodified client does.
    ///
    /// # Errors
    /// [`WireError::TooLarge`].
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        Writer::document(|writer| self.write(writer))
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(10);
        writer.field("model_name", |w| w.str(self.model_name));
        writer.field("world_size", |w| w.uint(u64::from(self.world_size)));
        writer.field("worker_id", |w| w.optional(self.worker_id, |w, id| w.uint(u64::from(id))));
        writer.field("token_ids", |w| self.token_ids.write(w));
        writer.field("start", |w| w.uint(self.start));
        writer.field("end", |w| w.uint(self.end));
        writer.field("request_id", |w| w.str(self.request_id));
        writer.field("cache_salt", |w| w.str(self.cache_salt));
        writer.field("request_configs", |w| w.optional(self.request_configs, |w, map| w.raw(map)));
        writer.field("num_kv_readers", |w| w.uint(u64::from(self.num_kv_readers)));
    }

    /// Whether two keys name the same range: all fields but the request, its settings and the number of
    /// readers (`spec/wire.md 3.1`).
    #[must_use]
    pub fn same_identity(&self, other: &CacheKey<'_>) -> bool {
        self.model_name == other.model_name
            && self.world_size == other.world_size
            && self.worker_id == other.worker_id
            && self.start == other.start
            && self.end == other.end
            && self.cache_salt == other.cache_salt
            && self.token_ids == other.token_ids
    }
}

/// A map with string keys and no extension value anywhere inside, as its bytes.
fn read_configs<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], ValueError> {
    let whole = reader.rest();
    for _ in 0..reader.map()? {
        let name = reader.str()?;
        reader.skip_checked(Opaque::Plain).map_err(|error| error.in_field(name))?;
    }
    Ok(&whole[..whole.len() - reader.rest().len()])
}
