//! What is run follows what is in the locations, at once and on SIGHUP.

use std::convert::Infallible;
use std::sync::Arc;

use larder_supervise::Supervisor;
use tokio::signal::unix::{SignalKind, signal};

use super::control::Plugins;

/// Reloads whenever something in the locations changes and on every SIGHUP, for as long as it is polled.
pub async fn keep_current(plugins: Plugins, supervisor: Arc<Supervisor>) {
    tokio::join!(supervisor.watch(|report| plugins.note_changes(report)), reload_on_hangup(plugins.clone()));
}

async fn reload_on_hangup(plugins: Plugins) -> Option<Infallible> {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::warn!("SIGHUP does not reload plugins: {error}");
            return None;
        }
    };
    loop {
        hangups.recv().await?;
        if let Err(refusal) = plugins.reload("SIGHUP".into()).await {
            tracing::warn!("plugins were not reloaded: {refusal}");
        }
    }
}
