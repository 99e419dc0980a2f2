//! The second tier: stores what is committed, brings back what lookups miss, evicts what is too much.
//!
//! A thread of its own, `larder-l2`, runs the controllers; it starts with the first adapter. They take work
//! from the engine's queues, move bytes between pool memory and the adapters, and report back. Nothing they
//! wait for is ever waited for by the RPC thread.

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

mod attach;
mod budget;
mod buffer;
mod eviction;
mod flow;
mod holding;
mod lane;
mod load;
mod outage;
mod prefetch;
mod probe;
mod pulse;
mod resizable_semaphore;
mod roster;
mod shared;
mod store;
mod tier;
mod warnings;

pub use attach::Detachment;
pub use eviction::EvictionReport;
pub use flow::{FlowCounts, KindFlow, SaltFlow, Shortfall};
pub use lane::LaneReport;
pub use pulse::{Promptness, Pulse};
pub use roster::{ADAPTERS_MAX, Attached, Phase, RosterError};
pub use tier::{PrefetchMemory, Tier, TierConfig, TierError};
