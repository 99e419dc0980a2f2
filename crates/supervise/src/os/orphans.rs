//! What a guardian that died left behind, found and killed by the server.

use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpid, set_child_subreaper, waitpid};

use super::process_table::{Process, descendants, has_mark, process_table, signal_process};

/// Pause between two looks at the process table.
const PASS_PAUSE: Duration = Duration::from_millis(10);
/// Looks taken before the rest is left to its fate and named in the log.
const PASSES_MAX: usize = 200;

/// Finds the processes of one server's plugins without the help of a guardian.
#[derive(Debug)]
pub(super) struct Orphans {
    /// Beginning of the `NAME=value` string in their environment.
    mark: String,
    /// Whether every process below this one is one of them.
    sole_parent: bool,
}

impl Orphans {
    /// To be called before the guardian starts: with `sole_parent`, orphans come to this process from here
    /// on.
    pub(super) fn new(mark: String, sole_parent: bool) -> Self {
        let adopts = sole_parent && set_child_subreaper(Some(getpid())).is_ok();
        Self { mark, sole_parent: adopts }
    }

    /// Kills and collects until none is left.
    pub(super) async fn clear(&self) {
        for _ in 0..PASSES_MAX {
            if self.pass() == 0 {
                return;
            }
            tokio::time::sleep(PASS_PAUSE).await;
        }
        let left = self.pass();
        tracing::error!(target: "larder_supervise", "{left} processes of a dead plugin guardian cannot be killed");
    }

    /// One look at the table; returns how many were still there.
    fn pass(&self) -> usize {
        let table = process_table();
        let found: Vec<Process> = match self.sole_parent {
            true => descendants(&table, getpid().as_raw_pid()),
            false => {
                table.into_iter().filter(|p| !p.zombie && has_mark(p.pid, self.mark.as_bytes())).collect()
            }
        };
        for process in &found {
            let Some(pid) = Pid::from_raw(process.pid) else { continue };
            if process.zombie {
                // Ours only if it has been adopted; otherwise its parent collects it.
                _ = waitpid(Some(pid), WaitOptions::NOHANG);
            } else {
                signal_process(process, Signal::KILL);
            }
        }
        found.len()
    }
}
