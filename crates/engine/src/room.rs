//! Eviction in the background, clearing, and growth of the pool.

use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::cache::Cache;

use super::engine::{Engine, State};
use super::key::PromptKey;
use larder_telemetry::events::Event;

/// Objects evicted under one hold of the lock.
const EVICTION_STEP: usize = 64;

/// Object records walked under one hold of the lock when clearing.
const CLEAR_STEP: u32 = 4_096;

impl Engine {
    /// Allows the first `bytes` of the pool to be handed out.
    pub fn grow(&self, bytes: u64) {
        self.state().cache.grow(bytes);
        self.grown.notify_waiters();
    }

    /// Notes that the pool is as large as it gets.
    pub fn stop_growing(&self) {
        self.growing.store(false, Ordering::Relaxed);
        self.grown.notify_waiters();
    }

    /// Whether a pool that is prepared on demand should get larger now: half of it is in use, or somebody
    /// waits for more than the rest.
    pub fn wants_growth(&self) -> bool {
        let (used, capacity) = self.state().cache.usage();
        used * 2 >= capacity || capacity - used < self.wanted_bytes.load(Ordering::Relaxed)
    }

    /// Resolves when the prepared part of the pool has room for `bytes` beside what others wait for, or grows
    /// no more. Nobody is to be evicted for room that is about to be there. The room counts as wanted for as
    /// long as the answer is held.
    pub async fn room_prepared(&self, bytes: u64) -> WantedRoom<'_> {
        let wanted = WantedRoom::new(&self.wanted_bytes, bytes);
        loop {
            let grown = self.grown.notified();
            if !self.growing.load(Ordering::Relaxed) {
                return wanted;
            }
            let (used, capacity) = self.state().cache.usage();
            if capacity - used >= self.wanted_bytes.load(Ordering::Relaxed) {
                return wanted;
            }
            grown.await;
        }
    }

    /// Whether a store is better made a moment later: the pool is still being prepared and has no room for it
    /// yet.
    pub fn room_is_coming(&self, key: &PromptKey<'_>, instance_id: i64) -> bool {
        if !self.growing.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = self.state();
        let (used, capacity) = state.cache.usage();
        let Some(instance) = state.instances.get_mut(instance_id) else { return false };
        let align = self.config.align_bytes;
        let bytes = instance.registration.layout.bytes().next_multiple_of(align);
        let chunks = (key.range.end.saturating_sub(key.range.start)) / u64::from(self.config.chunk_size);
        let asked = bytes.saturating_mul(chunks);
        asked <= self.pool.len_bytes() && capacity - used < asked
    }

    /// Resolves when the pool has grown, or grows no more.
    pub async fn has_grown(&self) {
        let grown = self.grown.notified();
        if self.growing.load(Ordering::Relaxed) {
            grown.await;
        }
    }

    /// Resolves when the pool may be above the watermark.
    pub async fn eviction_due(&self) {
        self.wake_eviction.notified().await;
    }

    /// How many objects a pass is to evict now: none below the watermark, else the configured share of all.
    pub fn eviction_quota(&self) -> usize {
        let state = self.state();
        let stats = state.cache.stats();
        if self.growing.load(Ordering::Relaxed)
            || !above_watermark(stats.used_bytes, stats.capacity_bytes, state.limits.eviction_watermark)
        {
            return 0;
        }
        self.counters.eviction_passes.add(1);
        self.bus.publish(|| Event::Pressure {
            used_bytes: stats.used_bytes,
            capacity_bytes: stats.capacity_bytes,
            objects: stats.resident_objects,
        });
        let share = stats.resident_objects as f64 * state.limits.eviction_ratio;
        if state.limits.eviction_ratio > 0.0 { (share as usize).max(1) } else { 0 }
    }

    /// Evicts up to `quota` objects, a bounded number of them, and returns how many; 0 when nothing more can
    /// go.
    pub fn evict_step(&self, quota: usize) -> usize {
        self.evict_with(|cache| cache.evict(quota.min(EVICTION_STEP)))
    }

    /// Evicts objects of tenants that have more than their quota, a bounded number of them, and returns how
    /// many; 0 when nothing more can go.
    pub fn evict_over_quota(&self) -> usize {
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

    /// Empties L1 (`spec/cache-semantics.md` 8). Without `force` objects under lease and objects being
    /// written stay. With it they leave the index at once, and their memory is reused when their reader or
    /// writer lets go.
    pub fn clear(&self, force: bool) {
        self.drop_unverified();
        self.drop_verified();
        let mut next = Some(0);
        while let Some(from) = next {
            let mut state = self.state();
            next = state.cache.clear_step(force, from, CLEAR_STEP);
            self.record_removals(&mut state);
        }
        self.bus.publish(|| Event::Clear { force });
        tracing::info!("cleared L1 (force={force})");
    }

    /// To be called after anything that fills the pool or removes objects.
    pub(super) fn after_change(&self, state: &mut State) {
        let (used, capacity) = state.cache.usage();
        if above_watermark(used, capacity, state.limits.eviction_watermark) {
            self.wake_eviction.notify_one();
        }
        self.record_removals(state);
    }
}

/// Room that somebody is about to take, while the pool is being prepared.
#[derive(Debug)]
pub struct WantedRoom<'e> {
    total: &'e AtomicU64,
    bytes: u64,
}

impl<'e> WantedRoom<'e> {
    fn new(total: &'e AtomicU64, bytes: u64) -> Self {
        total.fetch_add(bytes, Ordering::Relaxed);
        Self { total, bytes }
    }
}

impl Drop for WantedRoom<'_> {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Whether that much of the pool is in use that eviction is due.
pub(super) fn above_watermark(used: u64, capacity: u64, watermark: f64) -> bool {
    capacity > 0 && used as f64 >= capacity as f64 * watermark
}
