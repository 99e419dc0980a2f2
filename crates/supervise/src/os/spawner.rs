//! The line between deciding and doing: what the supervisor asks of the operating system.
//!
//! [`Spawner`] has two implementations: [`super::link::GuardianSpawner`], and a scripted double in tests.

use std::ffi::OsString;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::error::SuperviseError;
use crate::manifest::{Confinement, Outcome, StopSignal};

/// Events of one run that can be waiting to be read: exit, gone, lost.
pub(crate) const EVENTS_MAX: usize = 4;

/// The number of the first descriptor that a program can get besides its standard streams; others follow.
pub(crate) const FIRST_EXTRA_FD: i32 = 3;
/// The first number that none of them has.
pub(super) const AFTER_EXTRA_FDS: i32 = 5;
/// How many there can be; the rest of more is not handed over.
pub(super) const EXTRA_FDS_MAX: usize = (AFTER_EXTRA_FDS - FIRST_EXTRA_FD).unsigned_abs() as usize;

/// Names one run of one plugin for the life of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaunchId(pub u64);

/// A program to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchSpec {
    /// The executable, as a path.
    pub program: PathBuf,
    /// The whole argument vector.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// What it may use.
    pub confinement: Confinement,
}

/// The far ends of a plugin's standard streams.
#[derive(Debug)]
pub struct ChildStdio {
    /// Read by the plugin.
    pub stdin: OwnedFd,
    /// Written by the plugin.
    pub stdout: OwnedFd,
    /// Written by the plugin.
    pub stderr: OwnedFd,
    /// Further descriptors, two at most, which the plugin finds from number 3 on.
    pub extra: Vec<OwnedFd>,
}

/// What becomes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// Its first process has ended; others may be left.
    Exited(Outcome),
    /// No process is left.
    Gone,
    /// The guardian died; everything below it was killed.
    Lost,
}

/// A signal for every process of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunSignal {
    /// A request to end.
    Stop(StopSignal),
    /// SIGKILL.
    Kill,
}

/// Starts programs in groups of their own and reports their end.
///
/// An implementation guarantees: after a successful [`Spawner::launch`] the channel receives either `Exited`
/// and later `Gone`, or `Lost`; signals reach every process of the run, also those that left its process
/// group; a signal for a run that is gone has no effect.
pub trait Spawner: Send + Sync + 'static {
    /// Runs a program; returns its process id.
    fn launch(
        &self,
        id: LaunchId,
        spec: LaunchSpec,
        stdio: ChildStdio,
        events: mpsc::Sender<ProcessEvent>,
    ) -> impl Future<Output = Result<u32, SuperviseError>> + Send;

    /// Sends a signal to every process of a run.
    fn signal(&self, id: LaunchId, signal: RunSignal) -> impl Future<Output = ()> + Send;

    /// Ends every process of every run at once. `false` if some were still left after a bounded wait.
    fn close(&self) -> impl Future<Output = bool> + Send;
}
