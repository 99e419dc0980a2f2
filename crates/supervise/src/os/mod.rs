//! Everything that talks to the kernel about processes and the files they share with others: the guardian and
//! the link to it, control groups, the process table, the private directory. Decides nothing.

mod cgroup;
mod confine;
mod guardian;
mod handover;
mod link;
mod orphans;
mod packet;
mod process_table;
mod raw;
mod removal;
pub(crate) mod scratch;
mod spawner;
mod watch;

pub use self::cgroup::CgroupStatus;
pub(crate) use self::cgroup::{Cgroups, RunGroup};
pub(crate) use self::confine::has_landlock;
pub use self::guardian::{GuardianCommand, run_guardian_if_asked};
pub(crate) use self::link::GuardianSpawner;
pub(crate) use self::process_table::is_warden;
pub use self::process_table::{Process, descendants, has_mark, process_table};
pub(crate) use self::removal::{REMOVAL_MAX, remove_tree};
pub(crate) use self::scratch::Scratch;
pub(crate) use self::spawner::{ChildStdio, LaunchId, LaunchSpec, ProcessEvent, RunSignal, Spawner};
pub(crate) use self::spawner::{EVENTS_MAX, FIRST_EXTRA_FD};
pub(crate) use self::watch::{Change, Watcher};
