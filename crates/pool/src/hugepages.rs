//! Whether the machine would use huge pages if it is asked to.

use std::fs;
use std::path::Path;

/// What the pool's pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// The machine's ordinary pages.
    Base,
    /// The kernel uses huge pages where it finds them.
    Transparent,
    /// Huge pages from the machine's reserve.
    Reserved,
}

/// Size of a huge page where the machine is not configured otherwise.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Whether private memory gets huge pages on advice.
pub(crate) fn private_allowed() -> bool {
    policy("enabled").is_some_and(|modes| !modes.contains("[never]"))
}

/// Whether files in `directory` get huge pages on advice: the mount decides, the system may overrule it.
pub(crate) fn shared_allowed(directory: &Path) -> bool {
    let system = policy("shmem_enabled").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    !system.contains("[deny]") && (system.contains("[force]") || mount_allows(&mounts, directory))
}

fn policy(file: &str) -> Option<String> {
    fs::read_to_string(Path::new("/sys/kernel/mm/transparent_hugepage").join(file)).ok()
}

/// Options of the last mount at exactly `directory`, which covers those before it.
fn mount_allows(mounts: &str, directory: &Path) -> bool {
    // <device> <directory> <type> <options> 0 0
    let at_directory = |line: &&str| line.split(' ').nth(1).is_some_and(|at| Path::new(at) == directory);
    let options = mounts.lines().filter(at_directory).filter_map(|line| line.split(' ').nth(3)).next_back();
    options.is_some_and(|options| {
        options.split(',').any(|option| matches!(option, "huge=advise" | "huge=within_size" | "huge=always"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_of_the_directory_decides() {
        let mounts = "tmpfs /dev/shm tmpfs rw,huge=always 0 0\ntmpfs /run tmpfs rw 0 0\n";
        assert!(mount_allows(mounts, Path::new("/dev/shm")));
        assert!(!mount_allows(mounts, Path::new("/run")));
        assert!(!mount_allows(mounts, Path::new("/absent")));
        let covered = format!("{mounts}tmpfs /dev/shm tmpfs rw,size=1g,huge=never 0 0\n");
        assert!(!mount_allows(&covered, Path::new("/dev/shm")));
    }
}
