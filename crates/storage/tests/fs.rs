//! What the directory adapter promises beyond the contract: survival, room, sweeping, indexes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests report by panicking")]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use larder_core::key::ObjectKey;
use larder_storage::adapters::fs::{FsAdapter, FsOptions, PathShards};
use larder_storage::conformance::{load_items, object_bytes, object_key, store_items};
use larder_storage::decorators::Checksum;
use larder_storage::{
    Adapter, Busy, DeleteMode, Error, Failure, FailureKind, HealthState, HeapBuffer, LentBuffer, ListRequest,
    StoreItem, file_name,
};

const LEN: usize = 8192;

fn open(options: FsOptions) -> FsAdapter {
    FsAdapter::open(options).unwrap()
}

fn kind(result: &Result<impl std::fmt::Debug, Error>) -> FailureKind {
    match result {
        Err(Error::Failed(failure)) => failure.kind,
        other => panic!("not a failure: {other:?}"),
    }
}

/// Closing waits for the rebuild or cuts it short; waiting for completion is what tests need.
async fn complete(adapter: &FsAdapter) {
    while adapter.health().details["index_complete"] != true {
        tokio::task::yield_now().await;
    }
}

async fn assert_held(adapter: &dyn Adapter, index: usize) {
    let (items, buffers) = load_items(index..index + 1, LEN);
    let loaded = adapter.load(items).await;
    assert!(loaded[0].is_ok(), "object {index}: {loaded:?}");
    assert_eq!(buffers[0].to_vec(), object_bytes(index, LEN), "object {index}");
}

#[tokio::test]
async fn objects_survive_a_restart_and_are_found_before_the_index_is() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(FsOptions::new(dir.path()));
    first.store(store_items(0..5, LEN)).await;
    first.close().await;
    let second = open(FsOptions::new(dir.path()));
    let found = second.lookup_and_lock((0..6).map(object_key).collect()).await;
    assert_eq!(found.iter().filter(|found| found.is_ok()).count(), 5, "{found:?}");
    assert_held(&second, 3).await;
    complete(&second).await;
    assert_eq!((second.usage().objects, second.usage().bytes_used), (5, 5 * LEN as u64));
}

#[tokio::test]
async fn an_index_that_is_complete_is_the_truth_unless_the_directory_is_shared() {
    let dir = tempfile::tempdir().unwrap();
    let (alone, shared) =
        (open(FsOptions::new(dir.path())), open(FsOptions { is_shared: true, ..FsOptions::new(dir.path()) }));
    complete(&alone).await;
    complete(&shared).await;
    let other = open(FsOptions::new(dir.path()));
    other.store(store_items(0..1, LEN)).await;
    assert_eq!(alone.lookup_and_lock(vec![object_key(0)]).await, [Err(Error::Absent)]);
    assert!(shared.lookup_and_lock(vec![object_key(0)]).await[0].is_ok());
    assert_held(&shared, 0).await;
}

#[tokio::test]
async fn a_file_that_vanished_is_a_miss_once() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = open(FsOptions::new(dir.path()));
    adapter.store(store_items(0..1, LEN)).await;
    complete(&adapter).await;
    fs::remove_file(dir.path().join(file_name(&object_key(0)).unwrap())).unwrap();
    assert!(adapter.lookup_and_lock(vec![object_key(0)]).await[0].is_ok(), "the index does not know yet");
    assert_eq!(adapter.load(load_items(0..1, LEN).0).await, [Err(Error::Absent)]);
    assert_eq!(adapter.lookup_and_lock(vec![object_key(0)]).await, [Err(Error::Absent)], "now it does");
    assert_eq!(adapter.usage().bytes_used, 0);
}

