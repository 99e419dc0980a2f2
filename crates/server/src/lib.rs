//! One running server: what starts in which order, on which thread, and how it ends.
//!
//! Beside that, what only a whole server can know: what a start would meet (`preflight`), what a change of
//! settings does to the parts, what the service manager hears. ARCHITECTURE.md, "Concurrency", lists the
//! threads.

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
