//! Memory an adapter is lent: who may touch it, and for how long.
//!
//! Pool memory is shared with client processes that may write to it at any time, so no `&[u8]` to it can
//! exist. A lent buffer therefore only copies in and out, or moves bytes straight between itself and a file
//! descriptor. Owning an `Arc` of it *is* the right to touch it: the lender reuses the memory only when the
//! last clone is gone, so an adapter that gave up waiting for a device can't have the memory taken from under
//! a transfer that is still running.

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use xxhash_rust::xxh3::Xxh3;

use crate::mutex::lock;

/// A buffer as it travels through adapters and decorators.
pub type Lent = Arc<dyn LentBuffer>;

/// Bytes a buffer moves through a bounce copy at a time when its implementation has nothing better.
const BOUNCE_BYTES: usize = 256 * 1024;

/// Bytes hashed at a time: few enough to stay in a core's own cache between the copy and the hash.
const HASHED_BYTES: usize = 64 * 1024;

/// Where a buffer lies in a shared-memory segment, for adapters in other processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedLocation {
    /// The segment as `shm_open` names it.
    pub segment_name: Arc<str>,
    /// First byte inside the segment.
    pub offset: u64,
}

/// A fixed-size piece of memory lent to an adapter.
///
/// Implementers provide copies; the descriptor methods default to a bounce buffer and are overridden where
/// the memory can be handed to the kernel. Ranges are in bytes from the start of the buffer. Every method
/// fails with `InvalidInput` on a range outside the buffer.
pub trait LentBuffer: Send + Sync + fmt::Debug {
    /// Size in bytes.
    fn len(&self) -> usize;

    /// Whether there is nothing to move.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A power of two the address of the first byte is a multiple of; direct I/O needs the device's block
    /// size.
    fn alignment(&self) -> usize {
        1
    }

    /// Where other processes find the same bytes, when they can.
    fn shared_location(&self) -> Option<SharedLocation> {
        None
    }

    /// Copies `into.len()` bytes out, starting at `offset`.
    ///
    /// # Errors
    /// A range beyond the buffer, or memory that is gone.
    fn read_at(&self, offset: usize, into: &mut [u8]) -> io::Result<()>;

    /// Copies `from` in, starting at `offset`.
    ///
    /// # Errors
    /// A range beyond the buffer, or memory that is gone.
    fn write_at(&self, offset: usize, from: &[u8]) -> io::Result<()>;

    /// Fills `range` from a file, once; returns the bytes read, 0 at the end of the file.
    ///
    /// # Errors
    /// Those of `pread`, or of [`Self::write_at`].
    fn pread_into(&self, fd: BorrowedFd<'_>, file_offset: u64, range: Range<usize>) -> io::Result<usize> {
        bounce_in(self, range, |bytes| Ok(rustix::io::pread(fd, bytes, file_offset)?))
    }

    /// Writes `range` to a file, once; returns the bytes written.
    ///
    /// # Errors
    /// Those of `pwrite`, or of [`Self::read_at`].
    fn pwrite_from(&self, fd: BorrowedFd<'_>, file_offset: u64, range: Range<usize>) -> io::Result<usize> {
        bounce_out(self, range, |bytes| Ok(rustix::io::pwrite(fd, bytes, file_offset)?))
    }

    /// Fills `range` from a stream (a socket), once; returns the bytes read, 0 at its end.
    ///
    /// # Errors
    /// Those of `read`, or of [`Self::write_at`].
    fn recv_into(&self, fd: BorrowedFd<'_>, range: Range<usize>) -> io::Result<usize> {
        bounce_in(self, range, |bytes| Ok(rustix::io::read(fd, bytes)?))
    }

    /// Writes `range` to a stream, once; returns the bytes written.
    ///
    /// # Errors
    /// Those of `write`, or of [`Self::read_at`].
    fn send_from(&self, fd: BorrowedFd<'_>, range: Range<usize>) -> io::Result<usize> {
        bounce_out(self, range, |bytes| Ok(rustix::io::write(fd, bytes)?))
    }

    /// XXH3-64 of the whole buffer, the checksum of [`Seal`](crate::Seal).
    ///
    /// # Errors
    /// Those of [`Self::read_at`].
    fn checksum(&self) -> io::Result<u64> {
        let mut hasher = Xxh3::new();
        let mut bounce = vec![0; HASHED_BYTES.min(self.len())];
        let mut offset = 0;
        while offset < self.len() {
            let step = bounce.len().min(self.len() - offset);
            self.read_at(offset, &mut bounce[..step])?;
            hasher.update(&bounce[..step]);
            offset += step;
        }
        Ok(hasher.digest())
    }
}

fn bounce_in<B: LentBuffer + ?Sized>(
    buffer: &B,
    range: Range<usize>,
    read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    check_range(buffer.len(), &range)?;
    let mut bounce = vec![0; range.len().min(BOUNCE_BYTES)];
    let count = read(&mut bounce)?;
    buffer.write_at(range.start, &bounce[..count])?;
    Ok(count)
}

