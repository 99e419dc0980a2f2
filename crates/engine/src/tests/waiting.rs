//! Whoever waits for the answer of a lookup, when the lookup ends in another way.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::state::sessions::SESSIONS_PER_CONNECTION_MAX;

/// Whether somebody who waits for the second tier's answer is told that there will be none.
fn is_told_by(end: impl FnOnce(&Arc<Engine>)) -> bool {
    let engine = engine(4);
    engine.age_by(std::time::Duration::from_secs(86_400));
    engine.tiers().set_enabled(true);
    engine.requests().lookup(&key("r", &prompt(1, 1), None), 1).unwrap();
    let requests = engine.requests();
    let mut waiting = pin!(requests.collect_when_answered("r", 1));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    end(&engine);
    waiting.as_mut().poll(&mut context) == Poll::Ready(0)
}

#[test]
fn the_end_of_a_request_is_told_to_who_waits_for_its_answer() {
    assert!(is_told_by(|engine| assert!(engine.requests().end_session("r", 1))));
    assert!(is_told_by(|engine| {
        engine.state().sessions.latest("r", 1, 0);
        engine.upkeep().sweep();
    }));
    assert!(is_told_by(|engine| {
        engine.operator().force_release(&LeaseOwner::Request("r".into()), "test").unwrap();
    }));
}

#[test]
fn a_lookup_that_makes_way_for_others_is_told_to_who_waits_for_its_answer() {
    assert!(is_told_by(|engine| engine.requests().lookup(&key("r", &[], None), 1).unwrap()), "a newer one");
    assert!(is_told_by(|engine| {
        engine.state().sessions.latest("r", 1, 0);
        let other = key("", &prompt(2, 1), None);
        for request in 0..SESSIONS_PER_CONNECTION_MAX {
            engine
                .requests()
                .lookup(&PromptKey { request_id: &request.to_string(), ..other.clone() }, 1)
                .unwrap();
        }
    }));
}
