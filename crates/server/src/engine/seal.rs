//! Seals: the checksum of an object's bytes as they were committed, made once and soon after.
//!
//! Hashing takes longer than anything an operation may wait for, so it happens on a thread of its own. Until then an object has no
//! seal, which costs nothing but the proof.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use larder_core::cache::EntryRef;

use super::core::Engine;

/// Most objects that wait for their seal; beyond it the oldest ones go without.
const UNSEALED_MAX: usize = 65_536;

/// Objects that wait for their seal.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    wanted: AtomicBool,
    queue: Mutex<Queue>,
    due: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<EntryRef>,
    is_closed: bool,
}

impl Sealing {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next object, once there is one; none when the queue is closed and empty.
    fn next(&self) -> Option<EntryRef> {
        let waiting = |queue: &mut Queue| queue.entries.is_empty() && !queue.is_closed;
        let mut queue = self.due.wait_while(self.queue(), waiting).unwrap_or_else(PoisonError::into_inner);
        queue.entries.pop_front()
    }
}

impl Engine {
    /// Has every object that is committed from now on sealed. Somebody must run [`Self::seal_committed`].
    pub fn require_seals(&self) {
        self.sealing.wanted.store(true, Ordering::Relaxed);
    }

    /// Seals what is committed, until [`Self::stop_sealing`] and then to the end of the queue. Blocks: for a thread of its own.
    pub fn seal_committed(&self) {
        while let Some(entry) = self.sealing.next() {
            let place = {
                let state = self.state();
                state.cache.slot_of(entry).map(|slot| (slot.offset, slot.scope.layout.bytes()))
            };
            let Some((offset, bytes)) = place else { continue };
            match self.pool.checksum(offset, bytes) {
                // An object that left meanwhile, and whose memory may be another's, has no record any more to be sealed.
                Ok(checksum) => self.counters.sealed_objects.add(u64::from(self.set_seal(entry, checksum))),
                Err(error) => tracing::warn!("an object can't be sealed: {error}"),
            }
        }
    }

    /// Ends [`Self::seal_committed`] once everything committed so far is sealed.
    pub fn stop_sealing(&self) {
        self.sealing.queue().is_closed = true;
        self.sealing.due.notify_all();
    }

    /// Notes the checksum of an object's bytes; false if it is gone.
    pub fn set_seal(&self, entry: EntryRef, checksum: u64) -> bool {
        self.state().cache.set_seal(entry, checksum)
    }

    /// Queues objects that were committed just now.
    pub(super) fn seal_soon(&self, entries: impl Iterator<Item = EntryRef>) {
        if !self.sealing.wanted.load(Ordering::Relaxed) {
            return;
        }
        let mut queue = self.sealing.queue();
        queue.entries.extend(entries);
        let excess = queue.entries.len().saturating_sub(UNSEALED_MAX);
        queue.entries.drain(..excess);
        drop(queue);
        self.counters.unsealed_objects.add(excess as u64);
        self.sealing.due.notify_one();
    }
}