#[tokio::test]
async fn objects_written_under_another_sharding_are_found_and_moved_when_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    for (index, path_shards) in [PathShards::Off, PathShards::One, PathShards::Two].into_iter().enumerate() {
        let adapter = open(FsOptions { path_shards, ..FsOptions::new(dir.path()) });
        assert!(adapter.store(store_items(index..index + 1, LEN)).await[0].is_ok());
        for known in 0..=index {
            assert_held(&adapter, known).await;
        }
        adapter.close().await;
    }
    let adapter = open(FsOptions::new(dir.path()));
    complete(&adapter).await;
    assert_eq!(adapter.usage().objects, 3);
    for index in 0..3 {
        assert_held(&adapter, index).await;
    }
    assert!(adapter.store(store_items(2..3, LEN * 3)).await[0].is_ok(), "another length replaces");
    assert_eq!(adapter.usage().bytes_used, 5 * LEN as u64);
    assert!(dir.path().join(file_name(&object_key(2)).unwrap()).exists());
    let deleted = adapter.delete((0..3).map(object_key).collect(), DeleteMode::IfUnlocked).await;
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    adapter.close().await;
    let empty = open(FsOptions::new(dir.path()));
    complete(&empty).await;
    assert_eq!(empty.usage().objects, 0, "nothing is left under any sharding");
}

#[tokio::test]
async fn the_capacity_is_a_hard_cap() {
    let dir = tempfile::tempdir().unwrap();
    let options = || FsOptions { capacity_bytes: Some(10 * LEN as u64 - 1), ..FsOptions::new(dir.path()) };
    let adapter = open(options());
    complete(&adapter).await;
    let stored = adapter.store(store_items(0..20, LEN)).await;
    assert_eq!(stored.iter().filter(|stored| stored.is_ok()).count(), 9, "{stored:?}");
    let refused = stored.iter().find(|stored| stored.is_err()).unwrap();
    assert_eq!(kind(refused), FailureKind::Full);
    let on_disk: u64 =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(on_disk, 9 * LEN as u64);
    assert_eq!(adapter.health().state, HealthState::Ready, "a limit doing its work is no trouble");
    adapter.close().await;

    let again = open(options());
    complete(&again).await;
    assert_eq!(
        kind(&again.store(store_items(50..51, LEN)).await[0]),
        FailureKind::Full,
        "also after a restart"
    );
    let held = (0..20).map(object_key).collect();
    let freed =
        again.delete(held, DeleteMode::IfUnlocked).await.iter().filter(|deleted| deleted.is_ok()).count();
    assert_eq!(freed, 9);
    assert!(again.store(store_items(50..51, LEN)).await[0].is_ok());
}

/// An object moves from the room set aside for it into the index at one moment, so what exactly fits is never
/// refused.
#[tokio::test]
async fn what_fits_exactly_is_taken_by_any_number_of_threads() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let capacity_bytes = Some(32 * LEN as u64);
        let adapter = open(FsOptions { capacity_bytes, workers: 8, ..FsOptions::new(dir.path()) });
        complete(&adapter).await;
        let stored = adapter.store(store_items(0..32, LEN)).await;
        assert!(stored.iter().all(Result::is_ok), "{stored:?}");
        adapter.close().await;
    }
}

#[tokio::test]
async fn a_cap_is_not_overrun_while_the_index_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    // A directory that can't be scanned: its index never completes.
    fs::create_dir(dir.path().join("00")).unwrap();
    let adapter = open(FsOptions { capacity_bytes: Some(1 << 30), ..FsOptions::new(dir.path()) });
    let stored = adapter.store(store_items(0..1, LEN)).await;
    assert!(matches!(stored[0], Ok(_) | Err(Error::Busy(Busy::Rebuilding))), "{stored:?}");
    complete(&adapter).await;
    assert!(adapter.store(store_items(0..1, LEN)).await[0].is_ok());
}

