//! Sealing what was committed, on a thread of its own: hashing takes longer than any request may wait.

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use tokio::sync::oneshot;

use larder_telemetry::tasks::{Task, TaskLevel, Tasks};

use crate::faces::Upkeep;
use larder_core::modes::ChecksumMode;

/// How long objects that wait to be sealed get when the server stops, if the next server needs their seals.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// The thread that seals. It sleeps for as long as nobody will check what is committed.
#[derive(Debug)]
pub struct Sealer {
    running: Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
}

impl Sealer {
    /// Starts the thread, unless checksums are off.
    ///
    /// # Errors
    /// When the system gives no thread or runtime.
    pub fn start(engine: &Upkeep, tasks: &Tasks) -> io::Result<Self> {
        if engine.checksum_mode() == ChecksumMode::Off {
            return Ok(Self { running: None });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let task = tasks.register("l1-seal", TaskLevel::High);
        let (stop, stopped) = oneshot::channel();
        let engine = engine.clone();
        let handle = thread::Builder::new().name("larder-seal".into()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            let shared = engine.clone();
            let sealing = Tasks::keep_running(task, move |task| seal(shared.clone(), task));
            runtime.block_on(local.run_until(async move {
                tokio::task::spawn_local(sealing);
                // An error means that the sender is gone, which is how a stop is told.
                _ = stopped.await;
            }));
            let deadline = Instant::now() + FLUSH_PATIENCE;
            while engine.requires_seals() && Instant::now() < deadline && engine.seal_waiting() {}
        })?;
        Ok(Self { running: Some((stop, handle)) })
    }

    /// Ends the thread after the objects in hand, or those that wait if the next server needs their seals.
    pub fn stop(self) {
        let Some((stop, handle)) = self.running else { return };
        drop(stop);
        if handle.join().is_err() {
            tracing::error!("the sealing thread failed");
        }
    }
}

async fn seal(engine: Upkeep, task: Arc<Task>) {
    loop {
        engine.seals_due().await;
        task.count_run();
        while engine.seal_waiting() {
            tokio::task::yield_now().await;
        }
    }
}
