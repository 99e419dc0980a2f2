//! How much memory the pool could have: what the machine and its control groups still give.
//!
//! A pool beyond it is not refused by the system. It is touched page by page until the kernel kills a
//! process, which may be the engine beside it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::name::DIRECTORY;
use crate::options::SegmentOptions;
use crate::room::{MemoryBound, MemoryRoom};
use crate::{PoolError, SegmentName, space};

/// Share of the free memory from which on a pool is called tight.
const TIGHT_SHARE: f64 = 0.8;

/// Whether the memory that `options` asks for is there now. `Some` if it is, but nearly all of it would be
/// taken.
///
/// Not a promise: memory is taken when the pool is prepared, and somebody else may be quicker. What a segment
/// of that name holds already counts as there.
///
/// # Errors
/// [`PoolError::NoMemory`].
pub fn check_memory(options: &SegmentOptions) -> Result<Option<MemoryRoom>, PoolError> {
    check_memory_in(Path::new("/"), options)
}

fn check_memory_in(root: &Path, options: &SegmentOptions) -> Result<Option<MemoryRoom>, PoolError> {
    let from_reserve = options.share.is_none() && options.hugepages;
    if from_reserve && reserved_bytes(root) >= options.bytes {
        return Ok(None);
    }
    let Some(room) = room_in(root) else { return Ok(None) };
    let held_bytes = options.share.as_deref().map_or(0, held_bytes);
    compare(options.bytes, options.bytes.saturating_sub(held_bytes), room)
}

/// Whether a named pool fits in what is free in `/dev/shm`, now and together with what a segment of that name
/// holds.
///
/// # Errors
/// [`PoolError::NoSpace`], [`PoolError::System`].
pub fn check_shared_memory(options: &SegmentOptions) -> Result<(), PoolError> {
    let Some(share) = &options.share else { return Ok(()) };
    space::check(Path::new(DIRECTORY), options.bytes, held_bytes(share))
}

/// The memory this process could still have; `None` where the system doesn't tell.
#[must_use]
pub fn memory_room() -> Option<MemoryRoom> {
    room_in(Path::new("/"))
}

fn compare(asked_bytes: u64, needed_bytes: u64, room: MemoryRoom) -> Result<Option<MemoryRoom>, PoolError> {
    let MemoryRoom { free_bytes, bound } = room;
    if needed_bytes > free_bytes {
        return Err(PoolError::NoMemory { asked_bytes, free_bytes, bound });
    }
    Ok((needed_bytes as f64 > free_bytes as f64 * TIGHT_SHARE).then_some(room))
}

/// Bytes of memory that the segment of this name has.
fn held_bytes(share: &str) -> u64 {
    let path = SegmentName::new(share).map(|name| name.path_in(Path::new(DIRECTORY)));
    let held = path.ok().and_then(|path| rustix::fs::lstat(&path).ok());
    // Blocks of 512 bytes, whatever the file system's own are.
    held.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
}

/// `root` is where `proc` is, and what paths of mounts begin with.
fn room_in(root: &Path) -> Option<MemoryRoom> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let available_kib = field(&meminfo, "MemAvailable:")?;
    let machine = MemoryRoom { free_bytes: available_kib.saturating_mul(1_024), bound: MemoryBound::Machine };
    let grouped = group_directories(root)
        .iter()
        .filter_map(|directory| group_room(directory))
        .min()
        .map(|free_bytes| MemoryRoom { free_bytes, bound: MemoryBound::ControlGroup });
    Some(grouped.filter(|grouped| grouped.free_bytes < machine.free_bytes).unwrap_or(machine))
}

/// Bytes of the machine's reserve of huge pages, which are not part of the memory available.
fn reserved_bytes(root: &Path) -> u64 {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let number = |name| field(&meminfo, name).unwrap_or(0);
    number("HugePages_Free:").saturating_mul(number("Hugepagesize:")).saturating_mul(1_024)
}

/// The number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

/// The directories of this process's memory group and of all groups around it.
fn group_directories(root: &Path) -> Vec<PathBuf> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mut directories = Vec::new();
    for mount in mounts.lines().filter_map(GroupMount::parse) {
        let Some(group) = groups.lines().find_map(|line| mount.group_of(line)) else { continue };
        // A path outside the mount's root is one that this process can't see: the mount itself stands for it.
        let inside = Path::new(group).strip_prefix(mount.root).unwrap_or(Path::new(""));
        let top = root.join(mount.directory.trim_start_matches('/'));
        let lowest = top.join(inside);
        directories.extend(lowest.ancestors().take_while(|path| path.starts_with(&top)).map(Path::to_owned));
    }
    directories
}

/// A mounted hierarchy of control groups that may limit memory.
struct GroupMount<'m> {
    root: &'m str,
    directory: &'m str,
    is_unified: bool,
}