/// What is written while the index is rebuilt is not lost: whoever waits is told when the directory takes
/// objects.
#[tokio::test]
async fn whoever_waits_for_the_index_finds_a_directory_that_takes_objects() {
    let dir = tempfile::tempdir().unwrap();
    let filling = open(FsOptions::new(dir.path()));
    filling.store(store_items(0..500, 64)).await;
    filling.close().await;
    for round in 0..10 {
        let adapter = open(FsOptions { capacity_bytes: Some(1 << 30), ..FsOptions::new(dir.path()) });
        adapter.ready_to_store().await;
        assert!(adapter.usage().is_complete);
        let stored = adapter.store(store_items(500 + round..501 + round, LEN)).await;
        assert!(stored[0].is_ok(), "{stored:?}");
        adapter.close().await;
    }
    let unlimited = open(FsOptions::new(dir.path()));
    unlimited.ready_to_store().await;
    let closed = open(FsOptions { capacity_bytes: Some(1), ..FsOptions::new(dir.path().join("other")) });
    closed.close().await;
    closed.ready_to_store().await;
}

async fn until(condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap();
}

#[tokio::test]
async fn a_scan_that_could_not_begin_is_repeated() {
    let parent = tempfile::tempdir().unwrap();
    let (base, away) = (parent.path().join("base"), parent.path().join("away"));
    let filling = open(FsOptions::new(&base));
    filling.store(store_items(0..2, LEN)).await;
    filling.close().await;
    loop {
        let adapter = open(FsOptions { capacity_bytes: Some(1 << 30), ..FsOptions::new(&base) });
        fs::rename(&base, &away).unwrap();
        until(async || adapter.usage().is_complete || adapter.health().state != HealthState::Ready).await;
        fs::rename(&away, &base).unwrap();
        if adapter.usage().is_complete {
            // It was faster than the test.
            adapter.close().await;
            continue;
        }
        adapter.ready_to_store().await;
        assert_eq!(adapter.usage().objects, 2);
        assert!(adapter.store(store_items(5..6, LEN)).await[0].is_ok());
        return;
    }
}

#[tokio::test]
async fn a_folder_that_can_not_be_read_costs_nothing_but_itself() {
    // To a superuser every folder is readable.
    if rustix::process::geteuid().is_root() {
        let test = "a_folder_that_can_not_be_read_costs_nothing_but_itself";
        let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
        let program = std::env::current_exe().unwrap();
        let run = Command::new("setpriv").args(user).arg(program).args(["--exact", test]).output();
        match run {
            Ok(run) if run.status.success() => {}
            Ok(run) if run.stdout.is_empty() => {
                eprintln!("skipped: {}", String::from_utf8_lossy(&run.stderr))
            }
            Ok(run) => panic!("{}", String::from_utf8_lossy(&run.stdout)),
            Err(error) => eprintln!("skipped: setpriv: {error}"),
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let filling = open(FsOptions { path_shards: PathShards::One, ..FsOptions::new(dir.path()) });
    filling.store(store_items(0..3, LEN)).await;
    filling.close().await;
    let foreign = dir.path().join("ab");
    fs::create_dir(&foreign).unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o000)).unwrap();
    let adapter = open(FsOptions { capacity_bytes: Some(1 << 30), ..FsOptions::new(dir.path()) });
    adapter.ready_to_store().await;
    assert_eq!(adapter.usage().objects, 3);
    assert!(adapter.store(store_items(5..6, LEN)).await[0].is_ok());
    until(async || adapter.health().state == HealthState::Degraded).await;
    assert!(adapter.health().reason.unwrap().contains("/ab`"));
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o700)).unwrap();
    until(async || adapter.health().state == HealthState::Ready).await;
    assert_eq!(adapter.usage().objects, 4);
}

