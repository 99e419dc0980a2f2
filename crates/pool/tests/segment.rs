//! Segments among real processes: life, death, reclaim and refusal.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![expect(unsafe_code, reason = "a foreign server is imitated by mapping a file directly")]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use larder_pool::{
    Contents, Directory, DirectoryOptions, Mapper, NAME_PREFIX, PoolError, Segment, SegmentOptions,
    reclaim_stale,
};

const MIB: u64 = 1 << 20;

fn unique(test: &str) -> String {
    format!("test-{test}-{}", std::process::id())
}

fn path_of(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(format!("{NAME_PREFIX}{name}"))
}

fn shared(name: &str, bytes: u64) -> Result<Segment, PoolError> {
    Segment::create(SegmentOptions { share: Some(name.to_owned()), bytes, hugepages: false })
}

/// Removes a file when the test ends, however it ends.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_client_sees_what_the_server_wrote_and_the_reverse() {
    let name = unique("share");
    let segment = shared(&format!("/{name}"), 4 * MIB).unwrap();
    assert_eq!(segment.name(), Some(format!("{NAME_PREFIX}{name}").as_str()));
    assert_eq!(segment.len_bytes(), 4 * MIB);

    let meta = fs::metadata(path_of(&name)).unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.len()), (0o600, 4 * MIB));

    let client = OpenOptions::new().read(true).write(true).open(path_of(&name)).unwrap();
    segment.write_at(4 * MIB - 6, b"server").unwrap();
    let mut seen = [0; 6];
    client.read_exact_at(&mut seen, 4 * MIB - 6).unwrap();
    assert_eq!(&seen, b"server");
    client.write_all_at(b"client", MIB).unwrap();
    let mut copy = Vec::new();
    segment.append_to(MIB, 6, &mut copy).unwrap();
    segment.read_at(MIB, &mut seen).unwrap();
    assert_eq!((&seen, copy.as_slice()), (b"client", b"client".as_slice()));

    drop(segment);
    assert!(!path_of(&name).exists());
}

#[test]
fn preparation_backs_the_range_and_nothing_else() {
    let name = unique("prepare");
    let segment = shared(&name, 8 * MIB).unwrap();
    let held = || fs::metadata(path_of(&name)).unwrap().blocks() * 512;
    assert_eq!(held(), 0);
    segment.write_at(0, b"kept").unwrap();
    segment.prepare(0..2 * MIB).unwrap();
    assert_eq!(held(), 2 * MIB);
    segment.prepare(2 * MIB..8 * MIB).unwrap();
    assert_eq!(held(), 8 * MIB);
    let mut copy = Vec::new();
    segment.append_to(0, 4, &mut copy).unwrap();
    assert_eq!(copy, b"kept");
    assert!(matches!(segment.prepare(8 * MIB..8 * MIB + 1), Err(PoolError::OutOfRange { .. })));
}

#[test]
fn files_and_streams_are_moved_by_the_kernel() {
    let name = unique("kernel");
    let segment = shared(&name, 4 * MIB).unwrap();
    let bytes: Vec<u8> = (0..MIB).map(|i| (i % 251) as u8).collect();
    segment.write_at(MIB, &bytes).unwrap();

    let file = tempfile::tempfile().unwrap();
    assert_eq!(segment.pwrite_to(file.as_fd(), 0, MIB..2 * MIB).unwrap() as u64, MIB);
    assert_eq!(segment.pread_from(file.as_fd(), 0, 3 * MIB..4 * MIB).unwrap() as u64, MIB);
    let mut copy = Vec::new();
    segment.append_to(3 * MIB, MIB as usize, &mut copy).unwrap();
    assert_eq!(copy, bytes);

    let (here, there) = UnixStream::pair().unwrap();
    assert_eq!(segment.send_to(here.as_fd(), MIB + 1..MIB + 5).unwrap(), 4);
    assert_eq!(segment.recv_from(there.as_fd(), 0..MIB).unwrap(), 4);
    let mut head = [0; 5];
    segment.read_at(0, &mut head).unwrap();
    assert_eq!(head, [1, 2, 3, 4, 0]);

    for range in [4 * MIB - 1..4 * MIB + 1, u64::MAX - 1..u64::MAX] {
        let refused = segment.pread_from(file.as_fd(), 0, range.clone()).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput, "{range:?}: {refused}");
    }
}

