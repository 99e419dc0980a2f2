//! Arrays of unsigned 32-bit ids (tokens, blocks) left in their encoded form, and the fast way through them.
//!
//! A prompt of 128k tokens is 400-650 KB of MessagePack; this file is what a lookup spends its decoding time
//! in. Runs of eight equally wide ids are checked and converted as one block. Mixed widths cost a
//! mispredicted branch per id if one branches on the tag, so they go in blocks whose ids are located first
//! and taken out after, both without branches. All of it is safe Rust; `examples/bench_tokens.rs` measures
//! it.

use std::fmt;

use crate::error::{Fault, ValueError};
use crate::msgpack::{Reader, Writer};

/// An array of ids, each known to fit `u32`, borrowed as the encoded elements (without the array header).
///
/// Token ids of a key, block ids of a transfer: `spec/wire.md 3.1`, `3.2`.
#[derive(Clone, Copy, Default)]
pub struct IdArray<'a> {
    raw: &'a [u8],
    count: u32,
}

/// The token ids of a prompt.
pub type TokenIds<'a> = IdArray<'a>;

impl<'a> IdArray<'a> {
    /// Number of ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded elements. Equal bytes and counts mean equal ids; the reverse holds for encoders that use
    /// shortest forms, as all known clients do.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Appends the ids to `out`.
    ///
    /// # Errors
    /// Only when the array was recognised by a caller's hint ([`crate::key::CacheKey::decode_with`]) that was
    /// wrong; arrays this crate scanned itself always decode. `out` keeps its previous length then.
    pub fn decode_into(&self, out: &mut Vec<u32>) -> Result<(), ValueError> {
        self.whole(decode_prefix(self.count, self.raw, out)?)
    }

    /// Appends the ids to `out` as four big-endian bytes each, the form chunk hashing reads.
    ///
    /// # Errors
    /// As [`IdArray::decode_into`].
    pub fn decode_be_into(&self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let start = out.len();
        out.reserve(self.len().min(self.raw.len()) * 4);
        let walked = walk(self.count, self.raw, &mut BigEndian(out)).and_then(|length| self.whole(length));
        if walked.is_err() {
            out.truncate(start);
        }
        walked
    }

    /// The ids in a new vector.
    ///
    /// # Errors
    /// As [`IdArray::decode_into`].
    pub fn to_vec(&self) -> Result<Vec<u32>, ValueError> {
        let mut ids = Vec::new();
        self.decode_into(&mut ids)?;
        Ok(ids)
    }

    fn whole(&self, length: usize) -> Result<(), ValueError> {
        match self.raw.len() - length {
            0 => Ok(()),
            count => Err(Fault::TrailingBytes { count }.here()),
        }
    }

    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        Self::read_with(reader, usize::MAX, &mut |_, _| None)
    }

    /// Reads an array of at most `length_max` ids whose extent `known` may tell; see
    /// [`crate::key::CacheKey::decode_with`].
    pub(crate) fn read_with(
        reader: &mut Reader<'a>,
        length_max: usize,
        known: &mut dyn FnMut(u32, &'a [u8]) -> Option<usize>,
    ) -> Result<Self, ValueError> {
        let length = reader.array()?;
        if length > length_max {
            return Err(Fault::TooMany { limit: length_max }.here());
        }
        let count = u32::try_from(length).map_err(|_| Fault::Truncated.here())?;
        let rest = reader.rest();
        let length = match known(count, rest) {
            Some(length) if length <= rest.len() => length,
            _ => walk(count, rest, &mut Discard)?,
        };
        Ok(Self { raw: reader.take(length)?, count })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.array(self.len());
        writer.raw(self.raw);
    }
}

impl PartialEq for IdArray<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.raw == other.raw
    }
}

impl Eq for IdArray<'_> {}

impl fmt::Debug for IdArray<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdArray({} ids, {} bytes)", self.count, self.raw.len())
    }
}

/// Owner of encoded ids, for those who send them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdBuffer {
    raw: Vec<u8>,
    count: u32,
}

impl IdBuffer {
    /// Encodes `ids` in shortest forms.
    #[must_use]
    pub fn new(ids: &[u32]) -> Self {
        let mut buffer = Self::default();
        buffer.extend(ids);
        buffer
    }

