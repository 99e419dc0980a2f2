//! All plugins of one server: found, started in order, followed, asked about, stopped.

mod command;
mod follow;
mod inspect;
mod roster;
mod start;
mod start_order;
mod state;
mod status;
mod stop;
#[cfg(test)]
mod tests;
mod watched;

pub use self::roster::ReloadReport;
pub use self::state::Supervisor;
pub use self::status::{PluginStatus, StopReport};
