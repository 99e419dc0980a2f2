//! The stream torch wraps a storage in (the form before zip archives), read and written.
//!
//! Four pickles in a row (magic number, version, facts about the host, the storage as a persistent id), a
//! fifth with the list of storage keys, then the number of elements and the raw elements.

use larder_core::dtype::Dtype;

use super::error::PickleError;
use super::ops::{Op, Ops, int};

/// Magic number, version and host facts. torch writes the same bytes on every little-endian host.
const PREAMBLE: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\
    \x80\x02M\xe9\x03.\
    \x80\x02}q\x00(X\x10\x00\x00\x00protocol_versionq\x01M\xe9\x03\
    X\r\x00\x00\x00little_endianq\x02\x88\
    X\n\x00\x00\x00type_sizesq\x03}q\x04(X\x05\x00\x00\x00shortq\x05K\x02\
    X\x03\x00\x00\x00intq\x06K\x04X\x04\x00\x00\x00longq\x07K\x04uu.";

/// A storage: bytes, and their element type if the storage has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub(super) dtype: Option<Dtype>,
    pub(super) bytes: &'a [u8],
}

/// Storage classes with an element type. Newer types share the untyped one and name the element type with the
/// tensor.
const TYPED: [(&str, Dtype); 10] = [
    ("BFloat16Storage", Dtype::Bfloat16),
    ("HalfStorage", Dtype::Float16),
    ("FloatStorage", Dtype::Float32),
    ("DoubleStorage", Dtype::Float64),
    ("ByteStorage", Dtype::Uint8),
    ("CharStorage", Dtype::Int8),
    ("ShortStorage", Dtype::Int16),
    ("IntStorage", Dtype::Int32),
    ("LongStorage", Dtype::Int64),
    ("BoolStorage", Dtype::Bool),
];

/// The storage class of bytes.
const BYTES: &str = "ByteStorage";

/// Module and name of the storage class without element type.
const UNTYPED: (&str, &str) = ("torch.storage", "UntypedStorage");

/// Class of storages of this element type, for the types that have one.
pub(super) fn typed_class(dtype: Dtype) -> Option<&'static str> {
    TYPED.iter().find(|(_, typed)| *typed == dtype).map(|(class, _)| *class)
}

impl<'a> Storage<'a> {
    pub(super) fn read(stream: &'a [u8]) -> Result<Self, PickleError> {
        let stream = stream
            .strip_prefix(PREAMBLE)
            .ok_or(PickleError::Storage("does not begin as torch writes it on a little-endian host"))?;
        let mut ops = Fields(Ops::start(stream, 2..=2)?);
        ops.expect(Op::Mark)?;
        ops.expect(Op::Str("storage"))?;
        let dtype = ops.class()?;
        let key = ops.text()?;
        // Devices other than the processor would have torch copy to them.
        ops.expect(Op::Str("cpu"))?;
        let count = ops.count()?;
        for op in [Op::None, Op::TupleToMark, Op::PersistentId, Op::Stop] {
            ops.expect(op)?;
        }
        let mut ops = Fields(Ops::start(ops.0.rest(), 2..=2)?);
        for op in [Op::EmptyList, Op::Str(key), Op::Append, Op::Stop] {
            ops.expect(op)?;
        }
        let (stored_count, bytes) = ops.0.rest().split_first_chunk().ok_or(PickleError::Truncated)?;
        if u64::from_le_bytes(*stored_count) != count {
            return Err(PickleError::Storage("two different element counts"));
        }
        let length = u128::from(count) * u128::from(dtype.map_or(1, Dtype::item_bytes));
        if length != bytes.len() as u128 {
            return Err(PickleError::Storage("element count differs from the bytes present"));
        }
        Ok(Self { dtype, bytes })
    }
}

/// Instructions of a stream that has a fixed form; what is remembered is never used there.
struct Fields<'a>(Ops<'a>);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Op<'a>, PickleError> {
        loop {
            match self.0.next()? {
                Op::Put(_) => {}
                op => return Ok(op),
            }
        }
    }

    fn expect(&mut self, expected: Op<'_>) -> Result<(), PickleError> {
        if self.next()? == expected { Ok(()) } else { Err(PickleError::Storage("unexpected instruction")) }
    }

    fn text(&mut self) -> Result<&'a str, PickleError> {
        match self.next()? {
            Op::Str(text) => Ok(text),
            _ => Err(PickleError::Storage("expected a text")),
        }
    }

    fn count(&mut self) -> Result<u64, PickleError> {
        match self.next()? {
            Op::Int(count) => count.try_into().map_err(|_| PickleError::Storage("negative element count")),
            _ => Err(PickleError::Storage("expected an element count")),
        }
    }

    /// The storage class: its element type, or none for untyped bytes.
    fn class(&mut self) -> Result<Option<Dtype>, PickleError> {
        let Op::Global(module, name) = self.next()? else {
            return Err(PickleError::Storage("expected a storage class"));
        };
        if (module, name) == UNTYPED {
            return Ok(None);
        }
        TYPED
            .iter()
            .find(|(class, _)| module == "torch" && name == *class)
            .map(|(_, dtype)| Some(*dtype))
            .ok_or_else(|| PickleError::refused(module, name))
    }
}

/// Everything of a storage's stream before its `length` bytes.
pub(super) fn write_head(out: &mut Vec<u8>, dtype: Dtype, key: &str, length: u64) {
    out.extend_from_slice(PREAMBLE);
    out.extend_from_slice(b"\x80\x02(");
    text(out, "storage");
    // Types without a class go as bytes: torch 2.13 writes an untyped storage for them that it fails to load
    // itself.
    let (class, count) = match typed_class(dtype) {
        Some(class) => (class, length / dtype.item_bytes()),
        None => (BYTES, length),
    };
    out.extend_from_slice(format!("ctorch\n{class}\n").as_bytes());
    text(out, key);
    text(out, "cpu");
    int(out, count);
    out.extend_from_slice(b"NtQ.\x80\x02]");
    text(out, key);
    out.extend_from_slice(b"a.");
    out.extend_from_slice(&count.to_le_bytes());
}

/// A text that is known to be short.
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    let length = u32::try_from(text.len()).expect("it is short");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