#[test]
fn mapping_ahead_brings_pages_in_and_keeps_their_contents() {
    // A size no other test uses: shared files have no name in the list of mappings.
    let segment = shared(&unique("ahead"), 9 * MIB).unwrap();
    let resident_kib = || {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let field = |mapping: &str, name: &str| -> u64 {
            let value = mapping.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0 kB");
            value.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let mut shared = maps.split("/dev/shm/").skip(1);
        field(shared.find(|mapping| field(mapping, "Size:") == 9 << 10).unwrap(), "Rss:")
    };
    segment.prepare(0..9 * MIB).unwrap();
    segment.write_at(MIB, b"kept").unwrap();
    assert!(resident_kib() < 4096, "{}", resident_kib());
    segment.map_ahead(0..9 * MIB).unwrap();
    assert_eq!(resident_kib(), 9 << 10);
    let mut kept = [0; 4];
    segment.read_at(MIB, &mut kept).unwrap();
    assert_eq!(&kept, b"kept");
    assert!(matches!(segment.map_ahead(9 * MIB..9 * MIB + 1), Err(PoolError::OutOfRange { .. })));
}

#[test]
fn private_memory_has_no_name() {
    let segment =
        Segment::create(SegmentOptions { share: None, bytes: 2 * MIB + 5, hugepages: false }).unwrap();
    segment.prepare(0..2 * MIB + 5).unwrap();
    segment.write_at(2 * MIB, b"12345").unwrap();
    assert!(segment.write_at(2 * MIB + 1, b"12345").is_err());
    assert_eq!((segment.name(), segment.len_bytes()), (None, 2 * MIB + 5));
    segment.unlink();
}

#[test]
fn impossible_pools_are_refused() {
    let sized = |share: Option<&str>, bytes| {
        Segment::create(SegmentOptions { share: share.map(str::to_owned), bytes, hugepages: false })
            .unwrap_err()
    };
    assert!(matches!(sized(None, 0), PoolError::InvalidSize(0)));
    assert!(matches!(sized(None, u64::MAX), PoolError::InvalidSize(_)));
    assert!(matches!(sized(Some("a/b"), MIB), PoolError::InvalidName(_)));
    let error = sized(Some(&unique("large")), 1 << 50);
    assert!(matches!(error, PoolError::NoSpace { asked_bytes, .. } if asked_bytes == 1 << 50), "{error}");
    assert!(!path_of(&unique("large")).exists());
}

#[test]
fn a_name_taken_over_by_another_program_is_left_alone() {
    let name = unique("takeover");
    let segment = shared(&name, MIB).unwrap();
    fs::remove_file(path_of(&name)).unwrap();
    fs::write(path_of(&name), b"another server").unwrap();
    let _removed = Removed(path_of(&name));
    drop(segment);
    assert_eq!(fs::read(path_of(&name)).unwrap(), b"another server");
}

#[test]
fn the_segment_of_a_living_server_is_refused_and_that_of_a_dead_one_reclaimed() {
    let name = unique("life");
    let _removed = Removed(path_of(&name));
    let mut server = server_process(&name);
    match shared(&name, MIB) {
        Err(PoolError::InUse { pid, .. }) => assert_eq!(pid, Some(server.0.id())),
        other => panic!("{other:?}"),
    }
    let inode = fs::metadata(path_of(&name)).unwrap().ino();
    _ = reclaim_stale();
    assert_eq!(fs::metadata(path_of(&name)).unwrap().ino(), inode, "a living server's segment was touched");

    // What a client of the dead server still has mapped must not keep the next server from its name.
    let client = ForeignMapping::of(&path_of(&name));
    server.0.kill().unwrap();
    server.0.wait().unwrap();
    assert!(path_of(&name).exists(), "a killed server cannot remove its segment");
    let segment = shared(&name, 2 * MIB).unwrap();
    assert_eq!(fs::metadata(path_of(&name)).unwrap().len(), 2 * MIB);
    drop((segment, client));
}

#[test]
fn segments_of_dead_servers_are_swept_by_their_mark() {
    let (name, unmarked) = (unique("swept"), unique("unmarked"));
    let _removed = (Removed(path_of(&name)), Removed(path_of(&unmarked)));
    let mut server = server_process(&name);
    server.0.kill().unwrap();
    server.0.wait().unwrap();
    fs::write(path_of(&unmarked), b"of another program").unwrap();

    let swept = reclaim_stale();
    // Another test's sweep may have been quicker; what counts is what is left.
    assert!(swept.iter().all(|stale| stale.name.starts_with(NAME_PREFIX)));
    assert!(!path_of(&name).exists());
    assert!(path_of(&unmarked).exists());
}

#[test]
fn an_unmarked_segment_is_reclaimed_only_when_nobody_maps_it() {
    let name = unique("foreign");
    let _removed = Removed(path_of(&name));
    File::create(path_of(&name)).unwrap().set_len(MIB).unwrap();
    let mut peer = Process::spawn("foreign_server", &name);
    peer.wait_ready();
    match shared(&name, MIB) {
        Err(PoolError::Mapped { pid, .. }) => assert_eq!(pid, peer.0.id()),
        other => panic!("{other:?}"),
    }
    peer.0.kill().unwrap();
    peer.0.wait().unwrap();
    assert!(shared(&name, MIB).is_ok());
}

#[test]
fn a_client_process_is_known_by_its_mapping_until_it_has_ended() {
    let (name, other) = (unique("mapper"), unique("mapper-other"));
    let (segment, other) = (shared(&name, MIB).unwrap(), shared(&other, MIB).unwrap());
    let mut client = Process::spawn("foreign_server", &name);
    client.wait_ready();
    let pid = client.0.id();
    let mapper = Mapper::find(&segment, pid).unwrap();
    assert!(mapper.pid() == pid && !mapper.has_ended());
    assert!(Mapper::find(&other, pid).is_none(), "it maps another pool");
    let private = Segment::create(SegmentOptions { share: None, bytes: MIB, hugepages: false }).unwrap();
    assert!(Mapper::find(&private, pid).is_none());
    client.0.kill().unwrap();
    client.0.wait().unwrap();
    assert!(mapper.has_ended());
    for nobody in [pid, 0, u32::MAX] {
        assert!(Mapper::find(&segment, nobody).is_none());
    }
}

#[test]
fn what_is_not_a_file_is_refused() {
    let name = unique("directory");
    fs::create_dir(path_of(&name)).unwrap();
    let outcome = shared(&name, MIB);
    fs::remove_dir(path_of(&name)).unwrap();
    assert!(matches!(outcome, Err(PoolError::System { .. })), "{outcome:?}");

    let link = unique("link");
    let _removed = Removed(path_of(&link));
    std::os::unix::fs::symlink("/etc/hostname", path_of(&link)).unwrap();
    assert!(shared(&link, MIB).is_err());
}

/// Two servers that start at once over a stale segment: one gets it, the others are told.
#[test]
fn one_of_several_starting_servers_wins() {
    let name = unique("race");
    let _removed = Removed(path_of(&name));
    for _ in 0..8 {
        fs::write(path_of(&name), b"stale").unwrap();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| shared(&name, MIB))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        let winners: Vec<_> = outcomes.iter().flatten().collect();
        assert!(winners.len() <= 1, "two servers share one name");
        for loser in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert!(matches!(loser, PoolError::InUse { .. }), "{loser}");
        }
        if let Some(winner) = winners.first() {
            winner.write_at(0, b"mine").unwrap();
            assert_eq!(&fs::read(path_of(&name)).unwrap()[..4], b"mine");
        }
    }
}

