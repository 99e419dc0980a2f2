//! Eviction before stores have to wait for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_core::cache::Cache;
use larder_telemetry::events::Event;
use larder_telemetry::tasks::Task;

use crate::faces::Upkeep;

/// Shortest time from one pass to the next, the peer's interval (`spec/cache-semantics.md` 10). In between
/// the pool may fill up: a store makes its own room then, one object at a time, and what is hot stays longer.
const INTERVAL: Duration = Duration::from_secs(1);

/// Objects evicted under one hold of the lock.
const EVICTION_STEP: usize = 64;

/// Makes passes while the pool is above its watermark, a bounded step at a time. When nothing can go any more
/// it waits for a change.
pub async fn evict(engine: Upkeep, task: Arc<Task>) {
    loop {
        engine.eviction_due().await;
        task.count_run();
        loop {
            let evicted = pass(&engine).await;
            tokio::time::sleep(INTERVAL).await;
            if evicted == 0 {
                break;
            }
        }
    }
}

/// One pass; the number of objects that went. Tenants that have more than their quota give before anybody
/// else.
async fn pass(engine: &Upkeep) -> usize {
    let mut evicted = 0;
    loop {
        let step = engine.evict_over_quota();
        if step == 0 {
            break;
        }
        evicted += step;
        tokio::task::yield_now().await;
    }
    let quota = evicted + engine.eviction_quota();
    while evicted < quota {
        let step = engine.evict_step(quota - evicted);
        if step == 0 {
            break;
        }
        evicted += step;
        tokio::task::yield_now().await;
    }
    evicted
}

impl Upkeep {
    /// Resolves when the pool may be above the watermark.
    pub(crate) async fn eviction_due(&self) {
        self.wake_eviction.notified().await;
    }

    /// How many objects a pass is to evict now: none below the watermark, else the configured share of all.
    #[must_use]
    pub(crate) fn eviction_quota(&self) -> usize {
        let state = self.state();
        let stats = state.cache.stats();
        if self.growing.load(Ordering::Relaxed)
            || !state.limits.is_above_watermark(stats.used_bytes, stats.capacity_bytes)
        {
            return 0;
        }
        self.counters.eviction_passes.add(1);
        self.bus.publish(|| Event::Pressure {
            used_bytes: stats.used_bytes,
            capacity_bytes: stats.capacity_bytes,
            objects: stats.resident_objects,
        });
        share_of(stats.resident_objects, state.limits.eviction_ratio)
    }

    /// Evicts up to `quota` objects, a bounded number of them, and returns how many; 0 when nothing more can
    /// go.
    #[must_use]
    pub(crate) fn evict_step(&self, quota: usize) -> usize {
        self.evict_with(|cache| cache.evict(quota.min(EVICTION_STEP)))
    }

    /// Evicts objects of tenants that have more than their quota, a bounded number of them, and returns how
    /// many; 0 when nothing more can go.
    #[must_use]
    pub(crate) fn evict_over_quota(&self) -> usize {
        self.evict_with(|cache| cache.evict_over_quota(EVICTION_STEP))
    }

    fn evict_with(&self, evict: impl FnOnce(&mut Cache) -> usize) -> usize {
        let mut state = self.state();
        let evicted = evict(&mut state.cache);
        if evicted > 0 {
            let (used_bytes, _) = state.cache.usage();
            self.bus.publish(|| Event::Evict { objects: evicted, used_bytes });
            self.record_removals(&mut state);
        }
        evicted
    }
}

/// A share of so many objects, at least one if it is a share at all.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a count is one: between 0 and the count, and rounded down"
)]
fn share_of(objects: u64, ratio: f64) -> usize {
    if ratio > 0.0 { ((objects as f64 * ratio) as usize).max(1) } else { 0 }
}
