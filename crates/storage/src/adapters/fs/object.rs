//! Reading and writing one object's file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

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

    /// Writes a whole file that must not exist yet. The file stays locked until the handle returned is dropped,
    /// which tells sweepers that its writer lives.
    pub(super) fn create(
        &self,
        path: &Path,
        buffer: &dyn LentBuffer,
        seal: Option<Seal>,
    ) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        let (file, is_direct) = self.create_locked(&options, path, buffer)?;
        write_all(&file, buffer, is_direct)?;
        if let Some(seal) = seal {
            self.attach_seal(&file, seal)?;
        }
        if self.fsync != FsyncPolicy::Never {
            file.sync_data()?;
        }
        Ok(file)
    }

    /// Creates and locks. Between the two a sweeper may take the file for abandoned and remove it; then again.
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
                    let _ = std::fs::remove_file(path);
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

    /// Opens a file for reading into `buffer`.
    pub(super) fn open_object(&self, path: &Path, buffer: &dyn LentBuffer) -> io::Result<ObjectFile> {
        let (file, is_direct) = self.open(OpenOptions::new().read(true), path, buffer)?;
        let bytes = file.metadata()?.len();
        if let Some(ahead) = self.read_ahead_bytes.filter(|_| !is_direct) {
            // Advice only; a file system that ignores it is no error.
            let _ =
                rustix::fs::fadvise(&file, 0, std::num::NonZeroU64::new(ahead.min(bytes)), Advice::WillNeed);
        }
        let seal = read_seal(&file);
        Ok(ObjectFile { file, is_direct, bytes, seal })
    }

    fn open(&self, options: &OpenOptions, path: &Path, buffer: &dyn LentBuffer) -> io::Result<(File, bool)> {
        let is_aligned = buffer.alignment().is_multiple_of(DIRECT_BLOCK) && buffer.len() >= DIRECT_BLOCK;
        if self.use_odirect && is_aligned && !self.is_direct_refused() {
            let direct = i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default();
            match options.clone().custom_flags(direct).open(path) {
                Ok(file) => return Ok((file, true)),
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    self.is_direct_refused.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((options.open(path)?, false))
    }

    fn attach_seal(&self, file: &File, seal: Seal) -> io::Result<()> {
        if self.is_seal_refused() {
            return Ok(());
        }
        match rustix::fs::fsetxattr(file, SEAL_XATTR, &seal.encode(), XattrFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOTSUP | Errno::PERM) => {
                self.is_seal_refused.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl ObjectFile {
    /// Fills `buffer` from the start of the file.
    pub(super) fn read(&self, buffer: &dyn LentBuffer) -> io::Result<()> {
        let len = buffer.len();
        let direct_len = if self.is_direct { len - len % DIRECT_BLOCK } else { 0 };
        let mut done = 0;
        while done < len {
            if self.is_direct && done == direct_len {
                leave_direct(&self.file)?;
            }
            let end = if done < direct_len { direct_len } else { len };
            match buffer.pread_into(self.file.as_fd(), done as u64, done..end) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn write_all(file: &File, buffer: &dyn LentBuffer, is_direct: bool) -> io::Result<()> {
    let len = buffer.len();
    let direct_len = if is_direct { len - len % DIRECT_BLOCK } else { 0 };
    let mut done = 0;
    while done < len {
        if is_direct && done == direct_len {
            leave_direct(file)?;
        }
        let end = if done < direct_len { direct_len } else { len };
        match buffer.pwrite_from(file.as_fd(), done as u64, done..end) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The last part of an object may be shorter than a block, which direct I/O can't move.
fn leave_direct(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(file, flags - OFlags::DIRECT)?)
}

fn read_seal(file: &File) -> Option<Seal> {
    let mut bytes = [0_u8; Seal::ENCODED_LEN];
    // Anything but a whole seal counts as none: the object is then simply unverified.
    let len = rustix::fs::fgetxattr(file, SEAL_XATTR, &mut bytes[..]).ok()?;
    Seal::decode(&bytes[..len])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::HeapBuffer;

    fn round_trip(use_odirect: bool, len: usize) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        let io = ObjectIo::new(&FsOptions { use_odirect, ..FsOptions::new(dir.path()) });
        let bytes: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let seal = Seal { checksum: 1, layout: 2 };
        drop(io.create(&path, &*HeapBuffer::copy_of(&bytes), Some(seal)).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let back = HeapBuffer::zeroed(len);
        let object = io.open_object(&path, &*back).unwrap();
        object.read(&*back).unwrap();
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
}
