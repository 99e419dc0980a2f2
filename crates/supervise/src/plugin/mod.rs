//! One plugin: its task, its starts, and what is remembered of it.

mod commands;
mod history;
mod launch;
mod logging;
mod published;
mod records;
mod state;
mod task;
mod waits;
mod watchdog;

pub(crate) use self::commands::Commands;
pub use self::history::RunRecord;
pub(crate) use self::launch::Shared;
pub(crate) use self::published::Published;
pub(crate) use self::records::{Origin, Records};
pub(crate) use self::state::Plugin;
