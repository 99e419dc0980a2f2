//! The breaker around an adapter.

use std::sync::{Arc, Mutex};

use larder_core::key::ObjectKey;
use tokio::time::Instant;

use super::circuit::{BreakerPolicy, BreakerState, Circuits, Refused};
use super::verdict::{Evidence, Verdict};
use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded,
    Op, StoreItem, Stored, all_failed,
};
use crate::decorators::forward::forward;
use crate::error::{Failure, FailureKind};
use crate::mutex::lock;
use crate::report::{Health, HealthState};

/// Opens when calls fail that blame the backend; after a while lets one call through to see.
///
/// Every operation has a circuit of its own: that lookups are answered says nothing about loads, and what
/// can't be written to may still be read. Only what was asked of the backend itself counts, for good or ill.
/// A lookup whose loads would be refused is refused as well.
///
/// Unlocks always pass: they are bookkeeping, and refusing them would leak locks.
#[derive(Debug)]
pub struct Breaker {
    inner: Arc<dyn Adapter>,
    circuits: Mutex<Circuits>,
}

impl Breaker {
    /// Wraps an adapter.
    #[must_use]
    pub fn new(inner: Arc<dyn Adapter>, policy: BreakerPolicy) -> Self {
        Self { inner, circuits: Mutex::new(Circuits::new(policy)) }
    }

    /// What happens to the next call of the operation that is worst off.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        let now = Instant::now();
        lock(&self.circuits).worst(now).1.state(now)
    }

    /// What happens to the next call of an operation.
    #[must_use]
    pub fn state_of(&self, op: Op) -> BreakerState {
        lock(&self.circuits).of(op).state(Instant::now())
    }

    /// How often a circuit opened since the start.
    #[must_use]
    pub fn openings(&self) -> u64 {
        lock(&self.circuits).openings
    }

    /// Closes every circuit by hand.
    pub fn reset(&self) {
        lock(&self.circuits).reset();
    }

    fn admit(&self, op: Op, keys: usize) -> Result<Admitted<'_>, Failure> {
        let admitted = lock(&self.circuits).admit(op, keys, Instant::now());
        let is_probe = admitted.map_err(|Refused { op, cause }| {
            let text = format!("circuit of `{}` is open for {}s: {cause}", self.inner.kind(), op.label());
            Failure::permanent(FailureKind::Unavailable, text)
        })?;
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

    fn tell_closed(&self, op: Op) {
        tracing::info!("circuit of `{}` closes for {}s", self.inner.kind(), op.label());
    }

    fn tell_open(&self, op: Op, cause: &Failure) {
        tracing::warn!("circuit of `{}` opens for {}s: {cause}", self.inner.kind(), op.label());
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
        let Self { breaker, op, is_probe } = self;
        match verdict {
            Verdict::Alive => {
                if lock(&breaker.circuits).note_success(op, is_probe) {
                    breaker.tell_closed(op);
                }
            }
            Verdict::Failing(cause) => {
                if lock(&breaker.circuits).note_failure(op, is_probe, cause.clone(), Instant::now()) {
                    breaker.tell_open(op, &cause);
                }
            }
            Verdict::Unknown => return,
        }
        self.is_probe = false;
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            lock(&self.breaker.circuits).release_probe(self.op);
        }
    }
}

impl Adapter for Breaker {
    forward!(kind, unlock, ready_to_store, usage, close);

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(self.guard(Op::Store, batch.len(), self.inner.store(batch)))
    }

    fn lookup_and_lock(&self, keys: Vec<ObjectKey>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
        Box::pin(self.guard(Op::Lookup, keys.len(), self.inner.lookup_and_lock(keys)))
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(self.guard(Op::Load, batch.len(), self.inner.load(batch)))
    }

    fn delete(&self, keys: Vec<ObjectKey>, mode: DeleteMode) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
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
                Verdict::Alive => {
                    if lock(&self.circuits).close(Op::Store) {
                        self.tell_closed(Op::Store);
                    }
                }
                Verdict::Failing(cause) => {
                    if lock(&self.circuits).open(Op::Store, cause.clone(), Instant::now()) {
                        self.tell_open(Op::Store, &cause);
                    }
                }
                Verdict::Unknown => {}
            }
            result
        })
    }

    fn health(&self) -> Health {
        let now = Instant::now();
        let mut health = self.inner.health();
        let circuits = lock(&self.circuits);
        let (op, worst) = circuits.worst(now);
        if let Some(cause) = worst.cause() {
            let state = match op {
                Op::Lookup | Op::Load => HealthState::Unavailable,
                _ if cause.kind == FailureKind::Refused => HealthState::Refused,
                _ => HealthState::Degraded,
            };
            if health.state < state {
                health.state = state;
                health.reason = Some(format!("circuit is open for {}s: {}", op.label(), cause));
            }
        }
        health
            .detail("circuit", worst.state(now).label())
            .detail("circuit_openings", circuits.openings)
            .detail("circuit_refused_keys", circuits.refused_keys)
    }
}
