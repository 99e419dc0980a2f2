//! Long-lived tasks: each has a name, is restarted when it fails, and is visible.

use crate::lock::lock;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Pause before a failed task runs again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// How bad it is when a task does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskLevel {
    /// The node is not ready without it.
    Critical,
    /// The node gets worse without it.
    High,
}

impl TaskLevel {
    /// The word status pages use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
        }
    }
}

/// One long-lived task and how it fares.
#[derive(Debug)]
pub struct Task {
    name: &'static str,
    level: TaskLevel,
    alive: AtomicBool,
    runs: AtomicU64,
    failures: AtomicU64,
    last_run_ms: AtomicU64,
    registered: Instant,
}

impl Task {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How bad its absence is.
    pub fn level(&self) -> TaskLevel {
        self.level
    }

    /// Whether it runs now; false while it waits for its restart, and before its start.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Rounds of work begun.
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Times it ended, which it never should.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Time since its last round began, if there was one.
    pub fn idle(&self) -> Option<Duration> {
        let last = Duration::from_millis(self.last_run_ms.load(Ordering::Relaxed));
        (self.runs() > 0).then(|| self.registered.elapsed().saturating_sub(last))
    }

    /// To be called by the task at the start of each round of work.
    pub fn count_run(&self) {
        let now = self.registered.elapsed().as_millis();
        self.last_run_ms.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.runs.fetch_add(1, Ordering::Relaxed);
    }

    /// To be called when a part of the task failed and was started anew by the task itself.
    pub fn count_part_failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn count_failure(&self) {
        self.alive.store(false, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

/// All tasks of a node.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Mutex<Vec<Arc<Task>>>>);

impl Tasks {
    /// Adds a task that [`Self::keep_running`] will run.
    #[must_use]
    pub fn register(&self, name: &'static str, level: TaskLevel) -> Arc<Task> {
        let task = Arc::new(Task {
            name,
            level,
            alive: AtomicBool::new(false),
            runs: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            last_run_ms: AtomicU64::new(0),
            registered: Instant::now(),
        });
        self.lock().push(Arc::clone(&task));
        task
    }

    /// All tasks, in order of registration.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Task>> {
        self.lock().clone()
    }

    /// Whether a task of this name runs.
    #[must_use]
    pub fn is_alive(&self, name: &str) -> bool {
        self.lock().iter().any(|task| task.name == name && task.is_alive())
    }

    /// Critical tasks that do not run.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let missing = |task: &&Arc<Task>| task.level == TaskLevel::Critical && !task.is_alive();
        self.lock().iter().filter(missing).map(|task| task.name).collect()
    }

    /// Runs a task for ever in a [`tokio::task::LocalSet`]: a panic or an end is counted, logged and followed
    /// by a restart.
    pub async fn keep_running<F>(task: Arc<Task>, mut start: impl FnMut(Arc<Task>) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        loop {
            task.alive.store(true, Ordering::Relaxed);
            let ended = tokio::task::spawn_local(start(Arc::clone(&task))).await;
            task.count_failure();
            let reason = ended.err().map_or("it ended".to_owned(), |error| error.to_string());
            tracing::error!("task `{}` stopped and will be restarted: {reason}", task.name);
            tokio::time::sleep(RESTART_DELAY).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Task>>> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_restarted_and_counted() {
        let tasks = Tasks::default();
        let task = tasks.register("t", TaskLevel::Critical);
        assert_eq!(tasks.missing(), ["t"]);
        let starts = Rc::new(Cell::new(0));
        let local = tokio::task::LocalSet::new();
        let counted = Rc::clone(&starts);
        local.spawn_local(Tasks::keep_running(Arc::clone(&task), move |task| {
            task.count_run();
            counted.set(counted.get() + 1);
            let first = counted.get() == 1;
            async move {
                assert!(!first, "the first run fails");
                std::future::pending::<()>().await;
            }
        }));
        local.run_until(tokio::time::sleep(RESTART_DELAY * 2)).await;
        assert_eq!((starts.get(), task.failures(), task.runs()), (2, 1, 2));
        assert!(tasks.missing().is_empty());
    }
}
