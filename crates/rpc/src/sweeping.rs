//! Looks for what nobody will claim, as long as there is anything to look at.

use std::sync::Arc;
use std::time::Duration;

use larder_zmtp::{Handle, PeerId};

use super::clients::processes_at;
use larder_engine::Upkeep;
use larder_telemetry::tasks::Task;

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Sweeps every second while there are sessions or workers, and sleeps otherwise.
pub async fn sweep(engine: Upkeep, sockets: Handle, task: Arc<Task>) {
    loop {
        engine.sweep_due().await;
        loop {
            tokio::time::sleep(INTERVAL).await;
            task.count_run();
            find_processes(&engine, &sockets).await;
            if !engine.sweep() {
                break;
            }
        }
    }
}

/// Looks for the processes of workers, on a thread that may wait for files.
async fn find_processes(engine: &Upkeep, sockets: &Handle) {
    let unknown = engine.unknown_processes().into_iter();
    let unknown: Vec<_> = unknown
        .filter_map(|(id, connection)| Some((id, connection, sockets.peer(PeerId(connection))?.address())))
        .collect();
    if unknown.is_empty() {
        return;
    }
    let engine = engine.clone();
    let look = move || {
        for (instance_id, connection, address) in unknown {
            engine.find_process(instance_id, connection, &processes_at(address));
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(look).await {
        tracing::error!("looking for the processes of workers failed: {error}");
    }
}
