//! When a directory is looked through, and how that went.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Failure;
use crate::mutex::lock;

/// What is to be done in the background, and how it went.
#[derive(Debug, Default)]
pub(super) struct ScanState {
    wishes: Mutex<Wishes>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wishes {
    is_opened: bool,
    is_wished: bool,
    is_closed: bool,
    /// What could not be read of the directory last.
    trouble: Option<Failure>,
}

impl ScanState {
    /// Asks for a scan soon: the directory seems to hold something else than the index says.
    pub(super) fn wish(&self) {
        lock(&self.wishes).is_wished = true;
        self.changed.notify_all();
    }

    /// Lets scans begin: the directory is the one to look through.
    pub(super) fn open(&self) {
        lock(&self.wishes).is_opened = true;
        self.changed.notify_all();
    }

    /// Waits until scans may begin. False when all ends.
    pub(super) fn opened(&self) -> bool {
        let is_waiting = |wishes: &mut Wishes| !(wishes.is_opened || wishes.is_closed);
        let wishes = self.changed.wait_while(lock(&self.wishes), is_waiting);
        !wishes.unwrap_or_else(PoisonError::into_inner).is_closed
    }

    /// Ends what runs in the background.
    pub(super) fn close(&self) {
        lock(&self.wishes).is_closed = true;
        self.changed.notify_all();
    }

    /// What of the directory could not be read.
    pub(super) fn trouble(&self) -> Option<Failure> {
        lock(&self.wishes).trouble.clone()
    }

    /// Notes what of the directory could not be read, and returns what it was before.
    pub(super) fn replace_trouble(&self, trouble: Option<Failure>) -> Option<Failure> {
        std::mem::replace(&mut lock(&self.wishes).trouble, trouble)
    }

    /// Waits for `pause`. False when all ends.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        self.wait(|_| pause)
    }

    /// Waits until the next scan: for `pause`, or for no more than `wished_pause` if one is wished for. False
    /// when all ends.
    pub(super) fn pause_scans(&self, pause: Duration, wished_pause: Duration) -> bool {
        let goes_on = self.wait(|wishes| if wishes.is_wished { wished_pause.min(pause) } else { pause });
        lock(&self.wishes).is_wished = false;
        goes_on
    }

    fn wait(&self, pause: impl Fn(&Wishes) -> Duration) -> bool {
        let start = Instant::now();
        let mut wishes = lock(&self.wishes);
        loop {
            let left = pause(&wishes).saturating_sub(start.elapsed());
            if wishes.is_closed || left.is_zero() {
                return !wishes.is_closed;
            }
            wishes = self.changed.wait_timeout(wishes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
