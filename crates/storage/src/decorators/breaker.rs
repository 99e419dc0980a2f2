//! Keeps calls away from a backend that only fails, and finds out by itself when it works again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::forward::forward;
use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded,
    Op, StoreItem, Stored, all_failed,
};
use crate::error::{Error, Failure, FailureKind};
use crate::key::Key;
use crate::report::{Health, HealthState};

/// When to open, and how long to stay open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Calls of one operation that fail in a row before it opens. A success among them makes up for half a failure, so that it
    /// opens as well when more than one call in three keeps failing.
    pub failures_max: u32,
    /// Milliseconds until the first probe; doubles with each probe that fails.
    pub open_min_ms: u64,
    /// Longest time between probes in milliseconds.
    pub open_max_ms: u64,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures_max: 5, open_min_ms: 1000, open_max_ms: 30_000 }
    }
}

/// What a failure counts for, when a success counts for one.
const FAILURE_WEIGHT: u32 = 2;

/// What the breaker does with the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerState {
    /// Lets it pass.
    Closed,
    /// Lets it pass alone, as a probe.
    HalfOpen,
    /// Refuses it.
    Open,
}

impl BreakerState {
    /// The word metrics and status pages use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Opens when calls fail that blame the backend; after a while lets one call through to see.
///
/// Every operation has a circuit of its own: that lookups are answered says nothing about loads, and what can't be written to may
/// still be read. Only what was asked of the backend itself counts, for good or ill. A lookup whose loads would be refused is
/// refused as well.
///
/// Unlocks always pass: they are bookkeeping, and refusing them would leak locks.
#[derive(Debug)]
pub struct Breaker {
    inner: Arc<dyn Adapter>,
    policy: BreakerPolicy,
    circuits: Mutex<Circuits>,
}

#[derive(Debug, Default)]
struct Circuits {
    by_op: [Circuit; Op::ALL.len()],
    openings: u64,
    refused_keys: u64,
}

#[derive(Debug, Default)]
struct Circuit {
    /// Failures times their weight less successes, never below 0.
    weight: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    probe_at: Instant,
    pause: Duration,
    is_probing: bool,
    cause: Failure,
}

impl Circuit {
    fn state(&self, now: Instant) -> BreakerState {
        match &self.open {
            None => BreakerState::Closed,
            Some(open) if open.is_probing || now >= open.probe_at => BreakerState::HalfOpen,
            Some(_) => BreakerState::Open,
        }
    }

    /// Why calls that lead to the one guarded here are of no use now.
    fn barrier(&self, now: Instant) -> Option<&Failure> {
        self.open.as_ref().filter(|open| open.is_probing || now < open.probe_at).map(|open| &open.cause)
    }
}

impl Circuits {
    fn of(&mut self, op: Op) -> &mut Circuit {
        &mut self.by_op[op.position()]
    }

    /// The circuit in the worst state, with its operation. That nothing can be read is worse than that nothing can be written.
    fn worst(&self, now: Instant) -> (Op, &Circuit) {
        let order = [Op::List, Op::Delete, Op::Store, Op::Lookup, Op::Load];
        let circuits = order.map(|op| (op, &self.by_op[op.position()]));
        circuits.into_iter().max_by_key(|(_, circuit)| circuit.state(now)).unwrap_or(circuits[0])
    }
}

/// What a call showed about the backend.
enum Verdict {
    Alive,
    Failing(Failure),
    /// Nothing: it was never asked, or its answer is about one object.
    Unknown,
}

/// Whether a success was the backend's doing.
trait Evidence {
    fn is_of_backend(&self) -> bool;
}

impl Evidence for Stored {
    fn is_of_backend(&self) -> bool {
        // What is held already was not written.
        self.bytes_written > 0
    }
}

impl Evidence for Found {
    fn is_of_backend(&self) -> bool {
        !self.is_remembered
    }
}

impl Evidence for Loaded {
    fn is_of_backend(&self) -> bool {
        true
    }
}

impl Evidence for Deleted {
    fn is_of_backend(&self) -> bool {
        true
    }
}

impl Verdict {
    /// One key that worked shows that the backend answers, whatever became of the others.
    fn of<T: Evidence>(results: &[KeyResult<T>]) -> Self {
        let mut verdict = Self::Unknown;
        for result in results {
            match result {
                Ok(value) if value.is_of_backend() => return Self::Alive,
                Err(Error::Absent) => return Self::Alive,
                Err(Error::Failed(failure)) if failure.kind.blames_backend() => {
                    verdict = Self::Failing(failure.clone());
                }
                Ok(_) | Err(Error::Busy(_) | Error::Failed(_)) => {}
            }
        }
        verdict
    }

