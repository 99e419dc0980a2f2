//! The only thread that touches the log's output.
//!
//! Whoever logs appends a line to a bounded buffer and goes on; a terminal or pipe that nobody reads can fill
//! the buffer but delay nobody. Lines that find no room are counted, and the count is written as a line of
//! its own as soon as there is room again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of finished lines that wait for the output before further lines are dropped.
pub const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest line; what is beyond is cut off.
pub const LINE_BYTES_MAX: usize = 256 * 1024;
/// Pause before a non-blocking output that is full is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Makes the line that tells how many were dropped.
pub(super) type DropReport = Box<dyn Fn(u64) -> String + Send>;

/// The writing end of the buffer.
#[derive(Clone)]
pub(super) struct LineQueue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    dropped_total: AtomicU64,
}

#[derive(Default)]
struct State {
    pending: Vec<u8>,
    dropped: u64,
    writer_sleeps: bool,
    writer_busy: bool,
    closed: bool,
}

impl LineQueue {
    /// Starts the writer thread. It ends once the queue is closed and empty.
    pub(super) fn start(output: Box<dyn Write + Send>, report: DropReport) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            dropped_total: AtomicU64::new(0),
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("larder-log".into()).spawn(move || run(&writer, output, &report))?;
        Ok(Self { shared })
    }

    /// Appends a finished line, or counts it when there is no room.
    pub(super) fn push(&self, line: &str) {
        let mut state = self.shared.lock();
        if state.pending.len() + line.len() > QUEUE_BYTES_MAX {
            state.dropped += 1;
            self.shared.dropped_total.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.pending.extend_from_slice(line.as_bytes());
        if state.writer_sleeps {
            self.shared.changed.notify_all();
        }
    }

    /// Lines dropped since the start.
    pub(super) fn dropped_lines(&self) -> u64 {
        self.shared.dropped_total.load(Ordering::Relaxed)
    }

    /// Waits until everything pushed so far is written, for `budget` at most. Returns whether it is.
    pub(super) fn flush(&self, budget: Duration) -> bool {
        let deadline = Instant::now() + budget;
        let mut state = self.shared.lock();
        while !state.pending.is_empty() || state.dropped > 0 || state.writer_busy {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Lets the writer thread end once the buffer is empty.
    pub(super) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// A panic while the lock is held leaves the buffer whole, so poisoning means nothing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(shared: &Shared, mut output: Box<dyn Write + Send>, report: &DropReport) {
    let mut batch = Vec::new();
    while let Some(dropped) = next_batch(shared, &mut batch) {
        let mut sound = write_whole(&mut *output, &batch).is_ok();
        if dropped > 0 {
            sound &= write_whole(&mut *output, report(dropped).as_bytes()).is_ok();
        }
        if !sound {
            // There is nowhere left to say it.
            shared.dropped_total.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Waits for lines and moves them into `batch`; `None` when there will be none.
fn next_batch(shared: &Shared, batch: &mut Vec<u8>) -> Option<u64> {
    batch.clear();
    let mut state = shared.lock();
    state.writer_busy = false;
    shared.changed.notify_all();
    while state.pending.is_empty() && state.dropped == 0 {
        if state.closed {
            return None;
        }
        state.writer_sleeps = true;
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.writer_sleeps = false;
    }
    state.writer_busy = true;
    std::mem::swap(&mut state.pending, batch);
    Some(std::mem::take(&mut state.dropped))
}

/// Like `write_all`, but an output that another process has made non-blocking is tried again.
fn write_whole(output: &mut dyn Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
            Err(error) => return Err(error),
        }
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// An output that takes nothing until it is told to, and then keeps everything.
    struct Gate {
        open: mpsc::Receiver<()>,
        is_open: bool,
        entered: mpsc::Sender<()>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.is_open {
                self.entered.send(()).unwrap();
                self.open.recv().unwrap();
                self.is_open = true;
            }
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_blocks_nobody_and_the_loss_is_said() {
        let (open, gate) = mpsc::channel();
        let (entered, arrivals) = mpsc::channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let output = Gate { open: gate, is_open: false, entered, taken: Arc::clone(&taken) };
        let queue =
            LineQueue::start(Box::new(output), Box::new(|count| format!("dropped {count}\n"))).unwrap();

        queue.push("first\n");
        arrivals.recv().unwrap(); // the writer is inside `write` now and stays there
        let line = format!("{}\n", "x".repeat(1023));
        let fitting = QUEUE_BYTES_MAX / line.len();
        for _ in 0..fitting + 5 {
            queue.push(&line);
        }
        assert_eq!(queue.dropped_lines(), 5);
        assert!(!queue.flush(Duration::from_millis(1)), "nothing can be flushed into a stuck output");

        open.send(()).unwrap();
        assert!(queue.flush(Duration::from_secs(60)));
        let taken = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert!(taken.starts_with("first\n") && taken.ends_with("dropped 5\n"));
        assert_eq!(taken.lines().count(), 1 + fitting + 1);
    }

    #[test]
    fn a_broken_output_is_survived() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue = LineQueue::start(Box::new(Broken), Box::new(|_| String::new())).unwrap();
        queue.push("lost\n");
        assert!(queue.flush(Duration::from_secs(60)));
        queue.push("lost too\n");
        assert!(queue.flush(Duration::from_secs(60)));
        assert_eq!(queue.dropped_lines(), 2);
    }
}
