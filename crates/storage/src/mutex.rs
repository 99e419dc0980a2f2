//! How locks of this crate are taken.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for the lock. One that a panic left behind is taken over: no holder here leaves a state that others
/// cannot go on from, and a panic in one call must not end all that follow.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
