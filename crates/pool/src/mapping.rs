//! The mapping: the only place that touches pool memory.
#![expect(unsafe_code, reason = "memory shared with other processes is reached through raw pointers only")]

use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::{self, NonNull};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::PoolError;
use crate::hugepages::{self, HUGE_PAGE_BYTES, Pages};

/// A range of memory, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    mapped_len: usize,
    pages: Pages,
}

// SAFETY: the mapping belongs to no thread. Access goes through raw copies only; no reference to its bytes is
// ever formed.
unsafe impl Send for Mapping {}
// SAFETY: as above. Copies that overlap in time yield torn bytes, as they do with the clients that write to
// the same memory, and the callers' leases keep them from mattering.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of a shared segment, with the wish for huge pages if its file system grants them.
    pub(crate) fn shared(fd: BorrowedFd<'_>, len: usize, hugepages: bool) -> Result<Self, PoolError> {
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping at an address the kernel chooses replaces nothing.
        let base = unsafe {
            rustix::mm::mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags, fd, 0)
        }
        .map_err(PoolError::system("map the shared segment"))?;
        let mut mapping = Self::over(base, len, len)?;
        if hugepages && mapping.advise(Advice::LinuxHugepage) {
            mapping.pages = Pages::Transparent;
        }
        Ok(mapping)
    }

    /// Maps `len` bytes of private memory; with `hugepages` from the reserve, or else with the wish for them.
    pub(crate) fn private(len: usize, hugepages: bool) -> Result<Self, PoolError> {
        if hugepages
            && let Some(mapped_len) = len.checked_next_multiple_of(HUGE_PAGE_BYTES)
            && let Ok(base) = map_anonymous(mapped_len, MapFlags::PRIVATE | MapFlags::HUGETLB)
        {
            let mut mapping = Self::over(base, len, mapped_len)?;
            mapping.pages = Pages::Reserved;
            return Ok(mapping);
        }
        let base = map_anonymous(len, MapFlags::PRIVATE | MapFlags::NORESERVE)
            .map_err(PoolError::system("map private memory"))?;
        let mut mapping = Self::over(base, len, len)?;
        if hugepages && hugepages::private_allowed() && mapping.advise(Advice::LinuxHugepage) {
            mapping.pages = Pages::Transparent;
        }
        Ok(mapping)
    }

    fn over(base: *mut c_void, len: usize, mapped_len: usize) -> Result<Self, PoolError> {
        let base = NonNull::new(base.cast()).ok_or(PoolError::InvalidSize(len as u64))?;
        let mapping = Self { base, len, mapped_len, pages: Pages::Base };
        // Cached data has no place in a core dump; where the kernel can't leave it out nothing is lost.
        _ = mapping.advise(Advice::LinuxDontDump);
        Ok(mapping)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn pages(&self) -> Pages {
        self.pages
    }

    /// Copies `bytes` into the mapping.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), PoolError> {
        let at = self.check(offset, bytes.len())?;
        // SAFETY: `check` proved that the range lies within the mapping, which lives as long as `self`. A
        // Rust slice cannot overlap it, because none is ever made of it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.as_ptr().add(at), bytes.len()) };
        Ok(())
    }

    /// Copies bytes of the mapping into `out`.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), PoolError> {
        let at = self.check(offset, out.len())?;
        // SAFETY: as in `write`, with source and destination exchanged.
        unsafe { ptr::copy_nonoverlapping(self.base.as_ptr().add(at), out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    /// Appends bytes of the mapping to `out`, without clearing the memory first.
    pub(crate) fn append_to(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<(), PoolError> {
        let at = self.check(offset, len)?;
        out.reserve(len);
        let start = out.len();
        // SAFETY: source as in `read`; the destination is spare capacity just reserved, and it counts as
        // initialised only after the copy filled it.
        unsafe {
            ptr::copy_nonoverlapping(self.base.as_ptr().add(at), out.as_mut_ptr().add(start), len);
            out.set_len(start + len);
        }
        Ok(())
    }

    /// Has the kernel fill part of the mapping from a file, once; returns the bytes read, 0 at its end.
    pub(crate) fn pread(
        &self,
        offset: u64,
        len: usize,
        fd: BorrowedFd<'_>,
        file_offset: u64,
    ) -> io::Result<usize> {
        let (at, file_offset) = (self.check(offset, len).map_err(invalid)?, position(file_offset)?);
        // SAFETY: `check` proved that the range lies within the mapping, which lives as long as `self`. The
        // kernel writes there as any other process may; no reference to the range exists.
        let count =
            unsafe { libc::pread(fd.as_raw_fd(), self.base.as_ptr().add(at).cast(), len, file_offset) };
        counted(count)
    }

    /// Has the kernel write part of the mapping to a file, once; returns the bytes written.
    pub(crate) fn pwrite(
        &self,
        offset: u64,
        len: usize,
        fd: BorrowedFd<'_>,
        file_offset: u64,
    ) -> io::Result<usize> {
        let (at, file_offset) = (self.check(offset, len).map_err(invalid)?, position(file_offset)?);
        // SAFETY: as in `pread`; the kernel only reads the range.
        let count =
            unsafe { libc::pwrite(fd.as_raw_fd(), self.base.as_ptr().add(at).cast(), len, file_offset) };
        counted(count)
    }

    /// Has the kernel fill part of the mapping from a stream, once; returns the bytes read, 0 at its end.
    pub(crate) fn recv(&self, offset: u64, len: usize, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let at = self.check(offset, len).map_err(invalid)?;
        // SAFETY: as in `pread`.
        let count = unsafe { libc::read(fd.as_raw_fd(), self.base.as_ptr().add(at).cast(), len) };
        counted(count)
    }

    /// Has the kernel write part of the mapping to a stream, once; returns the bytes written.
    pub(crate) fn send(&self, offset: u64, len: usize, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let at = self.check(offset, len).map_err(invalid)?;
        // SAFETY: as in `pwrite`.
        let count = unsafe { libc::write(fd.as_raw_fd(), self.base.as_ptr().add(at).cast(), len) };
        counted(count)
    }

    /// Has the kernel back private pages, and map those of a shared segment, now. Kernels that can't are left
    /// to do it on first use.
    pub(crate) fn populate(&self, range: Range<u64>) -> Result<(), PoolError> {
        let len = len_of(&range);
        let at = self.check(range.start, len)?;
        if len == 0 {
            return Ok(());
        }
        // SAFETY: the range lies within the mapping (`check`) and populating changes no contents.
        let done = unsafe {
            rustix::mm::madvise(self.base.as_ptr().add(at).cast(), len, Advice::LinuxPopulateWrite)
        };
        match done {
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(Errno::NOMEM | Errno::FAULT | Errno::HWPOISON) => {
                Err(PoolError::Exhausted { offset: range.start, len: len as u64 })
            }
            Err(error) => Err(PoolError::system("prepare private memory")(error)),
        }
    }

    /// The start of a range as an index, if the whole range lies inside.
    pub(crate) fn check(&self, offset: u64, len: usize) -> Result<usize, PoolError> {
        usize::try_from(offset)
            .ok()
            .filter(|at| at.checked_add(len).is_some_and(|end| end <= self.len))
            .ok_or(PoolError::OutOfRange { offset, len: len as u64, pool_bytes: self.len as u64 })
    }

    fn advise(&self, advice: Advice) -> bool {
        // SAFETY: the whole mapping is ours, and none of the advice used here changes its contents.
        unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.mapped_len, advice) }.is_ok()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by this value, nothing refers to it any more, and it is unmapped once.
        // The only errors are those of a range that is not a mapping.
        _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.mapped_len) };
    }
}

