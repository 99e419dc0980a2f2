//! MessagePack writer that always picks the shortest form, as the peer's encoder does.

use crate::error::WireError;

/// Appends values to a buffer. A length MessagePack cannot express is remembered and reported by
/// [`Writer::finish`].
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    too_large: Option<usize>,
}

/// The tags of a kind of value that has a length.
struct Head {
    /// The first of those that hold a length themselves, from 0 on, and how many they are.
    fixed: (u8, u8),
    /// Before a length of one byte, for kinds that have that form.
    one: Option<u8>,
    /// Before one of two bytes.
    two: u8,
    /// Before one of four bytes.
    four: u8,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, too_large: None }
    }

    /// Writes one document into a new buffer.
    pub(crate) fn document(write: impl FnOnce(&mut Writer<'_>)) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        write(&mut writer);
        writer.finish()?;
        Ok(out)
    }

    /// Whether everything written is valid.
    pub(crate) fn finish(self) -> Result<(), WireError> {
        match self.too_large {
            None => Ok(()),
            Some(length) => Err(WireError::TooLarge { length }),
        }
    }

    /// A length, in the shortest form that this kind of value has for it.
    #[inline]
    fn head(&mut self, length: usize, head: &Head) {
        let (first, count) = head.fixed;
        let short = u8::try_from(length).ok();
        if let Some(length) = short.filter(|length| *length < count) {
            self.out.push(first | length);
        } else if let Some((tag, length)) = head.one.zip(short) {
            self.push(tag, [length]);
        } else if let Ok(length) = u16::try_from(length) {
            self.push(head.two, length.to_be_bytes());
        } else {
            let length = u32::try_from(length).unwrap_or_else(|_| {
                self.too_large = Some(length);
                0
            });
            self.push(head.four, length.to_be_bytes());
        }
    }

    fn push<const N: usize>(&mut self, tag: u8, bytes: [u8; N]) {
        self.out.push(tag);
        self.out.extend_from_slice(&bytes);
    }

    pub(crate) fn nil(&mut self) {
        self.out.push(0xc0);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.out.push(0xc2 | u8::from(value));
    }

    pub(crate) fn uint(&mut self, value: u64) {
        if let Ok(value) = u8::try_from(value) {
            match value {
                0..=0x7f => self.out.push(value),
                _ => self.push(0xcc, [value]),
            }
        } else if let Ok(value) = u16::try_from(value) {
            self.push(0xcd, value.to_be_bytes());
        } else if let Ok(value) = u32::try_from(value) {
            self.push(0xce, value.to_be_bytes());
        } else {
            self.push(0xcf, value.to_be_bytes());
        }
    }

    pub(crate) fn int(&mut self, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            self.uint(value);
        } else if let Ok(value) = i8::try_from(value) {
            match value {
                -0x20.. => self.out.push(value.cast_unsigned()),
                _ => self.push(0xd0, value.to_be_bytes()),
            }
        } else if let Ok(value) = i16::try_from(value) {
            self.push(0xd1, value.to_be_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.push(0xd2, value.to_be_bytes());
        } else {
            self.push(0xd3, value.to_be_bytes());
        }
    }

    pub(crate) fn float(&mut self, value: f64) {
        self.push(0xcb, value.to_be_bytes());
    }

    pub(crate) fn str(&mut self, text: &str) {
        self.head(text.len(), &Head { fixed: (0xa0, 32), one: Some(0xd9), two: 0xda, four: 0xdb });
        self.out.extend_from_slice(text.as_bytes());
    }

    /// The head of a bin; the caller appends `length` bytes.
    pub(crate) fn bin_head(&mut self, length: usize) {
        self.head(length, &Head { fixed: (0, 0), one: Some(0xc4), two: 0xc5, four: 0xc6 });
    }

    pub(crate) fn bin(&mut self, bytes: &[u8]) {
        self.bin_head(bytes.len());
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn array(&mut self, length: usize) {
        self.head(length, &Head { fixed: (0x90, 16), one: None, two: 0xdc, four: 0xdd });
    }

    pub(crate) fn map(&mut self, pairs: usize) {
        self.head(pairs, &Head { fixed: (0x80, 16), one: None, two: 0xde, four: 0xdf });
    }

    /// An extension value.
    pub(crate) fn ext(&mut self, code: i8, data: &[u8]) {
        match data.len() {
            1 => self.out.push(0xd4),
            2 => self.out.push(0xd5),
            4 => self.out.push(0xd6),
            8 => self.out.push(0xd7),
            16 => self.out.push(0xd8),
            length => self.head(length, &Head { fixed: (0, 0), one: Some(0xc7), two: 0xc8, four: 0xc9 }),
        }
        self.out.push(code.cast_unsigned());
        self.out.extend_from_slice(data);
    }

    /// One complete, already encoded value.
    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    /// An optional value, nil if absent.
    pub(crate) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.nil(),
        }
    }

    /// An array of `items`.
    pub(crate) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.array(items.len());
        for item in items {
            write(self, item);
        }
    }

    /// A map key and what follows it.
    pub(crate) fn field(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.str(name);
        write(self);
    }
}
