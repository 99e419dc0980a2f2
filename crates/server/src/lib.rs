//! One running server: what starts in which order, on which thread, and how it ends.
//!
//! ARCHITECTURE.md, "Concurrency", lists the threads.

mod announce;
mod effects;
mod error;
mod pool;
mod preflight;
mod run;
mod serve;
mod service_manager;
mod shutdown;

pub use error::StartError;
pub use larder_pool::Size;
pub use preflight::{Preflight, memory_warning, preflight};
pub use run::run;
