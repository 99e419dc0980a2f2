//! How much memory loads may take at once.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Longest a lookup waits for others' loads to end. Then it loads as much as there is room for, even if that
/// is nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// For how long a lookup that does not fit is passed by smaller ones that do. After that they wait behind it.
const YIELD_TIME: Duration = Duration::from_secs(1);

/// Share of the budget that loads which nobody waits for any more may hold beside it. What is beyond counts
/// as loading still.
const ASIDE_SHARE: u64 = 2;

/// Bytes that may be loading. Who asks first comes first, but what is small need not wait behind what is
/// large for a while.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_max: u64,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: u64,
    /// Held by loads that were given up.
    aside: u64,
    waiting: VecDeque<Waiting>,
    asked_total: u64,
    shortened_chunks: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    since: Instant,
}

/// Leave to load so many chunks, as long as it is held.
#[derive(Debug)]
pub(super) struct Grant<'b> {
    pub(super) chunks: usize,
    bytes: u64,
    aside: u64,
    budget: &'b Budget,
}

impl Grant<'_> {
    /// Makes way for others: `arrived` bytes are not loading any more, and the rest is not waited for. Its
    /// memory is in use until the adapter lets go of it, which one that hangs does not soon.
    pub(super) fn give_up(&mut self, arrived: u64) {
        let mut state = self.budget.state();
        let room = (self.budget.bytes_max / ASIDE_SHARE).saturating_sub(state.aside);
        let arrived = arrived.min(self.bytes);
        let aside = (self.bytes - arrived).min(room);
        state.taken -= arrived + aside;
        state.aside += aside;
        self.bytes -= arrived + aside;
        self.aside += aside;
        drop(state);
        self.budget.changed.notify_waiters();
    }
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        if self.bytes + self.aside > 0 {
            let mut state = self.budget.state();
            state.taken -= self.bytes;
            state.aside -= self.aside;
            drop(state);
            self.budget.changed.notify_waiters();
        }
    }
}

/// A place among those that wait.
struct Queued<'b> {
    number: u64,
    budget: &'b Budget,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.budget.state().waiting.retain(|waiting| waiting.number != self.number);
        self.budget.changed.notify_waiters();
    }
}

impl Budget {
    /// A budget of so many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, state: Mutex::default(), changed: Notify::new() }
    }

    /// Asks to load chunks of these sizes: all of them, or as many of the first ones as the budget ever or,
    /// after a wait, now allows.
    pub(super) async fn take(&self, chunk_bytes: &[u64]) -> Grant<'_> {
        let (chunks, bytes) = fitting(chunk_bytes, self.bytes_max);
        let waited = tokio::time::timeout(PATIENCE, self.turn(bytes)).await;
        let mut state = self.state();
        let (chunks, bytes) = match waited {
            Ok(()) => (chunks, bytes),
            Err(_) => {
                let (chunks, bytes) = fitting(&chunk_bytes[..chunks], self.bytes_max - state.taken);
                state.taken += bytes;
                (chunks, bytes)
            }
        };
        state.shortened_chunks += (chunk_bytes.len() - chunks) as u64;
        Grant { chunks, bytes, aside: 0, budget: self }
    }

    /// Waits until so many bytes are free and nobody has waited too long before, and takes them.
    async fn turn(&self, bytes: u64) {
        let queued = self.queue();
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                let now = Instant::now();
                let mut before = state.waiting.iter().take_while(|waiting| waiting.number < queued.number);
                let is_next = before.all(|waiting| now.duration_since(waiting.since) < YIELD_TIME);
                if bytes == 0 || (is_next && state.taken + bytes <= self.bytes_max) {
                    state.taken += bytes;
                    return;
                }
            }
            changed.await;
        }
    }

    fn queue(&self) -> Queued<'_> {
        let mut state = self.state();
        state.asked_total += 1;
        let number = state.asked_total;
        state.waiting.push_back(Waiting { number, since: Instant::now() });
        Queued { number, budget: self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most that may be loading.
    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// What is loading, waited for or not.
    pub(super) fn bytes_taken(&self) -> u64 {
        let state = self.state();
        state.taken + state.aside
    }

    /// Chunks that lookups did without, because there was no room to load them.
    pub(super) fn shortened_chunks(&self) -> u64 {
        self.state().shortened_chunks
    }
}

