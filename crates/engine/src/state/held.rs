//! Memory that clients of a dead server may still touch: for a while after it was taken over, what they may
//! be writing is out of use, and what they may be reading stays as it is.
//!
//! What may be read is under a lease each, whatever becomes of the object meanwhile: until the lease is given
//! back, its memory is nobody else's.

use std::collections::VecDeque;

use larder_core::cache::{Cache, EntryRef};

use super::slots::SlotKeeper;

/// How long memory that a client of the dead server was writing stays out of use, in milliseconds. A worker
/// reserves before its forward pass and copies after it, so this is the length of the longest forward pass,
/// with much to spare; nobody can tell when it has copied.
pub(crate) const HELD_MS: u64 = 600_000;

/// How long what was taken over is neither evicted nor reused, in milliseconds. The directory does not tell
/// what a worker was reading, and the worker uses what it copied without asking again. It copies as soon as
/// it was told where, so this is the length of the longest copy that was under way: 300 GB at 10 GB/s.
pub(crate) const READ_MS: u64 = 30_000;

/// Leases given back or looked at under one hold of the lock: some milliseconds.
const STEP: usize = 65_536;

/// A piece of it.
#[derive(Debug)]
pub(crate) struct HeldMemory {
    pub entry: EntryRef,
    pub offset: u64,
    pub bytes: u64,
    /// When the server was found dead whose client may be touching it, in seconds since the boot; none for
    /// what can be found again, whose time begins anew with every server.
    pub left_at_s: Option<u64>,
    pub until_ms: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Held {
    written: Vec<HeldMemory>,
    /// Under one lease each; those come first whose time is over first.
    read: VecDeque<HeldMemory>,
    read_bytes: u64,
}

impl Held {
    /// Memory that somebody may be writing, and memory under one lease each that somebody may be reading.
    pub(crate) fn new(written: Vec<HeldMemory>, mut read: Vec<HeldMemory>) -> Self {
        read.sort_by_key(|held| held.until_ms);
        let read_bytes = bytes(&read);
        Self { written, read: read.into(), read_bytes }
    }

    /// Has the directory tell how long the memory has been held.
    pub(crate) fn note_left(&self, slots: &mut SlotKeeper) {
        for held in self.written.iter().chain(&self.read) {
            if let Some(left_at_s) = held.left_at_s {
                slots.note_left(held.offset, left_at_s);
            }
        }
    }

    /// Takes what somebody may be reading out of the index, a bounded number before position `end`, unless
    /// others have leases on it. Returns where to go on, backwards since what is let go of meanwhile is at
    /// the front.
    pub(crate) fn discard_before(&self, cache: &mut Cache, end: usize) -> usize {
        let end = end.min(self.read.len());
        let start = end.saturating_sub(STEP);
        for held in self.read.range(start..end) {
            cache.discard_unshared(held.entry, 1);
        }
        start
    }

    /// Lets go of a bounded number of pieces whose time is over; false if there were none.
    pub(crate) fn let_go(
        &mut self,
        cache: &mut Cache,
        mut slots: Option<&mut SlotKeeper>,
        now_ms: u64,
    ) -> bool {
        let before = self.written.len() + self.read.len();
        let mut forget = |held: &HeldMemory| {
            if let Some(slots) = &mut slots {
                slots.forget_left(held.offset);
            }
        };
        for held in self.written.extract_if(.., |held| held.until_ms <= now_ms) {
            forget(&held);
            cache.abort(held.entry);
        }
        let over = self.read.iter().take(STEP).take_while(|held| held.until_ms <= now_ms).count();
        for held in self.read.drain(..over) {
            forget(&held);
            cache.release(held.entry, 1);
            self.read_bytes -= held.bytes;
        }
        debug_assert!(!self.read.is_empty() || self.read_bytes == 0, "nothing has no bytes");
        self.written.len() + self.read.len() < before
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.written.is_empty() && self.read.is_empty()
    }

    /// Leases on what somebody may be reading.
    pub(crate) fn leases(&self) -> u64 {
        self.read.len() as u64
    }

    pub(crate) fn written_bytes(&self) -> u64 {
        bytes(&self.written)
    }

    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }
}

fn bytes(held: &[HeldMemory]) -> u64 {
    held.iter().map(|held| held.bytes).sum()
}
