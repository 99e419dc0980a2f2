//! `larder plugin`: plugins of a running server, plugin files without one, and plugins beside any process.
//!
//! `remote` speaks HTTP to a server; `validate`, `scaffold`, `foreground` and `drills` serve authors, the
//! last two of them on a `rig`; `host` is the role mode, and `host_config` what it reads.

mod command;
mod drills;
mod events;
mod foreground;
mod host;
mod host_config;
mod moments;
mod remote;
mod render;
mod rig;
mod scaffold;
mod validate;
mod watch;

pub(crate) use command::{command, run};
pub(crate) use render::{list, table};
