//! Pool memory as adapters are lent it.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use larder_core::cache::EntryRef;
use larder_storage::{LentBuffer, SharedLocation};
use tokio::sync::OwnedSemaphorePermit;

use super::pulse::Pulse;
use larder_engine::Tiers;

/// What becomes of the object when the last holder of its buffer lets go.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Its bytes were to be stored: the lease that kept them in place goes back, and its part of the lane's
    /// room with it.
    Store(#[expect(dead_code, reason = "held until the buffer goes")] Option<OwnedSemaphorePermit>),
    /// Bytes were to be loaded into it: unless they were published, the memory goes back. Whose they are to
    /// be may change.
    Load(Mutex<Arc<Pulse>>),
}

/// One object's memory. An adapter that stopped waiting for its device may still hold a clone; the memory is
/// reused only when that is gone, too.
#[derive(Debug)]
pub(super) struct PoolBuffer {
    engine: Tiers,
    entry: EntryRef,
    offset: u64,
    length: usize,
    purpose: Purpose,
}

impl PoolBuffer {
    /// The memory of `entry`, which the caller holds a lease or a reservation on; either passes to the
    /// buffer.
    pub(super) fn new(
        engine: &Tiers,
        entry: EntryRef,
        offset: u64,
        length: u64,
        purpose: Purpose,
    ) -> Arc<Self> {
        let engine = engine.clone();
        Arc::new(Self { engine, entry, offset, length: length as usize, purpose })
    }

    /// The object.
    pub(super) fn entry(&self) -> EntryRef {
        self.entry
    }

    /// What moves in the buffer from now on is a sign of life of this adapter.
    pub(super) fn lend_to(&self, pulse: &Arc<Pulse>) {
        if let Purpose::Load(current) = &self.purpose {
            *current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(pulse);
        }
    }

    /// A range of the pool for one of the buffer.
    fn range(&self, range: Range<usize>) -> io::Result<Range<u64>> {
        let length = range.len();
        let start = self.at(range.start, length)?;
        Ok(start..start + length as u64)
    }

    fn at(&self, offset: usize, length: usize) -> io::Result<u64> {
        if let Purpose::Load(pulse) = &self.purpose {
            pulse.lock().unwrap_or_else(PoisonError::into_inner).beat();
        }
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(self.offset + offset as u64),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "range outside the lent buffer")),
        }
    }
}

impl LentBuffer for PoolBuffer {
    fn len(&self) -> usize {
        self.length
    }

    fn alignment(&self) -> usize {
        self.engine.config().align_bytes as usize
    }

    fn shared_location(&self) -> Option<SharedLocation> {
        let segment_name = self.engine.pool().name()?.into();
        Some(SharedLocation { segment_name, offset: self.offset })
    }

    fn read_at(&self, offset: usize, into: &mut [u8]) -> io::Result<()> {
        let at = self.at(offset, into.len())?;
        self.engine.pool().read_at(at, into).map_err(io::Error::other)
    }

    fn write_at(&self, offset: usize, from: &[u8]) -> io::Result<()> {
        let at = self.at(offset, from.len())?;
        self.engine.pool().write_at(at, from).map_err(io::Error::other)
    }

    fn pread_into(&self, fd: BorrowedFd<'_>, file_offset: u64, range: Range<usize>) -> io::Result<usize> {
        self.engine.pool().pread_from(fd, file_offset, self.range(range)?)
    }

    fn pwrite_from(&self, fd: BorrowedFd<'_>, file_offset: u64, range: Range<usize>) -> io::Result<usize> {
        self.engine.pool().pwrite_to(fd, file_offset, self.range(range)?)
    }

    fn recv_into(&self, fd: BorrowedFd<'_>, range: Range<usize>) -> io::Result<usize> {
        self.engine.pool().recv_from(fd, self.range(range)?)
    }

    fn send_from(&self, fd: BorrowedFd<'_>, range: Range<usize>) -> io::Result<usize> {
        self.engine.pool().send_to(fd, self.range(range)?)
    }
}

impl Drop for PoolBuffer {
    fn drop(&mut self) {
        match self.purpose {
            Purpose::Store(_) => self.engine.release_store(self.entry),
            // Once it is published this changes nothing.
            Purpose::Load(_) => self.engine.abort_load(self.entry),
        }
    }
}
