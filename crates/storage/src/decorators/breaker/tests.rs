//! The breaker around a scripted adapter.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::adapter::{Adapter, KeyResult, Loaded, Op, Stored};
use crate::conformance::{FailingAdapter, load_items, object_key, store_items};
use crate::error::{Busy, Error, Failure, FailureKind};
use crate::report::HealthState;

fn down() -> Error {
    Failure::retryable(FailureKind::Unavailable, "connection refused").into()
}

async fn lookup(breaker: &Breaker) -> Error {
    breaker.lookup_and_lock(vec![object_key(0)]).await.remove(0).unwrap_err()
}

fn pair() -> (Arc<FailingAdapter>, Breaker) {
    let double = FailingAdapter::new();
    let policy = BreakerPolicy { failures_max: 2, open_min_ms: 1000, open_max_ms: 3000 };
    (Arc::clone(&double), Breaker::new(double, policy))
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
        _ = load(&breaker).await;
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
        let breaker = Arc::clone(&breaker);
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
