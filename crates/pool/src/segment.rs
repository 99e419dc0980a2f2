//! The pool's segment: created under its name, prepared in slices, gone with its server.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, Stat};
use rustix::io::Errno;
use xxhash_rust::xxh3::Xxh3;

use crate::hugepages::{self, Pages};
use crate::mapping::{Mapping, len_of};
use crate::name::DIRECTORY;
use crate::options::SegmentOptions;
use crate::{PoolError, SegmentName, claim, directory, owner, processes};

/// Most bytes asked of the system in one call while preparing: a signal undoes the call it interrupts, and
/// only that.
const PREPARE_STEP_BYTES: u64 = 16 << 20;

/// Bytes copied and hashed at a time: what stays in a core's cache.
const HASHED_BYTES: usize = 64 << 10;

/// The memory of the pool. Dropping it returns the memory and removes the name, unless it is to be left
/// behind.
#[derive(Debug)]
pub struct Segment {
    mapping: Mapping,
    shared: Option<Shared>,
}

/// A segment with a name, and the lock that says its server is alive.
#[derive(Debug)]
struct Shared {
    name: SegmentName,
    path: PathBuf,
    file: File,
    /// Bytes from the start that are backed by memory for sure.
    backed_bytes: AtomicU64,
    left_behind: AtomicBool,
}

impl Segment {
    /// Makes the pool. Its pages are not there yet: see [`Segment::prepare`].
    ///
    /// A segment of that name that a dead server left is replaced.
    ///
    /// # Errors
    /// [`PoolError::InvalidName`], [`PoolError::InvalidSize`], [`PoolError::NoSpace`]; [`PoolError::InUse`]
    /// and [`PoolError::Mapped`] when the name belongs to somebody alive; [`PoolError::System`] for what the
    /// system refuses.
    pub fn create(options: SegmentOptions) -> Result<Self, PoolError> {
        Self::create_in(Path::new(DIRECTORY), options)
    }

    /// Takes over the segment that a dead server of ours left under this name, with everything in it. `None`
    /// if there is none, or one of another size; a segment without a name can't be taken over. It is left
    /// behind again, however this server ends, unless
    /// [`Self::unlink`] is called.
    ///
    /// # Errors
    /// [`PoolError::InvalidName`], [`PoolError::InvalidSize`]; [`PoolError::InUse`] when its server is alive;
    /// [`PoolError::System`].
    pub fn adopt(options: &SegmentOptions) -> Result<Option<Self>, PoolError> {
        let Some(share) = &options.share else { return Ok(None) };
        let (name, directory) = (SegmentName::new(share)?, Path::new(DIRECTORY));
        let path = name.path_in(directory);
        let len = usize::try_from(options.bytes).map_err(|_| PoolError::InvalidSize(options.bytes))?;
        let what = "open the segment that a server before this one left";
        let Some((file, stat)) = owner::open_regular(&path).map_err(PoolError::system(what))? else {
            return Ok(None);
        };
        if !owner::is_marked(&stat) || u64::try_from(stat.st_size) != Ok(options.bytes) {
            return Ok(None);
        }
        if !owner::lock_patiently(&file).map_err(PoolError::system(what))? {
            return Err(PoolError::InUse { name: name.to_string(), pid: processes::lock_holder(&stat) });
        }
        if !owner::is_same_file(&path, &stat) {
            return Ok(None);
        }
        let shared = Shared::new(name, path, file);
        shared.left_behind.store(true, Ordering::Relaxed);
        let hugepages = options.hugepages && hugepages::shared_allowed(directory);
        let mapping = Mapping::shared(shared.file.as_fd(), len, hugepages)?;
        Ok(Some(Self { mapping, shared: Some(shared) }))
    }

    /// Leaves name and memory behind when this value is dropped, for [`Self::adopt`].
    pub fn leave_behind(&self) {
        if let Some(shared) = &self.shared {
            shared.left_behind.store(true, Ordering::Relaxed);
        }
    }

