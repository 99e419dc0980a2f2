//! Proof of ownership: a lock that dies with its server, and a mark that survives it.
//!
//! The server holds an exclusive `flock` on the segment for as long as it lives. The mark is the sticky bit
//! of the file, which means nothing on a regular file, which no other program sets there and which every
//! kernel keeps (extended attributes on tmpfs need Linux 6.6). Marked and unlocked is therefore a segment
//! that a dead server of ours left.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{self, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Readable and writable by the user alone, and ours.
pub(crate) const MARKED: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::SVTX);

/// How long a starting server waits for a lock: far longer than anybody holds it who is not a server, and no
/// delay that matters to somebody whose name is taken.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);

/// Pause between two tries.
const LOCK_INTERVAL: Duration = Duration::from_millis(2);

/// Takes the lock that says "alive". False when somebody holds it.
pub(crate) fn lock(fd: impl AsFd) -> rustix::io::Result<bool> {
    match fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

/// As [`lock`], for a server that starts: somebody who looks whether the segment is stale has the lock for a
/// moment, too.
pub(crate) fn lock_patiently(fd: impl AsFd) -> rustix::io::Result<bool> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    while !lock(&fd)? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(LOCK_INTERVAL);
    }
    Ok(true)
}

/// Whether the file carries our mark.
pub(crate) fn is_marked(stat: &Stat) -> bool {
    Mode::from_raw_mode(stat.st_mode).contains(Mode::SVTX)
}

/// Whether the path still leads to the file that is open.
pub(crate) fn is_same_file(path: &Path, stat: &Stat) -> bool {
    fs::lstat(path).is_ok_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino))
}

/// The regular file at `path`, `None` when there is nothing.
pub(crate) fn open_regular(path: &Path) -> rustix::io::Result<Option<(File, Stat)>> {
    let file = match open(path) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = fs::fstat(&file)?;
    if fs::FileType::from_raw_mode(stat.st_mode) != fs::FileType::RegularFile {
        return Err(Errno::EXIST);
    }
    Ok(Some((file, stat)))
}

/// Opens an existing segment, not through a link.
fn open(path: &Path) -> rustix::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    fs::open(path, flags, Mode::empty()).map(File::from)
}
