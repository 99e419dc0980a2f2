//! What keeps the engine in order beside its clients: preparing the pool, evicting, sealing, sweeping, taking
//! over what a server before left.
//!
//! A task decides when; the engine does, in bounded steps. Tasks that only nudge the engine share the RPC
//! thread, so that they never hold the engine's lock while a request waits for another core to let go of it.

mod adoption;
mod eviction;
mod preparation;
mod processes;
mod sealing;
mod seals;
mod sweep;

pub use eviction::evict;
pub use preparation::{Preparation, prepare};
pub use sealing::Sealer;
