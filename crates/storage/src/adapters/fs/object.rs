//! Reading and writing one object's file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_core::key::ObjectKey;
use rustix::fs::{Advice, FlockOperation, OFlags, XattrFlags};
use rustix::io::Errno;

use super::options::{FsOptions, FsyncPolicy};
use crate::adapter::Seal;
use crate::buffer::LentBuffer;

/// The attribute a seal is kept in.
const SEAL_XATTR: &str = "user.larder.seal";
/// Size and address granularity of direct I/O; covers every common device.
const DIRECT_BLOCK: usize = 4096;

/// Attempts to create a file that sweepers keep removing; each loses a race of microseconds.
const CREATE_ATTEMPTS_MAX: usize = 8;

/// A seal as it is kept.
pub(super) type SealBytes = [u8; Seal::ENCODED_LEN];

/// The wishes of the configuration and what the file system turned out to grant.
#[derive(Debug)]
pub(super) struct ObjectIo {
    use_odirect: bool,
    read_ahead_bytes: Option<u64>,
    fsync: FsyncPolicy,
    is_direct_refused: AtomicBool,
    is_seal_refused: AtomicBool,
}

/// A file opened for reading.
pub(super) struct ObjectFile {
    file: File,
    is_direct: bool,
    /// Its size in bytes.
    pub(super) bytes: u64,
    /// What its writer kept beside it.
    pub(super) seal: Option<Seal>,
}

impl ObjectIo {
    pub(super) fn new(options: &FsOptions) -> Self {
        Self {
            use_odirect: options.use_odirect,
            read_ahead_bytes: options.read_ahead_bytes,
            fsync: options.fsync,
            is_direct_refused: AtomicBool::new(false),
            is_seal_refused: AtomicBool::new(false),
        }
    }

    /// Whether direct I/O was wished for and refused.
    pub(super) fn is_direct_refused(&self) -> bool {
        self.is_direct_refused.load(Ordering::Relaxed)
    }

    /// Whether the file system has no attributes to keep seals in.
    pub(super) fn is_seal_refused(&self) -> bool {
        self.is_seal_refused.load(Ordering::Relaxed)
    }

