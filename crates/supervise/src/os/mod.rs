//! Everything that talks to the kernel about processes: the guardian, the link to it, and the process table.

mod confine;
mod guardian;
mod handover;
mod link;
mod packet;
mod process_table;
mod raw;
mod remains;
mod watch;

pub(crate) use confine::{account, has_landlock, mistakes as confinement_mistakes};
pub use guardian::{GUARDIAN_ARGUMENT, guardian_main, run_guardian_if_asked};
pub use link::{GuardianCommand, GuardianSpawner};
pub(crate) use process_table::is_warden;
pub use process_table::{Process, below_guardian, descendants, marked, process_table};
pub(crate) use watch::{Change, Watcher};

/// Variable that marks every process of a run, so that daemons which cut all ties are found.
pub(crate) const MARK_NAME: &str = "LARDER_PLUGIN_RUN";
