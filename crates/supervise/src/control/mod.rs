//! The control channel, over which a plugin asks, subscribes, hints and raises alerts.

mod channel;
mod session;

pub use self::channel::{API_VERSION, Alert, ControlCounts, ControlHost};
pub(crate) use self::channel::{API_VERSION_NAME, CONTROL_FD, Channel, ControlRecord};
pub(crate) use self::session::{Grants, Session};
