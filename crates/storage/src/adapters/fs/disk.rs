//! Whether the base directory is there and answers. Asked on a thread of its own: on a dead mount even that
//! never returns.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::{Failure, FailureKind};
use crate::mutex::lock;

/// Pause between two looks.
pub(super) const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// Time a look may take; a directory that takes longer counts as one that does not answer, and is refused.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What is known of the base directory.
#[derive(Debug, Default)]
pub(super) struct Disk {
    state: Mutex<DiskState>,
}

#[derive(Debug, Default)]
struct DiskState {
    looking_since: Option<Instant>,
    /// Looks that began, and the one of them that the rest is from.
    looks: u64,
    latest: u64,
    gone: Option<Failure>,
    /// Device and number of the directory.
    identity: Option<(u64, u64)>,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Same,
    /// Another directory than before, or one that was gone: what it holds is not known.
    Another,
    Gone,
}

impl Disk {
    /// Looks at the directory. Blocks for as long as it does.
    pub(super) fn look(&self, base: &Path) -> Look {
        let look = {
            let mut state = lock(&self.state);
            state.looking_since.get_or_insert(Instant::now());
            state.looks += 1;
            state.looks
        };
        let found = std::fs::metadata(base);
        self.note(look, base, found)
    }

    fn note(&self, look: u64, base: &Path, found: io::Result<Metadata>) -> Look {
        let mut state = lock(&self.state);
        state.looking_since = None;
        if look < state.latest {
            // A look that began later was faster and knows better.
            return if state.gone.is_some() { Look::Gone } else { Look::Same };
        }
        state.latest = look;
        let identity = match found {
            Ok(metadata) if metadata.is_dir() => Ok((metadata.dev(), metadata.ino())),
            Ok(_) => Err(format!("`{}` is no directory", base.display())),
            Err(error) => {
                Err(Failure::io(format!("look at directory `{}`", base.display()), &error).to_string())
            }
        };
        match identity {
            Ok(identity) => {
                let was_gone = state.gone.take().is_some();
                let is_another = state.identity.replace(identity).is_some_and(|known| known != identity);
                if was_gone {
                    tracing::info!("directory `{}` is back", base.display());
                }
                if was_gone || is_another { Look::Another } else { Look::Same }
            }
            Err(text) => {
                if state.gone.is_none() {
                    tracing::warn!("directory of objects is gone: {text}");
                }
                // Not to be tried again at once: that would hold up each lookup for a directory that is not
                // back so soon.
                state.gone = Some(Failure::permanent(FailureKind::Unavailable, text));
                Look::Gone
            }
        }
    }

    /// Notes that it could not be opened, and why, until a look finds it.
    pub(super) fn note_unopened(&self, failure: Failure) {
        lock(&self.state).gone = Some(failure);
    }

    /// Why the directory can't be used; none if it answered as it should when last looked at.
    pub(super) fn trouble(&self, now: Instant) -> Option<Failure> {
        let state = lock(&self.state);
        let waits_for = state.looking_since.map(|since| now.saturating_duration_since(since));
        match waits_for.filter(|waits_for| *waits_for >= ANSWER_MAX) {
            Some(waits_for) => {
                let text = format!("directory does not answer since {} s", waits_for.as_secs());
                Some(Failure::permanent(FailureKind::Timeout, text))
            }
            None => state.gone.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_goes_and_returns_is_another_one() {
        let parent = tempfile::tempdir().unwrap();
        let base = parent.path().join("base");
        std::fs::create_dir(&base).unwrap();
        let disk = Disk::default();
        assert_eq!((disk.look(&base), disk.look(&base)), (Look::Same, Look::Same));
        std::fs::rename(&base, parent.path().join("away")).unwrap();
        assert_eq!(disk.look(&base), Look::Gone);
        assert!(disk.trouble(Instant::now()).unwrap().text.contains("base"));
        std::fs::create_dir(&base).unwrap();
        assert_eq!(disk.look(&base), Look::Another);
        assert_eq!(disk.trouble(Instant::now()), None);
        std::fs::remove_dir(&base).unwrap();
        std::fs::write(&base, "").unwrap();
        assert_eq!(disk.look(&base), Look::Gone, "a file is no directory");
    }

    #[test]
    fn a_look_that_began_before_another_does_not_undo_it() {
        let base = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        assert_eq!((disk.look(base.path()), disk.look(base.path())), (Look::Same, Look::Same));
        assert_eq!(disk.note(1, base.path(), Err(io::ErrorKind::NotFound.into())), Look::Same);
        assert_eq!(disk.trouble(Instant::now()), None);
        assert_eq!(disk.note(2, base.path(), Err(io::ErrorKind::NotFound.into())), Look::Gone);
    }

    #[test]
    fn a_directory_that_does_not_answer_is_trouble_after_a_while() {
        let disk = Disk::default();
        let since = Instant::now();
        lock(&disk.state).looking_since = Some(since);
        assert_eq!(disk.trouble(since), None);
        let failure = disk.trouble(since + ANSWER_MAX).unwrap();
        assert!(failure.text.contains("does not answer"), "{failure}");
    }
}
