//! The warden of one run: a fork of the guardian between it and the run's first process.
//!
//! It is a child subreaper, so that whatever a plugin starts stays below it, however it detaches: which
//! processes belong to a run is a question of descent alone. It reports what becomes of the first process,
//! collects all others, and ends with the last of them; its own end is the run's. If the guardian is gone it
//! kills what is below it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, set_child_subreaper, set_parent_process_death_signal, setsid,
    wait,
};

use super::super::confine::{PreparedConfinement, StepError};
use super::super::packet::Report;
use super::super::process_table::{WARDEN_NAME, signal_process, tree};
use super::super::raw;
use super::super::spawner::{AFTER_EXTRA_FDS, LaunchSpec};
use super::sweep::{SWEEP_MAX, SWEEP_PAUSE, drain};

/// What a warden needs of the guardian.
pub(super) struct WardenTask {
    pub(super) id: u64,
    pub(super) spec: LaunchSpec,
    /// Standard input, output and error of the program.
    pub(super) streams: [OwnedFd; 3],
    pub(super) extra: Vec<OwnedFd>,
}

/// Becomes the warden: to be called right after the fork. `reports` leads to the guardian.
pub(super) fn become_warden(task: WardenTask, reports: &OwnedFd) -> ! {
    let code = match Warden::set_up(&task, reports) {
        Ok(warden) => {
            warden.run(task);
            0
        }
        // The guardian takes an end without a report for a refusal.
        Err(_) => 1,
    };
    std::process::exit(code)
}

struct Warden<'a> {
    id: u64,
    reports: &'a OwnedFd,
    child_ended: std::fs::File,
}

impl<'a> Warden<'a> {
    fn set_up(task: &WardenTask, reports: &'a OwnedFd) -> io::Result<Self> {
        let mut kept: Vec<i32> = task.streams.iter().chain(&task.extra).map(AsRawFd::as_raw_fd).collect();
        kept.push(reports.as_raw_fd());
        raw::close_descriptors_but(AFTER_EXTRA_FDS, kept);
        set_child_subreaper(Some(getpid()))?;
        // Whoever was stopped could not see that the guardian is gone.
        set_parent_process_death_signal(Some(Signal::CONT))?;
        _ = rustix::thread::set_name(&std::ffi::CString::new(WARDEN_NAME).unwrap_or_default());
        Ok(Self { id: task.id, reports, child_ended: raw::block_all_and_watch_children()?.into() })
    }

    fn run(mut self, task: WardenTask) {
        let id = self.id;
        let leader = match launch(task) {
            Ok(leader) => leader,
            Err(StepError { step, source }) => {
                let (errno, step) = match source.raw_os_error() {
                    Some(errno) => (errno, step),
                    None => (0, format!("{step}: {source}")),
                };
                return self.report(&Report::Refused { id, errno, step });
            }
        };
        self.report(&Report::Launched { id, pid: leader.as_raw_pid() });
        while self.collect(leader) {
            if self.guardian_is_gone() {
                return self.end_everything(leader);
            }
            drain(&mut self.child_ended);
        }
    }

    /// Collects what has ended. `false` if nothing is left.
    fn collect(&self, leader: Pid) -> bool {
        let id = self.id;
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == leader => self.report(&match status.terminating_signal() {
                    Some(signal) => Report::ExitedSignal { id, signal },
                    None => Report::ExitedCode { id, code: status.exit_status().unwrap_or(0) },
                }),
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Waits until a child has ended, or the guardian.
    fn guardian_is_gone(&self) -> bool {
        // Nothing is read from the guardian; its end shows without being asked for.
        let mut fds =
            [PollFd::new(&self.child_ended, PollFlags::IN), PollFd::new(self.reports, PollFlags::empty())];
        poll(&mut fds, None).is_ok() && !fds[1].revents().is_empty()
    }

    fn end_everything(&mut self, leader: Pid) {
        let begun = Instant::now();
        while self.collect(leader) && begun.elapsed() < SWEEP_MAX {
            let this = getpid().as_raw_pid();
            for process in tree(this).iter().filter(|process| process.pid != this) {
                signal_process(process, Signal::KILL);
            }
            let pause = Timespec::try_from(SWEEP_PAUSE).ok();
            _ = poll(&mut [PollFd::new(&self.child_ended, PollFlags::IN)], pause.as_ref());
            drain(&mut self.child_ended);
        }
    }

    /// A send that fails means that the guardian is gone, which the next wait finds out.
    fn report(&self, report: &Report) {
        while send(self.reports, &report.encode(), SendFlags::NOSIGNAL) == Err(rustix::io::Errno::INTR) {}
    }
}

/// Starts the program, and closes here what was meant for it.
fn launch(task: WardenTask) -> Result<Pid, StepError> {
    let WardenTask { spec, streams: [stdin, stdout, stderr], extra, .. } = task;
    let mut command = Command::new(&spec.program);
    if let Some((name, rest)) = spec.argv.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear().envs(spec.environment.iter().map(|(n, v)| (n, v)));
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let warden = getpid();
    let (confinement, failed_step) = PreparedConfinement::new(&spec.confinement, &mut command)?;
    raw::prepare_child(&mut command, extra, move || {
        setsid()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The warden may have died before the signal was armed.
        if getppid() != Some(warden) {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        confinement.apply()
    });
    let child = command.spawn().map_err(|source| StepError { step: failed_step.name(), source })?;
    Pid::from_raw(child.id().cast_signed())
        .ok_or_else(|| StepError { step: String::new(), source: io::ErrorKind::InvalidData.into() })
}
