//! What is run follows what is in the locations, at once and on SIGHUP.

use std::sync::Arc;

use larder_supervise::Supervisor;
use tokio::signal::unix::Signal;

use super::control::{Plugins, Refusal};

/// Reloads whenever something in the locations changes, and records what that led to, for as long as it is polled.
pub async fn follow_locations(plugins: Plugins, supervisor: Arc<Supervisor>) {
    supervisor.watch(|report| plugins.note_changes(report)).await;
}

/// Reloads plugins on every SIGHUP, for as long as it is polled. A server without plugins has nothing to reload, and says so: the signal is
/// what log rotation and closing terminals send.
pub async fn reload_on_hangup(plugins: Plugins, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        match plugins.reload("SIGHUP".into()).await {
            Ok(_) => {}
            Err(Refusal::NoPlugins) => tracing::info!("SIGHUP: there are no plugins to reload"),
            Err(refusal) => tracing::warn!("plugins were not reloaded: {refusal}"),
        }
    }
}
