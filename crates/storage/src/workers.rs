//! Threads that do blocking work for adapters, and the way their answers come back to async callers.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::adapter::KeyResult;
use crate::error::{Busy, Error, Failure, FailureKind};

/// A job, given what its thread owns (a connection, say).
pub(crate) type Job<C> = Box<dyn FnOnce(&mut C) + Send>;

/// A fixed number of named threads behind one bounded queue. Each owns a context nobody else touches.
pub(crate) struct Workers<C> {
    queue: Arc<Queue<C>>,
    exits: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

struct Queue<C> {
    state: Mutex<QueueState<C>>,
    ready: Condvar,
    jobs_max: usize,
}

struct QueueState<C> {
    jobs: VecDeque<Job<C>>,
    is_closed: bool,
}

impl<C: 'static> Workers<C> {
    /// Starts `contexts.len()` threads.
    pub(crate) fn start(name: &str, jobs_max: usize, contexts: Vec<C>) -> io::Result<Self>
    where
        C: Send,
    {
        let state = QueueState { jobs: VecDeque::new(), is_closed: false };
        let queue = Arc::new(Queue { state: Mutex::new(state), ready: Condvar::new(), jobs_max });
        let (alive, exits) = mpsc::channel(1);
        let workers = Self { queue: queue.clone(), exits: tokio::sync::Mutex::new(exits) };
        for (index, mut context) in contexts.into_iter().enumerate() {
            let (queue, alive) = (queue.clone(), alive.clone());
            thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
                while let Some(job) = queue.next() {
                    // A job that panics fails alone: its reply slot reports when it is dropped by the unwinding.
                    let _ = catch_unwind(AssertUnwindSafe(|| job(&mut context)));
                }
                drop(context);
                drop(alive);
            })?;
        }
        Ok(workers)
    }

    /// Queues a job, or says why not.
    pub(crate) fn submit(&self, job: Job<C>) -> Result<(), Error> {
        let mut state = self.queue.lock();
        if state.is_closed {
            return Err(Failure::closed().into());
        }
        if state.jobs.len() >= self.queue.jobs_max {
            return Err(Error::Busy(Busy::Limit("queued jobs")));
        }
        state.jobs.push_back(job);
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
        // The slots travel in a shared cell so that they can be taken back when the queue refuses the job.
        let cell = Arc::new(Mutex::new(slots));
        let taken = cell.clone();
        let job: Job<C> = Box::new(move |context| work(context, take(&taken)));
        if let Err(error) = self.submit(job) {
            for slot in take(&cell) {
                slot.report(Err(error.clone()));
            }
        }
    }

    /// Jobs waiting for a thread.
    pub(crate) fn queued(&self) -> usize {
        self.queue.lock().jobs.len()
    }

    /// Drops queued jobs, lets running ones end and waits for the threads.
    pub(crate) async fn close(&self) {
        self.stop();
        // Every thread holds a sender until it ends; nothing is ever sent.
        let _ = self.exits.lock().await.recv().await;
    }

    fn stop(&self) {
        let dropped = {
            let mut state = self.queue.lock();
            state.is_closed = true;
            std::mem::take(&mut state.jobs)
        };
        self.queue.ready.notify_all();
        drop(dropped);
    }
}

fn take<T>(cell: &Mutex<Vec<Slot<T>>>) -> Vec<Slot<T>> {
    std::mem::take(&mut *cell.lock().unwrap_or_else(PoisonError::into_inner))
}

impl<C> Queue<C> {
    fn next(&self) -> Option<Job<C>> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Drop for Workers<C> {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.ready.notify_all();
    }
}

impl<C> std::fmt::Debug for Workers<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").field("queued", &self.queue.lock().jobs.len()).finish_non_exhaustive()
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
            .map(|index| Slot { state: state.clone(), index, is_reported: false })
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
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.answer.as_ref().is_some_and(|answer| !answer.is_closed())
    }

    fn settle(&mut self, result: KeyResult<T>) {
        self.is_reported = true;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.results[self.index] = Some(result);
        state.missing -= 1;
        if state.missing > 0 {
            return;
        }
        let results = std::mem::take(&mut state.results);
        if let Some(answer) = state.answer.take() {
            let results =
                results.into_iter().map(|result| result.unwrap_or_else(|| Err(unreported()))).collect();
            let _ = answer.send(results);
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

fn unreported() -> Error {
    Failure::permanent(FailureKind::Closed, "work ended before it was carried out").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_job_fails_alone() {
        let workers = Workers::start("test", 8, vec![()]).unwrap();
        let (batch, slots) = Batch::new(2);
        let mut slots = slots.into_iter();
        let (first, second) = (slots.next().unwrap(), slots.next().unwrap());
        workers
            .submit(Box::new(move |()| {
                let _slot = first;
                panic!("deliberate");
            }))
            .unwrap();
        workers.submit(Box::new(move |()| second.report(Ok(7)))).unwrap();
        let results = batch.wait().await;
        assert!(matches!(&results[0], Err(Error::Failed(f)) if f.kind == FailureKind::Closed));
        assert_eq!(results[1], Ok(7));
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_closing_answers_what_waits() {
        let workers = Workers::start("test", 1, vec![()]).unwrap();
        let (started, is_started) = oneshot::channel();
        let (release, gate) = std::sync::mpsc::channel::<()>();
        workers
            .submit(Box::new(move |()| {
                let _ = started.send(());
                let _ = gate.recv();
            }))
            .unwrap();
        is_started.await.unwrap();
        let (batch, mut slots) = Batch::<u8>::new(1);
        let slot = slots.remove(0);
        assert!(slot.is_wanted());
        workers.submit(Box::new(move |()| slot.report(Ok(1)))).unwrap();
        assert_eq!(workers.queued(), 1);
        let refused = workers.submit(Box::new(|()| ()));
        assert_eq!(refused, Err(Error::Busy(Busy::Limit("queued jobs"))));
        workers.stop();
        assert!(matches!(batch.wait().await[0], Err(Error::Failed(_))));
        drop(release);
        workers.close().await;
        assert_eq!(workers.submit(Box::new(|()| ())), Err(Failure::closed().into()));
    }

    #[tokio::test]
    async fn an_abandoned_batch_is_not_wanted() {
        let (batch, slots) = Batch::<u8>::new(1);
        drop(batch);
        assert!(!slots[0].is_wanted());
        let (empty, _) = Batch::<u8>::new(0);
        assert!(empty.wait().await.is_empty());
    }
}
