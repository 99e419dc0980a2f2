//! Threads that do blocking work for adapters, and the way their answers come back to async callers.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use crate::adapter::KeyResult;
use crate::error::{Busy, Error, Failure, FailureKind};
use crate::mutex::lock;

/// What a thread is given its own context for (a connection, say).
type Work<C> = Box<dyn FnOnce(&mut C) + Send>;
/// Whether somebody waits for the outcome of some work.
type Wanted = Box<dyn Fn() -> bool + Send>;

/// Threads that may be stuck at once, beyond those that work. With so many the queue stands still until one
/// of them returns.
const STUCK_MAX: usize = 64;
/// Time a job that nobody waits for may go on until its thread counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// A fixed number of named threads behind one bounded queue. Each owns a context nobody else touches.
///
/// A thread that goes on with a job although its caller gave up, in a system call that does not return,
/// counts as stuck: another takes its place, and it ends when the call does.
pub(crate) struct Workers<C> {
    queue: Arc<Queue<C>>,
}

struct Queue<C> {
    name: String,
    state: Mutex<QueueState<C>>,
    ready: Condvar,
    jobs_max: usize,
    /// Threads with a seat.
    seated: watch::Sender<usize>,
    context: Box<dyn Fn() -> C + Send + Sync>,
}

struct QueueState<C> {
    jobs: VecDeque<Job<C>>,
    /// The threads that are counted on, by number, with what they are at.
    seats: HashMap<usize, Option<Running>>,
    threads_started: usize,
    stuck: usize,
    is_closed: bool,
}

struct Job<C> {
    work: Work<C>,
    is_wanted: Wanted,
}

struct Running {
    since: Instant,
    is_wanted: Wanted,
}

impl Running {
    fn is_stuck(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= STUCK_AFTER && !(self.is_wanted)()
    }
}

impl<C: Send + 'static> Workers<C> {
    /// Starts threads, each with a context of its own.
    pub(crate) fn start(
        name: &str,
        jobs_max: usize,
        threads: usize,
        context: impl Fn() -> C + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let state = QueueState {
            jobs: VecDeque::new(),
            seats: HashMap::new(),
            threads_started: 0,
            stuck: 0,
            is_closed: false,
        };
        let queue = Arc::new(Queue {
            name: name.to_owned(),
            state: Mutex::new(state),
            ready: Condvar::new(),
            jobs_max,
            seated: watch::Sender::new(0),
            context: Box::new(context),
        });
        let workers = Self { queue };
        for _ in 0..threads {
            workers.queue.add_thread(&mut lock(&workers.queue.state))?;
        }
        Ok(workers)
    }

    /// Queues work, or says why not.
    pub(crate) fn submit(&self, work: Work<C>, is_wanted: Wanted) -> Result<(), Error> {
        let mut state = lock(&self.queue.state);
        if state.is_closed {
            return Err(Failure::closed().into());
        }
        self.queue.replace_stuck(&mut state);
        if state.jobs.len() >= self.queue.jobs_max {
            return Err(Error::Busy(Busy::Limit("queued jobs")));
        }
        state.jobs.push_back(Job { work, is_wanted });
        drop(state);
        self.queue.ready.notify_one();
        Ok(())
    }

    /// Queues work that owes an answer. Refused work answers at once with the reason.
    pub(crate) fn submit_for<T, F>(&self, slots: Vec<Slot<T>>, work: F)
    where
        T: Send + 'static,
        F: FnOnce(&mut C, Vec<Slot<T>>) + Send + 'static,
    {
        let is_wanted: Wanted = match slots.first() {
            Some(slot) => slot.watch(),
            None => return,
        };
        // The slots travel in a shared cell so that they can be taken back when the queue refuses the job.
        let cell = Arc::new(Mutex::new(slots));
        let taken = Arc::clone(&cell);
        let work: Work<C> = Box::new(move |context| work(context, take(&taken)));
        if let Err(error) = self.submit(work, is_wanted) {
            for slot in take(&cell) {
                slot.report(Err(error.clone()));
            }
        }
    }

    /// Jobs waiting for a thread.
    pub(crate) fn queued(&self) -> usize {
        lock(&self.queue.state).jobs.len()
    }

    /// Threads in a call that does not return, for a caller that gave up.
    pub(crate) fn stuck(&self) -> usize {
        lock(&self.queue.state).stuck
    }

    /// Drops queued jobs, lets running ones end and waits for the threads, except for those that are stuck.
    pub(crate) async fn close(&self) {
        self.stop();
        let mut seated = self.queue.seated.subscribe();
        loop {
            let all_gone = seated.wait_for(|seated| *seated == 0);
            if tokio::time::timeout(STUCK_AFTER, all_gone).await.is_ok() {
                return;
            }
            self.queue.replace_stuck(&mut lock(&self.queue.state));
        }
    }

    fn stop(&self) {
        let dropped = {
            let mut state = lock(&self.queue.state);
            state.is_closed = true;
            std::mem::take(&mut state.jobs)
        };
        self.queue.ready.notify_all();
        drop(dropped);
    }
}

