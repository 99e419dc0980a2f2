//! Strict, borrowing MessagePack reader.
//!
//! Owns the format's tags and nothing about the protocol. It never recurses and never allocates by a declared
//! length, so the size of the input bounds the work.

use std::fmt::Display;

use crate::error::{Fault, ValueError};
use crate::text::quoted;

/// Deepest nesting of an ignored or opaque value.
const DEPTH_MAX: usize = 64;

/// A MessagePack family, as named in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Nil,
    Bool,
    Int,
    Float,
    Str,
    Bin,
    Array,
    Map,
    Ext,
    Reserved,
}

impl Family {
    pub(crate) fn of(tag: u8) -> Self {
        match tag {
            0x00..=0x7f | 0xcc..=0xd3 | 0xe0..=0xff => Self::Int,
            0x80..=0x8f | 0xde | 0xdf => Self::Map,
            0x90..=0x9f | 0xdc | 0xdd => Self::Array,
            0xa0..=0xbf | 0xd9..=0xdb => Self::Str,
            0xc0 => Self::Nil,
            0xc1 => Self::Reserved,
            0xc2 | 0xc3 => Self::Bool,
            0xc4..=0xc6 => Self::Bin,
            0xc7..=0xc9 | 0xd4..=0xd8 => Self::Ext,
            0xca | 0xcb => Self::Float,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Str => "str",
            Self::Bin => "bin",
            Self::Array => "array",
            Self::Map => "map",
            Self::Ext => "ext",
            Self::Reserved => "reserved tag",
        }
    }
}

/// An integer type a wire integer may be narrowed to.
pub(crate) trait BoundedInt: TryFrom<i128> {
    /// The range in words.
    const ACCEPTED: &'static str;
}

impl BoundedInt for u32 {
    const ACCEPTED: &'static str = "an unsigned 32-bit integer";
}
impl BoundedInt for u64 {
    const ACCEPTED: &'static str = "an unsigned 64-bit integer";
}
impl BoundedInt for i64 {
    const ACCEPTED: &'static str = "a signed 64-bit integer";
}

/// `value` narrowed to `T`, or the range error.
pub(crate) fn narrow<T: BoundedInt>(value: i128) -> Result<T, ValueError> {
    T::try_from(value).map_err(|_| out_of_range::<T>(value))
}

fn out_of_range<T: BoundedInt>(value: impl Display) -> ValueError {
    Fault::OutOfRange { value: value.to_string(), accepted: T::ACCEPTED }.here()
}

/// Puts a decoded field into its slot, which takes one value; `true` tells [`Reader::fields`] that the key is
/// known.
pub(crate) fn set<T>(slot: &mut Option<T>, value: Result<T, ValueError>) -> Result<bool, ValueError> {
    match slot.replace(value?) {
        None => Ok(true),
        Some(_) => Err(Fault::RepeatedField.here()),
    }
}

/// The value of a required field.
pub(crate) fn required<T>(field: &'static str, slot: Option<T>) -> Result<T, ValueError> {
    slot.ok_or_else(|| Fault::MissingField { field }.here())
}

/// What may be inside a value whose bytes are kept as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opaque {
    /// Everything.
    Anything,
    /// Everything but extension values.
    Plain,
    /// Everything but extension values, and map keys are strings.
    PlainStrKeys,
}

impl Opaque {
    fn check(self, family: Family, is_key: bool) -> Result<(), ValueError> {
        let wrong = |expected| Err(Fault::WrongType { expected, got: family.name() }.here());
        match self {
            Self::Anything => Ok(()),
            _ if family == Family::Ext => wrong("a plain value"),
            Self::PlainStrKeys if is_key && family != Family::Str => wrong("str as map key"),
            Self::Plain | Self::PlainStrKeys => Ok(()),
        }
    }
}

