//! What the server tells about itself: the log, and parts of its metrics.

mod flood;
mod histogram;
mod line;
mod log;
mod process;
mod throttle;
mod writer;

pub use histogram::Histogram;
pub use log::{LOGGERS_MAX, LogError, LogGuard, LogHandle, install_log, level_filter, new_log};
pub use process::ProcessUsage;
pub use throttle::{KeptBack, Throttle, Throttles};
pub use writer::{LINE_BYTES_MAX, QUEUE_BYTES_MAX};
