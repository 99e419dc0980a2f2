//! What the two ends of a control channel are to each other: the host that answers, and what is kept of a
//! plugin.

use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard};

use serde::Serialize;
use serde_json::Value;

use crate::lock::lock;
use crate::output::Severity;

/// The newest version that this server speaks.
pub(crate) const API_VERSION: u64 = 1;

/// What the server tells plugins through their control channels. Called on the runtime that drives the
/// supervisor: to return at once.
pub trait ControlHost: Debug + Send + Sync {
    /// The answer to `status`: any JSON.
    fn status(&self, plugin: &str) -> Value;

    /// Takes a hint of a plugin that was granted these hooks.
    ///
    /// # Errors
    /// What is wrong with the hint, for the plugin.
    fn hint(&self, plugin: &str, hooks: &[String], params: &Value) -> Result<Value, String> {
        _ = (plugin, hooks, params);
        Err("this server takes no hints".to_owned())
    }

    /// A run of a plugin with hooks is over: its hints hold no longer.
    fn run_over(&self, plugin: &str) {
        _ = plugin;
    }
}

/// Something a plugin wants an operator to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// How serious it is.
    pub severity: Severity,
    /// What it is, escaped and of bounded length.
    pub text: String,
}

/// What has passed through a plugin's control channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ControlCounts {
    /// Requests that were understood.
    pub requests: u64,
    /// Lines that were no request.
    pub malformed: u64,
    /// Requests refused because there were too many.
    pub refused: u64,
    /// Alerts raised.
    pub alerts: u64,
    /// Events sent.
    pub events: u64,
    /// Events lost because the plugin read too slowly.
    pub lost_events: u64,
}

/// Counts and the latest alert, for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct ControlRecord(Mutex<(ControlCounts, Option<Alert>)>);

impl ControlRecord {
    pub(crate) fn counts(&self) -> ControlCounts {
        self.inner().0
    }

    /// The latest alert of the latest run.
    pub(crate) fn alert(&self) -> Option<Alert> {
        self.inner().1.clone()
    }

    /// Forgets the alert, for a new run.
    pub(crate) fn clear_alert(&self) {
        self.inner().1 = None;
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut ControlCounts)) {
        change(&mut self.inner().0);
    }

    pub(crate) fn raise(&self, alert: &Alert) {
        let mut inner = self.inner();
        inner.0.alerts += 1;
        inner.1 = Some(alert.clone());
    }

    fn inner(&self) -> MutexGuard<'_, (ControlCounts, Option<Alert>)> {
        lock(&self.0)
    }
}
