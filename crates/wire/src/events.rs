//! Values of the KV event stream (`spec/wire.md 1.2`, `3.2`).

use crate::error::{ValueError, invalid};
use crate::ids::{IdArray, TokenIds};
use crate::limits;
use crate::msgpack::{Reader, Writer, required, set};

/// What happened to blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvEventKind {
    /// They became readable.
    Stored,
    /// They are gone.
    Removed,
}

impl KvEventKind {
    fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Removed => "removed",
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ValueError> {
        match reader.str()? {
            "stored" => Ok(Self::Stored),
            "removed" => Ok(Self::Removed),
            other => Err(invalid(format!("unknown event kind `{}`", crate::text::quoted(other)))),
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEvent<'a> {
    /// Number of the event, rising by one.
    pub seq: u64,
    /// What happened.
    pub kind: KvEventKind,
    /// Where, `CPU` from the peer.
    pub medium: &'a str,
    /// The model.
    pub model_name: &'a str,
    /// The blocks, by chunk hash.
    pub block_hashes: Vec<&'a [u8]>,
    /// The block before the first, if there is one.
    pub parent_block_hash: Option<&'a [u8]>,
    /// The tokens of the blocks.
    pub token_ids: TokenIds<'a>,
}

impl<'a> KvEvent<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut seq = None;
        let mut kind = None;
        let mut medium = None;
        let mut model_name = None;
        let mut block_hashes = None;
        let mut parent_block_hash = None;
        let mut token_ids = None;
        reader.fields(|name, value| match name {
            "seq" => set(&mut seq, value.int_as()),
            "kind" => set(&mut kind, KvEventKind::read(value)),
            "medium" => set(&mut medium, value.str()),
            "model_name" => set(&mut model_name, value.str()),
            "block_hashes" => set(&mut block_hashes, value.list(limits::EVENTS_MAX, Reader::bin)),
            "parent_block_hash" => set(&mut parent_block_hash, value.optional(Reader::bin)),
            "token_ids" => set(&mut token_ids, IdArray::read(value)),
            _ => Ok(false),
        })?;
        Ok(Self {
            seq: required("seq", seq)?,
            kind: required("kind", kind)?,
            medium: required("medium", medium)?,
            model_name: required("model_name", model_name)?,
            block_hashes: required("block_hashes", block_hashes)?,
            parent_block_hash: required("parent_block_hash", parent_block_hash)?,
            token_ids: required("token_ids", token_ids)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.map(7);
        writer.field("seq", |w| w.uint(self.seq));
        writer.field("kind", |w| w.str(self.kind.name()));
        writer.field("medium", |w| w.str(self.medium));
        writer.field("model_name", |w| w.str(self.model_name));
        writer.field("block_hashes", |w| w.list(&self.block_hashes, |w, hash| w.bin(hash)));
        writer.field("parent_block_hash", |w| w.optional(self.parent_block_hash, Writer::bin));
        writer.field("token_ids", |w| self.token_ids.write(w));
    }
}

/// One message of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEventBatch<'a> {
    /// Whether events are recorded at all.
    pub enabled: bool,
    /// Changes when the server restarts; the peer uses the start time in nanoseconds.
    pub incarnation: u64,
    /// Cursor to continue from.
    pub next_cursor: u64,
    /// Whether events between the asked cursor and the first one here are gone.
    pub lost: bool,
    /// The events.
    pub events: Vec<KvEvent<'a>>,
}

impl<'a> KvEventBatch<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ValueError> {
        let mut enabled = None;
        let mut incarnation = None;
        let mut next_cursor = None;
        let mut lost = None;
        let mut events = None;
        reader.fields(|name, value| match name {
            "enabled" => set(&mut enabled, value.bool()),
            "incarnation" => set(&mut incarnation, value.int_as()),
            "next_cursor" => set(&mut next_cursor, value.int_as()),
            "lost" => set(&mut lost, value.bool()),
            "events" => set(&mut events, value.list(limits::EVENTS_MAX, KvEvent::read)),
            _ => Ok(false),
        })?;
        Ok(Self {
            enabled: required("enabled", enabled)?,
            incarnation: required("incarnation", incarnation)?,
            next_cursor: required("next_cursor", next_cursor)?,
            lost: required("lost", lost)?,
            events: required("events", events)?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.map(5);
        writer.field("enabled", |w| w.bool(self.enabled));
        writer.field("incarnation", |w| w.uint(self.incarnation));
        writer.field("next_cursor", |w| w.uint(self.next_cursor));
        writer.field("lost", |w| w.bool(self.lost));
        writer.field("events", |w| w.list(&self.events, |w, event| event.write(w)));
    }
}