    /// Writes a whole file that must not exist yet. The file stays locked until the handle returned is
    /// dropped, which tells sweepers that its writer lives.
    pub(super) fn create(
        &self,
        path: &Path,
        buffer: &dyn LentBuffer,
        seal: Option<SealBytes>,
    ) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        let (file, is_direct) = self.create_locked(&options, path, buffer)?;
        self.write(&file, buffer, is_direct)?;
        if let Some(seal) = seal {
            self.attach_seal(&file, seal)?;
        }
        if self.fsync != FsyncPolicy::Never {
            file.sync_data()?;
        }
        Ok(file)
    }

    /// Creates and locks. Between the two a sweeper may take the file for abandoned and remove it; then
    /// again.
    fn create_locked(
        &self,
        options: &OpenOptions,
        path: &Path,
        buffer: &dyn LentBuffer,
    ) -> io::Result<(File, bool)> {
        for _ in 0..CREATE_ATTEMPTS_MAX {
            let (file, is_direct) = self.open(options, path, buffer)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if rustix::fs::fstat(&file)?.st_nlink == 0 => {}
                Err(Errno::WOULDBLOCK) => {
                    _ = std::fs::remove_file(path);
                }
                // Where locks are not supported, sweepers can't take them either and leave the file alone.
                Ok(()) | Err(_) => return Ok((file, is_direct)),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "unfinished file is removed by another program each time",
        ))
    }

    /// Opens a file for reading into `buffer`. What is no regular file is refused: it is nothing we wrote,
    /// and opening or reading it might never end.
    pub(super) fn open_object(
        &self,
        path: &Path,
        key: &ObjectKey,
        buffer: &dyn LentBuffer,
    ) -> io::Result<ObjectFile> {
        let (file, is_direct) = self.open(OpenOptions::new().read(true), path, buffer)?;
        let bytes = regular_len(&file)?;
        if let Some(ahead) = self.read_ahead_bytes.filter(|_| !is_direct) {
            // Advice only; a file system that ignores it is no error.
            _ = rustix::fs::fadvise(&file, 0, std::num::NonZeroU64::new(ahead.min(bytes)), Advice::WillNeed);
        }
        let seal = read_seal(&file, key);
        Ok(ObjectFile { file, is_direct, bytes, seal })
    }

    /// What a writer kept beside an object.
    pub(super) fn seal_of(&self, path: &Path, key: &ObjectKey) -> io::Result<Option<Seal>> {
        let file = open_regular(path)?;
        Ok(read_seal(&file, key))
    }

    /// Fills `buffer` from the start of a file.
    pub(super) fn read(&self, object: &ObjectFile, buffer: &dyn LentBuffer) -> io::Result<()> {
        self.transfer(&object.file, buffer.len(), object.is_direct, |done, end| {
            match buffer.pread_into(object.file.as_fd(), done as u64, done..end)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                count => Ok(count),
            }
        })
    }

    fn write(&self, file: &File, buffer: &dyn LentBuffer, is_direct: bool) -> io::Result<()> {
        self.transfer(file, buffer.len(), is_direct, |done, end| {
            match buffer.pwrite_from(file.as_fd(), done as u64, done..end)? {
                0 => Err(io::ErrorKind::WriteZero.into()),
                count => Ok(count),
            }
        })
    }

    /// Moves `len` bytes piece by piece, leaving direct I/O where it ends: for the last part, which may be
    /// shorter than a block, and where a file system that let the file be opened for it refuses it all the
    /// same.
    fn transfer(
        &self,
        file: &File,
        len: usize,
        is_direct: bool,
        mut piece: impl FnMut(usize, usize) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut direct_len = if is_direct { len - len % DIRECT_BLOCK } else { 0 };
        let mut done = 0;
        while done < len {
            if is_direct && done == direct_len {
                leave_direct(file)?;
            }
            let end = if done < direct_len { direct_len } else { len };
            match piece(done, end) {
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if done < direct_len && is_invalid(&error) => {
                    self.is_direct_refused.store(true, Ordering::Relaxed);
                    direct_len = done;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn open(&self, options: &OpenOptions, path: &Path, buffer: &dyn LentBuffer) -> io::Result<(File, bool)> {
        let is_aligned = buffer.alignment().is_multiple_of(DIRECT_BLOCK) && buffer.len() >= DIRECT_BLOCK;
        if self.use_odirect && is_aligned && !self.is_direct_refused() {
            match open_with(options, SAFE_FLAGS | OFlags::DIRECT, path) {
                Ok(file) => return Ok((file, true)),
                Err(error) if is_invalid(&error) => self.is_direct_refused.store(true, Ordering::Relaxed),
                Err(error) => return Err(error),
            }
        }
        Ok((open_with(options, SAFE_FLAGS, path)?, false))
    }

    fn attach_seal(&self, file: &File, seal: SealBytes) -> io::Result<()> {
        if self.is_seal_refused() {
            return Ok(());
        }
        match rustix::fs::fsetxattr(file, SEAL_XATTR, &seal, XattrFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOTSUP) => {
                self.is_seal_refused.store(true, Ordering::Relaxed);
                Ok(())
            }
            // This file can't have one; others may.
            Err(Errno::PERM) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What keeps a file of another kind, a FIFO say, from holding its opener up, and a link from leading
/// elsewhere.
const SAFE_FLAGS: OFlags = OFlags::NONBLOCK.union(OFlags::NOFOLLOW);

fn open_with(options: &OpenOptions, flags: OFlags, path: &Path) -> io::Result<File> {
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let opened = options.clone().custom_flags(flags).open(path);
    opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP | Errno::NXIO) => irregular(),
        _ => error,
    })
}

/// Opens a file for looking at it, if it is a regular one.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let file = open_with(OpenOptions::new().read(true), SAFE_FLAGS, path)?;
    regular_len(&file)?;
    Ok(file)
}

fn regular_len(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(metadata.len()) } else { Err(irregular()) }
}

fn irregular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

fn is_invalid(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

fn leave_direct(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(file, flags - OFlags::DIRECT)?)
}