impl<'m> GroupMount<'m> {
    /// `<id> <parent> <device> <root> <directory> <options> [more...] - <type> <source> <options>`.
    fn parse(line: &'m str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, directory) = (mount.next()?, mount.next()?);
        let mut system = system.split(' ');
        let is_unified = match (system.next()?, system.nth(1)?) {
            ("cgroup2", _) => true,
            ("cgroup", options) if options.split(',').any(|option| option == "memory") => false,
            _ => return None,
        };
        Some(Self { root, directory, is_unified })
    }

    /// The group in a line of `/proc/self/cgroup`, `<id>:<controllers>:<path>`, if it is of this hierarchy.
    fn group_of<'g>(&self, line: &'g str) -> Option<&'g str> {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_ours = if self.is_unified {
            id == "0" && controllers.is_empty()
        } else {
            controllers.split(',').any(|controller| controller == "memory")
        };
        is_ours.then_some(path)
    }
}

/// Bytes that a group may still take; `None` if it has no limit. Its page cache gives way.
fn group_room(directory: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
    let number = |name: &str| read(name).and_then(|text| text.trim().parse::<u64>().ok());
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes")).unwrap_or(0);
    let stat = read("memory.stat").unwrap_or_default();
    let cached: u64 = ["inactive_file ", "active_file "]
        .iter()
        .filter_map(|name| field(&stat, &format!("total_{name}")).or_else(|| field(&stat, name)))
        .sum();
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const UNIFIED: &str = "29 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const MEMORY: &str = "35 31 0:32 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    /// A machine with 1000 MiB available.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let meminfo = ("proc/meminfo", "MemTotal: 9999999 kB\nMemAvailable:   1024000 kB\n");
        for (path, text) in files.iter().chain([&meminfo]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn room(files: &[(&str, &str)]) -> (u64, MemoryBound) {
        let room = room_in(machine(files).path()).unwrap();
        (room.free_bytes / MIB, room.bound)
    }

    #[test]
    fn a_machine_without_groups_gives_what_is_available() {
        assert_eq!(room(&[]), (1000, MemoryBound::Machine));
        assert!(memory_room().is_some_and(|room| room.free_bytes > 0), "this machine tells");
    }

    #[test]
    fn the_tightest_of_the_groups_around_decides() {
        let unified: &[(&str, &str)] = &[
            ("proc/self/mountinfo", UNIFIED),
            ("proc/self/cgroup", "0::/pods/one\n"),
            ("sys/fs/cgroup/pods/one/memory.max", "max\n"),
            ("sys/fs/cgroup/pods/memory.max", "629145600\n"),
            ("sys/fs/cgroup/pods/memory.current", "209715200\n"),
            ("sys/fs/cgroup/pods/memory.stat", "anon 1\ninactive_file 52428800\nactive_file 52428800\n"),
        ];
        assert_eq!(room(unified), (500, MemoryBound::ControlGroup));
    }

    #[test]
    fn a_container_of_the_older_kind_sees_its_group_as_the_mount() {
        let legacy: &[(&str, &str)] = &[
            ("proc/self/mountinfo", MEMORY),
            ("proc/self/cgroup", "9:name=systemd:/docker/x\n4:memory:/docker/x\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "629145600"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "104857600"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 10485760\n"),
        ];
        assert_eq!(room(legacy), (510, MemoryBound::ControlGroup));
    }

    #[test]
    fn a_group_without_a_limit_bounds_nothing() {
        let legacy: &[(&str, &str)] = &[
            ("proc/self/mountinfo", MEMORY),
            ("proc/self/cgroup", "4:memory:/docker/x\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"),
        ];
        assert_eq!(room(legacy), (1000, MemoryBound::Machine));
    }

    #[test]
    fn a_pool_beyond_the_room_is_refused_and_one_that_takes_nearly_all_is_told() {
        let room = MemoryRoom { free_bytes: 1000 * MIB, bound: MemoryBound::ControlGroup };
        let error = compare(1001 * MIB, 1001 * MIB, room).unwrap_err();
        let text = error.to_string();
        for part in ["`1001 MiB`", "`1000 MiB`", "the container's memory limit"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(error.hint().unwrap().contains("--l1-size-gb"), "{error:?}");
        assert_eq!(compare(801 * MIB, 801 * MIB, room).unwrap(), Some(room));
        assert_eq!(compare(800 * MIB, 800 * MIB, room).unwrap(), None);
        assert_eq!(compare(4000 * MIB, 100 * MIB, room).unwrap(), None, "the segment has the rest already");
    }

    #[test]
    fn the_reserve_of_huge_pages_is_for_private_memory_alone() {
        let meminfo = "MemAvailable: 1024 kB\nHugePages_Free: 100\nHugepagesize: 2048 kB\n";
        let root = machine(&[]);
        fs::write(root.path().join("proc/meminfo"), meminfo).unwrap();
        let fits = |hugepages, bytes| {
            let options = SegmentOptions { share: None, bytes, hugepages };
            check_memory_in(root.path(), &options).is_ok()
        };
        assert!(fits(true, 200 * MIB) && !fits(true, 201 * MIB) && !fits(false, 200 * MIB));
    }
}
