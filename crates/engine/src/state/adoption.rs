//! Objects of the server before that wait for their bytes to be looked at.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use larder_core::cache::EntryRef;
use larder_core::hash::ChunkHash;
use larder_core::key::Scope;

/// How far taking over is. Counts are of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdoptionStatus {
    /// Found in the directory and possible.
    pub adopted: u64,
    /// Of those, published.
    pub verified: u64,
    /// Of those, dropped: their bytes were not theirs.
    pub mismatched: u64,
    /// Records that made no sense, or belong to scopes that could not be written down.
    pub dropped: u64,
    /// Still to be looked at.
    pub waiting: u64,
    /// Bytes that clients of the dead server may still be writing; out of use for ten minutes.
    pub held_bytes: u64,
    /// Bytes that clients of the dead server may still be reading; neither evicted nor reused for half a
    /// minute.
    pub leased_bytes: u64,
}

/// Objects that wait for their bytes to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Adoption {
    pub(crate) waiting: Mutex<Waiting>,
    /// Held while the object in hand is looked at.
    pub(crate) working: Mutex<()>,
    pub(crate) under_way: AtomicBool,
    pub(crate) stop: AtomicBool,
    pub(crate) adopted: AtomicU64,
    pub(crate) verified: AtomicU64,
    pub(crate) mismatched: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) held_bytes: AtomicU64,
    pub(crate) leased_bytes: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// In the order in which they were published before.
    objects: Vec<Option<Unverified>>,
    next: usize,
    pub(crate) left: usize,
    by_chunk: HashMap<ChunkHash, Vec<usize>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Unverified {
    pub(crate) entry: EntryRef,
    pub(crate) scope: Arc<Scope>,
    pub(crate) offset: u64,
    pub(crate) seal: u64,
}

impl Waiting {
    fn take(&mut self, index: usize) -> Option<Unverified> {
        let object = self.objects.get_mut(index)?.take()?;
        self.left -= 1;
        Some(object)
    }

    pub(crate) fn take_next(&mut self) -> Option<Unverified> {
        while self.next < self.objects.len() {
            self.next += 1;
            if let Some(object) = self.take(self.next - 1) {
                return Some(object);
            }
        }
        None
    }

    pub(crate) fn take_chunk(&mut self, scope: &Scope, hash: &ChunkHash) -> Option<Unverified> {
        let wanted =
            |&&index: &&usize| self.objects[index].as_ref().is_some_and(|object| *object.scope == *scope);
        let index = self.by_chunk.get(hash)?.iter().find(wanted).copied()?;
        self.take(index)
    }
}

impl Adoption {
    /// Has these objects looked at, in their order.
    pub(crate) fn begin(&self, unverified: Vec<(u64, ChunkHash, Unverified)>, dropped: u64) {
        self.adopted.store(unverified.len() as u64, Ordering::Relaxed);
        self.dropped.store(dropped, Ordering::Relaxed);
        self.under_way.store(!unverified.is_empty(), Ordering::Release);
        let mut waiting = self.waiting();
        waiting.left = unverified.len();
        for (index, (_, hash, object)) in unverified.into_iter().enumerate() {
            waiting.by_chunk.entry(hash).or_default().push(index);
            waiting.objects.push(Some(object));
        }
    }

    pub(crate) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
