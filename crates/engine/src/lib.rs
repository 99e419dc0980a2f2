//! What the cache does for its clients, free of wire formats and sockets.
//!
//! [`Engine`] puts the pure object table of `larder-core`, the pool, requests and workers together. Each
//! caller has the face of it that is made for it: [`Requests`], [`Tiers`], [`Upkeep`] or [`Operator`]. Every
//! method is short: it takes one lock for microseconds and never waits, unless it says otherwise.
//!
//! Its parts (`state`) are data with invariants of their own; what is done with them lies above, by who asks.
//!
//! One lock instead of a sharded index: what costs time in a request is decoding and hashing its tokens,
//! which happens outside; a lookup of 32 chunks holds the lock for about 3 us, and anything longer (eviction,
//! clearing, sweeping) works in bounded steps.

// Tests count small things and may cast them.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_lossless,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

mod changes;
mod clearing;
mod config;
mod engine;
mod error;
mod faces;
mod growth;
mod key;
mod kv_events;
mod limits;
mod operator;
mod quota_table;
mod requests;
mod state;
mod tiers;
pub mod upkeep;
mod verify;

#[cfg(any(test, feature = "fixtures"))]
#[doc(hidden)]
pub mod fixtures;
#[cfg(test)]
mod tests;

pub use config::{EngineConfig, Limits};
pub use engine::Engine;
pub use error::EngineError;
pub use faces::{Operator, Requests, Tiers, Upkeep};
pub use key::{OwnedKey, PromptKey};
pub use operator::hints::{HINT_CHUNKS_MAX, HINT_TTL_MAX, Hint, HintOutcome};
pub use operator::inventory::{ObjectPage, RemovalCount};
pub use operator::leases::{LeaseHolder, LeaseOwner, LeaseTotals};
pub use operator::status::{EngineStatus, InstanceStatus, SetAsideStatus};
pub use operator::warm::WarmError;
pub use quota_table::{QUOTAS_MAX, QuotaChanges, QuotaTable, TooManyQuotas};
pub use requests::members::Geometry;
pub use requests::transfer::{RetrievePlan, Slot, StorePlan};
pub use state::adoption::AdoptionStatus;
pub use state::checks::{CheckPoint, ChecksumCounters};
pub use state::connections::ConnectionId;
pub use state::counters::{Counters, LookupCounts, LookupLabels};
pub use state::lifetimes::{LifetimeHistograms, Reuse};
pub use state::prefetches::PrefetchWork;
pub use state::slots::records_max;
pub use state::stores::{Backlog, StoreWork};
pub use state::warm::WarmStatus;
pub use tiers::prefetch::{Arrival, LoadSlot, Prefetch};
pub use tiers::stores::{StoreLane, TakenStore};
pub use verify::Corruption;
