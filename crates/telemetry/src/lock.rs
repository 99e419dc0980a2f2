//! How locks of this crate are taken.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for the lock. One that a panic left behind is taken over: what is told may lack a piece then, and
/// that must not end what others do.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
