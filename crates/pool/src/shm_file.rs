//! The file behind a shared segment: creation, its owner's lock, reclaim of a dead owner's file, removal.
//!
//! The owner holds an exclusive `flock` on the file for life. The kernel drops it when the process ends, however it
//! ends, so "locked" means "its server lives". Locks come first and the name is looked at again afterwards: whoever
//! holds the lock of the file that the name leads to may remove it, nobody else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    FallocateFlags, FileType, FlockOperation, Mode, OFlags, Stat, fallocate, flock, fstat, ftruncate, open,
    stat, statvfs, unlink,
};
use rustix::io::{Errno, retry_on_intr};

use crate::mark::{self, Mark};
use crate::{PoolError, mappers};

/// How often creation starts over when another process takes the name in between.
const ATTEMPTS_MAX: u32 = 16;

/// `fallocate` undoes what it did when a signal arrives; small steps keep what was reached.
const RESERVE_STEP_BYTES: u64 = 16 << 20;

/// A shared-memory file owned by this process; its name goes when this is dropped.
#[derive(Debug)]
pub(crate) struct ShmFile {
    fd: OwnedFd,
    path: PathBuf,
    name: String,
    unlinked: AtomicBool,
}

impl ShmFile {
    /// Creates `dir/name` of `bytes` bytes and owns it. A dead owner's file of that name is removed first.
    ///
    /// No page is allocated yet: see [`reserve`](Self::reserve).
    pub(crate) fn create(dir: &Path, name: String, bytes: u64) -> Result<Self, PoolError> {
        let path = dir.join(&name);
        for _ in 0..ATTEMPTS_MAX {
            if !reclaim(&path, &name)? {
                continue;
            }
            check_free_space(dir, &name, bytes)?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = match open(&path, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => fd,
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(system("create shared-memory segment", &path, errno)),
            };
            // A server starting at the same moment may take the fresh file for a dead one: it then holds the lock or has
            // removed the name, and the next round sees what it made instead.
            if !try_lock(&fd, &path)? || !leads_to(&path, &fd)? {
                continue;
            }
            let file = Self { fd, path, name, unlinked: AtomicBool::new(false) };
            mark::write(file.fd.as_fd())
                .map_err(|errno| system("mark shared-memory segment", &file.path, errno))?;
            retry_on_intr(|| ftruncate(&file.fd, bytes))
                .map_err(|errno| system("size shared-memory segment", &file.path, errno))?;
            return Ok(file);
        }
        Err(PoolError::Contended { name, attempts: ATTEMPTS_MAX })
    }

    /// Name without slash, as clients open it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Allocates pages for the range, so that no later access finds the file system full (which is a SIGBUS).
    pub(crate) fn reserve(&self, offset: u64, len: u64) -> Result<(), PoolError> {
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let step = RESERVE_STEP_BYTES.min(end - at);
            match retry_on_intr(|| fallocate(&self.fd, FallocateFlags::empty(), at, step)) {
                Ok(()) => at += step,
                Err(Errno::NOSPC | Errno::NOMEM) => {
                    return Err(PoolError::Exhausted { offset: at, len: end - at });
                }
                Err(errno) => return Err(system("reserve shared memory of", &self.path, errno)),
            }
        }
        Ok(())
    }

    /// Removes the name, once, and only while it still leads to this file. Mappings stay valid.
    pub(crate) fn unlink(&self) -> Result<(), PoolError> {
        if self.unlinked.swap(true, Ordering::AcqRel) || !leads_to(&self.path, &self.fd)? {
            return Ok(());
        }
        remove(&self.path)
    }
}

impl Drop for ShmFile {
    fn drop(&mut self) {
        // Whoever wants to know calls `unlink` before; here nobody is left to be told.
        let _ = self.unlink();
    }
}

/// Removes a dead owner's file. `false` means that the name changed hands meanwhile: look again.
fn reclaim(path: &Path, name: &str) -> Result<bool, PoolError> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = match open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(true),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(not_a_segment(path)),
        Err(errno) => return Err(system("open the existing shared-memory segment", path, errno)),
    };
    let found = fstat(&fd).map_err(|errno| system("inspect", path, errno))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(not_a_segment(path));
    }
    let mark = mark::read(fd.as_fd()).map_err(|errno| system("inspect", path, errno))?;
    if !try_lock(&fd, path)? {
        let pid = if let Mark::Larder { pid } = mark { pid } else { None };
        return Err(PoolError::Owned { name: name.to_owned(), pid });
    }
    if !leads_to(path, &fd)? {
        return Ok(false);
    }
    // Clients of a dead Larder server may still map its segment, which removal does not disturb. Without our mark a
    // mapping may be that of a server that locks nothing.
    if mark::read(fd.as_fd()).map_err(|errno| system("inspect", path, errno))? == Mark::Unknown
        && let Some(mapper) = mappers::find(&found)
    {
        return Err(PoolError::Foreign { name: name.to_owned(), pid: mapper.pid, command: mapper.command });
    }
    remove(path)?;
    Ok(true)
}

fn check_free_space(dir: &Path, name: &str, asked_bytes: u64) -> Result<(), PoolError> {
    let space = statvfs(dir).map_err(|errno| system("inspect", dir, errno))?;
    // A tmpfs without a limit reports no blocks at all.
    let unlimited = space.f_blocks == 0;
    let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
    if unlimited || asked_bytes <= free_bytes {
        return Ok(());
    }
    Err(PoolError::NoSpace { name: name.to_owned(), dir: dir.display().to_string(), asked_bytes, free_bytes })
}

/// Takes the owner's lock; `false` when another open file has it.
fn try_lock(fd: &OwnedFd, path: &Path) -> Result<bool, PoolError> {
    match retry_on_intr(|| flock(fd, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(system("lock shared-memory segment", path, errno)),
    }
}

/// Whether the name still leads to the open file.
fn leads_to(path: &Path, fd: &OwnedFd) -> Result<bool, PoolError> {
    let identity = |found: Stat| (found.st_dev, found.st_ino);
    let open = fstat(fd).map_err(|errno| system("inspect", path, errno))?;
    match stat(path) {
        Ok(named) => Ok(identity(named) == identity(open)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(system("inspect", path, errno)),
    }
}

fn remove(path: &Path) -> Result<(), PoolError> {
    match unlink(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(system("remove shared-memory segment", path, errno)),
    }
}

fn not_a_segment(path: &Path) -> PoolError {
    PoolError::NotASegment { path: path.display().to_string() }
}

fn system(action: &'static str, path: &Path, errno: Errno) -> PoolError {
    PoolError::system(action, &path.display().to_string(), errno)
}
