//! A picture of the engine for status pages and metrics.

use std::sync::Arc;

use larder_core::cache::CacheStats;

use crate::faces::Operator;
use crate::state::lifetimes::LifetimeHistograms;

/// One worker, as status pages show it.
#[derive(Clone, Debug)]
pub struct InstanceStatus {
    /// The id it registered with.
    pub instance_id: i64,
    /// The model.
    pub model_name: Arc<str>,
    /// Number of ranks.
    pub world_size: u32,
    /// Tokens per block of the engine's cache.
    pub block_size: u32,
    /// One plane instead of two.
    pub use_mla: bool,
    /// Transfers between prepare and commit.
    pub pending_transfers: usize,
    /// Bytes of the pool that it was told to write and has not committed, what is set aside for it included.
    pub reserved_bytes: u64,
    /// Open connections.
    pub connections: usize,
    /// Its process, if that is known: until it has ended nobody else is told to write where this worker was.
    pub process: Option<u32>,
    /// Milliseconds since it was last heard of.
    pub silent_ms: u64,
}

/// What is kept for workers whose registration is over until their processes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAsideStatus {
    /// Registrations that left something.
    pub registrations: usize,
    /// Bytes of the pool that they may still write.
    pub reserved_bytes: u64,
    /// Leases that they may still read under.
    pub leases: u64,
}

/// The engine at one moment.
#[derive(Clone, Debug)]
pub struct EngineStatus {
    /// The object table.
    pub cache: CacheStats,
    /// Requests in flight.
    pub sessions: usize,
    /// Leases held by requests; the rest of `cache.leases` is held by retrieves in progress.
    pub session_leases: u64,
    /// Bytes that sessions take, outside the pool.
    pub session_bytes: usize,
    /// What workers may still touch though their registration is over.
    pub set_aside: SetAsideStatus,
    /// Lookups that wait for the second tier.
    pub prefetching: usize,
    /// Registered workers, by id.
    pub instances: Vec<InstanceStatus>,
    /// Records in the KV event log.
    pub event_log_depth: usize,
    /// Sequence number the next KV event gets.
    pub event_next_seq: u64,
}

impl Operator {
    /// Objects that wait to be taken, once for each lane they wait in, and lookups.
    #[must_use]
    pub fn tier_backlog(&self) -> (usize, usize) {
        let state = self.state();
        (state.lanes.waiting(), state.prefetches.waiting())
    }

    /// The life of chunks so far; `None` while none are followed.
    #[must_use]
    pub fn lifetimes(&self) -> Option<LifetimeHistograms> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        state.lifetimes.give_up(now_ms);
        state.lifetimes.is_on().then(|| state.lifetimes.seen.clone())
    }

    /// The engine now. Takes the lock once, for a time that grows with sessions and workers but not with
    /// objects.
    #[must_use]
    pub fn status(&self) -> EngineStatus {
        let now_ms = self.now_ms();
        let state = self.state();
        let mut instances: Vec<InstanceStatus> = state
            .instances
            .iter()
            .map(|(instance_id, instance)| InstanceStatus {
                instance_id,
                model_name: Arc::clone(&instance.registration.model_name),
                world_size: instance.registration.world_size,
                block_size: instance.registration.block_size,
                use_mla: instance.registration.use_mla,
                pending_transfers: instance.pending.count(),
                reserved_bytes: instance.pending.staged_bytes()
                    + state.set_aside.staged_bytes_of(instance_id),
                connections: instance.connections.len(),
                process: instance.process.as_ref().map(|process| process.pid()),
                silent_ms: now_ms.saturating_sub(instance.seen_ms),
            })
            .collect();
        instances.sort_by_key(|instance| instance.instance_id);
        EngineStatus {
            cache: state.cache.stats(),
            sessions: state.sessions.len(),
            session_leases: state.sessions.leases(),
            session_bytes: state.sessions.size_bytes(),
            set_aside: SetAsideStatus {
                registrations: state.set_aside.len(),
                reserved_bytes: state.set_aside.staged_bytes(),
                leases: state.set_aside.reading(),
            },
            prefetching: state.prefetches.unanswered(),
            instances,
            event_log_depth: state.events.len(),
            event_next_seq: state.events.next_seq(),
        }
    }
}
