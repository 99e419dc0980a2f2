//! Processes that belong to a drill, found by a variable that everything below it inherits.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

/// Pause between two looks at the process table.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The mark of one drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark(String);

impl Mark {
    /// The variable that carries it.
    pub(super) const VARIABLE: &'static str = "LARDER_PLUGIN_DRILL";

    /// A mark nobody else has.
    pub(super) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// The variable's value.
    pub(super) fn value(&self) -> &str {
        &self.0
    }

    /// Processes with this mark. One that has ended and waits to be reaped has none.
    pub(super) fn count(&self) -> usize {
        let entry = format!("{}={}", Self::VARIABLE, self.0);
        let Ok(listing) = fs::read_dir("/proc") else { return 0 };
        listing
            .filter_map(|process| fs::read(process.ok()?.path().join("environ")).ok())
            .filter(|environment| environment.split(|byte| *byte == 0).any(|have| have == entry.as_bytes()))
            .count()
    }

    /// Waits at most `limit` for so many processes; `false` if it takes longer.
    pub(super) async fn wait(&self, limit: Duration, wanted: impl Fn(usize) -> bool) -> bool {
        let met = async {
            while !wanted(self.count()) {
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(limit, met).await.is_ok()
    }
}

/// Keeps a process from doing anything. `false` if it cannot be reached.
pub(super) fn freeze(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, Signal::STOP).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[tokio::test]
    async fn children_are_found_by_their_mark() {
        let (mark, other) = (Mark::new(), Mark::new());
        let mut child = Command::new("cat")
            .env(Mark::VARIABLE, mark.value())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        assert!(mark.wait(Duration::from_secs(10), |count| count == 1).await);
        assert_eq!(other.count(), 0);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(mark.count(), 0);
    }
}