    fn of_one(result: &Result<impl Sized, Failure>) -> Self {
        match result {
            Ok(_) => Self::Alive,
            Err(failure) if failure.kind.blames_backend() => Self::Failing(failure.clone()),
            Err(_) => Self::Unknown,
        }
    }
}

impl Breaker {
    /// Wraps an adapter.
    #[must_use]
    pub fn new(inner: Arc<dyn Adapter>, policy: BreakerPolicy) -> Self {
        Self { inner, policy, circuits: Mutex::default() }
    }

    /// What happens to the next call of the operation that is worst off.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        let now = Instant::now();
        self.circuits().worst(now).1.state(now)
    }

    /// What happens to the next call of an operation.
    #[must_use]
    pub fn state_of(&self, op: Op) -> BreakerState {
        self.circuits().of(op).state(Instant::now())
    }

    /// How often a circuit opened since the start.
    #[must_use]
    pub fn openings(&self) -> u64 {
        self.circuits().openings
    }

    /// Closes every circuit by hand.
    pub fn reset(&self) {
        self.circuits().by_op = Default::default();
    }

    fn circuits(&self) -> MutexGuard<'_, Circuits> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, op: Op, keys: usize) -> Result<Admitted<'_>, Failure> {
        let now = Instant::now();
        let mut circuits = self.circuits();
        let loads = circuits.of(Op::Load).barrier(now).filter(|_| op == Op::Lookup).cloned();
        let refused = loads.map(|cause| (Op::Load, cause)).or_else(|| {
            let cause = circuits.of(op).barrier(now).cloned();
            cause.map(|cause| (op, cause))
        });
        if let Some((op, cause)) = refused {
            circuits.refused_keys += keys as u64;
            let text = format!("circuit of `{}` is open for {}s: {cause}", self.inner.kind(), op.label());
            return Err(Failure::permanent(FailureKind::Unavailable, text));
        }
        let is_probe = circuits.of(op).open.as_mut().is_some_and(|open| {
            open.is_probing = true;
            true
        });
        Ok(Admitted { breaker: self, op, is_probe })
    }

    async fn guard<T: Evidence>(
        &self,
        op: Op,
        keys: usize,
        run: AdapterFuture<'_, Vec<KeyResult<T>>>,
    ) -> Vec<KeyResult<T>> {
        if keys == 0 {
            return Vec::new();
        }
        let admitted = match self.admit(op, keys) {
            Ok(admitted) => admitted,
            Err(failure) => return all_failed(keys, &failure.into()),
        };
        let results = run.await;
        admitted.judge(Verdict::of(&results));
        results
    }

    fn close_circuit(&self, op: Op) {
        if std::mem::take(self.circuits().of(op)).open.is_some() {
            tracing::info!("circuit of `{}` closes for {}s", self.inner.kind(), op.label());
        }
    }

    fn open_circuit(&self, op: Op, cause: Failure) {
        let pause = Duration::from_millis(self.policy.open_min_ms.min(self.policy.open_max_ms));
        let mut circuits = self.circuits();
        if circuits.of(op).open.is_some() {
            return;
        }
        tracing::warn!("circuit of `{}` opens for {}s: {cause}", self.inner.kind(), op.label());
        circuits.of(op).open =
            Some(Open { probe_at: Instant::now() + pause, pause, is_probing: false, cause });
        circuits.openings += 1;
    }