    /// The name, for what belongs to its holder: whoever has the segment has the lock.
    pub(crate) fn locked_name(&self) -> Option<&SegmentName> {
        self.shared.as_ref().map(|shared| &shared.name)
    }

    /// The pool with its name in any tmpfs.
    fn create_in(directory: &Path, options: SegmentOptions) -> Result<Self, PoolError> {
        let SegmentOptions { share, bytes, hugepages } = options;
        let len = usize::try_from(bytes)
            .ok()
            .filter(|len| *len > 0 && isize::try_from(*len).is_ok())
            .ok_or(PoolError::InvalidSize(bytes))?;
        let Some(name) = share else {
            return Ok(Self { mapping: Mapping::private(len, hugepages)?, shared: None });
        };
        let name = SegmentName::new(&name)?;
        let path = name.path_in(directory);
        let file = claim::create_shared(&name, &path, bytes)?;
        // From here on a failure removes the name again.
        let shared = Shared::new(name, path, file);
        let hugepages = hugepages && hugepages::shared_allowed(directory);
        let mapping = Mapping::shared(shared.file.as_fd(), len, hugepages)?;
        Ok(Self { mapping, shared: Some(shared) })
    }

    /// Name of the segment without a slash, as clients are told it; `None` for private memory.
    pub fn name(&self) -> Option<&str> {
        self.shared.as_ref().map(|shared| shared.name.as_str())
    }

    /// Which file it is; `None` for private memory.
    pub(crate) fn stat(&self) -> Option<Stat> {
        rustix::fs::fstat(&self.shared.as_ref()?.file).ok()
    }

