//! What went wrong with one key, in the kinds callers act on differently.

use std::fmt;
use std::io;
use std::sync::Arc;

/// Why an operation on one key did not do what it was asked.
///
/// The three variants call for three reactions: forget the key, come back later, or treat the tier as
/// unwell. An adapter never reports one as another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The adapter does not hold the key.
    #[error("object is absent")]
    Absent,
    /// The adapter could do it, but not now.
    #[error("busy: {0}")]
    Busy(Busy),
    /// It was tried and failed, or can't be tried at all.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// What an adapter is busy with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// A lookup holds the object; it may not be deleted.
    #[error("object is locked by a lookup")]
    Locked,
    /// The object is being deleted by somebody else.
    #[error("object is being deleted")]
    Deleting,
    /// The object is being stored by somebody else.
    #[error("object is being stored")]
    Storing,
    /// The index is being rebuilt, so a capacity limit can't be kept yet.
    #[error("index is being rebuilt")]
    Rebuilding,
    /// A named limit was hit.
    #[error("limit `{0}` is reached")]
    Limit(&'static str),
    /// A rule of the configuration keeps the object out for now.
    #[error("declined by `{0}`")]
    Declined(&'static str),
}

/// A failure with the answer to "does trying again make sense?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class, for counters and breakers.
    pub kind: FailureKind,
    /// Whether the same call may succeed soon *and* nobody touches the lent buffer any more.
    pub retryable: bool,
    /// One phrase: what was attempted, on what, and the cause.
    pub text: Arc<str>,
}

/// The class of a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The device, file system or remote answered with an error.
    Io,
    /// The remote can't be reached, or a breaker keeps calls away from it.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// No room: the capacity limit or the disk itself.
    Full,
    /// The bytes are not those that were stored.
    Corrupt,
    /// The stored object has another length than the buffer it should fill.
    Mismatch,
    /// The request can't be carried out as put (a name too long, a bad page token).
    Invalid,
    /// The adapter is closed, or closed while the call was under way.
    Closed,
    /// The backend answers and refuses us: login, permission, a bucket that does not exist, a read-only file
    /// system.
    Refused,
}

impl FailureKind {
    /// Every kind, in the order counters list them.
    pub const ALL: [Self; 9] = [
        Self::Io,
        Self::Unavailable,
        Self::Timeout,
        Self::Full,
        Self::Corrupt,
        Self::Mismatch,
        Self::Invalid,
        Self::Closed,
        Self::Refused,
    ];

    /// The label metrics use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Full => "full",
            Self::Corrupt => "corrupt",
            Self::Mismatch => "mismatch",
            Self::Invalid => "invalid",
            Self::Closed => "closed",
            Self::Refused => "refused",
        }
    }

    /// Whether it says something about the backend's wellbeing, as opposed to this one object or its caller.
    #[must_use]
    pub fn blames_backend(self) -> bool {
        matches!(self, Self::Io | Self::Unavailable | Self::Timeout | Self::Refused)
    }
}

impl Failure {
    /// A failure that may pass when tried again.
    #[must_use]
    pub fn retryable(kind: FailureKind, text: impl Into<Arc<str>>) -> Self {
        Self { kind, retryable: true, text: text.into() }
    }

    /// A failure that stays.
    #[must_use]
    pub fn permanent(kind: FailureKind, text: impl Into<Arc<str>>) -> Self {
        Self { kind, retryable: false, text: text.into() }
    }

    /// Wraps an I/O error: `attempt` reads like "write `name`".
    ///
    /// A full device is its own kind, and so are a name that can't be and a refusal; the rest may pass.
    #[must_use]
    pub fn io(attempt: impl fmt::Display, error: &io::Error) -> Self {
        use io::ErrorKind as K;
        let text = format!("{attempt}: {}", IoText(error));
        match error.kind() {
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Self::permanent(FailureKind::Full, text),
            K::TimedOut | K::WouldBlock => Self::retryable(FailureKind::Timeout, text),
            K::ConnectionRefused
            | K::ConnectionReset
            | K::ConnectionAborted
            | K::NotConnected
            | K::BrokenPipe
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::UnexpectedEof => Self::retryable(FailureKind::Unavailable, text),
            K::PermissionDenied | K::ReadOnlyFilesystem => Self::permanent(FailureKind::Refused, text),
            K::InvalidInput | K::InvalidFilename | K::IsADirectory => {
                Self::permanent(FailureKind::Invalid, text)
            }
            K::Unsupported => Self::permanent(FailureKind::Io, text),
            _ => Self::retryable(FailureKind::Io, text),
        }
    }

    /// The answer of an adapter that is closed.
    #[must_use]
    pub fn closed() -> Self {
        Self::permanent(FailureKind::Closed, "adapter is closed")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// An I/O error as a lowercase phrase, so that chains read as one sentence.
struct IoText<'a>(&'a io::Error);

impl fmt::Display for IoText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let mut chars = text.chars();
        match chars.next() {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), chars.as_str()),
            None => f.write_str("unknown error"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_is_told_from_a_failing_one() {
        let full = Failure::io("write `a`", &io::Error::from_raw_os_error(28));
        assert_eq!((full.kind, full.retryable), (FailureKind::Full, false));
        let broken = Failure::io("write `a`", &io::Error::from_raw_os_error(5));
        assert_eq!((broken.kind, broken.retryable), (FailureKind::Io, true));
        assert!(full.text.starts_with("write `a`: no space left"), "{full}");
    }

    #[test]
    fn only_backend_trouble_blames_the_backend() {
        let blamed: Vec<_> = FailureKind::ALL.into_iter().filter(|kind| kind.blames_backend()).collect();
        assert_eq!(
            blamed,
            [FailureKind::Io, FailureKind::Unavailable, FailureKind::Timeout, FailureKind::Refused]
        );
    }
}
