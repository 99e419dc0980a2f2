//! The second tier: stores what is committed, brings back what lookups miss.
//!
//! A thread of its own, `larder-l2`, runs both controllers; it starts with the first adapter. They take work from the engine's queues, move bytes between pool memory
//! and the adapters, and report back. Nothing they wait for is ever waited for by the RPC thread.

mod budget;
mod buffer;
mod control;
mod places;
mod prefetch;
mod roster;
mod store;
mod tier;

pub use control::Detachment;
pub use roster::{ADAPTERS_MAX, Attached, Phase, RosterError};
pub use tier::{PrefetchMemory, StorePolicy, Tier, TierConfig, TierError};