    /// Size of the pool.
    pub fn len_bytes(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// What kind of pages the pool got.
    pub fn pages(&self) -> Pages {
        self.mapping.pages()
    }

    /// Has the system back a range with memory now, so that a client that writes there never finds `/dev/shm`
    /// full.
    ///
    /// Blocks for as long as the system takes, 0.05 to 1 s per 64 MiB: call it on a thread of its own, a
    /// slice at a time, and stop between slices. Contents are kept; a range that is backed already costs
    /// little.
    ///
    /// # Errors
    /// [`PoolError::Exhausted`] when the machine or `/dev/shm` has no memory left, [`PoolError::OutOfRange`].
    pub fn prepare(&self, range: Range<u64>) -> Result<(), PoolError> {
        let len = len_of(&range);
        self.mapping.check(range.start, len)?;
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + PREPARE_STEP_BYTES);
            match &self.shared {
                Some(shared) => shared.back(start..end)?,
                None => self.mapping.populate(start..end)?,
            }
            start = end;
        }
        Ok(())
    }

    /// Enters a prepared range into this process's page tables, so that no copy of it stops at each page's
    /// first touch. Worth it for a server that moves payloads itself; it takes 2 MiB of tables for each GiB.
    ///
    /// # Errors
    /// As [`Segment::prepare`].
    pub fn map_ahead(&self, range: Range<u64>) -> Result<(), PoolError> {
        let len = len_of(&range);
        self.ensure_backed(range.start, len)?;
        self.mapping.populate(range)
    }

    /// Copies `bytes` into the pool.
    ///
    /// # Errors
    /// [`PoolError::OutOfRange`], [`PoolError::Exhausted`]; then nothing was written.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), PoolError> {
        self.ensure_backed(offset, bytes.len())?;
        self.mapping.write(offset, bytes)
    }

    /// Copies bytes of the pool into `out`, all of it.
    ///
    /// # Errors
    /// [`PoolError::OutOfRange`], [`PoolError::Exhausted`]; then `out` is unchanged.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), PoolError> {
        self.ensure_backed(offset, out.len())?;
        self.mapping.read(offset, out)
    }

    /// Appends `len` bytes of the pool to `out`.
    ///
    /// # Errors
    /// [`PoolError::OutOfRange`], [`PoolError::Exhausted`]; then `out` is unchanged.
    pub fn append_to(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<(), PoolError> {
        self.ensure_backed(offset, len)?;
        self.mapping.append_to(offset, len, out)
    }

    /// Fills `range` from a file, once; returns the bytes read, 0 at the end of the file. The kernel moves
    /// the bytes, so direct I/O is possible.
    ///
    /// # Errors
    /// `InvalidInput` for a range outside the pool, [`PoolError::Exhausted`] as a cause, and what the kernel
    /// reports.
    pub fn pread_from(&self, fd: BorrowedFd<'_>, file_offset: u64, range: Range<u64>) -> io::Result<usize> {
        let (offset, len) = self.backed_range(range)?;
        self.mapping.pread(offset, len, fd, file_offset)
    }

    /// Writes `range` to a file, once; returns the bytes written.
    ///
    /// # Errors
    /// As [`Segment::pread_from`].
    pub fn pwrite_to(&self, fd: BorrowedFd<'_>, file_offset: u64, range: Range<u64>) -> io::Result<usize> {
        let (offset, len) = self.backed_range(range)?;
        self.mapping.pwrite(offset, len, fd, file_offset)
    }

    /// Fills `range` from a stream, once; returns the bytes read, 0 at its end.
    ///
    /// # Errors
    /// As [`Segment::pread_from`].
    pub fn recv_from(&self, fd: BorrowedFd<'_>, range: Range<u64>) -> io::Result<usize> {
        let (offset, len) = self.backed_range(range)?;
        self.mapping.recv(offset, len, fd)
    }

    /// Writes `range` to a stream, once; returns the bytes written.
    ///
    /// # Errors
    /// As [`Segment::pread_from`].
    pub fn send_to(&self, fd: BorrowedFd<'_>, range: Range<u64>) -> io::Result<usize> {
        let (offset, len) = self.backed_range(range)?;
        self.mapping.send(offset, len, fd)
    }

    /// XXH3-64 of `len` bytes of the pool: of a copy of them, a piece at a time, because clients may write
    /// there meanwhile.
    ///
    /// # Errors
    /// [`PoolError::OutOfRange`], [`PoolError::Exhausted`].
    pub fn checksum(&self, offset: u64, len: u64) -> Result<u64, PoolError> {
        let mut hasher = Xxh3::new();
        let mut left = usize::try_from(len).unwrap_or(usize::MAX);
        let mut at = offset;
        let mut piece = vec![0; left.min(HASHED_BYTES)];
        while left > 0 {
            let piece = &mut piece[..left.min(HASHED_BYTES)];
            self.read_at(at, piece)?;
            hasher.update(piece);
            at = at.saturating_add(piece.len() as u64);
            left -= piece.len();
        }
        Ok(hasher.digest())
    }

    /// Removes the name now; the memory stays until the segment is dropped. Further calls do nothing.
    ///
    /// A name that somebody else has taken over meanwhile is left alone.
    pub fn unlink(&self) {
        if let Some(shared) = &self.shared {
            shared.unlink();
        }
    }

    /// A range the kernel may be handed.
    fn backed_range(&self, range: Range<u64>) -> io::Result<(u64, usize)> {
        let len = len_of(&range);
        match self.ensure_backed(range.start, len) {
            Ok(()) => Ok((range.start, len)),
            Err(error @ PoolError::OutOfRange { .. }) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, error))
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Writing to a page of a full `/dev/shm` kills the process, so what is not backed yet is backed first.
    fn ensure_backed(&self, offset: u64, len: usize) -> Result<(), PoolError> {
        self.mapping.check(offset, len)?;
        match &self.shared {
            Some(shared) if shared.backed_bytes.load(Ordering::Relaxed) < offset + len as u64 => {
                shared.back(offset..offset + len as u64)
            }
            _ => Ok(()),
        }
    }
}

