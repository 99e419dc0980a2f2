//! Growth of the pool while it is being prepared, and who waits for it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::faces::{Requests, Tiers, Upkeep};
use crate::key::PromptKey;

impl Upkeep {
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
    #[must_use]
    pub fn wants_growth(&self) -> bool {
        let (used, capacity) = self.state().cache.usage();
        used * 2 >= capacity || capacity - used < self.wanted_bytes.load(Ordering::Relaxed)
    }
}

impl Tiers {
    /// Resolves when the prepared part of the pool has room for `bytes` beside what others wait for, or grows
    /// no more. Nobody is to be evicted for room that is about to be there. The room counts as wanted for as
    /// long as the answer is held.
    pub(crate) async fn room_prepared(&self, bytes: u64) -> WantedRoom<'_> {
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
}

impl Requests {
    /// Whether a store is better made a moment later: the pool is still being prepared and has no room for it
    /// yet.
    #[must_use]
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
}

/// Room that somebody is about to take, while the pool is being prepared.
#[derive(Debug)]
pub(crate) struct WantedRoom<'e> {
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
        let total = self.total.fetch_sub(self.bytes, Ordering::Relaxed);
        debug_assert!(total >= self.bytes, "what is not wanted any more was wanted");
    }
}
