//! The second tier: stores what is committed, brings back what lookups miss.
//!
//! A thread of its own, `larder-l2`, runs both controllers. They take work from the engine's queues, move bytes between pool memory
//! and the adapters, and report back. Nothing they wait for is ever waited for by the RPC thread.

mod buffer;
mod prefetch;
mod store;
mod tier;

pub use tier::{StorePolicy, Tier, TierConfig, TierError};
