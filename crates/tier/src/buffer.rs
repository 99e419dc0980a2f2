//! Pool memory as adapters are lent it.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use larder_storage::{LentBuffer, SharedLocation};
use tokio::sync::OwnedSemaphorePermit;

use super::pulse::Pulse;
use larder_engine::{LoadSlot, TakenStore, Tiers};

/// What is held for as long as anybody may touch the memory, and given back with it.
#[derive(Debug)]
enum Held {
    /// An object whose bytes are to be stored, under its lease, and its part of the lane's room.
    Store {
        #[expect(dead_code, reason = "held until the buffer goes")]
        taken: TakenStore,
        #[expect(dead_code, reason = "held until the buffer goes")]
        room: Option<OwnedSemaphorePermit>,
    },
    /// Memory that is to be filled, by an adapter that may change.
    Load { slot: LoadSlot, pulse: Mutex<Arc<Pulse>> },
}

/// One object's memory. An adapter that stopped waiting for its device may still hold a clone; the memory is
/// reused only when that is gone, too.
#[derive(Debug)]
pub(super) struct PoolBuffer {
    engine: Tiers,
    offset: u64,
    length: usize,
    held: Held,
}

impl PoolBuffer {
    /// The memory of an object that is to be stored.
    pub(super) fn to_store(
        engine: &Tiers,
        taken: TakenStore,
        room: Option<OwnedSemaphorePermit>,
    ) -> Arc<Self> {
        let (offset, length) = (taken.work().offset, taken.work().scope.layout.bytes());
        Self::new(engine, offset, length, Held::Store { taken, room })
    }

    /// Memory for an object of so many bytes that is to be loaded; what moves in it is a sign of life of this
    /// adapter.
    pub(super) fn to_load(engine: &Tiers, slot: LoadSlot, length: u64, pulse: &Arc<Pulse>) -> Arc<Self> {
        let offset = slot.offset;
        Self::new(engine, offset, length, Held::Load { slot, pulse: Mutex::new(Arc::clone(pulse)) })
    }

    fn new(engine: &Tiers, offset: u64, length: u64, held: Held) -> Arc<Self> {
        Arc::new(Self {
            engine: engine.clone(),
            offset,
            length: usize::try_from(length).unwrap_or(usize::MAX),
            held,
        })
    }

    /// What was reserved for the object, if it is to be loaded.
    pub(super) fn slot(&self) -> Option<&LoadSlot> {
        match &self.held {
            Held::Load { slot, .. } => Some(slot),
            Held::Store { .. } => None,
        }
    }

    /// What moves in the buffer from now on is a sign of life of this adapter.
    pub(super) fn lend_to(&self, pulse: &Arc<Pulse>) {
        if let Held::Load { pulse: current, .. } = &self.held {
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
        if let Held::Load { pulse, .. } = &self.held {
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
        usize::try_from(self.engine.config().align_bytes).unwrap_or(usize::MAX)
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
