//! Seals: the checksum of an object's bytes, taken once after its commit and kept with it for as long as it
//! is in memory.
//!
//! The engine says what is to be sealed and keeps the result; [`upkeep`](crate::upkeep) has the thread that
//! hashes. No lease is held meanwhile: an object that has left when its checksum is known gets none, and
//! nobody misses it.

use larder_core::cache::EntryRef;

use crate::engine::{Engine, State};
use crate::faces::Upkeep;
use crate::state::seals::SealWork;
use larder_core::modes::ChecksumMode;

/// Objects that wait to be sealed; beyond it they are sealed at their store to L2, or not before somebody
/// asks for them.
const SEAL_QUEUE_MAX: usize = 65_536;

/// Objects taken from the queue at a time.
const SEAL_STEP: usize = 64;

impl Upkeep {
    /// Has every object sealed from now on, whether or not there is a second tier.
    pub fn require_seals(&self) {
        self.state().seals.require();
    }

    /// Whether objects without a seal are lost to whoever comes after this server.
    #[must_use]
    pub(crate) fn requires_seals(&self) -> bool {
        self.state().seals.required
    }

    /// The checksum an object was sealed with; none for an object that is not sealed yet, or is gone.
    #[must_use]
    pub fn seal_of(&self, entry: EntryRef) -> Option<u64> {
        self.state().cache.seal(entry)
    }

    /// Resolves when there may be objects to seal.
    pub(crate) async fn seals_due(&self) {
        self.wake_seals.notified().await;
    }

    /// Seals some of the objects that wait; false when none does. Blocks for as long as hashing them takes:
    /// for a thread of its own.
    pub fn seal_waiting(&self) -> bool {
        let Some(works) = self.take_seals() else { return false };
        for work in works {
            match self.pool.checksum(work.offset, work.bytes) {
                Ok(checksum) => _ = self.set_seal(work.entry, checksum),
                Err(error) => tracing::warn!("an object can't be sealed: {error}"),
            }
        }
        true
    }

    /// The next objects, without those that have left or are sealed by now; none when nothing waits.
    fn take_seals(&self) -> Option<Vec<SealWork>> {
        let mut state = self.state();
        let State { seals, cache, .. } = &mut *state;
        let count = seals.waiting.len().min(SEAL_STEP);
        if count == 0 {
            return None;
        }
        let is_due = |work: &SealWork| cache.offset(work.entry).is_some() && cache.seal(work.entry).is_none();
        Some(seals.waiting.drain(..count).filter(is_due).collect())
    }
}

impl Engine {
    /// What checksums are used for.
    pub fn checksum_mode(&self) -> ChecksumMode {
        self.config.checksum
    }

    /// Objects that wait to be sealed.
    pub fn seal_backlog(&self) -> usize {
        self.state().seals.waiting.len()
    }

    /// Seals an object that is not sealed yet; false if it is, or is gone.
    pub(crate) fn set_seal(&self, entry: EntryRef, checksum: u64) -> bool {
        let mut state = self.state();
        self.seal(&mut state, entry, checksum)
    }

    pub(crate) fn seal(&self, state: &mut State, entry: EntryRef, checksum: u64) -> bool {
        let sealed = state.cache.seal(entry).is_none() && state.cache.set_seal(entry, checksum);
        self.counters.checksum.sealed.add(u64::from(sealed));
        sealed
    }

    /// Queues objects that were just published, if anybody will check them.
    pub(crate) fn queue_seals(&self, state: &mut State, bytes: u64, entries: &[EntryRef]) {
        let is_checked = match self.config.checksum {
            ChecksumMode::Off => false,
            ChecksumMode::Tiers => state.seals.required || state.prefetches.is_enabled(),
            ChecksumMode::Full => true,
        };
        if !is_checked {
            return;
        }
        let room = SEAL_QUEUE_MAX.saturating_sub(state.seals.waiting.len());
        self.counters.checksum.shed.add(entries.len().saturating_sub(room) as u64);
        for &entry in entries.iter().take(room) {
            if let Some(offset) = state.cache.offset(entry) {
                state.seals.waiting.push_back(SealWork { entry, offset, bytes });
            }
        }
        self.wake_seals.notify_one();
    }
}
