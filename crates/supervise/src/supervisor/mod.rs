//! All plugins of one server: found, started in order, followed, asked about, stopped.

mod follow;
mod roster;
mod start_order;
mod state;
mod status;
mod stop;
mod watched;

pub use self::roster::ReloadReport;
pub use self::state::Supervisor;
pub use self::status::{PluginStatus, StopReport};
