//! Waiting for a plugin to come somewhere.

use std::time::Duration;

use larder_supervise::{Phase, PluginStatus, Supervisor};
use tokio::time::{sleep, timeout};

/// Pause between two looks. Only tools that run one plugin in the foreground look at all.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The status of the only plugin as soon as it fulfils `wanted`.
pub(super) async fn until(
    supervisor: &Supervisor,
    wanted: impl Fn(&PluginStatus) -> bool,
) -> Option<PluginStatus> {
    loop {
        let status = supervisor.snapshot().pop()?;
        if wanted(&status) {
            return Some(status);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// As [`until`]; after `limit` the status as it is.
pub(super) async fn until_or(
    supervisor: &Supervisor,
    limit: Duration,
    wanted: impl Fn(&PluginStatus) -> bool,
) -> Option<PluginStatus> {
    match timeout(limit, until(supervisor, wanted)).await {
        Ok(status) => status,
        Err(_) => supervisor.snapshot().pop(),
    }
}

/// Whether it ended for good.
pub(super) fn is_over(status: &PluginStatus) -> bool {
    matches!(status.phase, Phase::Exited | Phase::Failed { .. } | Phase::Stopped)
}

/// Whether its start has come to a result.
pub(super) fn has_started(status: &PluginStatus) -> bool {
    !matches!(status.phase, Phase::Waiting | Phase::Launching { .. } | Phase::Disabled)
}
