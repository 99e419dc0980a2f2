//! What is run follows what is in the locations, at once and on SIGHUP.

use std::sync::Arc;

use larder_supervise::Supervisor;

use super::control::{CommandError, Plugins};

/// Reloads whenever something in the locations changes, and records what that led to, for as long as it is
/// polled.
pub async fn follow_locations(plugins: Plugins, supervisor: Arc<Supervisor>) {
    supervisor.watch(|report| plugins.note_changes(report)).await;
}

impl Plugins {
    /// Looks through the locations again because of a SIGHUP. A server without plugins has nothing to reload,
    /// and says so: the signal is what log rotation and closing terminals send.
    pub(crate) async fn reload_on_hangup(&self) {
        match self.reload("SIGHUP".into()).await {
            Ok(_) => {}
            Err(CommandError::NoPlugins) => tracing::info!("SIGHUP: there are no plugins to reload"),
            Err(error) => tracing::warn!("plugins were not reloaded: {error}"),
        }
    }
}
