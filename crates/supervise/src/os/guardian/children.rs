//! The guardian's runs: one warden each, and below it everything that belongs to the run.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::process::{Pid, Signal, WaitOptions, wait};

use super::super::packet::{PACKET_MAX_BYTES, Report, STANDARD_FDS};
use super::super::process_table::{Process, children, process_table, signal_process, tree};
use super::super::{handover, raw};
use super::warden::{WardenTask, become_warden};

/// Looks at a run's processes for one signal: each finds what was forked during the one before.
const LOOKS_MAX: usize = 16;

/// One run.
struct Run {
    id: u64,
    warden: Pid,
    /// Whether the guardian has been told that it runs, or does not.
    answered: bool,
}

/// All runs that may have processes.
pub(super) struct Children {
    runs: Vec<Run>,
    /// Runs whose warden was killed, so that their processes are nobody's.
    orphaned: Vec<u64>,
    this: Pid,
    /// Where wardens report.
    reports: OwnedFd,
    /// The other end, which each of them inherits.
    wardens_end: OwnedFd,
}

impl Children {
    pub(super) fn new() -> io::Result<Self> {
        let (reports, wardens_end) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&reports, true)?;
        let this = rustix::process::getpid();
        Ok(Self { runs: Vec::new(), orphaned: Vec::new(), this, reports, wardens_end })
    }

    /// Readable when a warden has reported something.
    pub(super) fn reports(&self) -> &OwnedFd {
        &self.reports
    }

    /// Whether processes are left that only the guardian can end.
    pub(super) fn has_orphans(&self) -> bool {
        !self.orphaned.is_empty()
    }

    /// Starts a program from the descriptors that came with its request. Its warden reports how that went.
    pub(super) fn launch(&mut self, id: u64, mut fds: Vec<OwnedFd>) -> io::Result<()> {
        let extra = fds.split_off(fds.len().min(STANDARD_FDS));
        let Ok([description, stdin, stdout, stderr]) = <[OwnedFd; STANDARD_FDS]>::try_from(fds) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let spec = handover::from_memory_file(description)?;
        let task = WardenTask { id, spec, streams: [stdin, stdout, stderr], extra };
        match raw::fork()? {
            None => become_warden(task, &self.wardens_end),
            Some(warden) => self.runs.push(Run { id, warden, answered: false }),
        }
        Ok(())
    }

    /// Sends `signal` to every process of the run; nothing happens if it is gone.
    pub(super) fn signal(&self, id: u64, signal: i32) {
        let Some(signal) = Signal::from_named_raw(signal) else { return };
        let Some(run) = self.runs.iter().find(|run| run.id == id) else { return };
        let warden = run.warden.as_raw_pid();
        let mut signalled = HashSet::new();
        for _ in 0..LOOKS_MAX {
            let below = tree(warden);
            let members = below.iter().filter(|process| process.pid != warden && !process.zombie);
            let new: Vec<&Process> = members.filter(|process| signalled.insert(process.identity())).collect();
            if new.is_empty() {
                break;
            }
            new.into_iter().for_each(|process| signal_process(process, signal));
        }
        if signal == Signal::KILL {
            // One that was stopped could not collect them. It is a child not yet collected, so the id is its
            // own.
            _ = rustix::process::kill_process(run.warden, Signal::CONT);
        }
    }

    /// Sends `signal` to everything below this process but the wardens. `false` if there is nothing.
    pub(super) fn signal_all(&self, signal: Signal) -> bool {
        let wardens: HashSet<i32> = self.runs.iter().map(|run| run.warden.as_raw_pid()).collect();
        let below = tree(self.this.as_raw_pid());
        let is_own = |process: &&Process| {
            process.pid != self.this.as_raw_pid() && !process.zombie && !wardens.contains(&process.pid)
        };
        let mut any = false;
        for process in below.iter().filter(is_own) {
            any = true;
            signal_process(process, signal);
        }
        any
    }

    /// Kills the wardens, whose runs are over.
    pub(super) fn kill_wardens(&self) {
        for run in &self.runs {
            _ = rustix::process::kill_process(run.warden, Signal::KILL);
        }
    }

    /// Collects every child that has ended and passes on what wardens reported. `false` if no child is left.
    pub(super) fn collect(&mut self, reports: &mut Vec<Report>) -> bool {
        let mut ended = Vec::new();
        let any =
            loop {
                match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                    // A warden that is stopped sees nothing of its run.
                    Ok(Some((pid, status))) if status.stopped() => {
                        _ = rustix::process::kill_process(pid, Signal::CONT);
                    }
                    Ok(Some((pid, status))) => {
                        ended.extend(self.runs.iter().position(|run| run.warden == pid).map(|index| {
                            (self.runs.swap_remove(index), status.terminating_signal().is_some())
                        }));
                    }
                    Ok(None) => break true,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => break false,
                }
            };
        // What a warden said last was said before it ended.
        self.take_reports(&mut ended, reports);
        for (Run { id, answered, .. }, killed) in ended {
            if !answered {
                reports.push(Report::Refused { id, errno: libc::ECHILD, step: "its warden".to_owned() });
            } else if killed {
                self.orphaned.push(id);
            } else {
                reports.push(Report::Gone { id });
            }
        }
        if self.has_orphans() && !self.end_strays() {
            reports.extend(self.orphaned.drain(..).map(|id| Report::Gone { id }));
        }
        any
    }

    fn take_reports(&mut self, ended: &mut [(Run, bool)], reports: &mut Vec<Report>) {
        let mut bytes = [0; PACKET_MAX_BYTES];
        loop {
            let length = match recv(&self.reports, &mut bytes[..], RecvFlags::empty()) {
                Ok((_, length)) if length > 0 => length,
                Err(rustix::io::Errno::INTR) => continue,
                _ => return,
            };
            let Some(report) = Report::decode(&bytes[..length]) else { continue };
            if let Report::Launched { id, .. } | Report::Refused { id, .. } = &report {
                let all = self.runs.iter_mut().chain(ended.iter_mut().map(|(run, _)| run));
                all.filter(|run| run.id == *id).for_each(|run| run.answered = true);
            }
            reports.push(report);
        }
    }

    /// Kills what was adopted from wardens that were killed. `false` if there is nothing.
    fn end_strays(&self) -> bool {
        let this = self.this.as_raw_pid();
        let own = children(this)
            .unwrap_or_else(|| process_table().iter().filter(|p| p.parent == this).map(|p| p.pid).collect());
        let is_warden = |pid: &i32| self.runs.iter().any(|run| run.warden.as_raw_pid() == *pid);
        let strays: Vec<i32> = own.into_iter().filter(|pid| !is_warden(pid)).collect();
        for process in strays.iter().flat_map(|stray| tree(*stray)) {
            signal_process(&process, Signal::KILL);
        }
        !strays.is_empty()
    }
}
