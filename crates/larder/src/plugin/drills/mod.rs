//! `larder plugin test`: a plugin is put through what a server's life has in store for it.

mod events;
mod golden;
mod processes;
mod report;
mod run;

pub(super) use run::{NAMES, run};