/// A child that dies with the test.
struct Process(Child);

impl Process {
    /// Runs one of the roles at the end of this file in a process of its own.
    fn spawn(role: &str, name: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("role_{role}"), "--nocapture", "--include-ignored"])
            .env("LARDER_POOL_TEST_NAME", name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn wait_ready(&mut self) {
        let output = BufReader::new(self.0.stdout.take().unwrap());
        assert!(output.lines().any(|line| line.unwrap().contains("ready")), "the process ended early");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn server_process(name: &str) -> Process {
    let mut server = Process::spawn("server", name);
    server.wait_ready();
    server
}

fn role_name() -> Option<String> {
    std::env::var("LARDER_POOL_TEST_NAME").ok()
}

/// Says that it is ready, then lives until it is killed or its parent is gone.
fn serve() {
    println!("ready");
    _ = std::io::stdin().read(&mut [0]);
}

#[test]
#[ignore = "a process of other tests"]
fn role_server() {
    let Some(name) = role_name() else { return };
    let segment = shared(&name, MIB).unwrap();
    serve();
    drop(segment);
}

#[test]
#[ignore = "a process of other tests"]
fn role_foreign_server() {
    let Some(name) = role_name() else { return };
    let _mapping = ForeignMapping::of(&path_of(&name));
    serve();
}

/// What a server or client of another program has: a mapping, and no lock.
struct ForeignMapping(*mut std::ffi::c_void, usize);

impl ForeignMapping {
    fn of(path: &Path) -> Self {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len() as usize;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address the kernel chooses replaces nothing.
        let base = unsafe { mmap(std::ptr::null_mut(), len, rights, MapFlags::SHARED, &file, 0) }.unwrap();
        Self(base, len)
    }
}

impl Drop for ForeignMapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by this value and nothing refers to it.
        unsafe { rustix::mm::munmap(self.0, self.1) }.unwrap();
    }
}

