//! The table of every server flag, one file per area.

mod fleet;
mod framework;
mod larder;
mod observability;
mod server;
mod storage;
mod table;

pub use table::{all, find};