    fn note_failure(&self, op: Op, is_probe: bool, cause: Failure) {
        let weight_max = self.policy.failures_max.max(1).saturating_mul(FAILURE_WEIGHT);
        let mut circuits = self.circuits();
        let circuit = circuits.of(op);
        match &mut circuit.open {
            Some(open) if is_probe => {
                open.pause = (open.pause * 2).min(Duration::from_millis(self.policy.open_max_ms));
                open.probe_at = Instant::now() + open.pause;
                open.is_probing = false;
                open.cause = cause;
            }
            // It was under way when the circuit opened.
            Some(_) => {}
            None => {
                circuit.weight = circuit.weight.saturating_add(FAILURE_WEIGHT);
                let is_over = circuit.weight >= weight_max;
                drop(circuits);
                if is_over {
                    self.open_circuit(op, cause);
                }
            }
        }
    }

    fn note_success(&self, op: Op, is_probe: bool) {
        if is_probe {
            return self.close_circuit(op);
        }
        // A call that was under way when the circuit opened does not close it.
        let mut circuits = self.circuits();
        let circuit = circuits.of(op);
        circuit.weight = circuit.weight.saturating_sub(1);
    }
}

/// A call that was let through. A probe dropped without a verdict makes way for another.
struct Admitted<'a> {
    breaker: &'a Breaker,
    op: Op,
    is_probe: bool,
}

impl Admitted<'_> {
    fn judge(mut self, verdict: Verdict) {
        match verdict {
            Verdict::Alive => self.breaker.note_success(self.op, self.is_probe),
            Verdict::Failing(cause) => self.breaker.note_failure(self.op, self.is_probe, cause),
            Verdict::Unknown => return,
        }
        self.is_probe = false;
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.is_probe
            && let Some(open) = &mut self.breaker.circuits().of(self.op).open
        {
            open.is_probing = false;
        }
    }
}

