//! Whether an adapter answers, so that nobody waits for one that does not.
//!
//! A lookup waits for an adapter until it has been silent for the configured patience. From then on the
//! adapter is *late*: lookups ask it one at a time and wait for none of them, until an answer comes in time
//! again. What it answers late still warms L1.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

/// What an adapter may be late with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promptness {
    /// Saying what it holds.
    Lookup,
    /// Bringing it.
    Load,
}

impl Promptness {
    /// Both, in the order status pages list them.
    pub const ALL: [Self; 2] = [Self::Lookup, Self::Load];

    /// The label metrics use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Load => "load",
        }
    }
}

/// How one adapter fares with one of the two.
#[derive(Debug, Default)]
struct Record {
    is_late: AtomicBool,
    is_probing: AtomicBool,
    late_total: AtomicU64,
}

/// An adapter's signs of life.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Bumped whenever bytes are moved in a buffer that the adapter was lent.
    moves: AtomicU64,
    lookups: Record,
    loads: Record,
}

impl Pulse {
    /// Whether nobody waits for it at the moment.
    pub fn is_late(&self, with: Promptness) -> bool {
        self.record(with).is_late.load(Ordering::Relaxed)
    }

    /// Calls whose answer was no longer waited for.
    pub fn late_total(&self, with: Promptness) -> u64 {
        self.record(with).late_total.load(Ordering::Relaxed)
    }

