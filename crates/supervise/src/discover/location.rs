//! One configured location, and the only way to touch the files in it.
//!
//! A location may lie on a file system that stalls. It is therefore read away from the thread that
//! supervises, one reader at a time, and a reader that makes no progress is waited for no longer: it keeps
//! its thread, and the location is not asked again before it has returned.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::SuperviseError;

/// Longest silence of a location's reader, which may take as long as it goes on; then the location does not
/// answer, which is an error.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A location and the turn of its reader.
#[derive(Debug)]
pub(crate) struct Location {
    path: PathBuf,
    turn: Arc<Semaphore>,
    progress: Progress,
    silence_max: Duration,
}

/// Shows that the reader of a location goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// To be called between two steps that can each take their time.
    pub(crate) fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for `work`; `None` once so much time has passed without a step.
    async fn watch<T>(&self, work: impl Future<Output = T>, silence_max: Duration) -> Option<T> {
        tokio::pin!(work);
        loop {
            let steps = self.0.load(Ordering::Relaxed);
            match timeout(silence_max, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if self.0.load(Ordering::Relaxed) == steps => return None,
                Err(_) => {}
            }
        }
    }
}

impl Location {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            turn: Arc::new(Semaphore::new(1)),
            progress: Progress::default(),
            silence_max: SILENCE_MAX,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps everybody else from it, as a reader would that is stuck.
    #[cfg(test)]
    pub(crate) async fn hold(&self) -> tokio::sync::OwnedSemaphorePermit {
        Arc::clone(&self.turn).acquire_owned().await.unwrap()
    }

    /// Carries out `read` on another thread. If the location does not answer it ends by itself, whenever that
    /// is, and its result is dropped.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Progress) -> T + Send + 'static,
    ) -> Result<T, SuperviseError> {
        let silent = || SuperviseError::Unanswering(self.path.clone());
        let turn = Arc::clone(&self.turn).acquire_owned();
        let turn = self.progress.watch(turn, self.silence_max).await.ok_or_else(silent)?;
        let progress = self.progress.clone();
        let reader = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let answer = read(&progress);
            progress.step();
            answer
        });
        // A reader that panicked, or a runtime that ends.
        let answer = self.progress.watch(reader, self.silence_max).await.ok_or_else(silent)?;
        answer.map_err(|_| SuperviseError::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Short, since the clock goes on while a thread is waited for.
    fn impatient() -> Location {
        Location { silence_max: Duration::from_millis(50), ..Location::new("/x".into()) }
    }

    #[tokio::test]
    async fn a_silent_reader_is_left_alone_and_asked_again_once_it_has_returned() {
        let location = impatient();
        let (release, stalled) = mpsc::channel::<()>();
        let first = location.ask(move |_| _ = stalled.recv()).await;
        assert!(matches!(first, Err(SuperviseError::Unanswering(_))), "{first:?}");
        let second = location.ask(|_| panic!("asked while the first still reads")).await;
        assert!(matches!(second, Err::<(), _>(SuperviseError::Unanswering(_))), "{second:?}");
        release.send(()).unwrap();
        assert_eq!(location.ask(|_| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_reader_that_goes_on_may_take_its_time() {
        let location = impatient();
        let slow = |progress: &Progress| {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(10));
                progress.step();
            }
        };
        let (first, second) = tokio::join!(location.ask(slow), location.ask(|_| ()));
        assert!(first.is_ok() && second.is_ok(), "{first:?}, {second:?}");
    }

    #[tokio::test]
    async fn a_reader_that_panics_is_an_error() {
        let location = Location::new("/x".into());
        let failed: Result<(), _> = location.ask(|_| panic!("a reader's mistake")).await;
        assert!(matches!(failed, Err(SuperviseError::Stopped)));
        assert_eq!(location.ask(|_| 1).await.unwrap(), 1, "its turn was given back");
    }
}
