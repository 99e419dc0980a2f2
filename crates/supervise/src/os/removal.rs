//! Removes folders that others have filled: however deep they are, without leaving them, and not for ever.

use std::ffi::CStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;

/// How long a removal may take that somebody waits for.
pub(crate) const REMOVAL_MAX: Duration = Duration::from_secs(1);

/// Removes `path` and everything in it. What is not there is removed already. [`io::ErrorKind::TimedOut`]
/// says that something is left.
///
/// Folders below are emptied into `path` before they go. So no depth needs more than three descriptors, and
/// none needs a stack.
pub(crate) fn remove_tree(path: &Path, limit: Duration) -> io::Result<()> {
    let removed =
        open_folder(CWD, path).and_then(|top| Removal { top, moved: 0, begun: Instant::now(), limit }.run());
    match removed.and_then(|()| unlinkat(CWD, path, AtFlags::REMOVEDIR)) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

struct Removal {
    top: OwnedFd,
    /// Folders moved into `top` so far: their names there.
    moved: u64,
    begun: Instant,
    limit: Duration,
}

impl Removal {
    fn run(mut self) -> Result<(), Errno> {
        let top = rustix::io::dup(&self.top)?;
        while self.empty(&top, |removal, name| removal.empty_folder(name))? > 0 {}
        Ok(())
    }

    /// Removes all files of a folder and gives its folders to `rest`; how many entries it had.
    fn empty(
        &mut self,
        folder: &OwnedFd,
        mut rest: impl FnMut(&mut Self, &CStr) -> Result<(), Errno>,
    ) -> Result<u64, Errno> {
        let mut seen = 0;
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            seen += 1;
            match unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => rest(self, name)?,
                Err(error) => return Err(error),
            }
            if self.begun.elapsed() > self.limit {
                return Err(Errno::TIMEDOUT);
            }
        }
        Ok(seen)
    }

    /// Removes a folder of `top`, whose own folders become folders of `top`.
    fn empty_folder(&mut self, name: &CStr) -> Result<(), Errno> {
        let folder = open_folder(&self.top, name)?;
        self.empty(&folder, |removal, inner| removal.move_up(&folder, inner))?;
        unlinkat(&self.top, name, AtFlags::REMOVEDIR)
    }

    fn move_up(&mut self, folder: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        loop {
            self.moved += 1;
            match renameat(folder, name, &self.top, format!(".{}", self.moved)) {
                // Moving a folder changes what is in it.
                Err(Errno::ACCESS) => _ = open_folder(folder, name)?,
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                moved => return moved,
            }
            if self.begun.elapsed() > self.limit {
                return Err(Errno::TIMEDOUT);
            }
        }
    }
}

/// Opens a folder, but no link to one, that its owner may have closed.
fn open_folder(parent: impl AsFd, name: impl Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
    let open = || openat(&handle, ".", flags, Mode::empty());
    match open() {
        Err(Errno::ACCESS) => {
            // By the descriptor, since the name may have passed to something else.
            _ = fs::set_permissions(
                format!("/proc/self/fd/{}", handle.as_raw_fd()),
                Permissions::from_mode(0o700),
            );
            open()
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FileType, mkdirat, mknodat};

    /// A chain of folders so long that no path reaches its end.
    fn dig(below: &Path, depth: usize) {
        let mut folder = open_folder(CWD, below).unwrap();
        for _ in 0..depth {
            mkdirat(&folder, "d", Mode::RWXU).unwrap();
            folder = open_folder(&folder, "d").unwrap();
        }
        mknodat(&folder, "pipe", FileType::Fifo, Mode::RWXU, 0).unwrap();
    }

    #[test]
    fn a_folder_goes_however_deep_it_is_and_whatever_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, kept) = (parent.path().join("folder"), parent.path().join("kept"));
        for path in [&folder, &kept] {
            fs::create_dir(path).unwrap();
        }
        fs::write(kept.join("file"), "text").unwrap();
        std::os::unix::fs::symlink(&kept, folder.join("link")).unwrap();
        for name in [".1", "closed", "closed/inner"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        fs::write(folder.join("closed/inner/file"), "text").unwrap();
        for name in ["closed/inner", "closed"] {
            fs::set_permissions(folder.join(name), Permissions::from_mode(0o000)).unwrap();
        }
        dig(&folder, 1_500);
        // Recursion would need more than this.
        let small = std::thread::Builder::new().stack_size(64 * 1024);
        let removed = small.spawn({
            let folder = folder.clone();
            move || remove_tree(&folder, Duration::from_secs(60))
        });
        removed.unwrap().join().unwrap().unwrap();
        assert!(!folder.exists() && kept.join("file").exists());
        remove_tree(&folder, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_removal_ends_when_its_time_is_up_and_follows_no_link() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, link) = (parent.path().join("folder"), parent.path().join("link"));
        fs::create_dir(&folder).unwrap();
        for name in 0..10 {
            fs::write(folder.join(name.to_string()), "").unwrap();
        }
        assert_eq!(remove_tree(&folder, Duration::ZERO).unwrap_err().kind(), io::ErrorKind::TimedOut);
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(remove_tree(&link, REMOVAL_MAX).is_err() && fs::read_dir(&folder).unwrap().count() > 0);
    }
}
