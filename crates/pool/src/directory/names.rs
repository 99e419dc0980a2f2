//! Which file is the directory of which segment, and how long one is kept that a dead server left.

use std::path::{Path, PathBuf};

use crate::{SegmentName, owner};

/// Prefix of the file names, in place of that of segments.
pub(super) const NAME_PREFIX: &str = "larder_l1_slots_";

/// The same for a directory that is not published yet.
pub(super) const UNPUBLISHED_PREFIX: &str = "larder_l1_newslots_";

/// How long a directory whose server is dead is kept for its successor, in seconds.
pub(super) const KEPT_SECONDS: u64 = 3_600;

/// Where in the header it is written when the server was first found dead.
pub(super) const SEEN_DEAD_AT: u64 = 16;

pub(super) fn path_of(prefix: &str, segment: &SegmentName) -> PathBuf {
    let bare = &segment.as_str()[crate::NAME_PREFIX.len()..];
    Path::new(crate::name::DIRECTORY).join(format!("{prefix}{bare}"))
}

/// The segment whose directory has this file name, published or not; none if it is no directory's name.
pub(crate) fn segment_of(file_name: &str) -> Option<SegmentName> {
    let bare = file_name.strip_prefix(NAME_PREFIX).or_else(|| file_name.strip_prefix(UNPUBLISHED_PREFIX))?;
    SegmentName::new(&format!("{}{bare}", crate::NAME_PREFIX)).ok()
}

/// Whether what a dead server left is still kept for its successor. The first to ask starts the clock: nobody
/// saw the server die.
pub(crate) fn is_kept(segment: &SegmentName, now_seconds: u64) -> bool {
    let Ok(Some((file, _))) = owner::open_regular(&path_of(NAME_PREFIX, segment)) else { return false };
    let mut since = [0; 8];
    if rustix::io::pread(&file, &mut since, SEEN_DEAD_AT) != Ok(8) {
        return false;
    }
    match u64::from_le_bytes(since) {
        0 => rustix::io::pwrite(&file, &now_seconds.to_le_bytes(), SEEN_DEAD_AT).is_ok(),
        since => now_seconds.saturating_sub(since) < KEPT_SECONDS,
    }
}

/// Removes the directory of this segment, published or not. For the holder of its lock.
pub(crate) fn remove(segment: &SegmentName) {
    for prefix in [NAME_PREFIX, UNPUBLISHED_PREFIX] {
        // Without the name there is nothing to remove.
        _ = rustix::fs::unlink(path_of(prefix, segment));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_and_segments_belong_together() {
        let name = SegmentName::new("lmcache_l1_pool_a").unwrap();
        for (prefix, file) in
            [(NAME_PREFIX, "larder_l1_slots_a"), (UNPUBLISHED_PREFIX, "larder_l1_newslots_a")]
        {
            assert_eq!(path_of(prefix, &name), Path::new("/dev/shm").join(file));
            assert_eq!(segment_of(file), Some(name.clone()));
        }
        assert_eq!(segment_of("lmcache_l1_pool_a"), None);
    }
}