/// How many of the first chunks fit into so many bytes, and how many they take.
fn fitting(chunk_bytes: &[u64], bytes_max: u64) -> (usize, u64) {
    let mut total = 0_u64;
    let fits = |bytes: &&u64| match total.checked_add(**bytes).filter(|total| *total <= bytes_max) {
        Some(sum) => {
            total = sum;
            true
        }
        None => false,
    };
    let chunks = chunk_bytes.iter().take_while(fits).count();
    (chunks, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: u64 = 64 << 10;

    /// What a task that does not wait comes to at once.
    macro_rules! at_once {
        ($call:expr) => {
            tokio::time::timeout(Duration::ZERO, $call).await
        };
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_fits_is_cut() {
        let budget = Budget::new(4 * UNIT);
        let first = budget.take(&[UNIT; 6]).await;
        assert_eq!((first.chunks, budget.shortened_chunks(), budget.bytes_taken()), (4, 2, 4 * UNIT));
        drop(first);
        assert_eq!(budget.bytes_taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn small_ones_pass_a_large_one_for_a_while_and_then_wait_behind_it() {
        let budget = Budget::new(4 * UNIT);
        let held = budget.take(&[UNIT; 2]).await;
        let large = async {
            let large = budget.take(&[UNIT; 4]).await;
            large.chunks
        };
        let others = async {
            tokio::task::yield_now().await;
            let small = at_once!(budget.take(&[UNIT])).expect("there is room beside the one that waits");
            drop(small);
            tokio::time::sleep(YIELD_TIME).await;
            assert!(at_once!(budget.take(&[UNIT])).is_err(), "the large one has waited long enough");
            drop(held);
        };
        let (chunks, ()) = tokio::join!(large, others);
        assert_eq!((chunks, budget.shortened_chunks(), budget.bytes_taken()), (4, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn after_its_patience_a_lookup_takes_what_there_is() {
        let budget = Budget::new(4 * UNIT);
        let held = budget.take(&[UNIT; 3]).await;
        let late = budget.take(&[UNIT; 2]).await;
        assert_eq!((late.chunks, budget.shortened_chunks()), (1, 1));
        let none = budget.take(&[UNIT]).await;
        assert_eq!((none.chunks, budget.shortened_chunks()), (0, 2));
        drop((held, late, none));
        assert_eq!(budget.bytes_taken(), 0);
    }

    #[tokio::test]
    async fn loads_that_were_given_up_make_way_for_others_up_to_a_limit() {
        let budget = Budget::new(4 * UNIT);
        let mut stuck = budget.take(&[UNIT; 4]).await;
        stuck.give_up(UNIT);
        assert_eq!(budget.bytes_taken(), 3 * UNIT, "one of them arrived");
        let other = at_once!(budget.take(&[UNIT; 3])).expect("two are set aside");
        assert_eq!((other.chunks, budget.bytes_taken()), (3, 6 * UNIT));
        drop(other);
        let mut second = at_once!(budget.take(&[UNIT; 3])).unwrap();
        second.give_up(0);
        assert!(at_once!(budget.take(&[UNIT])).is_err(), "no more is set aside");
        drop((stuck, second));
        assert_eq!(budget.bytes_taken(), 0);
        assert_eq!(at_once!(budget.take(&[UNIT; 4])).unwrap().chunks, 4);
    }

    #[tokio::test]
    async fn nothing_to_load_waits_for_nothing() {
        let budget = Budget::new(1);
        let _all = budget.take(&[1]).await;
        assert_eq!(budget.take(&[]).await.chunks, 0);
        assert_eq!(budget.take(&[UNIT]).await.chunks, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_behind_who_gave_up() {
        let budget = Budget::new(4 * UNIT);
        let held = budget.take(&[UNIT; 2]).await;
        let large = tokio::time::timeout(2 * YIELD_TIME, budget.take(&[UNIT; 4]));
        let behind = async {
            tokio::time::sleep(YIELD_TIME).await;
            let start = Instant::now();
            drop(budget.take(&[UNIT]).await);
            start.elapsed()
        };
        let (given_up, waited) = tokio::join!(large, behind);
        assert!(given_up.is_err());
        assert_eq!(waited, YIELD_TIME, "who is behind goes on at once");
        assert!(at_once!(budget.take(&[UNIT])).is_ok());
        assert!(budget.state().waiting.is_empty());
        drop(held);
    }
}
