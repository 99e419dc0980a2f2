//! What follows the end of a run.

use super::*;

#[test]
fn what_follows_an_exit() {
    let table = [
        (Restart::Never, DONE, "exited"),
        (Restart::Never, FAILED, "failed"),
        (Restart::OnFailure, DONE, "exited"),
        (Restart::OnFailure, FAILED, "backoff"),
        (Restart::OnFailure, Event::Exited(Outcome::Signal(9)), "backoff"),
        (Restart::Always, DONE, "backoff"),
        (Restart::Always, FAILED, "backoff"),
    ];
    for (restart, event, expected) in table {
        let (life, actions) = run(ready(restart), &[(1, event)]);
        let state = serde_json::to_value(life.phase()).unwrap()["state"].clone();
        assert_eq!((state, actions), (expected.into(), vec![]), "{restart:?} after {event:?}");
    }
}

#[test]
fn crash_loops_end_and_an_operator_clears_them() {
    let mut life = ready(Restart::OnFailure);
    let mut now = 0;
    for _ in 0..4 {
        (life, _) = run(life, &[(now, FAILED), (now, Event::Gone)]);
        now += 9;
        (life, _) = run(life, &[(now, Event::Elapsed), (now, Event::Launched)]);
    }
    assert_eq!((life.phase(), life.starts()), (Phase::Failed { cause: FailCause::CrashLoop }, 4));
    let (life, actions) = run(life, &[(now, Event::Start)]);
    assert_eq!((actions, life.starts()), (vec![Action::Launch], 5));
}

#[test]
fn a_stable_run_clears_the_count() {
    let mut life = ready(Restart::Always);
    for i in 1..20 {
        let now = i * 100;
        let events =
            [(now, FAILED), (now, Event::Gone), (now + 9, Event::Elapsed), (now + 9, Event::Launched)];
        (life, _) = run(life, &events);
        assert_eq!(life.starts(), i + 1);
    }
}

#[test]
fn a_dead_guardian_is_not_the_plugins_fault() {
    let (life, _) = run(ready(Restart::Never), &[(1, Event::Lost)]);
    assert!(matches!(life.phase(), Phase::Backoff { .. }));
    assert_eq!(life.last_exit(), Some(Outcome::Lost));
    let (life, actions) = run(life, &[(3, Event::Elapsed)]);
    assert_eq!((actions, life.starts()), (vec![Action::Launch], 2));
}

#[test]
fn what_is_rejected_is_not_tried_again() {
    let (life, _) =
        run(Lifecycle::new(policy(Restart::Always), 1), &[(0, Event::Start), (0, Event::Rejected)]);
    assert_eq!((life.phase(), life.is_occupied()), (Phase::Failed { cause: FailCause::Config }, false));
    let (life, _) = run(
        Lifecycle::new(policy(Restart::Always), 1),
        &[(0, Event::Start), (0, Event::Disable), (0, Event::Rejected)],
    );
    assert_eq!(life.phase(), Phase::Disabled);
}

#[test]
fn what_an_operator_or_a_change_asks_for_never_counts_as_a_crash() {
    let mut life = ready(Restart::OnFailure);
    for second in 1..30 {
        (life, _) = run(
            life,
            &[(second, Event::Restart), (second, DONE), (second, Event::Gone), (second, Event::Launched)],
        );
        assert_eq!(life.phase(), Phase::Ready { since: S * u32::try_from(second).unwrap() });
    }
    for second in [30, 32, 36] {
        (life, _) = run(
            life,
            &[
                (second, FAILED),
                (second, Event::Gone),
                (second + 8, Event::Elapsed),
                (second + 8, Event::Launched),
            ],
        );
        assert!(matches!(life.phase(), Phase::Ready { .. }), "its own budget is whole: {:?}", life.phase());
    }
    (life, _) = run(life, &[(46, FAILED), (46, Event::Gone), (60, Event::Elapsed)]);
    assert_eq!(life.phase(), Phase::Failed { cause: FailCause::CrashLoop });
}