/// A cursor over the bytes not yet read.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads one document that must fill `bytes`.
    pub(crate) fn document<T>(
        bytes: &'a [u8],
        read: impl FnOnce(&mut Self) -> Result<T, ValueError>,
    ) -> Result<T, ValueError> {
        let mut reader = Self::new(bytes);
        let value = read(&mut reader)?;
        match reader.rest.len() {
            0 => Ok(value),
            count => Err(Fault::TrailingBytes { count }.here()),
        }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `length` raw bytes.
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], ValueError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| Fault::Truncated.here())?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], ValueError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| Fault::Truncated.here())?;
        self.rest = rest;
        Ok(*taken)
    }

    fn tag(&mut self) -> Result<u8, ValueError> {
        let [tag] = self.take_array()?;
        Ok(tag)
    }

    fn length_u8(&mut self) -> Result<usize, ValueError> {
        let [length] = self.take_array()?;
        Ok(usize::from(length))
    }

    fn length_u16(&mut self) -> Result<usize, ValueError> {
        Ok(usize::from(u16::from_be_bytes(self.take_array()?)))
    }

    fn length_u32(&mut self) -> Result<usize, ValueError> {
        let length = u32::from_be_bytes(self.take_array()?);
        // Lengths beyond the address space are longer than any input.
        usize::try_from(length).map_err(|_| Fault::Truncated.here())
    }

    /// Family of the next value, which stays unread.
    pub(crate) fn family(&self) -> Result<Family, ValueError> {
        self.rest.first().map(|tag| Family::of(*tag)).ok_or_else(|| Fault::Truncated.here())
    }

    fn wrong_type(expected: &'static str, tag: u8) -> ValueError {
        match Family::of(tag) {
            Family::Reserved => Fault::ReservedTag.here(),
            got => Fault::WrongType { expected, got: got.name() }.here(),
        }
    }

    /// Reads a nil if one is next.
    pub(crate) fn nil(&mut self) -> Result<bool, ValueError> {
        if self.family()? != Family::Nil {
            return Ok(false);
        }
        self.tag()?;
        Ok(true)
    }

    /// A value or nil.
    pub(crate) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, ValueError>,
    ) -> Result<Option<T>, ValueError> {
        if self.nil()? { Ok(None) } else { read(self).map(Some) }
    }

    pub(crate) fn bool(&mut self) -> Result<bool, ValueError> {
        match self.tag()? {
            0xc2 => Ok(false),
            0xc3 => Ok(true),
            tag => Err(Self::wrong_type("bool", tag)),
        }
    }

    /// Any integer of any width.
    pub(crate) fn int(&mut self) -> Result<i128, ValueError> {
        Ok(match self.tag()? {
            tag @ 0x00..=0x7f => i128::from(tag),
            tag @ 0xe0..=0xff => i128::from(tag.cast_signed()),
            0xcc => i128::from(u8::from_be_bytes(self.take_array()?)),
            0xcd => i128::from(u16::from_be_bytes(self.take_array()?)),
            0xce => i128::from(u32::from_be_bytes(self.take_array()?)),
            0xcf => i128::from(u64::from_be_bytes(self.take_array()?)),
            0xd0 => i128::from(i8::from_be_bytes(self.take_array()?)),
            0xd1 => i128::from(i16::from_be_bytes(self.take_array()?)),
            0xd2 => i128::from(i32::from_be_bytes(self.take_array()?)),
            0xd3 => i128::from(i64::from_be_bytes(self.take_array()?)),
            tag => return Err(Self::wrong_type("int", tag)),
        })
    }

    /// An integer in the range of `T`.
    pub(crate) fn int_as<T: BoundedInt>(&mut self) -> Result<T, ValueError> {
        narrow(self.int()?)
    }

    /// A float; integers are accepted (`spec/wire.md 3`).
    pub(crate) fn float(&mut self) -> Result<f64, ValueError> {
        match self.family()? {
            Family::Int => Ok(self.int()? as f64),
            _ => match self.tag()? {
                0xca => Ok(f64::from(f32::from_be_bytes(self.take_array()?))),
                0xcb => Ok(f64::from_be_bytes(self.take_array()?)),
                tag => Err(Self::wrong_type("float", tag)),
            },
        }
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, ValueError> {
        let length = match self.tag()? {
            tag @ 0xa0..=0xbf => usize::from(tag & 0x1f),
            0xd9 => self.length_u8()?,
            0xda => self.length_u16()?,
            0xdb => self.length_u32()?,
            tag => return Err(Self::wrong_type("str", tag)),
        };
        std::str::from_utf8(self.take(length)?).map_err(|_| Fault::NotUtf8.here())
    }

    pub(crate) fn bin(&mut self) -> Result<&'a [u8], ValueError> {
        let length = match self.tag()? {
            0xc4 => self.length_u8()?,
            0xc5 => self.length_u16()?,
            0xc6 => self.length_u32()?,
            tag => return Err(Self::wrong_type("bin", tag)),
        };
        self.take(length)
    }

    /// An array header. The declared length is at most the number of bytes left.
    pub(crate) fn array(&mut self) -> Result<usize, ValueError> {
        let length = match self.tag()? {
            tag @ 0x90..=0x9f => usize::from(tag & 0x0f),
            0xdc => self.length_u16()?,
            0xdd => self.length_u32()?,
            tag => return Err(Self::wrong_type("array", tag)),
        };
        self.check_children(length)
    }

    /// A map header: the number of pairs, at most half the number of bytes left.
    pub(crate) fn map(&mut self) -> Result<usize, ValueError> {
        let length = match self.tag()? {
            tag @ 0x80..=0x8f => usize::from(tag & 0x0f),
            0xde => self.length_u16()?,
            0xdf => self.length_u32()?,
            tag => return Err(Self::wrong_type("map", tag)),
        };
        self.check_children(length.saturating_mul(2))?;
        Ok(length)
    }

    /// Every child takes a byte at least, so more children than bytes cannot be true.
    fn check_children(&self, count: usize) -> Result<usize, ValueError> {
        if count > self.rest.len() { Err(Fault::Truncated.here()) } else { Ok(count) }
    }

    /// An extension value: its type and data.
    pub(crate) fn ext(&mut self) -> Result<(i8, &'a [u8]), ValueError> {
        let length = match self.tag()? {
            tag @ 0xd4..=0xd8 => 1 << (tag - 0xd4),
            0xc7 => self.length_u8()?,
            0xc8 => self.length_u16()?,
            0xc9 => self.length_u32()?,
            tag => return Err(Self::wrong_type("ext", tag)),
        };
        let [code] = self.take_array()?;
        Ok((code.cast_signed(), self.take(length)?))
    }

    /// Reads an array element by element; errors carry the index.
    pub(crate) fn list<T>(
        &mut self,
        length_max: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, ValueError>,
    ) -> Result<Vec<T>, ValueError> {
        let length = self.array()?;
        if length > length_max {
            return Err(Fault::TooMany { limit: length_max }.here());
        }
        let mut items = Vec::new();
        for index in 0..length {
            items.push(read(self).map_err(|error| error.at_index(index))?);
        }
        Ok(items)
    }

    /// Reads a map with string keys as a record whose unknown keys are ignored.
    ///
    /// `read` gets each key, reads the value of those it knows and returns whether it did. A key that it
    /// knows may come once.
    pub(crate) fn fields(
        &mut self,
        read: impl FnMut(&str, &mut Self) -> Result<bool, ValueError>,
    ) -> Result<(), ValueError> {
        self.entries(read, |_, reader| reader.skip().map(drop))
    }

    /// Like [`Reader::fields`], but an unknown key is an error.
    pub(crate) fn fields_strict(
        &mut self,
        read: impl FnMut(&str, &mut Self) -> Result<bool, ValueError>,
    ) -> Result<(), ValueError> {
        self.entries(read, |name, _| Err(Fault::UnknownField { field: quoted(name) }.here()))
    }

    fn entries(
        &mut self,
        mut read: impl FnMut(&str, &mut Self) -> Result<bool, ValueError>,
        unknown: impl Fn(&str, &mut Self) -> Result<(), ValueError>,
    ) -> Result<(), ValueError> {
        for _ in 0..self.map()? {
            let name = self.str()?;
            if !read(name, self).map_err(|error| error.in_field(name))? {
                unknown(name, self)?;
            }
        }
        Ok(())
    }

    /// Reads past one value of any type and returns its bytes.
    pub(crate) fn skip(&mut self) -> Result<&'a [u8], ValueError> {
        self.skip_checked(Opaque::Anything)
    }

    /// Reads past one value that must be of the kind `opaque`, and returns its bytes.
    pub(crate) fn skip_checked(&mut self, opaque: Opaque) -> Result<&'a [u8], ValueError> {
        let start = self.rest;
        // Values still to come on each open level; the first level is the value itself.
        let mut pending = [0_usize; DEPTH_MAX + 1];
        // Bit per level: set for maps, whose keys are where an even number of values is to come.
        let mut maps = 0_u128;
        let mut depth = 0;
        pending[0] = 1;
        loop {
            while pending[depth] == 0 {
                if depth == 0 {
                    return Ok(&start[..start.len() - self.rest.len()]);
                }
                depth -= 1;
            }
            let is_key = maps >> depth & 1 == 1 && pending[depth].is_multiple_of(2);
            pending[depth] -= 1;
            let family = self.family()?;
            opaque.check(family, is_key)?;
            let children = self.skip_head()?;
            if children > 0 {
                depth += 1;
                *pending.get_mut(depth).ok_or_else(|| Fault::TooDeep { limit: DEPTH_MAX }.here())? = children;
                maps = maps & !(1 << depth) | u128::from(family == Family::Map) << depth;
            }
        }
    }

    /// Reads past a scalar, or past the head of a container whose number of children is returned.
    fn skip_head(&mut self) -> Result<usize, ValueError> {
        match self.family()? {
            Family::Nil | Family::Bool => self.tag().map(|_| 0),
            Family::Int => self.int().map(|_| 0),
            Family::Float => self.float().map(|_| 0),
            Family::Str => self.str().map(|_| 0),
            Family::Bin => self.bin().map(|_| 0),
            Family::Ext => self.ext().map(|_| 0),
            Family::Array => self.array(),
            Family::Map => self.map().map(|pairs| pairs * 2),
            Family::Reserved => Err(Fault::ReservedTag.here()),
        }
    }
}