    /// Notes that the adapter moves bytes.
    pub(super) fn beat(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Leave to call the adapter; none while it is late and is being asked already.
    pub(super) fn begin(self: &Arc<Self>, with: Promptness) -> Option<Turn> {
        let record = self.record(with);
        let is_awaited = !record.is_late.load(Ordering::Relaxed);
        if !is_awaited && record.is_probing.swap(true, Ordering::Relaxed) {
            return None;
        }
        let moves = self.moves.load(Ordering::Relaxed);
        let pulse = Arc::clone(self);
        Some(Turn { pulse, with, is_awaited, is_probe: !is_awaited, began: Instant::now(), moves })
    }

    fn record(&self, with: Promptness) -> &Record {
        match with {
            Promptness::Lookup => &self.lookups,
            Promptness::Load => &self.loads,
        }
    }
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Turn {
    pulse: Arc<Pulse>,
    with: Promptness,
    is_awaited: bool,
    is_probe: bool,
    began: Instant,
    moves: u64,
}

impl Turn {
    /// Whether the adapter is to be called late: it has not moved since the last look.
    fn is_silent(&mut self) -> bool {
        let moves = self.pulse.moves.load(Ordering::Relaxed);
        // Bytes on the move say nothing about a lookup.
        self.with == Promptness::Lookup || std::mem::replace(&mut self.moves, moves) == moves
    }

    fn give_up(&mut self) {
        self.is_awaited = false;
        let record = self.pulse.record(self.with);
        record.is_late.store(true, Ordering::Relaxed);
        record.late_total.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self, is_well: bool, patience: Duration) {
        if is_well && self.began.elapsed() < patience {
            self.pulse.record(self.with).is_late.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_probe {
            self.pulse.record(self.with).is_probing.store(false, Ordering::Relaxed);
        }
    }
}

/// What calls return, for the adapter's record.
pub(super) trait Answer: 'static {
    /// Whether the backend did its part, whatever it had to say.
    fn is_well(&self) -> bool;
}

/// Calls to several adapters at once. All of them are ended when this is dropped.
#[derive(Debug)]
pub(super) struct Calls<T> {
    running: JoinSet<T>,
    turns: HashMap<Id, Turn>,
    patience: Duration,
    /// When those that are silent by then are no longer waited for.
    look_at: Instant,
}

impl<T: Answer> Calls<T> {
    pub(super) fn new(patience: Duration) -> Self {
        Self { running: JoinSet::new(), turns: HashMap::new(), patience, look_at: Instant::now() + patience }
    }

    /// Begins one more.
    pub(super) fn add(&mut self, turn: Turn, call: impl Future<Output = T> + 'static) {
        self.look_at = Instant::now() + self.patience;
        let id = self.running.spawn_local(call).id();
        self.turns.insert(id, turn);
    }

    /// The next that is done, as long as one is waited for.
    pub(super) async fn next_awaited(&mut self) -> Option<T> {
        while self.turns.values().any(|turn| turn.is_awaited) {
            let look_at = self.look_at;
            tokio::select! {
                biased;
                answer = self.next() => return answer,
                () = tokio::time::sleep_until(look_at) => {
                    self.look_at = Instant::now() + self.patience;
                    let awaited = self.turns.values_mut().filter(|turn| turn.is_awaited);
                    awaited.filter_map(|turn| turn.is_silent().then_some(turn)).for_each(Turn::give_up);
                }
            }
        }
        None
    }

    /// The next that is done, waited for or not; none when all are.
    pub(super) async fn next(&mut self) -> Option<T> {
        loop {
            let (id, answer) = match self.running.join_next_with_id().await? {
                Ok((id, answer)) => (id, Some(answer)),
                Err(failed) => {
                    tracing::error!("a call to an adapter failed: {failed}");
                    (failed.id(), None)
                }
            };
            if let Some(turn) = self.turns.remove(&id) {
                turn.end(answer.as_ref().is_some_and(T::is_well), self.patience);
            }
            if answer.is_some() {
                return answer;
            }
        }
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    impl Answer for &'static str {
        fn is_well(&self) -> bool {
            *self != "failed"
        }
    }

    async fn after(seconds: u64, answer: &'static str) -> &'static str {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        answer
    }

    fn local<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        tokio::task::LocalSet::new().block_on(&runtime.unwrap(), test)
    }

    fn start(
        calls: &mut Calls<&'static str>,
        pulse: &Arc<Pulse>,
        with: Promptness,
        seconds: u64,
        answer: &'static str,
    ) {
        calls.add(pulse.begin(with).unwrap(), after(seconds, answer));
    }

    #[test]
    fn a_silent_adapter_is_waited_for_once_and_asked_one_call_at_a_time() {
        local(async {
            let (deaf, quick) = (Arc::new(Pulse::default()), Arc::new(Pulse::default()));
            let mut calls = Calls::new(PATIENCE);
            start(&mut calls, &deaf, Promptness::Lookup, 100, "late");
            start(&mut calls, &quick, Promptness::Lookup, 1, "quick");
            let began = Instant::now();
            assert_eq!(calls.next_awaited().await, Some("quick"));
            assert_eq!(calls.next_awaited().await, None);
            assert_eq!(began.elapsed(), PATIENCE);
            assert!(deaf.is_late(Promptness::Lookup) && !deaf.is_late(Promptness::Load));
            let mut second = Calls::new(PATIENCE);
            start(&mut second, &deaf, Promptness::Lookup, 100, "late");
            assert!(deaf.begin(Promptness::Lookup).is_none(), "it is being asked");
            assert_eq!(second.next_awaited().await, None);
            assert_eq!(began.elapsed(), PATIENCE, "no further wait");
            assert_eq!(calls.next().await, Some("late"));
            assert!(deaf.is_late(Promptness::Lookup), "an answer that comes too late is none in time");
            drop(second);
            let mut third = Calls::new(PATIENCE);
            start(&mut third, &deaf, Promptness::Lookup, 0, "failed");
            third.next().await;
            assert!(deaf.is_late(Promptness::Lookup), "a failure is no answer");
            start(&mut third, &deaf, Promptness::Lookup, PATIENCE.as_secs(), "well");
            assert!(!third.is_empty());
            third.next().await;
            assert!(deaf.is_late(Promptness::Lookup), "the patience is over then");
            start(&mut third, &deaf, Promptness::Lookup, 1, "well");
            third.next().await;
            assert!(third.is_empty());
            assert!(!deaf.is_late(Promptness::Lookup));
            assert_eq!((deaf.late_total(Promptness::Lookup), quick.late_total(Promptness::Lookup)), (1, 0));
        });
    }

    #[test]
    fn a_load_is_waited_for_as_long_as_bytes_move() {
        local(async {
            let pulse = Arc::new(Pulse::default());
            let mut calls: Calls<&str> = Calls::new(PATIENCE);
            let moving = Arc::clone(&pulse);
            let call = async move {
                for _ in 0..10 {
                    moving.beat();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                std::future::pending().await
            };
            calls.add(pulse.begin(Promptness::Load).unwrap(), call);
            let began = Instant::now();
            assert_eq!(calls.next_awaited().await, None);
            let waited = began.elapsed();
            assert!(waited > Duration::from_secs(10) && waited <= Duration::from_secs(10) + 2 * PATIENCE);
        });
    }
}