fn take<T>(cell: &Mutex<Vec<Slot<T>>>) -> Vec<Slot<T>> {
    std::mem::take(&mut *lock(cell))
}

impl<C: Send + 'static> Queue<C> {
    fn add_thread(self: &Arc<Self>, state: &mut QueueState<C>) -> io::Result<()> {
        let (number, queue) = (state.threads_started, Arc::clone(self));
        thread::Builder::new().name(format!("{}-{number}", self.name)).spawn(move || {
            let mut context = (queue.context)();
            while let Some(work) = queue.next(number) {
                // A job that panics fails alone: its reply slot reports when it is dropped by the unwinding.
                _ = catch_unwind(AssertUnwindSafe(|| work(&mut context)));
            }
        })?;
        state.threads_started += 1;
        state.seats.insert(number, None);
        self.seated.send_replace(state.seats.len());
        Ok(())
    }

    /// The next job for a thread; none when it shall end.
    fn next(&self, number: usize) -> Option<Work<C>> {
        let mut state = lock(&self.state);
        loop {
            let QueueState { jobs, seats, stuck, is_closed, .. } = &mut *state;
            let Some(seat) = seats.get_mut(&number) else {
                // Another thread has its place.
                *stuck -= 1;
                return None;
            };
            if let Some(Job { work, is_wanted }) = jobs.pop_front() {
                *seat = Some(Running { since: Instant::now(), is_wanted });
                return Some(work);
            }
            *seat = None;
            if *is_closed {
                seats.remove(&number);
                self.seated.send_replace(seats.len());
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives the places of stuck threads to others.
    fn replace_stuck(self: &Arc<Self>, state: &mut QueueState<C>) {
        let now = Instant::now();
        let is_stuck = |seat: &Option<Running>| seat.as_ref().is_some_and(|running| running.is_stuck(now));
        let stuck: Vec<usize> =
            state.seats.iter().filter(|(_, seat)| is_stuck(seat)).map(|(number, _)| *number).collect();
        for number in stuck {
            if state.stuck >= STUCK_MAX || (!state.is_closed && self.add_thread(state).is_err()) {
                return;
            }
            tracing::warn!("thread `{}-{number}` is stuck; another takes its place", self.name);
            state.seats.remove(&number);
            state.stuck += 1;
            self.seated.send_replace(state.seats.len());
        }
    }
}

impl<C> Drop for Workers<C> {
    fn drop(&mut self) {
        lock(&self.queue.state).is_closed = true;
        self.queue.ready.notify_all();
    }
}

impl<C> std::fmt::Debug for Workers<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").field("name", &self.queue.name).finish_non_exhaustive()
    }
}

/// A batch whose keys are answered one by one, by any thread, in any order.
pub(crate) struct Batch<T> {
    answer: oneshot::Receiver<Vec<KeyResult<T>>>,
    count: usize,
}

/// The duty to answer for one key. Dropped without an answer, it reports that the work ended early.
pub(crate) struct Slot<T> {
    state: Arc<Mutex<BatchState<T>>>,
    index: usize,
    is_reported: bool,
}

struct BatchState<T> {
    results: Vec<Option<KeyResult<T>>>,
    missing: usize,
    answer: Option<oneshot::Sender<Vec<KeyResult<T>>>>,
}

impl<T> Batch<T> {
    /// A batch and its slots, in key order.
    pub(crate) fn new(count: usize) -> (Self, Vec<Slot<T>>) {
        let (sender, answer) = oneshot::channel();
        let results = (0..count).map(|_| None).collect();
        let state = Arc::new(Mutex::new(BatchState { results, missing: count, answer: Some(sender) }));
        let slots = (0..count)
            .map(|index| Slot { state: Arc::clone(&state), index, is_reported: false })
            .collect::<Vec<_>>();
        (Self { answer, count }, slots)
    }

    /// Waits for every key.
    pub(crate) async fn wait(self) -> Vec<KeyResult<T>> {
        if self.count == 0 {
            return Vec::new();
        }
        match self.answer.await {
            Ok(results) => results,
            Err(_) => crate::adapter::all_failed(self.count, &unreported()),
        }
    }
}

impl<T> Slot<T> {
    /// Answers for this key.
    pub(crate) fn report(mut self, result: KeyResult<T>) {
        self.settle(result);
    }

    /// Whether somebody still waits; work nobody waits for need not start.
    pub(crate) fn is_wanted(&self) -> bool {
        is_wanted(&self.state)
    }

    /// Tells the same when the slot itself is elsewhere.
    fn watch(&self) -> Wanted
    where
        T: Send + 'static,
    {
        let state = Arc::clone(&self.state);
        Box::new(move || is_wanted(&state))
    }

