//! MessagePack writer that always picks the shortest form, as the peer's encoder does.

use crate::error::WireError;

/// Appends values to a buffer. A length MessagePack cannot express is remembered and reported by
/// [`Writer::finish`].
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    too_large: Option<usize>,
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

    fn u32_length(&mut self, length: usize) -> u32 {
        u32::try_from(length).unwrap_or_else(|_| {
            self.too_large = Some(length);
            0
        })
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
        match value {
            0..=0x7f => self.out.push(value as u8),
            0x80..=0xff => self.push(0xcc, [value as u8]),
            0x100..=0xffff => self.push(0xcd, (value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.push(0xce, (value as u32).to_be_bytes()),
            _ => self.push(0xcf, value.to_be_bytes()),
        }
    }

    pub(crate) fn int(&mut self, value: i64) {
        match value {
            0.. => self.uint(value.cast_unsigned()),
            -0x20..=-1 => self.out.push((value as i8).cast_unsigned()),
            -0x80..=-0x21 => self.push(0xd0, (value as i8).to_be_bytes()),
            -0x8000..=-0x81 => self.push(0xd1, (value as i16).to_be_bytes()),
            -0x8000_0000..=-0x8001 => self.push(0xd2, (value as i32).to_be_bytes()),
            _ => self.push(0xd3, value.to_be_bytes()),
        }
    }

    pub(crate) fn float(&mut self, value: f64) {
        self.push(0xcb, value.to_be_bytes());
    }

    pub(crate) fn str(&mut self, text: &str) {
        match text.len() {
            length @ 0..=0x1f => self.out.push(0xa0 | length as u8),
            length @ 0x20..=0xff => self.push(0xd9, [length as u8]),
            length @ 0x100..=0xffff => self.push(0xda, (length as u16).to_be_bytes()),
            length => {
                let length = self.u32_length(length);
                self.push(0xdb, length.to_be_bytes());
            }
        }
        self.out.extend_from_slice(text.as_bytes());
    }

    /// The head of a bin; the caller appends `length` bytes.
    pub(crate) fn bin_head(&mut self, length: usize) {
        match length {
            0..=0xff => self.push(0xc4, [length as u8]),
            0x100..=0xffff => self.push(0xc5, (length as u16).to_be_bytes()),
            _ => {
                let length = self.u32_length(length);
                self.push(0xc6, length.to_be_bytes());
            }
        }
    }

    pub(crate) fn bin(&mut self, bytes: &[u8]) {
        self.bin_head(bytes.len());
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn array(&mut self, length: usize) {
        match length {
            0..=0x0f => self.out.push(0x90 | length as u8),
            0x10..=0xffff => self.push(0xdc, (length as u16).to_be_bytes()),
            _ => {
                let length = self.u32_length(length);
                self.push(0xdd, length.to_be_bytes());
            }
        }
    }

    pub(crate) fn map(&mut self, pairs: usize) {
        match pairs {
            0..=0x0f => self.out.push(0x80 | pairs as u8),
            0x10..=0xffff => self.push(0xde, (pairs as u16).to_be_bytes()),
            _ => {
                let pairs = self.u32_length(pairs);
                self.push(0xdf, pairs.to_be_bytes());
            }
        }
    }

    /// An extension value.
    pub(crate) fn ext(&mut self, code: i8, data: &[u8]) {
        match data.len() {
            length @ (1 | 2 | 4 | 8 | 16) => self.out.push(0xd4 + length.trailing_zeros() as u8),
            length @ 0..=0xff => self.push(0xc7, [length as u8]),
            length @ 0x100..=0xffff => self.push(0xc8, (length as u16).to_be_bytes()),
            length => {
                let length = self.u32_length(length);
                self.push(0xc9, length.to_be_bytes());
            }
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
