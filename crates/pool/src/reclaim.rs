//! Segments left by servers that died.

use std::fs::File;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::name::{DIRECTORY, NAME_PREFIX};
use crate::{PoolError, SegmentName, directory, owner, processes};

/// A segment that a dead server of ours left, and that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleSegment {
    /// Its name, without a slash.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Removes every segment in `/dev/shm` that carries our mark and whose server is dead.
///
/// Segments of living servers, of other programs and of other users are never touched. One with a slot directory is kept for the
/// server that may take it over: for an hour from the first time it is found dead.
pub fn reclaim_stale() -> Vec<StaleSegment> {
    let Ok(entries) = std::fs::read_dir(DIRECTORY) else { return Vec::new() };
    let now_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.starts_with(NAME_PREFIX))
        .filter_map(|name| {
            let path = Path::new(DIRECTORY).join(&name);
            let (file, stat) = open_regular(&path).ok()??;
            let dead =
                owner::is_marked(&stat) && owner::lock(&file).ok()? && owner::is_same_file(&path, &stat);
            if !dead || directory::is_kept(&name, now_seconds) || rustix::fs::unlink(&path).is_err() {
                return None;
            }
            directory::remove(&name);
            Some(StaleSegment { name, bytes: u64::try_from(stat.st_size).unwrap_or(0) })
        })
        .collect()
}

/// Makes the name free: removes what a dead server left there, whichever program it was.
///
/// # Errors
/// [`PoolError::InUse`] when a server of ours lives, [`PoolError::Mapped`] when an unmarked segment is in use by a process.
pub(crate) fn reclaim_name(name: &SegmentName, path: &Path) -> Result<(), PoolError> {
    let open = open_regular(path).map_err(PoolError::system("open the segment that has the name already"))?;
    let Some((file, stat)) = open else {
        // One without its segment is of no use to anybody.
        directory::remove(name.as_str());
        return Ok(());
    };
    if !owner::lock(&file).map_err(PoolError::system("lock the segment that has the name already"))? {
        return Err(PoolError::InUse { name: name.to_string(), pid: processes::lock_holder(&stat) });
    }
    // A server of another kind holds no lock, but it maps its segment for as long as it lives. Ours is dead without its
    // lock; clients that still map what it left lose nothing when the name goes.
    if !owner::is_marked(&stat)
        && let Some(pid) = processes::mapper(&stat)
    {
        return Err(PoolError::Mapped { name: name.to_string(), pid });
    }
    // Somebody else may have reclaimed the name between `open` and `lock`; then it is not this file's any more.
    if owner::is_same_file(path, &stat) {
        directory::remove(name.as_str());
        rustix::fs::unlink(path).map_err(PoolError::system("remove a stale segment"))?;
    }
    Ok(())
}

/// The regular file at `path`, `None` when there is nothing.
pub(crate) fn open_regular(path: &Path) -> rustix::io::Result<Option<(File, Stat)>> {
    let file = match owner::open(path) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::EXIST);
    }
    Ok(Some((file, stat)))
}
