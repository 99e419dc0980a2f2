//! Asking the system something that may never be answered.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What `work` comes to, done on a thread of its own; none if that takes longer than `patience` or there is
/// no thread to be had. Nothing can call off a system call on a dead mount: the thread ends when that does.
pub fn within<T: Send + 'static>(
    patience: Duration,
    thread_name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (answer, answered) = mpsc::sync_channel(1);
    let asking = thread::Builder::new().name(thread_name.to_owned()).spawn(move || {
        // Nobody may be waiting any more.
        _ = answer.send(work());
    });
    asking.ok()?;
    answered.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_answer_is_not_waited_for() {
        assert_eq!(within(Duration::from_secs(60), "quick", || 7), Some(7));
        let (release, held) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(1), "stuck", move || held.recv().is_ok()), None);
        drop(release);
    }
}
