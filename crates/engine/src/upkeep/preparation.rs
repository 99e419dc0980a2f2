//! Preparing the pool in the background, while the server answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use larder_pool::Size;

use crate::faces::Upkeep;

/// Bytes prepared at a time: what a stop may have to wait for, and how soon the first stores find room.
const SLICE_BYTES: u64 = 16 << 20;

/// Pause between two looks at a lazy pool that has room enough.
const LAZY_INTERVAL: Duration = Duration::from_millis(200);

/// How far the pool is.
#[derive(Debug, Default)]
pub struct Preparation {
    prepared_bytes: AtomicU64,
    failed: AtomicBool,
    stop: AtomicBool,
}

impl Preparation {
    /// Bytes that are there for sure.
    pub fn prepared_bytes(&self) -> u64 {
        self.prepared_bytes.load(Ordering::Relaxed)
    }

    /// Whether the machine could not give the rest; the pool stays as large as it is.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Ends the preparation after the slice in hand.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Prepares the pool slice by slice and lets the engine use what is ready: `eager_bytes` at once, the rest
/// when half of what there is is in use. Runs on a thread of its own.
pub fn prepare(engine: &Upkeep, progress: &Arc<Preparation>, eager_bytes: u64) {
    let total = engine.pool().len_bytes();
    let mut done = 0;
    while done < total && !progress.stop.load(Ordering::Relaxed) {
        if done >= eager_bytes && !engine.wants_growth() {
            std::thread::park_timeout(LAZY_INTERVAL);
            continue;
        }
        let end = (done + SLICE_BYTES).min(total);
        if let Err(error) = engine.pool().prepare(done..end) {
            progress.failed.store(true, Ordering::Relaxed);
            tracing::error!("the pool stays at {} of {}: {error}", Size(done), Size(total));
            break;
        }
        done = end;
        progress.prepared_bytes.store(done, Ordering::Relaxed);
        engine.grow(done);
    }
    engine.stop_growing();
    tracing::info!("prepared {} of {} of the pool", Size(done), Size(total));
    if engine.has_tier() {
        map_ahead(engine, progress, done);
    }
}

/// A server with a second tier moves payloads itself; without this each page would cost it a fault at first.
fn map_ahead(engine: &Upkeep, progress: &Preparation, prepared: u64) {
    let mut done = 0;
    while done < prepared && !progress.stop.load(Ordering::Relaxed) {
        let end = (done + SLICE_BYTES).min(prepared);
        if let Err(error) = engine.pool().map_ahead(done..end) {
            tracing::debug!("pages from {done} on are mapped when first used: {error}");
            return;
        }
        done = end;
    }
}
