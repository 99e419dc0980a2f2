//! Tells which files in a set of folders change, without looking again and again.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::raw;

/// Bytes of events taken at once.
const EVENTS_BYTES: usize = 16 * 1024;

/// A set of watched folders; what lies below them is not included.
#[derive(Debug)]
pub(crate) struct Watcher {
    inotify: AsyncFd<OwnedFd>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The entry of this name in the folder with this watch came, went or changed.
    Entry {
        /// The folder's watch.
        watch: i32,
        /// The entry.
        name: PathBuf,
        /// Whether it is a folder itself.
        is_folder: bool,
    },
    /// The folder with this watch went or changed itself, or too much happened to tell.
    Anything,
}

impl Watcher {
    /// Watches nothing yet. Must be called inside a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify: raw::register(inotify, Interest::READABLE)? })
    }

    /// Watches everything in and about a folder. Waits for its file system. One folder has one number,
    /// whatever path leads to it.
    pub(crate) fn watch(&self, folder: &Path) -> io::Result<i32> {
        let kinds = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        self.add(folder, kinds)
    }

    /// Watches which names come and go in a folder.
    pub(crate) fn watch_names(&self, folder: &Path) -> io::Result<i32> {
        let kinds = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        self.add(folder, kinds | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF)
    }

    fn add(&self, folder: &Path, kinds: WatchFlags) -> io::Result<i32> {
        Ok(add_watch(self.inotify.get_ref(), folder, kinds | WatchFlags::MASK_ADD | WatchFlags::ONLYDIR)?)
    }

    /// Watches a folder no longer.
    pub(crate) fn forget(&self, watch: i32) {
        // The kernel has forgotten a folder that is gone by itself.
        _ = remove_watch(self.inotify.get_ref(), watch);
    }

    /// What happened since the last time, as soon as there is something.
    pub(crate) async fn changes(&self) -> Vec<Change> {
        loop {
            // A descriptor of one's own is registered for as long as it lives.
            let Ok(mut ready) = self.inotify.readable().await else { return vec![Change::Anything] };
            let read = ready.try_io(|inotify| {
                let mut space = [MaybeUninit::uninit(); EVENTS_BYTES];
                let mut events = Reader::new(inotify.get_ref(), &mut space);
                let mut changes: Vec<_> = change(&events.next()?).into_iter().collect();
                while !events.is_buffer_empty() {
                    changes.extend(change(&events.next()?));
                }
                Ok(changes)
            });
            match read {
                Ok(Ok(changes)) => return changes,
                Ok(Err(_)) => return vec![Change::Anything],
                Err(_would_block) => {}
            }
        }
    }
}

/// `None` for the kernel's word that a watch is over, which follows what ended it.
fn change(event: &rustix::fs::inotify::Event<'_>) -> Option<Change> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    match event.file_name() {
        _ if event.events().contains(ReadFlags::IGNORED) => None,
        Some(name) => Some(Change::Entry {
            watch: event.wd(),
            name: PathBuf::from(OsStr::from_bytes(name.to_bytes())),
            is_folder: event.events().contains(ReadFlags::ISDIR),
        }),
        None => Some(Change::Anything),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_carry_the_folder_and_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let watcher = Watcher::new().unwrap();
        let watch = watcher.watch(dir.path()).unwrap();
        assert_eq!(watcher.watch_names(dir.path()).unwrap(), watch, "one folder, one number");
        assert!(watcher.watch(Path::new("/no/such")).is_err());
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let entry = |name: &str, is_folder| Change::Entry { watch, name: name.into(), is_folder };
        assert_eq!(watcher.changes().await, [entry("sub", true)]);
        std::fs::write(dir.path().join("a.py"), "x").unwrap();
        assert_eq!(watcher.changes().await, [entry("a.py", false), entry("a.py", false)], "made, written");
        std::fs::rename(dir.path(), dir.path().with_extension("old")).unwrap();
        assert_eq!(watcher.changes().await, [Change::Anything]);
        std::fs::rename(dir.path().with_extension("old"), dir.path()).unwrap();
    }
}
