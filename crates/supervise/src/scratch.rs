//! The private directory of one supervisor: configuration files and sockets for its plugins.
//!
//! Removed when the supervisor goes, and by the guardian if the server goes without warning.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::SuperviseError;

/// How the directory's name begins; nothing else is ever removed.
pub(crate) const PREFIX: &str = "larder-plugins-";

/// A directory that only this user can enter.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a new directory below `parent`.
    pub(crate) fn create(parent: &Path) -> Result<Self, SuperviseError> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..100 {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{PREFIX}{}-{serial}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => last = e,
                Err(source) => return Err(SuperviseError::RuntimeDir { path, source }),
            }
        }
        Err(SuperviseError::RuntimeDir { path: parent.to_path_buf(), source: last })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes or replaces a file that only this user can read; at no time is there half of one.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf, SuperviseError> {
        let path = self.path.join(name);
        let partial = self.path.join(format!("{name}.part"));
        let write = || -> io::Result<()> {
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(content.as_bytes())?;
            fs::rename(&partial, &path)
        };
        write().map_err(|source| SuperviseError::RuntimeDir { path: path.clone(), source })?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The directory is below a temporary one; a failure has no further consequence.
        _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

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
}