#[test]
fn a_successor_takes_over_what_was_left_behind() {
    let name = unique("adopt");
    let options = SegmentOptions { share: Some(name.clone()), bytes: 4 * MIB, hugepages: false };
    let _removed = Removed(path_of(&name));
    assert!(Segment::adopt(&options).unwrap().is_none(), "there is nothing yet");
    let segment = shared(&name, 4 * MIB).unwrap();
    segment.write_at(MIB, b"bytes").unwrap();
    assert!(matches!(Segment::adopt(&options), Err(PoolError::InUse { .. })), "its server is alive");
    segment.leave_behind();
    drop(segment);
    let other_size = SegmentOptions { bytes: 2 * MIB, ..options.clone() };
    assert!(Segment::adopt(&other_size).unwrap().is_none());
    let adopted = Segment::adopt(&options).unwrap().unwrap();
    let mut seen = [0; 5];
    adopted.prepare(0..4 * MIB).unwrap();
    adopted.read_at(MIB, &mut seen).unwrap();
    assert_eq!(&seen, b"bytes");
    assert!(matches!(shared(&name, 4 * MIB), Err(PoolError::InUse { .. })), "it is locked again");
    drop(adopted);
    let adopted =
        Segment::adopt(&options).unwrap().expect("a server that fails leaves behind what it took over");
    adopted.unlink();
    assert!(!path_of(&name).exists());
}

#[test]
fn what_another_program_made_is_not_taken_over() {
    let name = unique("unmarked-adopt");
    let _removed = Removed(path_of(&name));
    let options = SegmentOptions { share: Some(name.clone()), bytes: MIB, hugepages: false };
    File::create(path_of(&name)).unwrap().set_len(MIB).unwrap();
    assert!(Segment::adopt(&options).unwrap().is_none());
    fs::set_permissions(path_of(&name), fs::Permissions::from_mode(0o1600)).unwrap();
    assert!(Segment::adopt(&options).unwrap().is_some(), "the mark is what counts");
}