    /// Appends `ids`. Ids beyond the 2^32 - 1 an array can hold are left out.
    pub fn extend(&mut self, ids: &[u32]) {
        let room = (u32::MAX - self.count) as usize;
        let ids = &ids[..ids.len().min(room)];
        let mut writer = Writer::new(&mut self.raw);
        for id in ids {
            writer.uint(u64::from(*id));
            self.count += 1;
        }
    }

    /// The encoded ids.
    #[must_use]
    pub fn as_array(&self) -> IdArray<'_> {
        IdArray { raw: &self.raw, count: self.count }
    }
}

/// Decodes `count` ids from the front of `bytes`, appends them to `out` and returns how many bytes they took.
///
/// This is the piece to build a hint from ([`crate::key::CacheKey::decode_with`]): a caller that recognises
/// the first part of an array decodes the rest with it, in one pass.
///
/// # Errors
/// Truncated input, a value that is not an integer, or one outside `u32`; the path names the element. `out`
/// keeps its previous length then.
pub fn decode_prefix(count: u32, bytes: &[u8], out: &mut Vec<u32>) -> Result<usize, ValueError> {
    let start = out.len();
    // An id takes a byte at least: a declared count larger than the input reserves no more than the input
    // warrants.
    out.reserve((count as usize).min(bytes.len()));
    let walked = walk(count, bytes, &mut Native(out));
    if walked.is_err() {
        out.truncate(start);
    }
    walked
}

/// Where walked ids go.
trait Sink {
    fn block<const N: usize>(&mut self, ids: [u32; N]);
    fn one(&mut self, id: u32);
}

struct Discard;

impl Sink for Discard {
    fn block<const N: usize>(&mut self, _ids: [u32; N]) {}
    fn one(&mut self, _id: u32) {}
}

struct Native<'a>(&'a mut Vec<u32>);

impl Sink for Native<'_> {
    #[inline]
    fn block<const N: usize>(&mut self, ids: [u32; N]) {
        self.0.extend_from_slice(&ids);
    }
    #[inline]
    fn one(&mut self, id: u32) {
        self.0.push(id);
    }
}

struct BigEndian<'a>(&'a mut Vec<u8>);

impl Sink for BigEndian<'_> {
    #[inline]
    fn block<const N: usize>(&mut self, ids: [u32; N]) {
        self.0.extend_from_slice(ids.map(u32::to_be_bytes).as_flattened());
    }
    #[inline]
    fn one(&mut self, id: u32) {
        self.0.extend_from_slice(&id.to_be_bytes());
    }
}

/// Ids in a block of one width.
const BLOCK: usize = 8;

/// Ids in a block of mixed widths.
const MIXED: usize = 16;

/// Bytes a block of either kind may look at: sixteen ids of the widest common form and the end of an 8-byte
/// load, rounded up to whole vectors.
const WINDOW: usize = 96;

/// How to take one id out of the eight bytes at its tag, by tag. `length` 0 marks forms that need the careful
/// path.
#[derive(Clone, Copy)]
struct Form {
    length: u8,
    shift: u8,
    mask: u32,
}

const FORMS: [Form; 256] = {
    let mut forms = [Form { length: 0, shift: 0, mask: 0 }; 256];
    let mut tag = 0;
    while tag < 0x80 {
        forms[tag] = Form { length: 1, shift: 56, mask: 0x7f };
        tag += 1;
    }
    forms[0xcc] = Form { length: 2, shift: 48, mask: 0xff };
    forms[0xcd] = Form { length: 3, shift: 40, mask: 0xffff };
    forms[0xce] = Form { length: 5, shift: 24, mask: 0xffff_ffff };
    forms
};

/// Walks `count` ids at the front of `bytes` into `sink` and returns their length in bytes.
fn walk(count: u32, bytes: &[u8], sink: &mut impl Sink) -> Result<usize, ValueError> {
    let count = count as usize;
    if count > bytes.len() {
        return Err(Fault::Truncated.here());
    }
    let mut done = 0;
    let mut position = 0;
    // Input that was mixed stays on the mixed path until a block of it is uniform: trying the other costs a
    // mispredicted branch.
    let mut mixed = false;
    while count - done >= MIXED {
        let Some(window) = bytes[position..].first_chunk::<WINDOW>() else { break };
        if !mixed && let Some(length) = any_uniform_block(window, sink) {
            position += length;
            done += BLOCK;
        } else if let Some(length) = mixed_block(window, sink) {
            position += length;
            done += MIXED;
            mixed = length != MIXED * usize::from(length_of(window[0]));
        } else {
            position += careful(done, &bytes[position..], sink)?;
            done += 1;
        }
    }
    while done < count {
        position += careful(done, &bytes[position..], sink)?;
        done += 1;
    }
    Ok(position)
}

