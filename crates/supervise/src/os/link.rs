//! The server's end of the guardian: starts it, talks to it, and notices when it dies.
//!
//! The guardian is started with the first launch and again with the first launch after its death. Spawning it
//! is a plain `posix_spawn`: nothing runs between fork and exec in the server, whose address space may be
//! very large.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::guardian::GuardianCommand;
use super::orphans::Orphans;
use super::packet::{HANDED_FDS, PACKET_MAX_BYTES, Report, Request};
use super::process_table::MARK_NAME;
use super::spawner::{ChildStdio, EXTRA_FDS_MAX, LaunchId, LaunchSpec, ProcessEvent, RunSignal, Spawner};
use super::{handover, raw};
use crate::error::SuperviseError;
use crate::lock::lock;
use crate::manifest::{Outcome, StopSignal};

/// How long a closed guardian may take to end everything below it before it is killed itself.
pub(crate) const GUARDIAN_EXIT_MAX: Duration = Duration::from_secs(2);
/// How long a kill may take, and the collection of what a killed guardian leaves; then the server stops
/// waiting and reports what is left.
const CLEARING_MAX: Duration = Duration::from_secs(4);
/// Between two questions whether the guardian still answers.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How long it may take to answer one. It answers between two requests, each of which it carries out at once.
const PONG_MAX: Duration = Duration::from_secs(8);

/// Starts programs through a guardian.
#[derive(Debug)]
pub struct GuardianSpawner {
    command: GuardianCommand,
    scratch: PathBuf,
    /// Part of every mark, so that two servers tell their processes apart.
    server_mark: String,
    sole_parent: bool,
    link: Mutex<Option<Arc<Link>>>,
}

impl GuardianSpawner {
    /// Starts nothing yet. The guardian removes `scratch` if it outlives the server.
    ///
    /// `sole_parent` says that this process has no children but the guardian. It then adopts what a dying
    /// guardian leaves, and nothing can hide from the clean-up; otherwise processes that dropped their mark
    /// may.
    #[must_use]
    pub fn new(command: GuardianCommand, scratch: PathBuf, sole_parent: bool) -> Self {
        let server_mark = format!("{}:{}", std::process::id(), scratch.display());
        Self { command, scratch, server_mark, sole_parent, link: Mutex::new(None) }
    }

    /// The guardian's process id while there is one.
    pub fn guardian_pid(&self) -> Option<u32> {
        lock(&self.link).as_ref().map(|link| link.pid)
    }

    fn mark(&self, id: LaunchId) -> String {
        format!("{}:{};", self.server_mark, id.0)
    }

    /// The living guardian, started if need be.
    fn connect(&self) -> Result<Arc<Link>, SuperviseError> {
        let mut slot = lock(&self.link);
        if let Some(link) = slot.as_ref().filter(|link| !lock(&link.state).dead) {
            return Ok(Arc::clone(link));
        }
        let orphans = Orphans::new(format!("{MARK_NAME}={}:", self.server_mark), self.sole_parent);
        let link = Link::start(&self.command, &self.scratch).map_err(SuperviseError::Guardian)?;
        *slot = Some(Arc::clone(&link.0));
        tokio::spawn(Arc::clone(&link.0).read(link.1, orphans));
        Ok(link.0)
    }
}

impl Drop for GuardianSpawner {
    fn drop(&mut self) {
        if let Some(link) = lock(&self.link).take() {
            link.closing.notify_one();
        }
    }
}

impl Spawner for GuardianSpawner {
    async fn launch(
        &self,
        id: LaunchId,
        mut spec: LaunchSpec,
        stdio: ChildStdio,
        events: mpsc::Sender<ProcessEvent>,
    ) -> Result<u32, SuperviseError> {
        let program = spec.program.clone();
        let failed = |source| SuperviseError::Launch { program: program.clone(), source };
        let link = self.connect()?;
        spec.environment.retain(|(name, _)| name != MARK_NAME);
        spec.environment.push((MARK_NAME.into(), self.mark(id).into()));
        let description = handover::to_memory_file(&spec).map_err(failed)?;
        let (reply, answer) = oneshot::channel();
        {
            let mut state = lock(&link.state);
            if state.dead {
                return Err(SuperviseError::Guardian(io::ErrorKind::BrokenPipe.into()));
            }
            state.runs.insert(id.0, RunEntry { reply: Some(reply), events });
        }
        let mut fds =
            vec![description.as_fd(), stdio.stdin.as_fd(), stdio.stdout.as_fd(), stdio.stderr.as_fd()];
        fds.extend(stdio.extra.iter().take(EXTRA_FDS_MAX).map(AsFd::as_fd));
        if let Err(error) = link.send(Request::Launch { id: id.0 }, &fds).await {
            lock(&link.state).runs.remove(&id.0);
            return Err(SuperviseError::Guardian(error));
        }
        drop(stdio);
        match answer.await {
            Ok(Ok(pid)) => Ok(pid.cast_unsigned()),
            Ok(Err(refusal)) => Err(refusal.into_error(program)),
            Err(_) => Err(SuperviseError::Guardian(io::ErrorKind::BrokenPipe.into())),
        }
    }