impl Adapter for Breaker {
    forward!(kind, unlock, ready_to_store, usage, close);

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(self.guard(Op::Store, batch.len(), self.inner.store(batch)))
    }

    fn lookup_and_lock(&self, keys: Vec<Key>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
        Box::pin(self.guard(Op::Lookup, keys.len(), self.inner.lookup_and_lock(keys)))
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(self.guard(Op::Load, batch.len(), self.inner.load(batch)))
    }

    fn delete(&self, keys: Vec<Key>, mode: DeleteMode) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
        Box::pin(self.guard(Op::Delete, keys.len(), self.inner.delete(keys, mode)))
    }

    fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>> {
        Box::pin(async move {
            let admitted = self.admit(Op::List, 1)?;
            let result = self.inner.list(request).await;
            admitted.judge(Verdict::of_one(&result));
            result
        })
    }

    /// Passes always; its outcome opens or closes the circuit of stores.
    fn probe(&self) -> AdapterFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let result = self.inner.probe().await;
            match Verdict::of_one(&result) {
                Verdict::Alive => self.close_circuit(Op::Store),
                Verdict::Failing(cause) => self.open_circuit(Op::Store, cause),
                Verdict::Unknown => {}
            }
            result
        })
    }

    fn health(&self) -> Health {
        let now = Instant::now();
        let mut health = self.inner.health();
        let circuits = self.circuits();
        let (op, worst) = circuits.worst(now);
        if let Some(open) = &worst.open {
            let state = match op {
                Op::Lookup | Op::Load => HealthState::Unavailable,
                _ if open.cause.kind == FailureKind::Refused => HealthState::Refused,
                _ => HealthState::Degraded,
            };
            if health.state < state {
                health.state = state;
                health.reason = Some(format!("circuit is open for {}s: {}", op.label(), open.cause));
            }
        }
        health
            .detail("circuit", worst.state(now).label())
            .detail("circuit_openings", circuits.openings)
            .detail("circuit_refused_keys", circuits.refused_keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Busy;
    use crate::conformance::{FailingAdapter, load_items, object_key, store_items};

    fn down() -> Error {
        Failure::retryable(FailureKind::Unavailable, "connection refused").into()
    }

    async fn lookup(breaker: &Breaker) -> Error {
        breaker.lookup_and_lock(vec![object_key(0)]).await.remove(0).unwrap_err()
    }

    fn pair() -> (Arc<FailingAdapter>, Breaker) {
        let double = FailingAdapter::new();
        let policy = BreakerPolicy { failures_max: 2, open_min_ms: 1000, open_max_ms: 3000 };
        (double.clone(), Breaker::new(double, policy))
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_probes_with_growing_pauses_and_closes() {
        let (double, breaker) = pair();
        double.fail_next(Op::Lookup, 4, down());
        lookup(&breaker).await;
        assert_eq!(breaker.state(), BreakerState::Closed);
        lookup(&breaker).await;
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.health().state, HealthState::Unavailable);
        for pause_ms in [1000, 2000] {
            tokio::time::advance(Duration::from_millis(pause_ms - 1)).await;
            let seen = double.keys_seen(Op::Lookup);
            lookup(&breaker).await;
            assert_eq!(double.keys_seen(Op::Lookup), seen, "refused without asking");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(breaker.state(), BreakerState::HalfOpen);
            lookup(&breaker).await;
            assert_eq!(double.keys_seen(Op::Lookup), seen + 1, "one probe");
        }
        tokio::time::advance(Duration::from_millis(3000)).await;
        assert_eq!(lookup(&breaker).await, Error::Absent, "the pause is capped and the backend is back");
        assert_eq!((breaker.state(), breaker.openings()), (BreakerState::Closed, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_the_backends_fault_does_not_open_it() {
        let (double, breaker) = pair();
        double.fail_next(Op::Lookup, 10, Failure::permanent(FailureKind::Full, "full").into());
        for _ in 0..10 {
            lookup(&breaker).await;
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_probe_makes_way_for_the_next() {
        let (double, breaker) = pair();
        double.fail_next(Op::Lookup, 2, down());
        lookup(&breaker).await;
        lookup(&breaker).await;
        tokio::time::advance(Duration::from_millis(1000)).await;
        double.hang(Op::Lookup, true);
        let hanging =
            tokio::time::timeout(Duration::from_millis(1), breaker.lookup_and_lock(vec![object_key(0)]));
        assert!(hanging.await.is_err());
        double.hang(Op::Lookup, false);
        assert_eq!(lookup(&breaker).await, Error::Absent);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_reset_by_hand() {
        let (double, breaker) = pair();
        double.fail_next(Op::Lookup, 2, down());
        lookup(&breaker).await;
        lookup(&breaker).await;
        breaker.reset();
        assert_eq!(lookup(&breaker).await, Error::Absent);
    }

    async fn load(breaker: &Breaker) -> KeyResult<Loaded> {
        breaker.load(load_items(0..1, 16).0).await.remove(0)
    }

    async fn store(breaker: &Breaker, index: usize) -> KeyResult<Stored> {
        breaker.store(store_items(index..index + 1, 16)).await.remove(0)
    }

    #[tokio::test(start_paused = true)]
    async fn what_lookups_and_stores_show_says_nothing_about_loads() {
        let (double, breaker) = pair();
        store(&breaker, 0).await.unwrap();
        double.fail_next(Op::Load, 3, down());
        for index in 1..3 {
            breaker.lookup_and_lock(vec![object_key(0)]).await.remove(0).unwrap();
            store(&breaker, index).await.unwrap();
            load(&breaker).await.unwrap_err();
        }
        assert_eq!(breaker.state_of(Op::Load), BreakerState::Open);
        assert_eq!(breaker.health().state, HealthState::Unavailable);
        store(&breaker, 3).await.unwrap();
        let refused = lookup(&breaker).await;
        assert!(matches!(refused, Error::Failed(_)), "what it finds could not be loaded: {refused}");
        tokio::time::advance(Duration::from_millis(1000)).await;
        breaker.lookup_and_lock(vec![object_key(0)]).await.remove(0).unwrap();
        assert_eq!(breaker.state_of(Op::Load), BreakerState::HalfOpen, "a lookup is no probe of loads");
        load(&breaker).await.unwrap_err();
        assert_eq!(breaker.state_of(Op::Load), BreakerState::Open);
        tokio::time::advance(Duration::from_millis(2000)).await;
        load(&breaker).await.unwrap();
        assert_eq!((breaker.state(), breaker.openings()), (BreakerState::Closed, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_not_be_written_to_is_still_read() {
        let (double, breaker) = pair();
        store(&breaker, 0).await.unwrap();
        double.fail_next(Op::Store, 9, Failure::permanent(FailureKind::Refused, "read-only").into());
        store(&breaker, 1).await.unwrap_err();
        store(&breaker, 2).await.unwrap_err();
        assert_eq!(breaker.state_of(Op::Store), BreakerState::Open);
        let health = breaker.health();
        assert_eq!(health.state, HealthState::Refused);
        assert!(health.reason.unwrap().ends_with("read-only"));
        breaker.lookup_and_lock(vec![object_key(0)]).await.remove(0).unwrap();
        load(&breaker).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_when_a_large_share_of_calls_keeps_failing() {
        let (double, breaker) = pair();
        store(&breaker, 0).await.unwrap();
        let mut calls = 0;
        while breaker.state() == BreakerState::Closed {
            double.fail_next(Op::Load, 1, down());
            load(&breaker).await.unwrap_err();
            let _ = load(&breaker).await;
            calls += 2;
            assert!(calls < 20, "half of all calls fail");
        }
        breaker.reset();
        for _ in 0..20 {
            double.fail_next(Op::Load, 1, down());
            load(&breaker).await.unwrap_err();
            for _ in 0..2 {
                load(&breaker).await.unwrap();
            }
        }
        assert_eq!(breaker.state(), BreakerState::Closed, "one of three is borne");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_asked_of_the_backend_is_no_sign_of_life() {
        let (double, breaker) = pair();
        store(&breaker, 0).await.unwrap();
        double.fail_next(Op::Store, 2, down());
        store(&breaker, 1).await.unwrap_err();
        store(&breaker, 1).await.unwrap_err();
        tokio::time::advance(Duration::from_millis(1000)).await;
        assert!(breaker.store(Vec::new()).await.is_empty());
        assert_eq!(store(&breaker, 0).await, Ok(Stored { bytes_written: 0 }), "it is held already");
        double.fail_next(Op::Store, 1, Error::Busy(Busy::Storing));
        store(&breaker, 1).await.unwrap_err();
        double.fail_next(Op::Store, 1, Failure::permanent(FailureKind::Full, "full").into());
        store(&breaker, 1).await.unwrap_err();
        assert_eq!(breaker.state(), BreakerState::HalfOpen, "none of these was a probe");
        store(&breaker, 1).await.unwrap();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_is_under_way_at_a_time() {
        let (double, breaker) = pair();
        double.fail_next(Op::Lookup, 2, down());
        lookup(&breaker).await;
        lookup(&breaker).await;
        tokio::time::advance(Duration::from_millis(1000)).await;
        double.hang(Op::Lookup, true);
        let breaker = Arc::new(breaker);
        let probe = {
            let breaker = breaker.clone();
            tokio::spawn(async move { lookup(&breaker).await })
        };
        double.calls_reach(Op::Lookup, 3).await;
        let second = tokio::time::timeout(Duration::from_millis(1), lookup(&breaker)).await;
        assert!(matches!(second, Ok(Error::Failed(_))), "it does not wait: {second:?}");
        assert_eq!(double.calls_seen(Op::Lookup), 3, "the second is refused without asking");
        double.hang(Op::Lookup, false);
        assert_eq!(probe.await.unwrap(), Error::Absent);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_asked_for_opens_the_circuit_of_stores_at_once_or_closes_it() {
        let (double, breaker) = pair();
        double.fail_next(Op::Store, 1, Failure::permanent(FailureKind::Refused, "no login").into());
        assert_eq!(breaker.probe().await.unwrap_err().kind, FailureKind::Refused);
        assert_eq!(breaker.health().state, HealthState::Refused);
        store(&breaker, 0).await.unwrap_err();
        assert_eq!(double.keys_seen(Op::Store), 1, "nothing is stored in vain");
        breaker.probe().await.unwrap();
        store(&breaker, 0).await.unwrap();
    }
}
