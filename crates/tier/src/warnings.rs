//! What goes wrong with an adapter, in the log: once per cause and period.

use std::sync::Arc;

use larder_storage::{Error, FailureKind, Op};

use larder_telemetry::Throttles;

/// What a warning is about. Another one of the same cause is kept back for a while.
type Cause = (Arc<str>, Op, Option<FailureKind>);

/// Warnings about adapters.
#[derive(Debug, Default)]
pub(super) struct Warnings(Throttles<Cause>);

impl Warnings {
    /// Tells that `failed` of `asked` objects of a call were not served, and of one of them why.
    pub(super) fn tell(&self, adapter: &str, op: Op, failed: usize, asked: usize, error: &Error) {
        let kind = match error {
            Error::Failed(failure) => Some(failure.kind),
            Error::Absent | Error::Busy(_) => None,
        };
        if let Some(more) = self.0.pass(&(adapter.into(), op, kind)) {
            let op = op.label();
            tracing::warn!("{op} of {failed} of {asked} objects failed in `{adapter}`: {error}{more}");
        }
    }
}