    async fn signal(&self, id: LaunchId, signal: RunSignal) {
        let Some(link) = lock(&self.link).clone() else { return };
        let signal = number(signal);
        // A guardian that cannot be reached is dead, and the run with it; its reader reports that.
        _ = link.send(Request::Signal { id: id.0, signal }, &[]).await;
    }

    async fn close(&self) -> bool {
        let Some(link) = lock(&self.link).take() else { return true };
        link.closing.notify_one();
        tokio::time::timeout(GUARDIAN_EXIT_MAX + CLEARING_MAX, link.ended()).await.is_ok()
    }
}

fn number(signal: RunSignal) -> i32 {
    match signal {
        RunSignal::Kill => Signal::KILL,
        RunSignal::Stop(StopSignal::SigTerm) => Signal::TERM,
        RunSignal::Stop(StopSignal::SigInt) => Signal::INT,
        RunSignal::Stop(StopSignal::SigHup) => Signal::HUP,
        RunSignal::Stop(StopSignal::SigQuit) => Signal::QUIT,
        RunSignal::Stop(StopSignal::SigUsr1) => Signal::USR1,
        RunSignal::Stop(StopSignal::SigUsr2) => Signal::USR2,
    }
    .as_raw()
}

/// Why a program was not run.
#[derive(Debug)]
struct Refusal {
    errno: i32,
    step: String,
}

impl Refusal {
    fn into_error(self, program: PathBuf) -> SuperviseError {
        let source = (self.errno != 0).then(|| io::Error::from_raw_os_error(self.errno));
        match source {
            Some(source) if self.step.is_empty() => SuperviseError::Launch { program, source },
            source => SuperviseError::Confine {
                program,
                step: crate::text::escaped(&self.step).into_owned(),
                source,
            },
        }
    }
}

#[derive(Debug)]
struct RunEntry {
    reply: Option<oneshot::Sender<Result<i32, Refusal>>>,
    events: mpsc::Sender<ProcessEvent>,
}

#[derive(Debug, Default)]
struct LinkState {
    runs: HashMap<u64, RunEntry>,
    dead: bool,
}

/// One guardian.
#[derive(Debug)]
struct Link {
    pid: u32,
    socket: AsyncFd<OwnedFd>,
    /// Keeps requests in the order in which they were made; a socket wakes its waiters in any order.
    sending: tokio::sync::Mutex<()>,
    state: Mutex<LinkState>,
    /// Tells the reader to hang up.
    closing: Notify,
    /// Told when the guardian has been collected.
    collected: Notify,
}

/// How serving a guardian came to its end.
enum Ending {
    Closed,
    Died,
    Silent,
}

/// What only the reader needs.
struct GuardianProcess {
    child: Child,
    exit: AsyncFd<OwnedFd>,
}

