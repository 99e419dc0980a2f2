//! The private directory of one supervisor: configuration files and sockets for its plugins.
//!
//! Removed when the supervisor goes, and by the guardian if the server goes without warning.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use super::removal::{REMOVAL_MAX, remove_tree};
use crate::error::SuperviseError;
use crate::lock::lock;
use crate::manifest::Account;
use crate::text::shown;

/// How the directory's name begins; nothing else is ever removed.
pub(crate) const PREFIX: &str = "larder-plugins-";

/// Permissions of the directory: nobody else's.
const OWN_MODE: u32 = 0o700;
/// And where other users have files in it.
const OPEN_MODE: u32 = 0o711;
/// Bytes of the longest name in it, below which sockets have theirs.
const NAME_MAX_BYTES: usize = 32;
/// Bytes of the longest path of a socket.
const SOCKET_PATH_MAX_BYTES: usize = 107;
/// A directory without an owner is not swept before it is so old: its owner may be about to take it.
const UNOWNED_MIN: Duration = Duration::from_secs(60);

/// A directory of this user.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    /// Locked for as long as the directory is in use.
    owned: Mutex<File>,
    /// Permissions of the directory.
    mode: AtomicU32,
}

impl Scratch {
    /// Makes a new directory in the first of `parents` in which that is possible; one that leaves room for
    /// the paths of sockets comes first.
    pub(crate) fn create_in(parents: &[PathBuf]) -> Result<Self, SuperviseError> {
        let (fitting, long): (Vec<_>, Vec<_>) = parents.iter().partition(|parent| leaves_room(parent));
        let mut failure = None;
        for parent in fitting.into_iter().chain(long) {
            match Self::create(parent) {
                Ok(scratch) => return Ok(scratch),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let none =
            || SuperviseError::RuntimeDir { path: PathBuf::new(), source: io::ErrorKind::NotFound.into() };
        Err(failure.unwrap_or_else(none))
    }

    /// Makes a new directory below `parent`, and removes those that nobody owns any more.
    fn create(parent: &Path) -> Result<Self, SuperviseError> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        sweep(parent);
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..100 {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{PREFIX}{}-{serial}", std::process::id()));
            let failed = |source| SuperviseError::RuntimeDir { path: path.clone(), source };
            match DirBuilder::new().mode(OWN_MODE).create(&path) {
                Ok(()) => {
                    let owned = Mutex::new(own(&path).map_err(failed)?);
                    return Ok(Self { path, owned, mode: AtomicU32::new(OWN_MODE) });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => last = e,
                Err(source) => return Err(failed(source)),
            }
        }
        Err(SuperviseError::RuntimeDir { path: parent.to_path_buf(), source: last })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory anew if somebody has removed it; whether that was so.
    pub(crate) fn restore(&self) -> Result<bool, SuperviseError> {
        let failed = |source| SuperviseError::RuntimeDir { path: self.path.clone(), source };
        let mut owned = lock(&self.owned);
        match (fs::symlink_metadata(&self.path), owned.metadata()) {
            (Ok(there), Ok(own)) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => return Ok(false),
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {}
            (Err(source), _) | (_, Err(source)) => return Err(failed(source)),
            // Whoever made it could read what is written there.
            (Ok(_), Ok(_)) => return Err(failed(io::Error::other("it was replaced; remove it"))),
        }
        DirBuilder::new().mode(OWN_MODE).create(&self.path).map_err(failed)?;
        let mode = Permissions::from_mode(self.mode.load(Ordering::Relaxed));
        fs::set_permissions(&self.path, mode).map_err(failed)?;
        *owned = own(&self.path).map_err(failed)?;
        Ok(true)
    }

    /// A directory in which other users can reach the files that are theirs, and cannot list the others: this
    /// one where its place allows that, or else another one.
    pub(crate) fn for_others(self: &Arc<Self>) -> Result<Arc<Self>, SuperviseError> {
        let place = self.path.parent().unwrap_or(&self.path);
        let scratch = match lets_others_through(place) {
            true => Arc::clone(self),
            false => {
                let parents = places(place).into_iter().filter(|place| lets_others_through(place));
                Arc::new(Self::create_in(&parents.collect::<Vec<_>>())?)
            }
        };
        scratch.mode.store(OPEN_MODE, Ordering::Relaxed);
        let opened = fs::set_permissions(&scratch.path, Permissions::from_mode(OPEN_MODE));
        opened.map_err(|source| SuperviseError::RuntimeDir { path: scratch.path.clone(), source })?;
        Ok(scratch)
    }

    /// Writes or replaces a file that only this user can read; at no time is there half of one.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf, SuperviseError> {
        self.write_for(name, content, None)
    }

    /// As [`Scratch::write`], for another user, who can read and not change it.
    pub(crate) fn write_for(
        &self,
        name: &str,
        content: &str,
        reader: Option<Account>,
    ) -> Result<PathBuf, SuperviseError> {
        let path = self.path.join(name);
        let partial = self.path.join(format!("{name}.part"));
        let write = || -> io::Result<()> {
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(content.as_bytes())?;
            if let Some(Account { user, group }) = reader {
                std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
                file.set_permissions(Permissions::from_mode(0o400))?;
            }
            fs::rename(&partial, &path)
        };
        write().map_err(|source| SuperviseError::RuntimeDir { path: path.clone(), source })?;
        Ok(path)
    }
}

fn own(path: &Path) -> io::Result<File> {
    let owned = File::open(path)?;
    flock(&owned, FlockOperation::NonBlockingLockShared)?;
    Ok(owned)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The directory is below a temporary one; what is left the next server sweeps.
        if let Err(error) = remove_tree(&self.path, REMOVAL_MAX) {
            tracing::warn!(target: "larder_supervise", "cannot remove `{}`: {error}", shown(&self.path));
        }
    }
}

/// Where a private directory may be made: `first` if possible.
pub(crate) fn places(first: &Path) -> Vec<PathBuf> {
    vec![first.to_path_buf(), std::env::temp_dir(), "/tmp".into(), "/dev/shm".into()]
}

fn leaves_room(parent: &Path) -> bool {
    let own = PREFIX.len() + "/4294967295-4294967295/".len();
    parent.as_os_str().len() + own + NAME_MAX_BYTES <= SOCKET_PATH_MAX_BYTES
}

/// Whether every user can reach what lies in a folder.
fn lets_others_through(folder: &Path) -> bool {
    let passes = |path: &Path| path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
    folder.ancestors().filter(|path| !path.as_os_str().is_empty()).all(passes)
}

/// Removes what servers have left that were killed together with their guardians, as far as that is quick.
fn sweep(parent: &Path) {
    let begun = Instant::now();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_unowned(&entry.path()) {
            // Another user's cannot be removed, and is not ours to remove.
            _ = remove_tree(&entry.path(), REMOVAL_MAX.saturating_sub(begun.elapsed()));
        }
    }
}