/// Somebody who looks whether the segment is stale, as every starting server does, has its lock for a moment.
#[test]
fn who_looks_at_a_dead_servers_segment_does_not_keep_its_successor_out() {
    let name = unique("visited");
    let _removed = Removed(path_of(&name));
    shared(&name, MIB).unwrap().leave_behind();
    let options = SegmentOptions { share: Some(name.clone()), bytes: MIB, hugepages: false };
    for create in [false, true] {
        let visitor = File::open(path_of(&name)).unwrap();
        rustix::fs::flock(&visitor, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let start = || match create {
            true => Segment::create(options.clone()).map(Some),
            false => Segment::adopt(&options),
        };
        std::thread::scope(|scope| {
            let starting = scope.spawn(start);
            wait_until(|| starting.is_finished() || open_files(&path_of(&name)) > 1);
            drop(visitor);
            assert!(starting.join().unwrap().unwrap().is_some());
        });
    }
}

/// How often this process has a file open.
fn open_files(path: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == path)).count()
}

fn wait_until(done: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "it never came to that");
        std::thread::yield_now();
    }
}

#[test]
fn a_pool_that_can_not_be_had_does_not_cost_the_one_that_is_there() {
    let name = unique("impossible");
    let segment = shared(&name, MIB).unwrap();
    segment.leave_behind();
    drop(segment);
    assert!(matches!(shared(&name, 1 << 50), Err(PoolError::NoSpace { .. })));
    assert_eq!(fs::metadata(path_of(&name)).unwrap().len(), MIB);
    drop(shared(&name, MIB));
}

fn directory_path_of(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(format!("larder_l1_slots_{name}"))
}

fn publish_directory(segment: &Segment) {
    let options = DirectoryOptions { stamp: 1, records_max: 10 };
    Directory::create(segment, options).unwrap().publish().unwrap();
}

#[test]
fn a_segment_with_a_directory_is_kept_for_its_successor() {
    let name = unique("kept");
    let segment = shared(&name, MIB).unwrap();
    publish_directory(&segment);
    segment.leave_behind();
    drop(segment);
    assert!(!reclaim_stale().iter().any(|stale| stale.name.ends_with(&name)));
    assert!(path_of(&name).exists());
    let segment = shared(&name, MIB).unwrap();
    assert!(Contents::read(&segment, 1).unwrap().is_none(), "a server that starts cold removes it");
    publish_directory(&segment);
    drop(segment);
    assert!(!path_of(&name).exists() && !directory_path_of(&name).exists(), "it goes with its segment");
}

#[test]
fn slot_directories_without_a_segment_are_swept() {
    let name = unique("orphan");
    let unpublished = Path::new("/dev/shm").join(format!("larder_l1_newslots_{name}"));
    let _removed = (Removed(path_of(&name)), Removed(directory_path_of(&name)), Removed(unpublished.clone()));
    let segment = shared(&name, MIB).unwrap();
    publish_directory(&segment);
    fs::write(&unpublished, b"of a server killed at its start").unwrap();
    _ = reclaim_stale();
    assert!(directory_path_of(&name).exists() && unpublished.exists(), "a living server's are left alone");
    segment.leave_behind();
    drop(segment);
    fs::remove_file(path_of(&name)).unwrap();
    _ = reclaim_stale();
    assert!(!directory_path_of(&name).exists() && !unpublished.exists() && !path_of(&name).exists());
}

#[test]
fn private_memory_has_no_directory() {
    let segment = Segment::create(SegmentOptions { share: None, bytes: MIB, hugepages: false }).unwrap();
    let options = DirectoryOptions { stamp: 1, records_max: 10 };
    assert!(matches!(Directory::create(&segment, options), Err(PoolError::InvalidName(_))));
    assert!(Contents::read(&segment, 1).unwrap().is_none());
}

#[test]
fn a_checksum_is_that_of_the_bytes() {
    let segment = Segment::create(SegmentOptions { share: None, bytes: MIB, hugepages: false }).unwrap();
    let bytes: Vec<u8> = (0..200_001u32).map(|at| (at % 251) as u8).collect();
    segment.write_at(4096, &bytes).unwrap();
    for len in [0, 1, 65_536, 65_537, 200_001] {
        let expected = xxhash_rust::xxh3::xxh3_64(&bytes[..len]);
        assert_eq!(segment.checksum(4096, len as u64).unwrap(), expected, "{len} bytes");
    }
    assert!(matches!(segment.checksum(MIB - 1, 2), Err(PoolError::OutOfRange { .. })));
}
