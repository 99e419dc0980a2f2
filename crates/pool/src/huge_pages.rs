//! Huge pages: what was asked for and what the system gives.

use std::fmt;
use std::fs;
use std::path::Path;

const THP_POLICY: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const SHMEM_POLICY: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
const MOUNTS: &str = "/proc/self/mounts";

/// What came of a request for huge pages. `Display` gives a phrase for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HugePages {
    /// Not asked for.
    Off,
    /// Every page is a huge page of 2 MiB, reserved at creation.
    Reserved,
    /// The kernel uses huge pages where it finds them as memory is touched.
    Transparent,
    /// Asked for and not to be had; ordinary pages are used.
    Unavailable {
        /// What stands in the way.
        reason: &'static str,
    },
}

impl fmt::Display for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Reserved => f.write_str("reserved, 2 MiB each"),
            Self::Transparent => f.write_str("transparent, as memory allows"),
            Self::Unavailable { reason } => write!(f, "unavailable: {reason}"),
        }
    }
}

/// Outcome of advising private memory, from the system's policy.
pub(crate) fn private_policy(advised: bool) -> HugePages {
    let policy = fs::read_to_string(THP_POLICY).unwrap_or_default();
    if advised && !policy.is_empty() && !policy.contains("[never]") {
        HugePages::Transparent
    } else {
        HugePages::Unavailable { reason: "no hugetlb pages are free and transparent huge pages are disabled" }
    }
}

/// Outcome of advising a shared segment in `dir`, from the system's policy and the mount's.
pub(crate) fn shared_policy(dir: &Path, advised: bool) -> HugePages {
    let system = fs::read_to_string(SHMEM_POLICY).unwrap_or_default();
    let mounts = fs::read_to_string(MOUNTS).unwrap_or_default();
    let mount_allows = mount_options(&mounts, dir).is_some_and(allows_huge);
    if advised && !system.contains("[deny]") && (mount_allows || system.contains("[force]")) {
        HugePages::Transparent
    } else {
        HugePages::Unavailable { reason: "the shared-memory file system is not mounted with `huge=advise`" }
    }
}

/// Options of the mount at exactly `dir`; the last one covers those before it.
fn mount_options<'a>(mounts: &'a str, dir: &Path) -> Option<&'a str> {
    let mut found = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        (Path::new(fields.next()?) == dir).then_some(())?;
        fields.nth(1)
    });
    found.next_back()
}

fn allows_huge(options: &str) -> bool {
    options.split(',').any(|option| matches!(option, "huge=advise" | "huge=within_size" | "huge=always"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_of_the_directory_decides() {
        let mounts = "tmpfs /dev/shm tmpfs rw,huge=always 0 0\ntmpfs /run tmpfs rw 0 0\ntmpfs /dev/shm tmpfs rw,size=1g 0 0\n";
        assert_eq!(mount_options(mounts, Path::new("/dev/shm")), Some("rw,size=1g"));
        assert_eq!(mount_options(mounts, Path::new("/absent")), None);
    }

    #[test]
    fn only_the_options_that_grant_huge_pages_count() {
        assert!(
            allows_huge("rw,huge=advise") && allows_huge("huge=within_size,rw") && allows_huge("huge=always")
        );
        assert!(!allows_huge("rw") && !allows_huge("rw,huge=never"));
    }
}