    fn settle(&mut self, result: KeyResult<T>) {
        self.is_reported = true;
        let mut state = lock(&self.state);
        state.results[self.index] = Some(result);
        state.missing -= 1;
        if state.missing > 0 {
            return;
        }
        let results = std::mem::take(&mut state.results);
        if let Some(answer) = state.answer.take() {
            let results =
                results.into_iter().map(|result| result.unwrap_or_else(|| Err(unreported()))).collect();
            _ = answer.send(results);
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if !self.is_reported {
            self.settle(Err(unreported()));
        }
    }
}

fn is_wanted<T>(state: &Mutex<BatchState<T>>) -> bool {
    let state = lock(state);
    state.answer.as_ref().is_some_and(|answer| !answer.is_closed())
}

fn unreported() -> Error {
    Failure::permanent(FailureKind::Closed, "work ended before it was carried out").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_job_fails_alone() {
        let workers = Workers::start("test", 8, 1, || ()).unwrap();
        let (batch, slots) = Batch::new(2);
        let mut slots = slots.into_iter();
        let (first, second) = (slots.next().unwrap(), slots.next().unwrap());
        workers.submit_for(vec![first], |(), _slots| panic!("deliberate"));
        workers.submit_for(vec![second], |(), slots| slots.into_iter().for_each(|slot| slot.report(Ok(7))));
        let results = batch.wait().await;
        assert!(matches!(&results[0], Err(Error::Failed(f)) if f.kind == FailureKind::Closed));
        assert_eq!(results[1], Ok(7));
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_closing_answers_what_waits() {
        let workers = Workers::start("test", 1, 1, || ()).unwrap();
        let (started, is_started) = oneshot::channel();
        let (release, gate) = std::sync::mpsc::channel::<()>();
        workers
            .submit(
                Box::new(move |()| {
                    _ = started.send(());
                    _ = gate.recv();
                }),
                Box::new(|| true),
            )
            .unwrap();
        is_started.await.unwrap();
        let (batch, mut slots) = Batch::<u8>::new(1);
        let slot = slots.remove(0);
        assert!(slot.is_wanted());
        workers.submit_for(vec![slot], |(), slots| slots.into_iter().for_each(|slot| slot.report(Ok(1))));
        assert_eq!(workers.queued(), 1);
        let refused = workers.submit(Box::new(|()| ()), Box::new(|| true));
        assert_eq!(refused, Err(Error::Busy(Busy::Limit("queued jobs"))));
        workers.stop();
        assert!(matches!(batch.wait().await[0], Err(Error::Failed(_))));
        drop(release);
        workers.close().await;
        assert_eq!(workers.submit(Box::new(|()| ()), Box::new(|| true)), Err(Failure::closed().into()));
    }

    #[tokio::test]
    async fn an_abandoned_batch_is_not_wanted() {
        let (batch, slots) = Batch::<u8>::new(1);
        drop(batch);
        assert!(!slots[0].is_wanted());
        let (empty, _) = Batch::<u8>::new(0);
        assert!(empty.wait().await.is_empty());
    }

    #[tokio::test]
    async fn a_thread_that_does_not_return_to_a_caller_that_left_is_replaced() {
        let workers = Workers::start("test", 64, 1, || ()).unwrap();
        let mut gates = Vec::new();
        for stuck in 0..3 {
            let (gate, is_open) = std::sync::mpsc::channel::<()>();
            gates.push(gate);
            let (started, is_started) = oneshot::channel();
            let (left, slots) = Batch::<()>::new(1);
            workers.submit_for(slots, move |(), _slots| {
                _ = started.send(());
                _ = is_open.recv();
            });
            is_started.await.unwrap();
            drop(left);
            assert_eq!(works_within(&workers, Duration::from_secs(30)).await, Some(stuck + 1));
        }
        drop(gates);
        while workers.stuck() > 0 {
            tokio::task::yield_now().await;
        }
        workers.close().await;
    }

    /// Asks until an answer comes; returns the threads that are stuck then.
    async fn works_within(workers: &Workers<()>, limit: Duration) -> Option<usize> {
        let asking = async {
            loop {
                let (batch, slots) = Batch::new(1);
                workers.submit_for(slots, |(), slots| slots.into_iter().for_each(|slot| slot.report(Ok(()))));
                if tokio::time::timeout(Duration::from_millis(50), batch.wait()).await.is_ok() {
                    return workers.stuck();
                }
            }
        };
        tokio::time::timeout(limit, asking).await.ok()
    }

    #[tokio::test]
    async fn a_long_job_that_somebody_waits_for_keeps_its_thread_to_itself() {
        let workers = Workers::start("test", 64, 1, || ()).unwrap();
        let (gate, is_open) = std::sync::mpsc::channel::<()>();
        let (batch, slots) = Batch::new(1);
        workers.submit_for(slots, move |(), slots| {
            _ = is_open.recv();
            slots.into_iter().for_each(|slot| slot.report(Ok(())));
        });
        assert_eq!(works_within(&workers, STUCK_AFTER * 2).await, None, "it waits its turn");
        drop(gate);
        assert_eq!(batch.wait().await, [Ok(())]);
    }

    #[tokio::test]
    async fn closing_does_not_wait_for_a_thread_that_is_stuck() {
        let workers = Workers::start("test", 64, 1, || ()).unwrap();
        let (gate, is_open) = std::sync::mpsc::channel::<()>();
        let (left, slots) = Batch::<()>::new(1);
        workers.submit_for(slots, move |(), _slots| {
            _ = is_open.recv();
        });
        drop(left);
        workers.close().await;
        drop(gate);
    }
}