#[tokio::test]
async fn a_full_directory_that_others_emptied_takes_objects_again() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = open(FsOptions { capacity_bytes: Some(4 * LEN as u64), ..FsOptions::new(dir.path()) });
    adapter.ready_to_store().await;
    assert!(adapter.store(store_items(0..4, LEN)).await.iter().all(Result::is_ok));
    assert_eq!(kind(&adapter.store(store_items(4..5, LEN)).await[0]), FailureKind::Full);
    for index in 0..3 {
        fs::remove_file(dir.path().join(file_name(&object_key(index)).unwrap())).unwrap();
    }
    until(async || adapter.store(store_items(4..7, LEN)).await.iter().all(Result::is_ok)).await;
    assert_eq!((adapter.usage().objects, adapter.usage().bytes_used), (4, 4 * LEN as u64));
    assert_held(&adapter, 3).await;
}

#[tokio::test]
async fn what_others_write_and_delete_in_a_shared_directory_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let options = || FsOptions { is_shared: true, rescan_pause_ms: 1, ..FsOptions::new(dir.path()) };
    let (first, second) = (open(options()), open(options()));
    complete(&first).await;
    assert!(second.store(store_items(0..3, LEN)).await.iter().all(Result::is_ok));
    until(async || first.usage().objects == 3).await;
    let page = first.list(ListRequest { entries_max: 9, ..ListRequest::default() }).await.unwrap();
    assert_eq!(page.entries.len(), 3);
    second.delete(vec![object_key(1)], DeleteMode::IfUnlocked).await;
    until(async || first.usage().objects == 2).await;
}

/// Objects come, go and are looked through at the same time; the index never loses what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_through_a_directory_loses_nothing_that_happens_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = Arc::new(open(FsOptions { rescan_pause_ms: 0, ..FsOptions::new(dir.path()) }));
    for round in 0..30 {
        let first = round * 20;
        assert!(adapter.store(store_items(first..first + 20, 64)).await.iter().all(Result::is_ok));
        let gone = (first..first + 10).map(object_key).collect();
        assert!(adapter.delete(gone, DeleteMode::IfUnlocked).await.iter().all(Result::is_ok));
        let found = adapter.lookup_and_lock((0..first + 20).map(object_key).collect()).await;
        for (index, found) in found.iter().enumerate() {
            assert_eq!(found.is_ok(), index % 20 >= 10, "object {index} in round {round}: {found:?}");
        }
        adapter.unlock(&(0..first + 20).map(object_key).collect::<Vec<_>>());
    }
    assert_eq!((adapter.usage().objects, adapter.usage().bytes_used), (300, 300 * 64));
}

#[tokio::test]
async fn a_file_without_a_seal_may_be_padded_and_no_longer_than_that() {
    let dir = tempfile::tempdir().unwrap();
    let write = |index: usize, bytes: &[u8]| {
        fs::write(dir.path().join(file_name(&object_key(index)).unwrap()), bytes).unwrap();
    };
    let padded = |index, padding| [object_bytes(index, LEN), vec![0; padding]].concat();
    write(0, &padded(0, 0));
    write(1, &padded(1, 4095));
    write(2, &padded(2, 4096));
    write(3, &padded(3, LEN));
    write(4, &padded(4, 0)[..LEN - 1]);
    let adapter = open(FsOptions::new(dir.path()));
    let expected = [true, true, false, false, false];
    let found = adapter.lookup_and_lock((0..5).map(object_key).collect()).await;
    let fits = found.iter().map(|found| found.as_ref().unwrap().fits(LEN as u64));
    assert_eq!(fits.collect::<Vec<_>>(), expected);
    let (items, buffers) = load_items(0..5, LEN);
    let loaded = adapter.load(items).await;
    for (index, (loaded, is_fitting)) in loaded.iter().zip(expected).enumerate() {
        match is_fitting {
            true => assert_eq!(buffers[index].to_vec(), object_bytes(index, LEN), "{loaded:?}"),
            false => assert_eq!(kind(loaded), FailureKind::Mismatch, "object {index}"),
        }
    }
    adapter.unlock(&(0..5).map(object_key).collect::<Vec<_>>());
    let stored = adapter.store(store_items(0..5, LEN)).await;
    let written: Vec<bool> = stored.iter().map(|stored| stored.as_ref().unwrap().bytes_written > 0).collect();
    assert_eq!(written, [false, false, true, true, true], "what can't be loaded is stored again");
}