/// Eight ids of the same form, if the next eight are.
#[inline]
fn any_uniform_block(window: &[u8; WINDOW], sink: &mut impl Sink) -> Option<usize> {
    match window[0] {
        0x00..=0x7f => fixint_block(window, sink),
        0xcc => uniform_block::<2>(window, sink),
        0xcd => uniform_block::<3>(window, sink),
        0xce => uniform_block::<5>(window, sink),
        _ => None,
    }
}

/// Eight ids of one byte each.
#[inline]
fn fixint_block(window: &[u8; WINDOW], sink: &mut impl Sink) -> Option<usize> {
    let block = window.first_chunk::<BLOCK>()?;
    if u64::from_ne_bytes(*block) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    sink.block(block.map(u32::from));
    Some(BLOCK)
}

/// Eight ids with the tag of the first, `STRIDE` bytes each.
#[inline]
fn uniform_block<const STRIDE: usize>(window: &[u8; WINDOW], sink: &mut impl Sink) -> Option<usize> {
    let tag = window[0];
    let mut differs = 0;
    for index in 1..BLOCK {
        differs |= window[index * STRIDE] ^ tag;
    }
    if differs != 0 {
        return None;
    }
    let mut ids = [0; BLOCK];
    for (index, id) in ids.iter_mut().enumerate() {
        let at = index * STRIDE;
        *id = match STRIDE {
            2 => u32::from(window[at + 1]),
            3 => u32::from(u16::from_be_bytes([window[at + 1], window[at + 2]])),
            _ => u32::from_be_bytes([window[at + 1], window[at + 2], window[at + 3], window[at + 4]]),
        };
    }
    sink.block(ids);
    Some(BLOCK * STRIDE)
}

/// Ids of mixed common forms, without a branch on a tag.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the upper half is what is to go")]
fn low_half(word: u64) -> u32 {
    word as u32
}

#[inline]
fn mixed_block(window: &[u8; WINDOW], sink: &mut impl Sink) -> Option<usize> {
    // The lengths of all bytes, as if each were a tag, are found at once; then following them is one load and
    // one addition per id, which is the chain that bounds the speed.
    let mut lengths = [0; WINDOW];
    for (length, tag) in lengths.iter_mut().zip(window) {
        *length = length_of(*tag);
    }
    let mut positions = [0; MIXED];
    let mut position = 0;
    for slot in &mut positions {
        *slot = position;
        position += usize::from(lengths[position]);
    }
    let mut ids = [0; MIXED];
    let mut valid = true;
    for (id, position) in ids.iter_mut().zip(positions) {
        let word = window.get(position..position + 8)?.first_chunk::<8>()?;
        let form = FORMS[usize::from(word[0])];
        *id = low_half(u64::from_be_bytes(*word) >> form.shift) & form.mask;
        valid &= form.length != 0;
    }
    if !valid {
        return None;
    }
    sink.block(ids);
    Some(position)
}

/// Length of the id a tag begins, in arithmetic that works on many bytes at once: 1 for small ids, 2, 3 and 5
/// for the tags `cc`, `cd` and `ce`. Bytes that begin no such id get some length of at most 6.
#[inline]
fn length_of(tag: u8) -> u8 {
    let wide = (tag.cast_signed() >> 7).cast_unsigned();
    1 + (wide & (1 + (tag & 1) + ((tag >> 1) & 1) * 3))
}

/// One id of any integer form, with the error a wrong one deserves.
#[cold]
fn careful(index: usize, bytes: &[u8], sink: &mut impl Sink) -> Result<usize, ValueError> {
    let mut reader = Reader::new(bytes);
    let id = reader.int_as::<u32>().map_err(|error| error.at_index(index))?;
    sink.one(id);
    Ok(bytes.len() - reader.rest().len())
}