#[test]
fn a_run_that_nobody_watched_is_killed_and_counts_as_failed() {
    let (life, actions) = run(ready(Restart::OnFailure), &[(1, Event::Unsupervised)]);
    assert_eq!(actions, [Action::Kill]);
    let (again, _) = run(life, &[(2, Event::Gone)]);
    assert!(matches!(again.phase(), Phase::Backoff { .. }));
    let (life, _) = run(ready(Restart::Never), &[(1, Event::Unsupervised), (2, Event::Gone)]);
    assert_eq!(life.phase(), Phase::Failed { cause: FailCause::Unsupervised });
    let (life, _) =
        run(ready(Restart::Never), &[(1, Event::Stop), (1, Event::Unsupervised), (2, Event::Gone)]);
    assert_eq!(life.phase(), Phase::Stopped, "what was asked for still holds");
    let (life, _) =
        run(Lifecycle::new(policy(Restart::Never), 1), &[(0, Event::Start), (0, Event::Unsupervised)]);
    assert_eq!((life.phase(), life.is_occupied()), (Phase::Failed { cause: FailCause::Launch }, false));
}

#[test]
fn to_start_what_runs_forgives_nothing() {
    let mut life = ready(Restart::OnFailure);
    for second in [0, 9, 18] {
        let crash = [(second, FAILED), (second, Event::Gone), (second + 8, Event::Elapsed)];
        (life, _) = run(life, &crash);
        (life, _) = run(life, &[(second + 8, Event::Launched), (second + 8, Event::Start)]);
        assert!(matches!(life.phase(), Phase::Ready { .. }));
    }
    let (life, _) = run(life, &[(27, FAILED), (27, Event::Gone), (35, Event::Elapsed)]);
    assert_eq!(life.phase(), Phase::Failed { cause: FailCause::CrashLoop });
}

#[test]
fn a_run_whose_exit_nobody_reported_has_failed() {
    let (life, _) = run(ready(Restart::OnFailure), &[(1, Event::Gone)]);
    assert!(matches!(life.phase(), Phase::Backoff { .. }));
    let (life, _) = run(ready(Restart::Never), &[(1, Event::Gone)]);
    assert_eq!((life.phase(), life.is_occupied()), (Phase::Failed { cause: FailCause::Exit }, false));
}

#[test]
fn the_limit_that_was_reached_is_the_one_that_is_named() {
    for (ready_s, run_s, cause) in [(5, 9, FailCause::NotReady), (9, 5, FailCause::Timeout)] {
        let policy = Policy {
            awaits_ready: true,
            ready_timeout: Some(ready_s * S),
            run_timeout: Some(run_s * S),
            ..policy(Restart::Never)
        };
        let (life, _) = run(Lifecycle::new(policy, 1), &[(0, Event::Start), (0, Event::Launched)]);
        assert_eq!(life.deadline(), Some(5 * S));
        let (life, _) = run(life, &[(5, Event::Elapsed), (6, Event::Gone)]);
        assert_eq!(life.phase(), Phase::Failed { cause });
    }
}

#[test]
fn a_new_policy_counts_from_the_next_decision() {
    let mut life = ready(Restart::Never);
    life.set_policy(policy(Restart::OnFailure));
    assert_eq!(life.policy(), &policy(Restart::OnFailure));
    let (life, _) = run(life, &[(1, FAILED)]);
    assert!(matches!(life.phase(), Phase::Backoff { .. }));
}

#[test]
fn the_jitter_comes_from_split_mix() {
    // The first output of Vigna's generator from these states, as Java's `SplittableRandom` gives it.
    assert_eq!(splitmix(0), 0xe220_a839_7b1d_cdaf);
    assert_eq!(splitmix(1), 0x910a_2dec_8902_5cc1);
}
