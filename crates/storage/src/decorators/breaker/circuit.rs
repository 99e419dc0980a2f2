//! When calls pass and when they don't. Pure; the clock is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::adapter::Op;
use crate::error::Failure;

/// When to open, and how long to stay open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Calls of one operation that fail in a row before it opens. A success among them makes up for half a
    /// failure, so that it opens as well when more than one call in three keeps failing.
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

/// A circuit for each operation.
#[derive(Debug)]
pub(super) struct Circuits {
    policy: BreakerPolicy,
    by_op: [Circuit; Op::ALL.len()],
    pub(super) openings: u64,
    pub(super) refused_keys: u64,
}

#[derive(Debug, Default)]
pub(super) struct Circuit {
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

/// A call that is kept away: the operation whose circuit is open, and why.
pub(super) struct Refused {
    pub(super) op: Op,
    pub(super) cause: Failure,
}

impl Circuit {
    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match &self.open {
            None => BreakerState::Closed,
            Some(open) if open.is_probing || now >= open.probe_at => BreakerState::HalfOpen,
            Some(_) => BreakerState::Open,
        }
    }

    /// Why it is open.
    pub(super) fn cause(&self) -> Option<&Failure> {
        self.open.as_ref().map(|open| &open.cause)
    }

    /// Why calls that lead to the one guarded here are of no use now.
    fn barrier(&self, now: Instant) -> Option<&Failure> {
        self.open.as_ref().filter(|open| open.is_probing || now < open.probe_at).map(|open| &open.cause)
    }
}

impl Circuits {
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        Self { policy, by_op: Default::default(), openings: 0, refused_keys: 0 }
    }

    pub(super) fn of(&self, op: Op) -> &Circuit {
        &self.by_op[op.position()]
    }

    fn of_mut(&mut self, op: Op) -> &mut Circuit {
        &mut self.by_op[op.position()]
    }

    /// The circuit in the worst state, with its operation. That nothing can be read is worse than that
    /// nothing can be written.
    pub(super) fn worst(&self, now: Instant) -> (Op, &Circuit) {
        let order = [Op::List, Op::Delete, Op::Store, Op::Lookup, Op::Load];
        let circuits = order.map(|op| (op, self.of(op)));
        circuits.into_iter().max_by_key(|(_, circuit)| circuit.state(now)).unwrap_or(circuits[0])
    }

    /// Closes all of them.
    pub(super) fn reset(&mut self) {
        self.by_op = Default::default();
    }

    /// Lets a call pass, or says why not. True for a probe.
    pub(super) fn admit(&mut self, op: Op, keys: usize, now: Instant) -> Result<bool, Refused> {
        let barrier = |op: Op| self.of(op).barrier(now).map(|cause| Refused { op, cause: cause.clone() });
        let loads = barrier(Op::Load).filter(|_| op == Op::Lookup);
        if let Some(refused) = loads.or_else(|| barrier(op)) {
            self.refused_keys += keys as u64;
            return Err(refused);
        }
        let open = self.of_mut(op).open.as_mut();
        Ok(open.map(|open| open.is_probing = true).is_some())
    }

    /// True if that is news.
    pub(super) fn close(&mut self, op: Op) -> bool {
        std::mem::take(self.of_mut(op)).open.is_some()
    }

    /// True if that is news.
    pub(super) fn open(&mut self, op: Op, cause: Failure, now: Instant) -> bool {
        let pause = Duration::from_millis(self.policy.open_min_ms.min(self.policy.open_max_ms));
        let circuit = self.of_mut(op);
        if circuit.open.is_some() {
            return false;
        }
        circuit.open = Some(Open { probe_at: now + pause, pause, is_probing: false, cause });
        self.openings += 1;
        true
    }

    /// A call failed that blames the backend. True if that opens the circuit.
    pub(super) fn note_failure(&mut self, op: Op, is_probe: bool, cause: Failure, now: Instant) -> bool {
        let weight_max = self.policy.failures_max.max(1).saturating_mul(FAILURE_WEIGHT);
        let pause_max = Duration::from_millis(self.policy.open_max_ms);
        let circuit = self.of_mut(op);
        match &mut circuit.open {
            Some(open) if is_probe => {
                open.pause = (open.pause * 2).min(pause_max);
                open.probe_at = now + open.pause;
                open.is_probing = false;
                open.cause = cause;
                false
            }
            // It was under way when the circuit opened.
            Some(_) => false,
            None => {
                circuit.weight = circuit.weight.saturating_add(FAILURE_WEIGHT);
                circuit.weight >= weight_max && self.open(op, cause, now)
            }
        }
    }

    /// A call showed that the backend is well. True if that closes the circuit.
    pub(super) fn note_success(&mut self, op: Op, is_probe: bool) -> bool {
        if is_probe {
            return self.close(op);
        }
        // A call that was under way when the circuit opened does not close it.
        let circuit = self.of_mut(op);
        circuit.weight = circuit.weight.saturating_sub(1);
        false
    }

    /// A probe ended and showed nothing: another may try.
    pub(super) fn release_probe(&mut self, op: Op) {
        if let Some(open) = &mut self.of_mut(op).open {
            open.is_probing = false;
        }
    }
}