impl Shared {
    fn new(name: SegmentName, path: PathBuf, file: File) -> Self {
        Self { name, path, file, backed_bytes: AtomicU64::new(0), left_behind: AtomicBool::new(false) }
    }

    fn back(&self, range: Range<u64>) -> Result<(), PoolError> {
        let Range { start, end } = range;
        if start >= end {
            return Ok(());
        }
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), start, end - start) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::NOSPC | Errno::NOMEM) => {
                    return Err(PoolError::Exhausted { offset: start, len: end - start });
                }
                Err(error) => return Err(PoolError::system("prepare the shared segment")(error)),
            }
        }
        // Only a range that continues what is backed already moves the mark.
        _ = self.backed_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |backed| {
            (start <= backed && backed < end).then_some(end)
        });
        Ok(())
    }

    fn unlink(&self) {
        if rustix::fs::fstat(&self.file).is_ok_and(|stat| owner::is_same_file(&self.path, &stat)) {
            directory::remove(&self.name);
            // Without the name there is nothing to remove; other failures leave it to the next server's
            // reclaim.
            _ = rustix::fs::unlink(&self.path);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.left_behind.load(Ordering::Relaxed) {
            self.unlink();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn options(share: &str, bytes: u64) -> SegmentOptions {
        SegmentOptions { share: Some(share.to_owned()), bytes, hugepages: true }
    }

    /// A tmpfs of its own size, where the test may mount one.
    struct SmallTmpfs(tempfile::TempDir);

    impl SmallTmpfs {
        fn mount(mount_options: &str) -> Option<Self> {
            let directory = tempfile::tempdir().unwrap();
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", mount_options, "tmpfs"])
                .arg(directory.path())
                .output()
                .is_ok_and(|output| output.status.success());
            if !mounted {
                eprintln!("skipped: mounting a tmpfs takes root");
            }
            mounted.then_some(Self(directory))
        }
    }

    impl Drop for SmallTmpfs {
        fn drop(&mut self) {
            _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        }
    }

    #[test]
    fn a_full_file_system_is_an_error_and_not_a_signal() {
        let Some(tmpfs) = SmallTmpfs::mount("size=4m") else { return };
        let directory = tmpfs.0.path();
        let segment = Segment::create_in(directory, options("full", 3 * MIB)).unwrap();
        segment.prepare(0..MIB).unwrap();
        std::fs::write(directory.join("other"), vec![1; 3 * MIB as usize]).unwrap();
        let exhausted = |outcome| matches!(outcome, Err(PoolError::Exhausted { .. }));
        assert!(exhausted(segment.prepare(MIB..3 * MIB)));
        assert!(exhausted(segment.write_at(2 * MIB, &vec![2; MIB as usize])));
        assert!(exhausted(segment.read_at(MIB, &mut vec![2; 2 * MIB as usize])));
        segment.write_at(0, &vec![2; MIB as usize]).unwrap();
        std::fs::remove_file(directory.join("other")).unwrap();
        segment.prepare(MIB..3 * MIB).unwrap();
        segment.write_at(MIB, &vec![3; 2 * MIB as usize]).unwrap();

        let refused = Segment::create_in(directory, options("second", 2 * MIB)).unwrap_err();
        assert!(matches!(refused, PoolError::NoSpace { free_bytes, .. } if free_bytes == MIB), "{refused}");
    }

    #[test]
    fn shared_huge_pages_are_those_of_the_mount() {
        for (mount_options, pages) in [("huge=advise", Pages::Transparent), ("huge=never", Pages::Base)] {
            let Some(tmpfs) = SmallTmpfs::mount(mount_options) else { return };
            let segment = Segment::create_in(tmpfs.0.path(), options("huge", 4 * MIB)).unwrap();
            assert_eq!(segment.pages(), pages);
            segment.prepare(0..4 * MIB).unwrap();
            segment.write_at(4 * MIB - 4, b"tail").unwrap();
        }
    }
}
