//! The guardian's runs and every process that belongs to them.
//!
//! A process belongs to a run if it descends from the run's first process, shares its group or session, or carries the run's mark in the
//! environment it was started with; the last finds daemons that cut all other ties. What belongs to none still ends with the guardian.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{
    Pid, Signal, WaitOptions, getppid, kill_process, kill_process_group, set_parent_process_death_signal,
    setsid, test_kill_process_group, wait,
};

use super::super::confine::Prepared;
use super::super::handover;
use super::super::packet::Report;
use super::super::process_table::{Process, children, descendants, marked, process_table, tree};
use super::super::raw;
use crate::os::MARK_NAME;
use crate::spawner::LaunchSpec;

/// One run.
struct Run {
    id: u64,
    /// Id of the first process, its group and its session at once.
    leader: Pid,
    leader_ended: bool,
    /// Whether it was told to end, so that its processes are watched for.
    stopping: bool,
    /// `NAME=value` in the environment of its processes.
    mark: Vec<u8>,
}

/// All runs that may have processes.
pub(super) struct Children {
    runs: Vec<Run>,
    this: Pid,
}

impl Children {
    pub(super) fn new() -> Self {
        Self { runs: Vec::new(), this: rustix::process::getpid() }
    }

    pub(super) fn any_stopping(&self) -> bool {
        self.runs.iter().any(|run| run.stopping)
    }

    /// Starts a program from the descriptors that came with its request.
    pub(super) fn launch(&mut self, id: u64, mut fds: Vec<OwnedFd>) -> io::Result<i32> {
        let extra = fds.split_off(fds.len().min(super::STANDARD_FDS));
        let Ok([description, stdin, stdout, stderr]) = <[OwnedFd; super::STANDARD_FDS]>::try_from(fds) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let spec = handover::from_memory_file(description)?;
        let mut command = Command::new(&spec.program);
        if let Some((name, rest)) = spec.argv.split_first() {
            command.arg0(name).args(rest);
        }
        command.env_clear().envs(spec.environment.iter().map(|(n, v)| (n, v)));
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let guardian = self.this;
        let confinement = Prepared::new(&spec.confinement, &mut command)?;
        raw::prepare_child(&mut command, extra, move || {
            setsid()?;
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The guardian may have died before the signal was armed.
            if getppid() != Some(guardian) {
                return Err(io::Error::from_raw_os_error(libc::EPIPE));
            }
            confinement.apply()
        });
        let child = command.spawn()?;
        let pid = child.id().cast_signed();
        let leader = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
        self.runs.push(Run { id, leader, leader_ended: false, stopping: false, mark: mark_of(&spec) });
        Ok(pid)
    }

    /// Sends `signal` to every process of the run; nothing happens if it is gone.
    pub(super) fn signal(&mut self, id: u64, signal: i32) {
        let Some(signal) = Signal::from_named_raw(signal) else { return };
        let orphans = self.orphans();
        let Some(run) = self.runs.iter_mut().find(|run| run.id == id) else { return };
        run.stopping = true;
        let leader = run.leader.as_raw_pid();
        let mut members = if run.leader_ended { Vec::new() } else { tree(leader) };
        for orphan in orphans {
            let below = tree(orphan);
            members.extend(below.iter().filter(|p| belongs(p, run, &below)));
        }
        let outside: Vec<Pid> =
            members.iter().filter(|p| p.group != leader).filter_map(|p| Pid::from_raw(p.pid)).collect();
        // The group in one call, so that none of it can fork away from the signal. An error means that it is empty.
        _ = kill_process_group(run.leader, signal);
        for pid in outside {
            _ = kill_process(pid, signal);
        }
    }

    /// Children that were adopted: their parents ended before them.
    fn orphans(&self) -> Vec<i32> {
        let this = self.this.as_raw_pid();
        let all = children(this)
            .unwrap_or_else(|| process_table().iter().filter(|p| p.parent == this).map(|p| p.pid).collect());
        let is_leader =
            |pid: &i32| self.runs.iter().any(|run| !run.leader_ended && run.leader.as_raw_pid() == *pid);
        all.into_iter().filter(|pid| !is_leader(pid)).collect()
    }

    /// Sends `signal` to everything below this process.
    pub(super) fn signal_all(&self, signal: Signal) {
        for process in descendants(&process_table(), self.this.as_raw_pid()) {
            if let Some(pid) = Pid::from_raw(process.pid).filter(|_| !process.zombie) {
                _ = kill_process(pid, signal);
            }
        }
    }

    /// Collects every child that has ended, adopted ones included. `false` if no child is left.
    pub(super) fn reap(&mut self, reports: &mut Vec<Report>) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let ended = self.runs.iter_mut().find(|run| run.leader == pid && !run.leader_ended);
                    if let Some(run) = ended {
                        run.leader_ended = true;
                        let id = run.id;
                        reports.push(match status.terminating_signal() {
                            Some(signal) => Report::ExitedSignal { id, signal },
                            None => Report::ExitedCode { id, code: status.exit_status().unwrap_or(0) },
                        });
                    }
                }
                Ok(None) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Drops the runs of which no process is left and reports them.
    pub(super) fn find_empty(&mut self, reports: &mut Vec<Report>) {
        if self.runs.iter().all(|run| !run.leader_ended) {
            return;
        }
        // While every child is the first process of a run, nothing has lost its run.
        let strays = self.orphans();
        let mut below = None;
        self.runs.retain(|run| {
            if !run.leader_ended || test_kill_process_group(run.leader).is_ok() {
                return true;
            }
            let below: &mut Vec<Process> =
                below.get_or_insert_with(|| strays.iter().flat_map(|orphan| tree(*orphan)).collect());
            let occupied = below.iter().any(|p| !p.zombie && belongs(p, run, below));
            if !occupied {
                reports.push(Report::Gone { id: run.id });
            }
            occupied
        });
    }
}

fn mark_of(spec: &LaunchSpec) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let value =
        spec.environment.iter().find(|(name, _)| name == MARK_NAME).map(|(_, value)| value.as_bytes());
    [MARK_NAME.as_bytes(), b"=", value.unwrap_or_default()].concat()
}

/// Whether `process`, or an ancestor of it among `below`, is part of the run.
fn belongs(process: &Process, run: &Run, below: &[Process]) -> bool {
    let leader = run.leader.as_raw_pid();
    let mut current = *process;
    // As many steps as there are processes, in case the table, read while it changed, has a loop.
    for _ in 0..=below.len() {
        let own = current.pid == leader || current.group == leader || current.session == leader;
        if own || marked(current.pid, &run.mark) {
            return true;
        }
        match below.iter().find(|p| p.pid == current.parent) {
            Some(parent) => current = *parent,
            None => return false,
        }
    }
    false
}