#[tokio::test]
async fn an_object_of_another_length_replaces_the_one_that_was_sealed_with_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let checked = Checksum::new(Arc::new(open(FsOptions::new(dir.path()))), 1).unwrap();
    if checked.health().details["seals_kept"] == false {
        eprintln!("skipped: the file system has no extended attributes");
        return;
    }
    for len in [LEN, LEN - 100, LEN, LEN + 100] {
        let stored = checked.store(store_items(0..1, len)).await;
        assert!(matches!(&stored[0], Ok(stored) if stored.bytes_written == len as u64), "{len}: {stored:?}");
        let (items, buffers) = load_items(0..1, len);
        assert!(checked.load(items).await[0].is_ok(), "{len}");
        assert_eq!(buffers[0].to_vec(), object_bytes(0, len));
    }
}

/// A buffer whose writes fail the way a full disk does.
#[derive(Debug)]
struct FullDisk(Arc<HeapBuffer>);

impl LentBuffer for FullDisk {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn read_at(&self, offset: usize, into: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, into)
    }
    fn write_at(&self, offset: usize, from: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, from)
    }
    fn pwrite_from(
        &self,
        fd: std::os::fd::BorrowedFd<'_>,
        file_offset: u64,
        range: std::ops::Range<usize>,
    ) -> io::Result<usize> {
        // Half of it fits.
        if range.start >= self.len() / 2 {
            return Err(io::Error::from_raw_os_error(28));
        }
        self.0.pwrite_from(fd, file_offset, range.start..self.len() / 2)
    }
}

#[tokio::test]
async fn a_full_disk_is_a_state_that_passes() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = open(FsOptions { full_probe_ms: 3_600_000, ..FsOptions::new(dir.path()) });
    adapter.store(store_items(0..1, LEN)).await;
    let hopeless =
        StoreItem { key: object_key(1), buffer: Arc::new(FullDisk(HeapBuffer::zeroed(LEN))), seal: None };
    assert_eq!(kind(&adapter.store(vec![hopeless]).await[0]), FailureKind::Full);
    assert_eq!(adapter.health().state, HealthState::Full);
    assert_eq!(kind(&adapter.store(store_items(2..3, LEN)).await[0]), FailureKind::Full, "not even tried");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the half-written file is gone");
    assert_held(&adapter, 0).await;
    adapter.delete(vec![object_key(0)], DeleteMode::IfUnlocked).await;
    assert!(adapter.store(store_items(2..3, LEN)).await[0].is_ok(), "room was made");
    assert_eq!(adapter.health().state, HealthState::Ready);
}

fn touch(path: &Path, age_s: u64) {
    let file = fs::File::create(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(age_s)).unwrap();
}

#[tokio::test]
async fn what_crashed_writers_left_is_swept_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let tmp = dir.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    let name = file_name(&object_key(0)).unwrap();
    let peer_tmp = name.replace(".data", ".tmp");
    let stale = [dir.path().join(".larder-1-1.tmp"), dir.path().join(&peer_tmp), tmp.join(&name)];
    for path in &stale {
        touch(path, 7200);
    }
    let kept = [
        dir.path().join("notes.tmp"),
        dir.path().join(file_name(&object_key(1)).unwrap().replace(".data", ".tmp")),
    ];
    touch(&kept[0], 7200);
    touch(&kept[1], 0);
    let adapter = open(FsOptions { relative_tmp_dir: Some("tmp".into()), ..FsOptions::new(dir.path()) });
    complete(&adapter).await;
    assert_eq!(adapter.health().details["swept_files"], 3);
    assert!(stale.iter().all(|path| !path.exists()) && kept.iter().all(|path| path.exists()));
    assert_eq!(adapter.usage().objects, 0);
}

