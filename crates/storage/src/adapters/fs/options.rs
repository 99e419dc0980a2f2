//! How a directory is used.

use std::path::PathBuf;

/// What must have reached the device before a store is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// Nothing: a machine that loses power may lose or truncate recent objects; reads notice.
    #[default]
    Never,
    /// The bytes, before the object gets its name.
    Data,
    /// The bytes and the name.
    Full,
}

/// Whether objects are spread over subdirectories named after the first hash digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathShards {
    /// All in one directory, as the peer expects it.
    #[default]
    Off,
    /// 256 directories.
    One,
    /// 65,536 directories in two levels.
    Two,
}

/// A directory and the way it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsOptions {
    /// Where objects live. Created when missing.
    pub base_path: PathBuf,
    /// Where unfinished files are written, relative to `base_path`; beside the finished ones when none.
    pub relative_tmp_dir: Option<PathBuf>,
    /// Threads that read and write.
    pub workers: usize,
    /// Transfers waiting for a thread, in objects; more are answered busy.
    pub queued_jobs_max: usize,
    /// Bypass the page cache where buffers and file system allow it.
    pub use_odirect: bool,
    /// Bytes the kernel is asked to fetch when a file is opened for reading; none leaves it to the kernel.
    pub read_ahead_bytes: Option<u64>,
    /// The most all objects may take; none for no limit.
    pub capacity_bytes: Option<u64>,
    /// Durability of a store.
    pub fsync: FsyncPolicy,
    /// Spreading over subdirectories. Objects written under another setting are still found.
    pub path_shards: PathShards,
    /// Whether others write to the directory as well: what the index does not know is then looked for on
    /// disk.
    pub is_shared: bool,
    /// Age in seconds from which another program's unfinished file counts as left behind.
    pub stale_tmp_s: u64,
    /// Pause in milliseconds between attempts to write to a full disk.
    pub full_probe_ms: u64,
    /// Shortest pause in milliseconds between two looks through the directory for what others did there. A
    /// large directory is looked through more rarely.
    pub rescan_pause_ms: u64,
    /// Objects kept aside after failing verification; further ones are deleted.
    pub quarantine_files_max: usize,
}

impl FsOptions {
    /// A directory of our own, used as the peer uses it.
    #[must_use]
    pub fn new(base_path: impl Into<PathBuf>) -> Self {
        Self {
            base_path: base_path.into(),
            relative_tmp_dir: None,
            workers: 4,
            queued_jobs_max: 16_384,
            use_odirect: false,
            read_ahead_bytes: None,
            capacity_bytes: None,
            fsync: FsyncPolicy::default(),
            path_shards: PathShards::default(),
            is_shared: false,
            stale_tmp_s: 3600,
            full_probe_ms: 1000,
            rescan_pause_ms: 60_000,
            quarantine_files_max: 16,
        }
    }
}
