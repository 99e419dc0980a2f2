//! One running server: what starts in which order, on which thread, and how it ends.
//!
//! ```text
//! main thread      admin HTTP, plugins, signals
//! larder-rpc       sockets, every short operation, eviction, sweeping, event streams
//! larder-pool      prepares the pool, then ends
//! larder-seal      hashes what is committed while somebody will check it
//! larder-adopt     looks at what a server before this one left in the pool, then ends
//! (up to 4)        copies of payloads that come in messages, long clears; end when idle
//! ```

mod announce;
mod effects;
mod error;
mod pool;
mod preflight;
mod run;
mod serve;
mod shutdown;

pub use error::StartError;
pub use larder_pool::Size;
pub use preflight::{Preflight, memory_warning, preflight};
pub use run::run;
