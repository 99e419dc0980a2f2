//! What the outcome of a call shows about the backend.

use crate::adapter::{Deleted, Found, KeyResult, Loaded, Stored};
use crate::error::{Error, Failure};

/// What a call showed about the backend.
pub(super) enum Verdict {
    Alive,
    Failing(Failure),
    /// Nothing: it was never asked, or its answer is about one object.
    Unknown,
}

/// Whether a success was the backend's doing.
pub(super) trait Evidence {
    fn is_of_backend(&self) -> bool;
}

impl Evidence for Stored {
    fn is_of_backend(&self) -> bool {
        // What is held already was not written.
        self.bytes_written > 0
    }
}

impl Evidence for Found {
    fn is_of_backend(&self) -> bool {
        !self.is_remembered
    }
}

impl Evidence for Loaded {
    fn is_of_backend(&self) -> bool {
        true
    }
}

impl Evidence for Deleted {
    fn is_of_backend(&self) -> bool {
        true
    }
}

impl Verdict {
    /// One key that worked shows that the backend answers, whatever became of the others.
    pub(super) fn of<T: Evidence>(results: &[KeyResult<T>]) -> Self {
        let mut verdict = Self::Unknown;
        for result in results {
            match result {
                Ok(value) if value.is_of_backend() => return Self::Alive,
                Err(Error::Absent) => return Self::Alive,
                Err(Error::Failed(failure)) if failure.kind.blames_backend() => {
                    verdict = Self::Failing(failure.clone());
                }
                Ok(_) | Err(Error::Busy(_) | Error::Failed(_)) => {}
            }
        }
        verdict
    }

    pub(super) fn of_one(result: &Result<impl Sized, Failure>) -> Self {
        match result {
            Ok(_) => Self::Alive,
            Err(failure) if failure.kind.blames_backend() => Self::Failing(failure.clone()),
            Err(_) => Self::Unknown,
        }
    }
}
