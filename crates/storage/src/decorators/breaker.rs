//! Keeps calls away from a backend that only fails, and finds out by itself when it works again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::forward::forward;
use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded,
    StoreItem, Stored, all_failed,
};
use crate::error::{Error, Failure, FailureKind};
use crate::key::Key;
use crate::report::{Health, HealthState};

/// When to open, and how long to stay open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Calls in a row that fail before it opens.
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

/// What the breaker does with the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets it pass.
    Closed,
    /// Refuses it.
    Open,
    /// Lets it pass alone, as a probe.
    HalfOpen,
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

/// Opens after failures in a row that blame the backend; after a while lets one call through to see.
///
/// Unlocks always pass: they are bookkeeping, and refusing them would leak locks.
#[derive(Debug)]
pub struct Breaker {
    inner: Arc<dyn Adapter>,
    policy: BreakerPolicy,
    circuit: Mutex<Circuit>,
}

#[derive(Debug, Default)]
struct Circuit {
    failures: u32,
    open: Option<Open>,
    openings: u64,
    refused_keys: u64,
}

#[derive(Debug)]
struct Open {
    probe_at: Instant,
    pause: Duration,
    is_probing: bool,
    cause: Arc<str>,
}

impl Breaker {
    /// Wraps an adapter.
    #[must_use]
    pub fn new(inner: Arc<dyn Adapter>, policy: BreakerPolicy) -> Self {
        Self { inner, policy, circuit: Mutex::new(Circuit::default()) }
    }

    /// What happens to the next call.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match &self.circuit().open {
            None => BreakerState::Closed,
            Some(open) if open.is_probing || Instant::now() >= open.probe_at => BreakerState::HalfOpen,
            Some(_) => BreakerState::Open,
        }
    }

    /// How often it opened since the start.
    #[must_use]
    pub fn openings(&self) -> u64 {
        self.circuit().openings
    }

    /// Closes it by hand.
    pub fn reset(&self) {
        let mut circuit = self.circuit();
        circuit.failures = 0;
        circuit.open = None;
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, keys: usize) -> Result<Admitted<'_>, Failure> {
        let mut circuit = self.circuit();
        let Some(open) = &mut circuit.open else { return Ok(Admitted { breaker: self, is_probe: false }) };
        if open.is_probing || Instant::now() < open.probe_at {
            let text = format!("circuit of `{}` is open: {}", self.inner.kind(), open.cause);
            circuit.refused_keys += keys as u64;
            return Err(Failure::permanent(FailureKind::Unavailable, text));
        }
        open.is_probing = true;
        Ok(Admitted { breaker: self, is_probe: true })
    }

    async fn guard<T>(&self, keys: usize, run: AdapterFuture<'_, Vec<KeyResult<T>>>) -> Vec<KeyResult<T>> {
        let admitted = match self.admit(keys) {
            Ok(admitted) => admitted,
            Err(failure) => return all_failed(keys, &failure.into()),
        };
        let results = run.await;
        admitted.judge(&results);
        results
    }
}

/// A call that was let through. A probe dropped without a verdict makes way for another.
struct Admitted<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Admitted<'_> {
    /// One key that worked, or failed through no fault of the backend, shows that the backend answers.
    fn judge<T>(mut self, results: &[KeyResult<T>]) {
        let blamed = |result: &KeyResult<T>| match result {
            Err(Error::Failed(failure)) if failure.kind.blames_backend() => Some(failure.text.clone()),
            _ => None,
        };
        let mut blames = results.iter().map(blamed);
        let first = blames.next().flatten();
        let mut circuit = self.breaker.circuit();
        match first {
            Some(cause) if blames.all(|blame| blame.is_some()) => {
                self.breaker.trip(&mut circuit, self.is_probe, cause)
            }
            _ => {
                circuit.failures = 0;
                // A call that was under way when the circuit opened does not close it; only a probe does.
                if self.is_probe && circuit.open.take().is_some() {
                    tracing::info!("circuit of `{}` closes", self.breaker.inner.kind());
                }
            }
        }
        drop(circuit);
        self.is_probe = false;
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.is_probe
            && let Some(open) = &mut self.breaker.circuit().open
        {
            open.is_probing = false;
        }
    }
}

impl Breaker {
    fn trip(&self, circuit: &mut Circuit, is_probe: bool, cause: Arc<str>) {
        circuit.failures = circuit.failures.saturating_add(1);
        let longest = Duration::from_millis(self.policy.open_max_ms);
        match &mut circuit.open {
            Some(open) if is_probe => {
                open.pause = (open.pause * 2).min(longest);
                *open = Open {
                    probe_at: Instant::now() + open.pause,
                    pause: open.pause,
                    is_probing: false,
                    cause,
                };
            }
            Some(_) => {}
            None if circuit.failures >= self.policy.failures_max.max(1) => {
                let pause = Duration::from_millis(self.policy.open_min_ms).min(longest);
                tracing::warn!("circuit of `{}` opens: {cause}", self.inner.kind());
                circuit.open =
                    Some(Open { probe_at: Instant::now() + pause, pause, is_probing: false, cause });
                circuit.openings += 1;
            }
            None => {}
        }
    }
}

impl Adapter for Breaker {
    forward!(kind, unlock, usage, close);

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(self.guard(batch.len(), self.inner.store(batch)))
    }

    fn lookup_and_lock(&self, keys: Vec<Key>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
        Box::pin(self.guard(keys.len(), self.inner.lookup_and_lock(keys)))
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(self.guard(batch.len(), self.inner.load(batch)))
    }

    fn delete(&self, keys: Vec<Key>, mode: DeleteMode) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
        Box::pin(self.guard(keys.len(), self.inner.delete(keys, mode)))
    }

    fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>> {
        Box::pin(async move {
            let admitted = self.admit(1)?;
            let result = self.inner.list(request).await;
            let verdict = result.as_ref().map(drop).map_err(|failure| Error::Failed(failure.clone()));
            admitted.judge(&[verdict]);
            result
        })
    }

    fn health(&self) -> Health {
        let state = self.state();
        let mut health = self.inner.health();
        let circuit = self.circuit();
        if let Some(open) = &circuit.open
            && health.state != HealthState::Closed
        {
            health.state = HealthState::Unavailable;
            health.reason = Some(format!("circuit is open: {}", open.cause));
        }
        health
            .detail("circuit", state.label())
            .detail("circuit_openings", circuit.openings)
            .detail("circuit_refused_keys", circuit.refused_keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;
    use crate::conformance::{FailingAdapter, object_key};

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
}
