//! The node's background work: named tasks under one supervisor.
//!
//! A controller decides when; the engine does, in bounded steps. Tasks that only nudge the engine share the RPC thread, so that they
//! never hold the engine's lock while a request waits for another core to let go of it.

mod effects;
pub mod l2;

pub use effects::{Effects, limits};
