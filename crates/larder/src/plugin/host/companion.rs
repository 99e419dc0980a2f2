//! The process that plugins run beside.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use clap::ArgMatches;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::oneshot;

/// What a shell returns for a program that is not there, and for one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;

/// Why there is no process to accompany.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompanionError {
    #[error("`{program}` cannot be started: {source}")]
    Start { program: String, source: io::Error },
    #[error(
        "process {pid} cannot be accompanied: {source}\nhint: is it running, on this machine and in this namespace?"
    )]
    Process { pid: i32, source: io::Error },
    #[error("signals cannot be handled: {0}")]
    Signals(io::Error),
}

impl CompanionError {
    /// As a shell would return it.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::Start { .. } => NOT_RUNNABLE,
            _ => crate::exit::FAILED,
        }
    }
}

/// A command that was started, or a process that was there.
#[derive(Debug)]
pub(super) enum Companion {
    Command(Child),
    /// Resolves when the process has ended.
    Process(oneshot::Receiver<()>),
}

impl Companion {
    /// Starts the command or finds the process.
    pub(super) fn from_matches(matches: &ArgMatches) -> Result<Self, CompanionError> {
        if let Some(pid) = matches.get_one::<i32>("pid").copied() {
            let failed = |source| CompanionError::Process { pid, source };
            let target = Pid::from_raw(pid).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
            let descriptor =
                pidfd_open(target, PidfdFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
            return Ok(Self::Process(end_of(descriptor).map_err(failed)?));
        }
        let mut words = matches.get_many::<OsString>("command").into_iter().flatten();
        let program = words.next().cloned().unwrap_or_default();
        let started = Command::new(&program).args(words).spawn();
        started.map(Self::Command).map_err(|source| CompanionError::Start {
            program: program.to_string_lossy().into_owned(),
            source,
        })
    }

    /// Waits for its end: its exit code, or 128 and the signal that ended it. The code of a process that was
    /// there before cannot be known and counts as 0. May be dropped and called again.
    pub(super) async fn ended(&mut self) -> u8 {
        match self {
            Self::Command(child) => child.wait().await.map_or(crate::exit::FAILED, code),
            Self::Process(end) => {
                // An error means that it cannot be watched any more.
                _ = end.await;
                0
            }
        }
    }

    /// A signal to this process is meant for the command. A process that was there before is left alone: the
    /// exit code is returned at once.
    pub(super) fn pass_on(&self, signal: Signal) -> Option<u8> {
        let Self::Command(child) = self else { return Some(0) };
        // A terminal sends these to the command as well.
        let by_terminal =
            [Signal::INT, Signal::QUIT, Signal::HUP].contains(&signal) && io::stdin().is_terminal();
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid.filter(|_| !by_terminal)
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::warn!("signal {} was not passed on: {error}", signal.as_raw());
        }
        None
    }
}

/// A thread that waits for the process, so that nothing here has to look again and again.
fn end_of(process: OwnedFd) -> io::Result<oneshot::Receiver<()>> {
    let (over, end) = oneshot::channel();
    std::thread::Builder::new().name("larder-companion".into()).spawn(move || {
        let mut watched = [PollFd::new(&process, PollFlags::IN)];
        while poll(&mut watched, None) == Err(rustix::io::Errno::INTR) {}
        // Nobody waits any more where a signal ended the wait.
        _ = over.send(());
    })?;
    Ok(end)
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(crate::exit::FAILED)
}

/// The signals that are passed on.
pub(super) struct Signals([(Stream, Signal); 6]);

impl Signals {
    /// Takes them over from now on.
    pub(super) fn listen() -> Result<Self, CompanionError> {
        let listen = |kind, name| Ok((signal(kind).map_err(CompanionError::Signals)?, name));
        Ok(Self([
            listen(SignalKind::terminate(), Signal::TERM)?,
            listen(SignalKind::interrupt(), Signal::INT)?,
            listen(SignalKind::hangup(), Signal::HUP)?,
            listen(SignalKind::quit(), Signal::QUIT)?,
            listen(SignalKind::user_defined1(), Signal::USR1)?,
            listen(SignalKind::user_defined2(), Signal::USR2)?,
        ]))
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (stream, name) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*name);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
