//! What time does: readiness, intervals, calendars, limits.

use super::*;

#[test]
fn readiness_is_awaited_and_not_for_ever() {
    let policy = Policy { awaits_ready: true, ready_timeout: Some(5 * S), ..policy(Restart::Never) };
    let (life, _) = run(Lifecycle::new(policy, 1), &[(0, Event::Start), (0, Event::Launched)]);
    let (up, _) = run(life.clone(), &[(1, Event::BecameReady)]);
    assert!(matches!(up.phase(), Phase::Ready { .. }));
    assert_eq!(up.deadline(), None);
    let (late, actions) = run(life, &[(5, Event::Elapsed)]);
    assert_eq!(actions, [Action::AskToStop]);
    let (late, _) = run(late, &[(6, Event::Gone)]);
    assert_eq!(late.phase(), Phase::Failed { cause: FailCause::NotReady });
}

#[test]
fn intervals_count_from_start_to_start_and_never_overlap() {
    let policy = Policy { interval: Some(10 * S), ..policy(Restart::Never) };
    let (life, _) = run(
        Lifecycle::new(policy, 1),
        &[(0, Event::Start), (0, Event::Launched), (2, DONE), (2, Event::Gone)],
    );
    assert_eq!(life.phase(), Phase::Scheduled { until: 10 * S });
    let (life, actions) = run(life, &[(10, Event::Elapsed)]);
    assert_eq!(actions, [Action::Launch]);
    let (life, _) = run(life, &[(10, Event::Launched), (35, FAILED), (35, Event::Gone)]);
    assert_eq!(life.phase(), Phase::Scheduled { until: 35 * S }, "a late run is followed at once");
    let mut life = life;
    for i in 4..30 {
        let now = i * 10;
        (life, _) =
            run(life, &[(now, Event::Elapsed), (now, Event::Launched), (now, FAILED), (now, Event::Gone)]);
        assert_eq!(
            life.phase(),
            Phase::Scheduled { until: S * (10 * (u32::try_from(i).unwrap() + 1)) },
            "no crash loop"
        );
    }
}

#[test]
fn a_run_may_have_a_longest_time() {
    let policy = Policy { run_timeout: Some(5 * S), ..policy(Restart::Never) };
    let (life, _) = run(Lifecycle::new(policy, 1), &[(0, Event::Start), (0, Event::Launched)]);
    let (life, actions) = run(life, &[(5, Event::Elapsed)]);
    assert_eq!(actions, [Action::AskToStop]);
    let (life, _) = run(life, &[(6, Event::Gone)]);
    assert_eq!(life.phase(), Phase::Failed { cause: FailCause::Timeout });
}

/// What the task does for a plugin with a calendar: tells the next time before each step.
fn with_turns(mut life: Lifecycle, events: &[(u32, u32, Event)]) -> (Lifecycle, Vec<Action>) {
    let mut actions = Vec::new();
    for (second, turn, event) in events {
        life.set_turn(Some(S * *turn));
        (life, actions) = life.step(*event, S * *second);
    }
    (life, actions)
}

#[test]
fn a_calendar_decides_about_every_start_but_an_operators() {
    let life = Lifecycle::new(policy(Restart::Never), 1);
    let (life, actions) = with_turns(life, &[(0, 60, Event::Start)]);
    assert_eq!((life.phase(), actions), (Phase::Scheduled { until: 60 * S }, vec![]));
    let (life, actions) = with_turns(life, &[(30, 90, Event::Elapsed)]);
    assert_eq!((life.phase(), actions), (Phase::Scheduled { until: 90 * S }, vec![]), "the clock was set");
    let (life, actions) = with_turns(life.clone(), &[(90, 90, Event::Elapsed)]);
    assert_eq!(actions, [Action::Launch]);
    let (life, _) = with_turns(life, &[(90, 150, Event::Launched), (200, 210, FAILED)]);
    assert_eq!(life.phase(), Phase::Scheduled { until: 210 * S }, "150 came while it ran");
    let (life, actions) = with_turns(life, &[(201, 210, Event::Gone), (202, 210, Event::Restart)]);
    assert_eq!((life.phase(), actions), (Phase::Scheduled { until: 210 * S }, vec![]));
    let (_, actions) = with_turns(life, &[(203, 210, Event::Start)]);
    assert_eq!(actions, [Action::Launch]);
}

#[test]
fn failures_of_a_calendar_run_are_retried_before_the_next() {
    let (life, _) = with_turns(
        Lifecycle::new(policy(Restart::OnFailure), 1),
        &[(0, 60, Event::Start), (60, 60, Event::Elapsed), (60, 120, Event::Launched), (61, 120, FAILED)],
    );
    assert!(matches!(life.phase(), Phase::Backoff { .. }));
    let (life, _) = with_turns(
        life,
        &[(61, 120, Event::Gone), (70, 120, Event::Elapsed), (70, 120, Event::Launched), (71, 120, DONE)],
    );
    assert_eq!(life.phase(), Phase::Scheduled { until: 120 * S });
}

#[test]
fn degraded_is_ready_with_a_fault() {
    let (life, _) = run(ready(Restart::OnFailure), &[(1, Event::Degraded)]);
    assert_eq!(life.phase(), Phase::Degraded { since: Duration::ZERO });
    let (again, actions) = run(life.clone(), &[(2, Event::Start)]);
    assert_eq!((again.phase(), actions), (life.phase(), vec![]), "it runs");
    let (well, _) = run(life.clone(), &[(3, Event::Recovered)]);
    assert_eq!(well.phase(), Phase::Ready { since: Duration::ZERO });
    let (failed, _) = run(life.clone(), &[(3, FAILED)]);
    assert!(matches!(failed.phase(), Phase::Backoff { .. }));
    let (stopped, actions) = run(life, &[(3, Event::Stop)]);
    assert_eq!(actions, [Action::AskToStop]);
    let (stopped, _) = run(stopped, &[(4, Event::Gone)]);
    assert_eq!(stopped.phase(), Phase::Stopped);
}

#[test]
fn the_longest_times_are_no_time_at_all() {
    let policy = Policy {
        awaits_ready: true,
        ready_timeout: Some(Duration::MAX),
        run_timeout: Some(Duration::MAX),
        interval: Some(Duration::MAX),
        stop_timeout: Duration::MAX,
        ..policy(Restart::Never)
    };
    let (life, _) = run(Lifecycle::new(policy, 1), &[(1, Event::Start), (1, Event::Launched)]);
    assert_eq!(life.deadline(), Some(Duration::MAX));
    let (stopping, _) = run(life.clone(), &[(2, Event::Stop)]);
    assert_eq!(stopping.deadline(), Some(Duration::MAX));
    let (life, _) = run(life, &[(2, Event::BecameReady), (3, DONE), (3, Event::Gone)]);
    assert_eq!(life.phase(), Phase::Scheduled { until: Duration::MAX });
}

#[test]
fn lost_time_is_given_back_to_who_starts() {
    let policy = Policy { awaits_ready: true, ready_timeout: Some(5 * S), ..policy(Restart::Never) };
    let (mut life, _) = run(Lifecycle::new(policy, 1), &[(0, Event::Start), (0, Event::Launched)]);
    life.excuse(4 * S);
    assert_eq!(life.deadline(), Some(9 * S));
    let mut up = ready(Restart::Never);
    up.excuse(4 * S);
    assert_eq!(up.phase(), Phase::Ready { since: Duration::ZERO });
}
