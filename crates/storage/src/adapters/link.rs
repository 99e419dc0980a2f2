//! A remote store as all threads of an adapter see it: how to reach it, and how that went last.

use std::sync::{Mutex, PoisonError};

use super::stream::{Connector, TlsOptions};
use crate::error::Failure;
use crate::report::{Health, HealthState};

/// The way to a remote store.
#[derive(Debug)]
pub(super) struct Link {
    /// Makes connections.
    pub(super) connector: Connector,
    last_failure: Mutex<Option<Failure>>,
}

impl Link {
    /// Connects nowhere yet. Fails if whom to trust can't be told.
    pub(super) fn new(
        tls: Option<&TlsOptions>,
        connect_timeout_ms: u64,
        progress_timeout_ms: u64,
    ) -> Result<Self, Failure> {
        let connector = Connector::new(tls, connect_timeout_ms, progress_timeout_ms)?;
        Ok(Self { connector, last_failure: Mutex::new(None) })
    }

    /// Notes how an exchange with the store went.
    pub(super) fn note(&self, failure: Option<&Failure>) {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = failure.cloned();
    }

    /// Ready until an exchange fails, and again once one works.
    pub(super) fn health(&self) -> Health {
        match &*self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(failure) => Health::because(HealthState::Unavailable, failure.to_string()),
            None => Health::ready(),
        }
    }
}
