//! A remote store as all threads of an adapter see it: how to reach it, and how that went last.

use std::sync::Mutex;

use super::stream::{Connector, TlsOptions};
use crate::adapter::{KeyResult, Stored};
use crate::error::{Error, Failure, FailureKind};
use crate::mutex::lock;
use crate::report::{Health, HealthState};

/// The way to a remote store.
#[derive(Debug)]
pub(super) struct Link {
    /// Makes connections.
    pub(super) connector: Connector,
    last_failure: Mutex<Option<Failure>>,
    /// Why the store takes no objects, though it answers: it refuses us, or is full.
    refusal: Mutex<Option<Failure>>,
}

impl Link {
    /// Connects nowhere yet. Fails if whom to trust can't be told.
    pub(super) fn new(
        tls: Option<&TlsOptions>,
        connect_timeout_ms: u64,
        progress_timeout_ms: u64,
    ) -> Result<Self, Failure> {
        let connector = Connector::new(tls, connect_timeout_ms, progress_timeout_ms)?;
        Ok(Self { connector, last_failure: Mutex::new(None), refusal: Mutex::new(None) })
    }

    /// Notes how an exchange with the store went.
    pub(super) fn note(&self, failure: Option<&Failure>) {
        *lock(&self.last_failure) = failure.cloned();
    }

    /// Notes what became of objects that were to be stored.
    pub(super) fn note_stores(&self, results: &[KeyResult<Stored>]) {
        let is_refusal =
            |failure: &&Failure| matches!(failure.kind, FailureKind::Refused | FailureKind::Full);
        let refused = results.iter().find_map(|result| match result {
            Err(Error::Failed(failure)) => Some(failure).filter(is_refusal),
            _ => None,
        });
        let has_written = results.iter().flatten().any(|stored| stored.bytes_written > 0);
        if refused.is_some() || has_written {
            *lock(&self.refusal) = refused.cloned();
        }
    }

    /// Ready until an exchange fails or the store refuses objects, and again once that works.
    pub(super) fn health(&self) -> Health {
        let last_failure = lock(&self.last_failure).clone();
        let refusal = lock(&self.refusal).clone();
        match last_failure.or(refusal) {
            Some(failure) => Health::because(HealthState::after(&failure), failure.to_string()),
            None => Health::ready(),
        }
    }
}