fn bounce_out<B: LentBuffer + ?Sized>(
    buffer: &B,
    range: Range<usize>,
    write: impl FnOnce(&[u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    check_range(buffer.len(), &range)?;
    let mut bounce = vec![0; range.len().min(BOUNCE_BYTES)];
    buffer.read_at(range.start, &mut bounce)?;
    write(&bounce)
}

fn check_range(len: usize, range: &Range<usize>) -> io::Result<()> {
    if range.start <= range.end && range.end <= len {
        return Ok(());
    }
    let text = format!("range `{}..{}` is outside a buffer of {len} bytes", range.start, range.end);
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// A buffer on the heap: for tests, benchmarks and tools that have no pool.
pub struct HeapBuffer {
    bytes: Mutex<Vec<u8>>,
    start: usize,
    len: usize,
}

/// What the first byte of a [`HeapBuffer`] is aligned to.
const HEAP_ALIGNMENT: usize = 4096;

impl HeapBuffer {
    /// A buffer of `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Arc<Self> {
        let bytes = vec![0; len + HEAP_ALIGNMENT];
        // The heap block never moves: the vector is neither grown nor shrunk.
        let start = bytes.as_ptr().align_offset(HEAP_ALIGNMENT).min(HEAP_ALIGNMENT);
        Arc::new(Self { bytes: Mutex::new(bytes), start, len })
    }

    /// A buffer holding a copy of `bytes`.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Arc<Self> {
        let buffer = Self::zeroed(bytes.len());
        lock(&buffer.bytes)[buffer.start..buffer.start + bytes.len()].copy_from_slice(bytes);
        buffer
    }

    /// A copy of the content.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        lock(&self.bytes)[self.start..self.start + self.len].to_vec()
    }

    fn within(&self, range: &Range<usize>) -> io::Result<Range<usize>> {
        check_range(self.len, range)?;
        Ok(self.start + range.start..self.start + range.end)
    }
}

impl fmt::Debug for HeapBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapBuffer").field("len", &self.len).finish_non_exhaustive()
    }
}

impl LentBuffer for HeapBuffer {
    fn len(&self) -> usize {
        self.len
    }

    fn alignment(&self) -> usize {
        HEAP_ALIGNMENT
    }

    ///
    /// # Errors
    /// A range beyond the buffer, or memory that is gone.
    fn read_at(&self, offset: usize, into: &mut [u8]) -> io::Result<()> {
        let range = self.within(&(offset..offset.saturating_add(into.len())))?;
        into.copy_from_slice(&lock(&self.bytes)[range]);
        Ok(())
    }

    ///
    /// # Errors
    /// A range beyond the buffer, or memory that is gone.
    fn write_at(&self, offset: usize, from: &[u8]) -> io::Result<()> {
        let range = self.within(&(offset..offset.saturating_add(from.len())))?;
        lock(&self.bytes)[range].copy_from_slice(from);
        Ok(())
    }

    ///
    /// # Errors
    /// Those of `pread`, or of [`Self::write_at`].
    fn pread_into(&self, fd: BorrowedFd<'_>, file_offset: u64, range: Range<usize>) -> io::Result<usize> {
        let range = self.within(&range)?;
        Ok(rustix::io::pread(fd, &mut lock(&self.bytes)[range], file_offset)?)
    }

    ///
    /// # Errors
    /// Those of `pwrite`, or of [`Self::read_at`].
    fn pwrite_from(&self, fd: BorrowedFd<'_>, file_offset: u64, range: Range<usize>) -> io::Result<usize> {
        let range = self.within(&range)?;
        Ok(rustix::io::pwrite(fd, &lock(&self.bytes)[range], file_offset)?)
    }

    ///
    /// # Errors
    /// Those of `read`, or of [`Self::write_at`].
    fn recv_into(&self, fd: BorrowedFd<'_>, range: Range<usize>) -> io::Result<usize> {
        let range = self.within(&range)?;
        Ok(rustix::io::read(fd, &mut lock(&self.bytes)[range])?)
    }

    ///
    /// # Errors
    /// Those of `write`, or of [`Self::read_at`].
    fn send_from(&self, fd: BorrowedFd<'_>, range: Range<usize>) -> io::Result<usize> {
        let range = self.within(&range)?;
        Ok(rustix::io::write(fd, &lock(&self.bytes)[range])?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    /// A buffer that offers copies only, so that the default methods are what runs.
    #[derive(Debug)]
    struct CopyOnly(Arc<HeapBuffer>);

    impl LentBuffer for CopyOnly {
        fn len(&self) -> usize {
            self.0.len()
        }
        ///
        /// # Errors
        /// A range beyond the buffer, or memory that is gone.
        fn read_at(&self, offset: usize, into: &mut [u8]) -> io::Result<()> {
            self.0.read_at(offset, into)
        }
        ///
        /// # Errors
        /// A range beyond the buffer, or memory that is gone.
        fn write_at(&self, offset: usize, from: &[u8]) -> io::Result<()> {
            self.0.write_at(offset, from)
        }
    }

    #[test]
    fn default_methods_agree_with_the_direct_ones() {
        let bytes: Vec<u8> = (0..600_000u32).map(|i| i.to_le_bytes()[1]).collect();
        let direct = HeapBuffer::copy_of(&bytes);
        let bounced = CopyOnly(Arc::clone(&direct));
        assert_eq!(direct.checksum().unwrap(), xxhash_rust::xxh3::xxh3_64(&bytes));

        let file = tempfile::tempfile().unwrap();
        let mut done = 0;
        while done < bytes.len() {
            done += bounced.pwrite_from(file.as_fd(), done as u64, done..bytes.len()).unwrap();
        }
        let back = CopyOnly(HeapBuffer::zeroed(bytes.len()));
        let mut done = 0;
        while done < bytes.len() {
            done += back.pread_into(file.as_fd(), done as u64, done..bytes.len()).unwrap();
        }
        assert_eq!(back.0.to_vec(), bytes);
    }

    #[test]
    fn ranges_outside_are_refused() {
        let buffer = HeapBuffer::zeroed(8);
        for (offset, len) in [(0, 9), (8, 1), (usize::MAX, 2)] {
            let kind = buffer.write_at(offset, &vec![0; len]).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::InvalidInput, "{offset}+{len}");
        }
        assert!(buffer.write_at(8, &[]).is_ok());
    }
}
