//! The control channel, over which a plugin asks, subscribes, hints and raises alerts.

mod channel;
mod host;
mod session;

pub(crate) use self::channel::Channel;
pub(crate) use self::host::{API_VERSION, ControlRecord};
pub use self::host::{Alert, ControlCounts, ControlHost};
pub(crate) use self::session::{Grants, Session};
