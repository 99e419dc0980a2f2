//! How locks of this crate are taken.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for the lock. One that a panic left behind is taken over: what is behind it is whole between any two
/// statements, and other connections must not end with one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
