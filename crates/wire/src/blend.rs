//! Values of the blending operations (`spec/wire.md 3.2`).

use crate::device::TensorDescriptor;
use crate::error::ValueError;
use crate::limits;
use crate::msgpack::{Reader, Writer, required, set};

/// A stretch of the prompt that was stored at another position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentMatch<'a> {
    /// First token where it was stored.
    pub old_start: u64,
    /// Token after its last where it was stored.
    pub old_end: u64,
    /// First token in this prompt.
    pub current_start: u64,
    /// Token after its last in this prompt.
    pub current_end: u64,
    /// Hash it is stored under.
    pub hash: &'a [u8],
}

impl<'a> SegmentMatch<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut old_start = None;
        let mut old_end = None;
        let mut current_start = None;
        let mut current_end = None;
        let mut hash = None;
        reader.fields(|name, value| match name {
            "old_st" => set(&mut old_start, value.int_as()),
            "old_ed" => set(&mut old_end, value.int_as()),
            "cur_st" => set(&mut current_start, value.int_as()),
            "cur_ed" => set(&mut current_end, value.int_as()),
            "hash" => set(&mut hash, value.bin()),
            _ => Ok(false),
        })?;
        Ok(Self {
            old_start: required("old_st", old_start)?,
            old_end: required("old_ed", old_end)?,
            current_start: required("cur_st", current_start)?,
            current_end: required("cur_ed", current_end)?,
            hash: required("hash", hash)?,
        })
    }

    pub(crate) fn read_list(reader: &mut Reader<'a>) -> Result<Vec<Self>, ValueError> {
        reader.list(limits::SEGMENTS_MAX, Self::read)
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(5);
        writer.field("old_st", |w| w.uint(self.old_start));
        writer.field("old_ed", |w| w.uint(self.old_end));
        writer.field("cur_st", |w| w.uint(self.current_start));
        writer.field("cur_ed", |w| w.uint(self.current_end));
        writer.field("hash", |w| w.bin(self.hash));
    }
}

/// What a unified lookup found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnifiedLookupResult<'a> {
    /// Tokens covered from the start.
    pub prefix_coverage_tokens: u64,
    /// Matches after the prefix.
    pub non_prefix_segments: Vec<SegmentMatch<'a>>,
    /// The prefix in segments, where it is stored in several.
    pub segmented_prefix_segments: Vec<SegmentMatch<'a>>,
}

impl<'a> UnifiedLookupResult<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut prefix_coverage_tokens = None;
        let mut non_prefix_segments = None;
        let mut segmented_prefix_segments = None;
        reader.fields(|name, value| match name {
            "prefix_coverage_tokens" => set(&mut prefix_coverage_tokens, value.int_as()),
            "non_prefix_segments" => set(&mut non_prefix_segments, SegmentMatch::read_list(value)),
            "segmented_prefix_segments" => {
                set(&mut segmented_prefix_segments, SegmentMatch::read_list(value))
            }
            _ => Ok(false),
        })?;
        Ok(Self {
            prefix_coverage_tokens: required("prefix_coverage_tokens", prefix_coverage_tokens)?,
            non_prefix_segments: required("non_prefix_segments", non_prefix_segments)?,
            segmented_prefix_segments: segmented_prefix_segments.unwrap_or_default(),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(3);
        writer.field("prefix_coverage_tokens", |w| w.uint(self.prefix_coverage_tokens));
        writer.field("non_prefix_segments", |w| {
            w.list(&self.non_prefix_segments, |w, segment| segment.write(w));
        });
        writer.field("segmented_prefix_segments", |w| {
            w.list(&self.segmented_prefix_segments, |w, segment| segment.write(w));
        });
    }
}

/// Rotary embedding tables of an engine worker.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeRegistration<'a> {
    /// The engine worker.
    pub instance_id: i64,
    /// Tables of cosines and sines.
    pub cos_sin_caches: Vec<TensorDescriptor<'a>>,
    /// Elements per head.
    pub head_size: u32,
    /// Whether halves rotate (NeoX) instead of pairs.
    pub is_neox_style: bool,
    /// For each group, which table.
    pub group_to_cache: Vec<u32>,
    /// For each group, the range of a head that rotates.
    pub group_rotations: Vec<Vec<u32>>,
    /// For each group, elements per head.
    pub group_head_sizes: Vec<u32>,
    /// Quantisation of the cache, empty for none.
    pub kv_quant: &'a str,
}

/// A list of small numbers of a rope registration.
pub(crate) fn read_group_numbers(reader: &mut Reader<'_>) -> Result<Vec<u32>, ValueError> {
    reader.list(limits::ROPE_GROUPS_MAX, Reader::int_as)
}
