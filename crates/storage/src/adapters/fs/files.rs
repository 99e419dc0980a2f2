//! Where an object's file is, was or will be.

use std::ffi::OsStr;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::key::ObjectKey;

use super::options::{FsOptions, PathShards};
use crate::error::{Failure, FailureKind};
use crate::names::{FILE_SUFFIX, KeyDecoder, file_name};

/// Prefix and suffix of our unfinished files. Short and independent of the key: its name may fill all a
/// directory entry takes.
const TMP_PREFIX: &str = ".larder-";
const TMP_SUFFIX: &str = ".tmp";
/// Directory of objects that failed verification.
const QUARANTINE_DIR: &str = ".quarantine";

/// Paths below one base directory.
#[derive(Debug)]
pub(super) struct Files {
    base: PathBuf,
    tmp_dir: Option<PathBuf>,
    shards: PathShards,
    /// Tells our unfinished files from those of any other server, also of one with our process id in another
    /// container.
    life: u64,
    tmp_sequence: AtomicU64,
}

/// What a directory entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileName {
    Object(ObjectKey),
    /// An unfinished file of this project; finished or abandoned when nobody holds its lock.
    OwnTmp,
    /// An unfinished file of the peer.
    PeerTmp,
    Foreign,
}

impl Files {
    /// Where everything is to be. Looks at nothing yet.
    pub(super) fn new(options: &FsOptions) -> Result<Self, Failure> {
        let base = options.base_path.clone();
        let tmp_dir = match &options.relative_tmp_dir {
            Some(relative) => below(relative)?.map(|relative| base.join(relative)),
            None => None,
        };
        let life = RandomState::new().hash_one(std::process::id());
        Ok(Self { base, tmp_dir, shards: options.path_shards, life, tmp_sequence: AtomicU64::new(0) })
    }

    /// Creates the directories. Blocks for as long as that takes, which on a dead mount is for ever.
    pub(super) fn prepare(&self) -> Result<(), Failure> {
        for dir in [Some(&self.base), self.tmp_dir.as_ref()].into_iter().flatten() {
            fs::create_dir_all(dir)
                .map_err(|error| Failure::io(format!("create directory `{}`", dir.display()), &error))?;
        }
        self.tmp_dir.as_ref().map_or(Ok(()), |dir| check_apart(&self.base, dir))
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn tmp_dir(&self) -> Option<&Path> {
        self.tmp_dir.as_deref()
    }

    pub(super) fn shards(&self) -> PathShards {
        self.shards
    }

    /// The directory a key's file belongs to under `shards`.
    pub(super) fn dir(&self, key: &ObjectKey, shards: PathShards) -> PathBuf {
        let [first, second, ..] = key.chunk_hash.0;
        match shards {
            PathShards::Off => self.base.clone(),
            PathShards::One => self.base.join(format!("{first:02x}")),
            PathShards::Two => self.base.join(format!("{first:02x}/{second:02x}")),
        }
    }

    /// The path of a key's file under `shards`.
    pub(super) fn object(&self, key: &ObjectKey, shards: PathShards) -> Result<PathBuf, Failure> {
        let name =
            file_name(key).map_err(|error| Failure::permanent(FailureKind::Invalid, error.to_string()))?;
        Ok(self.dir(key, shards).join(name))
    }

    /// The settings a file may have been written under, the present one first.
    pub(super) fn candidate_shards(&self) -> [PathShards; 3] {
        let mut all = [PathShards::Off, PathShards::One, PathShards::Two];
        if let Some(position) = all.iter().position(|shards| *shards == self.shards) {
            all.swap(0, position);
        }
        all
    }

    /// A new path for an unfinished file that will be renamed into `dir`.
    pub(super) fn tmp(&self, dir: &Path) -> PathBuf {
        let sequence = self.tmp_sequence.fetch_add(1, Ordering::Relaxed);
        let name = format!("{TMP_PREFIX}{:016x}-{sequence}{TMP_SUFFIX}", self.life);
        self.tmp_dir.as_deref().unwrap_or(dir).join(name)
    }

    pub(super) fn quarantine_dir(&self) -> PathBuf {
        self.base.join(QUARANTINE_DIR)
    }

    /// Creates the shard directory of a key, never the base directory: where that is gone, a mount may be
    /// missing.
    pub(super) fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let create = |dir: &Path| match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            created => created,
        };
        if self.shards == PathShards::Off {
            return Ok(());
        }
        match (self.shards, create(dir), dir.parent()) {
            (PathShards::Two, Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                create(parent)?;
                create(dir)
            }
            (_, created, _) => created,
        }
    }

    /// Makes a rename in `dir` durable.
    pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }
}

/// Says what a directory entry is by its name alone.
pub(super) fn classify(name: &OsStr, decoder: &KeyDecoder) -> FileName {
    let Ok(name) = std::str::from_utf8(name.as_bytes()) else { return FileName::Foreign };
    if name.starts_with(TMP_PREFIX) && name.ends_with(TMP_SUFFIX) {
        return FileName::OwnTmp;
    }
    if let Some(key) = decoder.file_name(name) {
        return FileName::Object(key);
    }
    // The peer writes `<stem>.tmp` and renames it to `<stem>.data`.
    let peer =
        name.strip_suffix(TMP_SUFFIX).and_then(|stem| decoder.file_name(&format!("{stem}{FILE_SUFFIX}")));
    if peer.is_some() { FileName::PeerTmp } else { FileName::Foreign }
}

