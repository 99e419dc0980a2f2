//! Which build of the server this is. The binary knows it; it is told to the log, to `/version` and to
//! metrics.

use std::fmt;

/// A version and the commit it was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// The release, such as `0.1.0`.
    pub version: &'static str,
    /// The commit, or `unknown`.
    pub commit: &'static str,
}

impl fmt::Display for BuildInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "larder {} ({})", self.version, self.commit)
    }
}