fn is_unowned(path: &Path) -> bool {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(folder) = rustix::fs::open(path, flags, Mode::empty()).map(File::from) else { return false };
    let age = folder.metadata().ok().and_then(|meta| meta.modified().ok()?.elapsed().ok());
    age.is_some_and(|age| age >= UNOWNED_MIN)
        && flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn private_and_removed() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(parent.path()).unwrap();
        let other = Scratch::create(parent.path()).unwrap();
        assert_ne!(scratch.path(), other.path());
        let file = scratch.write("config.json", "{}").unwrap();
        let mode = |p: &Path| p.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(scratch.path()), mode(&file)), (0o700, 0o600));
        drop((scratch, other));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_nobody_owns_is_swept_once_it_is_old() {
        let parent = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - 2 * UNOWNED_MIN;
        let make = |name: &str, modified: SystemTime| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("config.json"), "{}").unwrap();
            File::open(&path).unwrap().set_modified(modified).unwrap();
            path
        };
        let left = make(&format!("{PREFIX}1-0"), old);
        let young = make(&format!("{PREFIX}1-1"), SystemTime::now());
        let foreign = make("something-else", old);
        let owned = Scratch::create(parent.path()).unwrap();
        File::open(owned.path()).unwrap().set_modified(old).unwrap();
        let _next = Scratch::create(parent.path()).unwrap();
        assert!(!left.exists() && young.exists() && foreign.exists() && owned.path().exists());
    }

    #[test]
    fn a_parent_that_leaves_no_room_for_sockets_comes_last() {
        let root = tempfile::tempdir().unwrap();
        let (long, short) = (root.path().join("x".repeat(100)), root.path().join("s"));
        for parent in [&long, &short] {
            fs::create_dir(parent).unwrap();
        }
        let scratch = Scratch::create_in(&[long.clone(), short.clone()]).unwrap();
        assert!(scratch.path().starts_with(&short));
        let scratch = Scratch::create_in(&["/no/such".into(), long.clone()]).unwrap();
        assert!(scratch.path().starts_with(&long));
        assert!(Scratch::create_in(&["/no/such".into()]).is_err());
    }
}
