//! The guardian: a small single-threaded process between the server and all plugins.
//!
//! It is the same binary, started with [`GUARDIAN_ARGUMENT`]. For every run it forks a [`warden`], which
//! starts the program and keeps all of its descendants together; it sends them signals, reports exits, and
//! holds one end of a socket pair whose other end only the server has. End of file on that socket means that
//! the server is gone, however it went: the guardian then ends everything below it and itself. Wardens in
//! turn end their runs if the guardian dies. It owns no other descriptor of the server and no policy.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use rustix::process::{Signal, set_child_subreaper, set_parent_process_death_signal};

use super::super::removal::{REMOVAL_MAX, remove_tree};
use super::super::spawner::{AFTER_EXTRA_FDS, EXTRA_FDS_MAX, FIRST_EXTRA_FD};
use super::children::Children;
use super::command::GUARDIAN_ARGUMENT;
use super::sweep::{SWEEP_MAX, SWEEP_PAUSE, drain};
use crate::os::packet::{HANDED_FDS, PACKET_MAX_BYTES, Report, Request};
use crate::os::raw;

/// Between SIGTERM and SIGKILL once the server is gone.
const ORPHAN_GRACE: Duration = Duration::from_millis(500);

/// Becomes the guardian if the process was started as one; otherwise returns at once.
///
/// To be called first in `main`, before any thread, runtime or allocation of size.
pub fn run_guardian_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == GUARDIAN_ARGUMENT) {
        guardian_main(arguments.next().map(PathBuf::from));
    }
}

/// Serves the socket that is standard input until it closes, ends everything below, removes `scratch` and
/// exits.
pub(super) fn guardian_main(scratch: Option<PathBuf>) -> ! {
    let code = match Guardian::set_up() {
        Ok(mut guardian) => {
            guardian.serve();
            guardian.end_everything();
            if let Some(scratch) = scratch {
                remove_scratch(&scratch);
            }
            0
        }
        Err(error) => {
            eprintln!("plugin guardian cannot start: {error}");
            1
        }
    };
    std::process::exit(code)
}

/// Removes the server's plugin directory; only one that carries the name it is always given.
fn remove_scratch(path: &Path) {
    if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(super::super::scratch::PREFIX))
    {
        // Nothing is left to report a failure to.
        _ = remove_tree(path, REMOVAL_MAX);
    }
}

struct Guardian {
    socket: OwnedFd,
    /// Keeps the numbers that plugins' further descriptors get.
    _reserved: Vec<OwnedFd>,
    child_ended: File,
    children: Children,
}

impl Guardian {
    fn set_up() -> io::Result<Self> {
        raw::close_descriptors_from(3);
        // Plugins' further descriptors get the first numbers, so nothing of the guardian may have those.
        let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), AFTER_EXTRA_FDS)?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        // Fails only for a group leader, which then has no terminal to protect plugins from.
        _ = rustix::process::setsid();
        set_child_subreaper(Some(rustix::process::getpid()))?;
        // Whoever was stopped could not see that the server is gone.
        set_parent_process_death_signal(Some(Signal::CONT))?;
        let name = CString::new("larder-guardian").unwrap_or_default();
        _ = rustix::thread::set_name(&name);
        let mut reserved = vec![OwnedFd::from(null)];
        for _ in 1..EXTRA_FDS_MAX {
            reserved.push(rustix::io::fcntl_dupfd_cloexec(&reserved[0], FIRST_EXTRA_FD)?);
        }
        let child_ended = raw::block_all_and_watch_children()?.into();
        Ok(Self { socket, _reserved: reserved, child_ended, children: Children::new()? })
    }

    /// Takes requests and reports exits until the server is gone.
    fn serve(&mut self) {
        loop {
            let (asked, happened) = self.wait(true, self.children.has_orphans().then_some(SWEEP_PAUSE));
            if happened || self.children.has_orphans() {
                drain(&mut self.child_ended);
                let mut reports = Vec::new();
                self.children.collect(&mut reports);
                reports.iter().for_each(|report| self.report(report));
            }
            if asked && !self.take_request() {
                return;
            }
        }
    }

    /// One request; `false` at end of file.
    fn take_request(&mut self) -> bool {
        let mut bytes = [0; PACKET_MAX_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDED_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
        let length = match got {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return true,
            Err(_) => 0,
        };
        if length == 0 {
            return false;
        }
        let mut fds: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        match Request::decode(&bytes[..length]) {
            Some(Request::Launch { id }) => {
                if let Err(error) = self.children.launch(id, fds) {
                    let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
                    self.report(&Report::Refused { id, errno, step: "starting its warden".to_owned() });
                }
            }
            Some(Request::Signal { id, signal }) => self.children.signal(id, signal),
            Some(Request::Ping { id }) => self.report(&Report::Pong { id }),
            None => eprintln!("plugin guardian: unknown request dropped"),
        }
        true
    }

    /// A send that fails means that the server is gone, which the next read finds out.
    fn report(&self, report: &Report) {
        while send(&self.socket, &report.encode(), SendFlags::NOSIGNAL) == Err(rustix::io::Errno::INTR) {}
    }

    /// Waits for a request (if wanted), for the end or the report of a child, or for the time to pass.
    fn wait(&self, for_requests: bool, timeout: Option<Duration>) -> (bool, bool) {
        let mut fds = vec![
            PollFd::new(&self.child_ended, PollFlags::IN),
            PollFd::new(self.children.reports(), PollFlags::IN),
        ];
        if for_requests {
            fds.push(PollFd::new(&self.socket, PollFlags::IN));
        }
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return (false, false);
        }
        let ready = |i: usize| fds.get(i).is_some_and(|fd| !fd.revents().is_empty());
        (ready(2), ready(0) || ready(1))
    }

    /// SIGTERM, a short grace, then SIGKILL until nothing is left below.
    fn end_everything(&mut self) {
        let begun = Instant::now();
        self.children.signal_all(Signal::TERM);
        while self.children.collect(&mut Vec::new()) && begun.elapsed() < ORPHAN_GRACE {
            self.wait(false, Some(SWEEP_PAUSE));
            drain(&mut self.child_ended);
        }
        while self.children.collect(&mut Vec::new()) && begun.elapsed() < SWEEP_MAX {
            if !self.children.signal_all(Signal::KILL) {
                // A warden ends by itself, unless it was stopped.
                self.children.kill_wardens();
            }
            self.wait(false, Some(SWEEP_PAUSE));
            drain(&mut self.child_ended);
        }
    }
}
