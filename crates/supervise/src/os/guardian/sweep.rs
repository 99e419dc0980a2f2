//! How long processes that are to be gone are looked after, and what tells of the end of one.

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

/// How often processes that a signal should have ended are looked for again.
pub(super) const SWEEP_PAUSE: Duration = Duration::from_millis(10);
/// When the guardian gives up on processes it is not allowed to kill.
pub(super) const SWEEP_MAX: Duration = Duration::from_secs(30);

/// Takes what a descriptor for ended children holds; it only wakes.
pub(super) fn drain(child_ended: &mut File) {
    let mut bytes = [0; 1024];
    while child_ended.read(&mut bytes).is_ok_and(|n| n > 0) {}
}
