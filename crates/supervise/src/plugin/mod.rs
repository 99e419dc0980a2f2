//! One plugin: its task, its starts, and what is remembered of it.

mod commands;
mod history;
mod launch;
mod notes;
mod task;
mod waits;
mod watching;

pub(crate) use self::commands::Commands;
pub(crate) use self::history::History;
pub use self::history::{RunRecord, moment};
pub(crate) use self::launch::Shared;
pub(crate) use self::task::{Plugin, Published};