/// Whether a directory name is a shard's.
pub(super) fn is_shard_dir(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.len() == 2 && name.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
}

/// The same path without what means no directory; none if nothing is left.
fn below(relative: &Path) -> Result<Option<PathBuf>, Failure> {
    let is_part = |part: &Component| *part != Component::CurDir;
    let parts: PathBuf = relative.components().filter(is_part).collect();
    if parts.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(unfit(relative, "leaves the base path"));
    }
    Ok(Some(parts).filter(|parts| !parts.as_os_str().is_empty()))
}

/// Fails for a temporary directory that objects are kept in, by whatever name: what is old in it is swept.
fn check_apart(base: &Path, dir: &Path) -> Result<(), Failure> {
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|error| Failure::io(format!("look at directory `{}`", path.display()), &error))
    };
    let (real_base, real_dir) = (real(base)?, real(dir)?);
    let below = real_dir.strip_prefix(&real_base).map_err(|_| unfit(dir, "leaves the base path"))?;
    match below.components().next() {
        Some(first) if is_shard_dir(first.as_os_str()) || first.as_os_str() == QUARANTINE_DIR => {
            Err(unfit(dir, "is one that objects are kept in"))
        }
        Some(_) => Ok(()),
        None => Err(unfit(dir, "is the base path")),
    }
}

fn unfit(dir: &Path, why: &str) -> Failure {
    let text = format!(
        "temporary directory `{}` {why}\nhint: name a directory of its own, such as `tmp`",
        dir.display()
    );
    Failure::permanent(FailureKind::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(options: &FsOptions) -> Result<Files, Failure> {
        let files = Files::new(options)?;
        files.prepare()?;
        Ok(files)
    }

    #[test]
    fn names_are_told_apart() {
        let decoder = KeyDecoder::default();
        let key = ObjectKey::new([7; 32], "org/m", 1, 0, "").unwrap();
        let name = file_name(&key).unwrap();
        let peer_tmp = name.replace(".data", ".tmp");
        assert_eq!(classify(OsStr::new(&name), &decoder), FileName::Object(key));
        assert_eq!(classify(OsStr::new(&peer_tmp), &decoder), FileName::PeerTmp);
        assert_eq!(classify(OsStr::new(".larder-1-2.tmp"), &decoder), FileName::OwnTmp);
        for foreign in ["notes.tmp", "a.data", "README"] {
            assert_eq!(classify(OsStr::new(foreign), &decoder), FileName::Foreign, "{foreign}");
        }
        assert_eq!(classify(OsStr::from_bytes(b"\xff\xfe.data"), &decoder), FileName::Foreign);
    }

    #[test]
    fn the_temporary_directory_stays_inside() {
        let dir = tempfile::tempdir().unwrap();
        for outside in ["/tmp", "../x", "a/../../x"] {
            let options = FsOptions { relative_tmp_dir: Some(outside.into()), ..FsOptions::new(dir.path()) };
            assert_eq!(open(&options).unwrap_err().kind, FailureKind::Invalid, "{outside}");
        }
    }

    #[test]
    fn no_directory_that_objects_are_in_is_taken_for_unfinished_files() {
        let dir = tempfile::tempdir().unwrap();
        let open = |relative: &str| {
            let options = FsOptions { relative_tmp_dir: Some(relative.into()), ..FsOptions::new(dir.path()) };
            super::tests::open(&options).map(|files| files.tmp_dir().map(Path::to_owned))
        };
        for same in ["", ".", "./", "./."] {
            assert_eq!(open(same).unwrap(), None, "`{same}` is where objects are");
        }
        assert_eq!(open("./tmp/x").unwrap(), Some(dir.path().join("tmp/x")));
        std::os::unix::fs::symlink(".", dir.path().join("here")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("away")).unwrap();
        for unfit in ["00", "ab/cd", ".quarantine", "here", "away"] {
            assert_eq!(open(unfit).unwrap_err().kind, FailureKind::Invalid, "{unfit}");
        }
        assert!(open("abc").is_ok());
    }

    #[test]
    fn shards_follow_the_hash_and_the_present_setting_is_tried_first() {
        let dir = tempfile::tempdir().unwrap();
        let options = FsOptions { path_shards: PathShards::Two, ..FsOptions::new(dir.path()) };
        let files = open(&options).unwrap();
        let key = ObjectKey::new([0xa7; 32], "m", 1, 0, "").unwrap();
        assert!(files.object(&key, PathShards::Two).unwrap().starts_with(dir.path().join("a7/a7")));
        assert_eq!(files.candidate_shards()[0], PathShards::Two);
        assert!(
            is_shard_dir(OsStr::new("0f"))
                && !is_shard_dir(OsStr::new("0F"))
                && !is_shard_dir(OsStr::new("abc"))
        );
    }

    #[test]
    fn unfinished_files_of_two_servers_never_share_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = [(); 2].map(|()| open(&FsOptions::new(dir.path())).unwrap());
        assert_ne!(first.tmp(dir.path()), second.tmp(dir.path()));
        assert_ne!(first.tmp(dir.path()), first.tmp(dir.path()));
    }
}
