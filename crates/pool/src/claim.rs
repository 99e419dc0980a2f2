//! Taking the name of a segment: a dead server's file goes, and a complete one of ours takes its place.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::name::DIRECTORY;
use crate::{PoolError, SegmentName, directory, owner, processes, space};

/// Times a name is reclaimed and taken before giving up: each failure means that another server was quicker.
const CREATE_ATTEMPTS: usize = 8;

/// A locked, marked, sized file under the name.
pub(crate) fn create_shared(name: &SegmentName, path: &Path, bytes: u64) -> Result<File, PoolError> {
    let directory = path.parent().unwrap_or(Path::new(DIRECTORY));
    for _ in 0..CREATE_ATTEMPTS {
        reclaim_name(name, path, bytes)?;
        space::check(directory, bytes, 0)?;
        let created = match create_unnamed(directory, path, bytes) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => create_named(path, bytes),
            created => created,
        };
        match created {
            Err(Errno::EXIST) => {}
            Ok(file) => {
                // One without its segment is of no use to anybody, and only the holder of the name may touch
                // it.
                directory::remove(name);
                return Ok(file);
            }
            Err(error) => return Err(PoolError::system("create the shared segment")(error)),
        }
    }
    Err(PoolError::InUse { name: name.to_string(), pid: None })
}

/// Makes the file complete before it gets its name: nobody ever sees it without its lock.
fn create_unnamed(directory: &Path, path: &Path, bytes: u64) -> rustix::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
    let file = File::from(rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?);
    furnish(&file, bytes)?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(file)
}

/// For systems without unnamed files: for a moment the name is there and the lock is not.
fn create_named(path: &Path, bytes: u64) -> rustix::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    furnish(&file, bytes).inspect_err(|_| {
        _ = rustix::fs::unlink(path);
    })?;
    Ok(file)
}

fn furnish(file: &File, bytes: u64) -> rustix::io::Result<()> {
    if !owner::lock(file)? {
        return Err(Errno::EXIST);
    }
    rustix::fs::ftruncate(file, bytes)?;
    rustix::fs::fchmod(file, owner::MARKED)
}

/// Makes the name free: removes what a dead server left there, whichever program it was, if that makes room
/// for `asked_bytes`.
///
/// # Errors
/// [`PoolError::InUse`] when a server of ours lives, [`PoolError::Mapped`] when an unmarked segment is in use
/// by a process, [`PoolError::NoSpace`].
fn reclaim_name(name: &SegmentName, path: &Path, asked_bytes: u64) -> Result<(), PoolError> {
    let open =
        owner::open_regular(path).map_err(PoolError::system("open the segment that has the name already"))?;
    let Some((file, stat)) = open else { return Ok(()) };
    if !owner::lock_patiently(&file)
        .map_err(PoolError::system("lock the segment that has the name already"))?
    {
        return Err(PoolError::InUse { name: name.to_string(), pid: processes::lock_holder(&stat) });
    }
    // A server of another kind holds no lock, but it maps its segment for as long as it lives. Ours is dead
    // without its lock; clients that still map what it left lose nothing when the name goes.
    if !owner::is_marked(&stat)
        && let Some(pid) = processes::mapper(&stat)
    {
        return Err(PoolError::Mapped { name: name.to_string(), pid });
    }
    // Somebody else may have reclaimed the name between `open` and `lock`; then it is not this file's any
    // more.
    if owner::is_same_file(path, &stat) {
        let held_bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        space::check(path.parent().unwrap_or(Path::new(DIRECTORY)), asked_bytes, held_bytes)?;
        directory::remove(name);
        rustix::fs::unlink(path).map_err(PoolError::system("remove a stale segment"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_named_file_is_made_like_an_unnamed_one() {
        let directory = tempfile::tempdir_in(DIRECTORY).unwrap();
        let paths = ["named", "unnamed"].map(|name| directory.path().join(name));
        let named = create_named(&paths[0], MIB).unwrap();
        let unnamed = create_unnamed(directory.path(), &paths[1], MIB).unwrap();
        for (path, file) in paths.iter().zip([&named, &unnamed]) {
            let stat = rustix::fs::fstat(file).unwrap();
            assert!(owner::is_marked(&stat) && owner::is_same_file(path, &stat));
            assert_eq!(stat.st_size as u64, MIB);
            assert!(!owner::lock(owner::open_regular(path).unwrap().unwrap().0).unwrap());
            assert_eq!(create_named(path, MIB).unwrap_err(), Errno::EXIST);
            assert_eq!(create_unnamed(directory.path(), path, MIB).unwrap_err(), Errno::EXIST);
        }
    }
}
