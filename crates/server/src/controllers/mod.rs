//! The node's background work: named tasks under one supervisor.
//!
//! A controller decides when; the engine does, in bounded steps. Tasks that only nudge the engine share the RPC thread, so that they
//! never hold the engine's lock while a request waits for another core to let go of it.

mod clients;
mod effects;
mod eviction;
pub mod l2;
mod preparation;
mod sealing;
mod sweeping;

pub use effects::{Effects, limits};
pub use eviction::evict;
pub use preparation::{Preparation, prepare};
pub use sealing::Sealer;
pub use sweeping::sweep;
