//! What the cache does for its clients, free of wire formats and sockets.
//!
//! [`Engine`] puts the pure object table of `larder-core`, the pool, requests and workers together. Every
//! method is short: it takes one lock for microseconds and never waits. The RPC thread is its main caller;
//! status pages and `clear` come from the control thread.
//!
//! One lock instead of a sharded index: what costs time in a request is decoding and hashing its tokens,
//! which happens outside; a lookup of 32 chunks holds the lock for about 3 us, and anything longer (eviction,
//! clearing, sweeping) works in bounded steps.

mod adoption;
mod counters;
mod engine;
mod error;
mod events;
mod held;
mod hints;
mod instances;
mod inventory;
mod key;
mod layouts;
mod leases;
mod lifetimes;
mod lookup;
mod members;
mod pending;
mod processes;
mod quota_table;
mod quotas;
mod room;
mod seal;
mod sessions;
mod set_aside;
mod slots;
mod status;
mod stores;
mod sweep;
mod tier;

mod transfer;
pub mod upkeep;
mod verify;
mod warm;

#[cfg(any(test, feature = "fixtures"))]
#[doc(hidden)]
pub mod fixtures;
#[cfg(test)]
mod tests;

pub use adoption::AdoptionStatus;
pub use counters::{Counters, LookupCounts, LookupLabels};
pub use engine::{ConnectionId, Engine, EngineConfig, Limits};
pub use error::EngineError;
pub use hints::{HINT_CHUNKS_MAX, HINT_TTL_MAX, Hint, Taken};
pub use inventory::{ObjectPage, RemovalCount};
pub use key::{OwnedKey, PromptKey};
pub use leases::{LeaseHolder, LeaseOwner, LeaseTotals};
pub use lifetimes::{LifetimeHistograms, Reuse};
pub use members::Geometry;
pub use quota_table::{QUOTAS_MAX, QuotaChanges, QuotaTable, TooManyQuotas};
pub use seal::ChecksumMode;
pub use slots::records_max;
pub use status::{EngineStatus, InstanceStatus, SetAsideStatus};
pub use stores::{Backlog, StoreLane, StoreWork};
pub use tier::{Arrival, LoadSlot, PrefetchWork};
pub use transfer::{RetrievePlan, Slot, StorePlan};
pub use verify::{CheckPoint, Checked, ChecksumCounters, Corruption};
pub use warm::{WarmError, WarmStatus};
