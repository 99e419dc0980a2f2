//! Looks for what nobody will claim, as long as there is anything to look at.

use std::sync::Arc;
use std::time::Duration;

use super::tasks::Task;
use crate::engine::Engine;

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Sweeps every second while there are sessions or workers, and sleeps otherwise.
pub async fn sweep(engine: Arc<Engine>, task: Arc<Task>) {
    loop {
        engine.sweep_due().await;
        loop {
            tokio::time::sleep(INTERVAL).await;
            task.count_run();
            if !engine.sweep() {
                break;
            }
        }
    }
}
