//! What the server tells about itself: the log.

mod line;
mod log;
mod throttle;
mod writer;

pub use log::{LOGGERS_MAX, LogError, LogGuard, LogHandle, install_log, level_filter, new_log};
pub use throttle::{KeptBack, Throttle, Throttles};
pub use writer::{LINE_BYTES_MAX, QUEUE_BYTES_MAX};
