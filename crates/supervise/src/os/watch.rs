//! Tells when something in a set of folders changes, without looking again and again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout, timeout_at};

use super::raw;

/// Quiet after a change before it is reported: editors and copies come in several steps.
const QUIET: Duration = Duration::from_millis(300);
/// Longest wait for that quiet.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// A watch on folders; what lies below them is not included.
#[derive(Debug)]
pub(crate) struct FolderWatch {
    inotify: AsyncFd<OwnedFd>,
}

impl FolderWatch {
    /// Watches those of `folders` that can be watched.
    pub(crate) fn new(folders: &[PathBuf]) -> io::Result<Self> {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let kinds = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        for folder in folders {
            let path = if folder.as_os_str().is_empty() { std::path::Path::new(".") } else { folder };
            if let Err(error) = add_watch(&inotify, path, kinds) {
                let path = crate::text::shown(path);
                tracing::warn!(target: "larder_supervise", "cannot watch `{path}` for plugins: {error}");
            }
        }
        Ok(Self { inotify: raw::register(inotify, Interest::READABLE)? })
    }

    /// Returns some quiet time after a change.
    pub(crate) async fn changed(&mut self) {
        self.event().await;
        let latest = Instant::now() + QUIET_MAX;
        while timeout_at(latest, timeout(QUIET, self.event())).await.is_ok_and(|quiet| quiet.is_ok()) {}
    }

    async fn event(&mut self) {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else { return };
            let mut events = [0; 4096];
            if ready.try_io(|fd| Ok(rustix::io::read(fd, &mut events)?)).is_ok() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_reported_once_it_is_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = FolderWatch::new(&[dir.path().to_path_buf(), "/no/such".into()]).unwrap();
        assert!(timeout(Duration::from_millis(20), watch.changed()).await.is_err(), "nothing has changed");
        for i in 0..10 {
            std::fs::write(dir.path().join(format!("{i}")), "x").unwrap();
        }
        watch.changed().await;
        assert!(timeout(Duration::from_millis(20), watch.event()).await.is_err(), "all in one");
        std::fs::remove_file(dir.path().join("1")).unwrap();
        watch.changed().await;
    }
}