/// What a transfer of the kernel's returned.
fn counted(count: isize) -> io::Result<usize> {
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

fn position(file_offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(file_offset).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

fn invalid(error: PoolError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

fn map_anonymous(len: usize, flags: MapFlags) -> rustix::io::Result<*mut c_void> {
    // SAFETY: a fresh mapping at an address the kernel chooses replaces nothing.
    unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags) }
}

/// Bytes in a range; more than there can be for one that no address space holds, which every check refuses.
pub(crate) fn len_of(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn copies_reach_the_last_byte_and_no_further() {
        let mapping = Mapping::private(8192, false).unwrap();
        mapping.write(8189, b"end").unwrap();
        let mut out = vec![b'>'];
        mapping.append_to(8188, 4, &mut out).unwrap();
        assert_eq!(out, b">\0end");
        let mut two = [0; 2];
        mapping.read(8190, &mut two).unwrap();
        assert_eq!(&two, b"nd");
        for (offset, len) in [(8190, 3), (8192, 1), (u64::MAX, 1), (u64::MAX - 1, 4)] {
            assert!(matches!(mapping.write(offset, &vec![0; len]), Err(PoolError::OutOfRange { .. })));
            assert!(mapping.read(offset, &mut vec![0; len]).is_err());
            assert!(mapping.append_to(offset, len, &mut out).is_err());
        }
        assert_eq!(out.len(), 5);
        assert!(mapping.write(8192, b"").is_ok());
    }

    #[test]
    fn the_kernel_moves_bytes_of_the_range_and_no_others() {
        let mapping = Mapping::private(8192, false).unwrap();
        mapping.write(0, &[7; 8192]).unwrap();
        mapping.write(4090, b"pool").unwrap();
        let file = tempfile::tempfile().unwrap();
        assert_eq!(mapping.pwrite(4090, 4, file.as_fd(), 100).unwrap(), 4);
        assert_eq!(mapping.pread(8190, 2, file.as_fd(), 100).unwrap(), 2);
        assert_eq!(mapping.pread(0, 8, file.as_fd(), 104).unwrap(), 0, "the end of the file");

        let (mut here, there) = UnixStream::pair().unwrap();
        assert_eq!(mapping.send(8190, 2, there.as_fd()).unwrap(), 2);
        let mut sent = [0; 2];
        here.read_exact(&mut sent).unwrap();
        assert_eq!(&sent, b"po");
        here.write_all(b"xy").unwrap();
        assert_eq!(mapping.recv(0, 2, there.as_fd()).unwrap(), 2);
        let mut all = Vec::new();
        mapping.append_to(0, 8192, &mut all).unwrap();
        assert_eq!((&all[..3], &all[8188..]), (b"xy\x07".as_slice(), b"\x07\x07po".as_slice()));
    }

    #[test]
    fn transfers_outside_are_refused_before_the_kernel_is_asked() {
        let mapping = Mapping::private(8192, false).unwrap();
        let file = tempfile::tempfile().unwrap();
        let fd = file.as_fd();
        for (offset, len) in [(8190, 3), (8192, 1), (u64::MAX, 1)] {
            let kinds = [
                mapping.pread(offset, len, fd, 0),
                mapping.pwrite(offset, len, fd, 0),
                mapping.recv(offset, len, fd),
                mapping.send(offset, len, fd),
            ]
            .map(|done| done.unwrap_err().kind());
            assert_eq!(kinds, [io::ErrorKind::InvalidInput; 4], "{offset}+{len}");
        }
        assert!(mapping.pwrite(0, 1, fd, u64::MAX).is_err());
        assert_eq!(file.metadata().unwrap().len(), 0);
        let read_only = std::fs::File::open("/dev/null").unwrap();
        assert!(mapping.pwrite(0, 1, read_only.as_fd(), 0).is_err(), "what the kernel refuses is an error");
    }

    #[test]
    fn populating_keeps_the_contents() {
        let mapping = Mapping::private(1 << 20, false).unwrap();
        mapping.write(4096, b"kept").unwrap();
        mapping.populate(0..1 << 20).unwrap();
        mapping.populate(0..0).unwrap();
        let mut out = Vec::new();
        mapping.append_to(4096, 4, &mut out).unwrap();
        assert_eq!(out, b"kept");
        assert!(mapping.populate(0..(1 << 20) + 1).is_err());
    }

    #[test]
    fn hugepages_are_taken_or_their_absence_is_told() {
        let mapping = Mapping::private(3 << 20, true).unwrap();
        mapping.write((3 << 20) - 1, b"x").unwrap();
        assert!(mapping.write(3 << 20, b"x").is_err(), "rounding up must not enlarge the pool");
        let reserved = mapping.pages() == Pages::Reserved;
        assert_eq!(mapping.mapped_len > mapping.len(), reserved);
    }
}