#[tokio::test]
async fn bytes_changed_on_disk_are_quarantined() {
    let dir = tempfile::tempdir().unwrap();
    let fs_adapter = Arc::new(open(FsOptions { quarantine_files_max: 1, ..FsOptions::new(dir.path()) }));
    let checked = Checksum::new(Arc::<FsAdapter>::clone(&fs_adapter), 1).unwrap();
    checked.store(store_items(0..3, LEN)).await;
    if fs_adapter.health().details["seals_kept"] == false {
        eprintln!("skipped: the file system has no extended attributes");
        return;
    }
    for index in 0..2 {
        let path = dir.path().join(file_name(&object_key(index)).unwrap());
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_at(&file, b"!", 100).unwrap();
    }
    let (loads, buffers) = load_items(0..3, LEN);
    let loaded = checked.load(loads).await;
    assert_eq!((kind(&loaded[0]), kind(&loaded[1])), (FailureKind::Corrupt, FailureKind::Corrupt));
    assert!(loaded[2].is_ok() && buffers[2].to_vec() == object_bytes(2, LEN));
    assert_eq!(fs::read_dir(dir.path().join(".quarantine")).unwrap().count(), 1, "as many as configured");
    assert_eq!(checked.usage().objects, 1);
    let restarted = open(FsOptions::new(dir.path()));
    complete(&restarted).await;
    assert_eq!(restarted.usage().objects, 1, "quarantined objects stay out");
}

#[tokio::test]
async fn a_truncated_file_is_a_mismatch() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = open(FsOptions::new(dir.path()));
    adapter.store(store_items(0..1, LEN)).await;
    let path = dir.path().join(file_name(&object_key(0)).unwrap());
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap();
    assert_eq!(kind(&adapter.load(load_items(0..1, LEN).0).await[0]), FailureKind::Mismatch);
    assert_eq!(adapter.usage().bytes_used, 100, "the index has learnt");
    assert!(adapter.store(store_items(0..1, LEN)).await[0].is_ok());
    assert_held(&adapter, 0).await;
}

#[tokio::test]
async fn a_name_the_file_system_refuses_is_a_failure_of_its_own_key() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = open(FsOptions::new(dir.path()));
    let mut items = store_items(0..2, LEN);
    items[0].key = ObjectKey::new([0; 32], "m".repeat(250), 0, 0, "").unwrap();
    let stored = adapter.store(items).await;
    assert_eq!(kind(&stored[0]), FailureKind::Invalid);
    assert!(stored[1].is_ok());
}

#[tokio::test]
async fn a_base_path_that_can_not_be_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let failure: Failure = FsAdapter::open(FsOptions::new(file.path().join("x"))).unwrap_err();
    assert!(failure.text.starts_with("create directory `"), "{failure}");
}

#[tokio::test]
async fn listing_sees_what_the_rebuild_found() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(FsOptions::new(dir.path()));
    first.store(store_items(0..30, 10)).await;
    first.close().await;
    fs::write(dir.path().join("README.md"), "not an object").unwrap();
    let second = open(FsOptions::new(dir.path()));
    complete(&second).await;
    let page = second.list(ListRequest { entries_max: 100, ..ListRequest::default() }).await.unwrap();
    assert_eq!(page.entries.len(), 30);
    assert!((0..30).all(|index| page.entries.iter().any(|entry| entry.key == object_key(index))));
}

#[tokio::test]
async fn writing_and_sweeping_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Arc::new(open(FsOptions::new(dir.path())));
    let writing = {
        let writer = Arc::clone(&writer);
        tokio::spawn(async move { writer.store(store_items(0..2000, 64)).await })
    };
    while !writing.is_finished() {
        let sweeper = open(FsOptions::new(dir.path()));
        complete(&sweeper).await;
        sweeper.close().await;
    }
    let failed: Vec<_> = writing.await.unwrap().into_iter().filter(Result::is_err).collect();
    assert!(failed.is_empty(), "{failed:?}");
}