fn read_seal(file: &File, key: &ObjectKey) -> Option<Seal> {
    let mut bytes = [0_u8; Seal::ENCODED_LEN];
    // Anything but a whole seal counts as none: the object is then simply unverified.
    let len = rustix::fs::fgetxattr(file, SEAL_XATTR, &mut bytes[..]).ok()?;
    Seal::decode(&bytes[..len], key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::HeapBuffer;
    use crate::conformance::object_key;

    fn round_trip(use_odirect: bool, len: usize) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        let io = ObjectIo::new(&FsOptions { use_odirect, ..FsOptions::new(dir.path()) });
        let bytes: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let seal = Seal { checksum: 1, layout: 2 }.encode(&object_key(0));
        drop(io.create(&path, &*HeapBuffer::copy_of(&bytes), Some(seal)).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let back = HeapBuffer::zeroed(len);
        let object = io.open_object(&path, &object_key(0), &*back).unwrap();
        io.read(&object, &*back).unwrap();
        assert_eq!(back.to_vec(), bytes);
        assert_eq!(object.seal.is_some(), !io.is_seal_refused());
    }

    #[test]
    fn objects_of_any_length_come_back_with_and_without_direct_io() {
        for len in [0, 1, 4095, 4096, 4097, 3 * 4096, 100_000] {
            round_trip(false, len);
            round_trip(true, len);
        }
    }

    #[test]
    fn a_file_in_writing_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        let io = ObjectIo::new(&FsOptions::new(dir.path()));
        let writing = io.create(&path, &*HeapBuffer::zeroed(8), None).unwrap();
        let other = File::open(&path).unwrap();
        assert!(rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(writing);
        assert!(rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).is_ok());
    }

    fn make_fifo(path: &Path) {
        use rustix::fs::{CWD, FileType, Mode};
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    #[test]
    fn a_file_that_can_not_have_a_seal_does_not_take_it_from_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let io = ObjectIo::new(&FsOptions::new(dir.path()));
        // No file but a regular one may have attributes of users.
        make_fifo(&dir.path().join("fifo"));
        let fifo = OpenOptions::new().read(true).write(true).open(dir.path().join("fifo")).unwrap();
        io.attach_seal(&fifo, Seal { checksum: 1, layout: 2 }.encode(&object_key(0))).unwrap();
        assert!(!io.is_seal_refused());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let io = ObjectIo::new(&FsOptions::new(dir.path()));
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "bytes").unwrap();
        std::fs::create_dir(path("directory")).unwrap();
        make_fifo(&path("fifo"));
        std::os::unix::fs::symlink(path("fifo"), path("link-to-fifo")).unwrap();
        std::os::unix::fs::symlink(path("file"), path("link-to-file")).unwrap();
        std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for name in ["directory", "fifo", "link-to-fifo", "link-to-file", "socket"] {
            let refused = io.open_object(&path(name), &object_key(0), &*HeapBuffer::zeroed(5)).err().unwrap();
            assert_eq!(refused.to_string(), "it is no regular file", "{name}");
        }
        assert_eq!(io.open_object(&path("file"), &object_key(0), &*HeapBuffer::zeroed(5)).unwrap().bytes, 5);
    }

    /// Memory that can't be moved directly, as on some file systems none can, though they let files be opened
    /// for it.
    #[derive(Debug)]
    struct Indirect(std::sync::Arc<HeapBuffer>);

    fn check(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
        let is_direct = rustix::fs::fcntl_getfl(fd)?.contains(OFlags::DIRECT);
        if is_direct { Err(Errno::INVAL.into()) } else { Ok(()) }
    }

    impl LentBuffer for Indirect {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn alignment(&self) -> usize {
            self.0.alignment()
        }
        fn read_at(&self, offset: usize, into: &mut [u8]) -> io::Result<()> {
            self.0.read_at(offset, into)
        }
        fn write_at(&self, offset: usize, from: &[u8]) -> io::Result<()> {
            self.0.write_at(offset, from)
        }
        fn pread_into(
            &self,
            fd: std::os::fd::BorrowedFd<'_>,
            file_offset: u64,
            range: std::ops::Range<usize>,
        ) -> io::Result<usize> {
            check(fd)?;
            self.0.pread_into(fd, file_offset, range)
        }
        fn pwrite_from(
            &self,
            fd: std::os::fd::BorrowedFd<'_>,
            file_offset: u64,
            range: std::ops::Range<usize>,
        ) -> io::Result<usize> {
            check(fd)?;
            self.0.pwrite_from(fd, file_offset, range)
        }
    }

    #[test]
    fn direct_io_that_is_refused_when_bytes_move_is_done_without() {
        let dir = tempfile::tempdir().unwrap();
        let options = FsOptions { use_odirect: true, ..FsOptions::new(dir.path()) };
        let bytes: Vec<u8> = (0..10_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let source = Indirect(HeapBuffer::copy_of(&bytes));
        let path = dir.path().join("object");
        let (writing, reading) = (ObjectIo::new(&options), ObjectIo::new(&options));
        drop(writing.create(&path, &source, None).unwrap());
        let back = Indirect(HeapBuffer::zeroed(bytes.len()));
        let object = reading.open_object(&path, &object_key(0), &back).unwrap();
        reading.read(&object, &back).unwrap();
        assert_eq!(back.0.to_vec(), bytes);
        assert!(writing.is_direct_refused() && reading.is_direct_refused());
    }
}