impl Link {
    fn start(
        command: &GuardianCommand,
        scratch: &std::path::Path,
    ) -> io::Result<(Arc<Self>, GuardianProcess)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::io::ioctl_fionbio(&theirs, false)?;
        let child = Command::new(&command.program)
            .args(&command.arguments)
            .arg(scratch)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        let pid = child.id();
        let raw = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::InvalidData)?;
        let exit = raw::register(pidfd_open(raw, PidfdFlags::empty())?, Interest::READABLE)?;
        let link = Self {
            pid,
            socket: raw::register(ours, Interest::READABLE | Interest::WRITABLE)?,
            sending: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            closing: Notify::new(),
            collected: Notify::new(),
        };
        tracing::debug!(target: "larder_supervise", "plugin guardian started (pid {pid})");
        Ok((Arc::new(link), GuardianProcess { child, exit }))
    }

    async fn send(&self, request: Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let packet = request.encode();
        let _turn = self.sending.lock().await;
        loop {
            let mut ready = self.socket.writable().await?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDED_FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(fds));
            }
            let sent = ready.try_io(|socket| {
                Ok(sendmsg(socket, &[IoSlice::new(&packet)], &mut control, SendFlags::NOSIGNAL)?)
            });
            if let Ok(result) = sent {
                return result.map(|_| ());
            }
        }
    }

    /// Hands reports to the runs they belong to, until the guardian is gone, is to go, or no longer answers.
    async fn read(self: Arc<Self>, process: GuardianProcess, orphans: Orphans) {
        let GuardianProcess { mut child, exit } = process;
        let ending = tokio::select! {
            biased;
            ending = self.serve(&exit) => ending,
            // Closed on purpose: whatever is left below the guardian ends with it.
            () = self.closing.notified() => Ending::Closed,
        };
        // Shutting down works on the socket itself, so it does not matter who else holds the link.
        _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let pid = self.pid;
        match ending {
            Ending::Closed => {
                if timeout(GUARDIAN_EXIT_MAX, exit.readable()).await.is_err() {
                    tracing::warn!(target: "larder_supervise", "plugin guardian (pid {pid}) does not end, killing it");
                }
            }
            Ending::Died => {
                tracing::error!(target: "larder_supervise", "plugin guardian died (pid {pid}); its plugins are gone");
            }
            Ending::Silent => {
                tracing::error!(target: "larder_supervise",
                    "plugin guardian (pid {pid}) does not answer; killing it, its plugins start again");
            }
        }
        // Without effect on one that has ended, as it has not been collected.
        _ = child.kill();
        _ = exit.readable().await;
        _ = child.wait();
        orphans.clear().await;
        let runs = {
            let mut state = lock(&self.state);
            state.dead = true;
            std::mem::take(&mut state.runs)
        };
        for run in runs.into_values() {
            // The channel holds all events a run can have.
            _ = run.events.try_send(ProcessEvent::Lost);
        }
        self.collected.notify_one();
    }

    /// Passes reports on and asks now and then whether the guardian still answers.
    async fn serve(self: &Arc<Self>, exit: &AsyncFd<OwnedFd>) -> Ending {
        let (mut asked, mut answered) = (0, 0);
        let mut next = Instant::now() + PING_EVERY;
        loop {
            tokio::select! {
                // What has arrived counts before the time does, which may have passed while this process was
                // stopped.
                biased;
                report = self.receive() => match report {
                    Some(Report::Pong { id }) => answered = id,
                    Some(report) => self.dispatch(report),
                    None => return Ending::Died,
                },
                _ = exit.readable() => return Ending::Died,
                () = sleep_until(next) => {
                    // Whatever kept this process from looking in time may have kept the guardian from
                    // answering.
                    let is_late = next.elapsed() > PING_EVERY;
                    if answered < asked && !is_late {
                        return Ending::Silent;
                    }
                    asked += 1;
                    // One that takes no requests does not answer either.
                    _ = timeout(PONG_MAX, self.send(Request::Ping { id: asked }, &[])).await;
                    next = Instant::now() + PONG_MAX;
                }
            }
            if answered == asked {
                next = next.min(Instant::now() + PING_EVERY);
            }
        }
    }

    async fn receive(&self) -> Option<Report> {
        loop {
            let mut ready = self.socket.readable().await.ok()?;
            let mut bytes = [0; PACKET_MAX_BYTES];
            let got = ready.try_io(|socket| {
                let mut control = RecvAncillaryBuffer::default();
                Ok(recvmsg(
                    socket,
                    &mut [IoSliceMut::new(&mut bytes)],
                    &mut control,
                    RecvFlags::CMSG_CLOEXEC,
                )?)
            });
            match got {
                Ok(Ok(message)) if message.bytes > 0 => return Report::decode(&bytes[..message.bytes]),
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) => return None,
                Err(_would_block) => {}
            }
        }
    }

    fn dispatch(self: &Arc<Self>, report: Report) {
        let mut state = lock(&self.state);
        let (id, event) = match report {
            Report::Launched { id, pid } => {
                let reply = state.runs.get_mut(&id).and_then(|run| run.reply.take());
                if reply.is_some_and(|reply| reply.send(Ok(pid)).is_err()) {
                    // Nobody waits for this launch any more, so nobody would ever end it.
                    let link = Arc::clone(self);
                    let kill = Request::Signal { id, signal: Signal::KILL.as_raw() };
                    tokio::spawn(async move { link.send(kill, &[]).await });
                }
                return;
            }
            Report::Refused { id, errno, step } => {
                if let Some(reply) = state.runs.remove(&id).and_then(|mut run| run.reply.take()) {
                    _ = reply.send(Err(Refusal { errno, step }));
                }
                return;
            }
            Report::Pong { .. } => return,
            Report::ExitedCode { id, code } => (id, ProcessEvent::Exited(Outcome::Code(code))),
            Report::ExitedSignal { id, signal } => (id, ProcessEvent::Exited(Outcome::Signal(signal))),
            Report::Gone { id } => (id, ProcessEvent::Gone),
        };
        if let Some(run) = state.runs.get(&id) {
            _ = run.events.try_send(event);
        }
        if event == ProcessEvent::Gone {
            state.runs.remove(&id);
        }
    }

    async fn ended(&self) {
        self.collected.notified().await;
    }
}
