//! Names of segments (`spec/transfer-modes.md 2.2`).

use std::fmt;
use std::path::{Path, PathBuf};

use crate::PoolError;

/// Prefix of every L1 segment, whichever server made it.
pub const NAME_PREFIX: &str = "lmcache_l1_pool_";

/// Where the system keeps POSIX shared memory.
pub(crate) const DIRECTORY: &str = "/dev/shm";

/// Longest file name.
const NAME_BYTES_MAX: usize = 255;

/// Name of a segment with its prefix and without a slash, as it is told to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentName(String);

impl SegmentName {
    /// Reads a name as operators give it: leading slashes go, a missing prefix is added.
    ///
    /// # Errors
    /// [`PoolError::InvalidName`] for an empty name, one with `/` or NUL inside, and one that is too long.
    pub(crate) fn new(text: &str) -> Result<Self, PoolError> {
        let bare = text.trim_start_matches('/');
        let full = match bare.strip_prefix(NAME_PREFIX) {
            Some(_) => bare.to_owned(),
            None => format!("{NAME_PREFIX}{bare}"),
        };
        if bare.is_empty() || bare.contains(['/', '\0']) || full.len() > NAME_BYTES_MAX {
            return Err(PoolError::InvalidName(text.to_owned()));
        }
        Ok(Self(full))
    }

    /// The name without a slash.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn path_in(&self, directory: &Path) -> PathBuf {
        directory.join(&self.0)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_the_prefix_once_and_lose_slashes() {
        for text in
            ["spwpool", "/spwpool", "//spwpool", "lmcache_l1_pool_spwpool", "/lmcache_l1_pool_spwpool"]
        {
            assert_eq!(SegmentName::new(text).unwrap().as_str(), "lmcache_l1_pool_spwpool");
        }
        let path = SegmentName::new("a").unwrap().path_in(Path::new(DIRECTORY));
        assert_eq!(path, Path::new("/dev/shm/lmcache_l1_pool_a"));
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for text in ["", "/", "a/b", "../x", "a\0b", &"x".repeat(240)] {
            assert!(matches!(SegmentName::new(text), Err(PoolError::InvalidName(_))), "{text:?}");
        }
        assert!(SegmentName::new(&"x".repeat(239)).is_ok());
    }
}
