//! What the server tells about itself: the log, events, which tasks run, parts of its metrics, and what of
//! any text is masked. Knows no cache and no configuration.

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

mod allowance;
mod build_info;
pub mod events;
pub mod exposition;
mod flood;
mod histogram;
mod level;
mod line;
mod lock;
mod log;
mod process;
mod rate;
pub mod redaction;
pub mod tasks;
mod throttle;
mod writer;

pub use allowance::Allowance;
pub use build_info::BuildInfo;
pub use flood::CLIENT_CRATES;
pub use histogram::Histogram;
pub use level::LogLevel;
pub use line::LogFormat;
pub use log::{LOGGERS_MAX, LogConfig, LogError, LogGuard, LogHandle, install_log, new_log};
pub use process::ProcessUsage;
pub use rate::{LineRate, TokenBucket};
pub use throttle::{KeptBack, Throttle, Throttles};
pub use writer::{LINE_BYTES_MAX, QUEUE_BYTES_MAX};
