//! The words of the lifecycle: what happens, what is done, and where a plugin can be.

use std::time::Duration;

use serde::Serialize;

use crate::manifest::Outcome;

/// What happened to a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It should run; operators' starts also clear the crash-loop latch.
    Start,
    /// It should not run until started again.
    Stop,
    /// It should run afresh.
    Restart,
    /// The configuration it was started with has changed, and it asks to be started anew then.
    Configured,
    /// It should not run, nor be started by anything but [`Event::Enable`].
    Disable,
    /// It may run again.
    Enable,
    /// The program runs.
    Launched,
    /// The program could not be run.
    LaunchFailed,
    /// It is not run, since it would not get what it needs; trying again changes nothing.
    Rejected,
    /// It has declared itself ready.
    BecameReady,
    /// It gives no sign of life, or a probe fails, and it is left running.
    Degraded,
    /// It gives signs of life again.
    Recovered,
    /// It has said that it is about to end.
    Leaving,
    /// Its watchdog or a probe found it hanging.
    Hung,
    /// A stop has to come to its end at once.
    TimeIsUp,
    /// The task that drives it failed and goes on without knowing what it missed.
    Unsupervised,
    /// Its first process has ended.
    Exited(Outcome),
    /// None of its processes is left.
    Gone,
    /// The guardian died, and all its processes with it.
    Lost,
    /// The time given by [`super::machine::Lifecycle::deadline`] has come.
    Elapsed,
}

/// What is to be done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run the program.
    Launch,
    /// Close its standard input and send all its processes the stop signal.
    AskToStop,
    /// Send all its processes the signal at which they leave a trace of what they do.
    Dump,
    /// Send SIGKILL to all its processes.
    Kill,
}

/// Where a plugin is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Phase {
    /// Eligible and not started yet.
    Waiting,
    /// The program is being started.
    Launching {
        /// What follows when it runs; anything but `Run` means it was asked to stop meanwhile.
        #[serde(skip)]
        next: Next,
    },
    /// It runs and has not declared itself ready.
    Starting {
        /// When the program started.
        #[serde(skip)]
        since: Duration,
    },
    /// It runs.
    Ready {
        /// When the program started.
        #[serde(skip)]
        since: Duration,
    },
    /// It runs, and something is wrong with it.
    Degraded {
        /// When the program started.
        #[serde(skip)]
        since: Duration,
    },
    /// It has been told to end, or has said that it will.
    Stopping {
        /// Whether SIGKILL has been sent.
        killed: bool,
        /// Whether it has been given its time to leave a trace.
        #[serde(skip)]
        dumping: bool,
        /// When the next, harder step is due.
        #[serde(skip)]
        deadline: Duration,
        /// What follows.
        #[serde(skip)]
        next: Next,
    },
    /// It waits for its next start.
    Backoff {
        /// When that is.
        #[serde(skip)]
        until: Duration,
    },
    /// It has done its work and waits for the next interval.
    Scheduled {
        /// When that begins.
        #[serde(skip)]
        until: Duration,
    },
    /// It ended and is not started again.
    Exited,
    /// It is not started again because of a failure.
    Failed {
        /// Which.
        cause: FailCause,
    },
    /// It was stopped on request.
    Stopped,
    /// It was switched off on request.
    Disabled,
}

/// Why a plugin is no longer started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailCause {
    /// Its program could not be run.
    Launch,
    /// Its configuration is not as its manifest has it.
    Config,
    /// It ended without success and its policy says to leave it.
    Exit,
    /// It was started too often in too short a time.
    CrashLoop,
    /// It did not become ready in time.
    NotReady,
    /// It stopped answering its watchdog.
    Hung,
    /// It ran longer than it may.
    Timeout,
    /// What watches over it failed.
    Unsupervised,
}

impl std::fmt::Display for FailCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Launch => "its program cannot be run",
            Self::Config => "its configuration does not fit",
            Self::Exit => "it failed",
            Self::CrashLoop => "it was started too often",
            Self::NotReady => "it did not become ready in time",
            Self::Hung => "it stopped answering",
            Self::Timeout => "it ran too long",
            Self::Unsupervised => "its supervision failed",
        })
    }
}

/// What follows a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Next {
    /// Another run at once.
    Run,
    /// What the policy says about a failed run.
    Judge(FailCause),
    /// What the policy says about the way in which it ended by itself.
    Itself,
    /// Rest as stopped.
    Stopped,
    /// Rest as disabled.
    Disabled,
}
