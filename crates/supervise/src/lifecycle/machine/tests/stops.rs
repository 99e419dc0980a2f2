//! How a run is ended, and what is asked for meanwhile.

use super::*;

#[test]
fn a_stop_escalates_and_waits_for_the_last_process() {
    let (life, actions) = run(ready(Restart::Always), &[(1, Event::Stop)]);
    assert_eq!(actions, [Action::AskToStop]);
    let (life, actions) = run(life, &[(2, Event::Elapsed)]);
    assert_eq!(actions, [], "too early");
    let (life, actions) = run(life, &[(3, Event::Exited(Outcome::Signal(15))), (6, Event::Elapsed)]);
    assert_eq!(actions, [Action::Kill], "the leader's end does not end the stop");
    let (life, actions) = run(life, &[(7, Event::Elapsed)]);
    assert_eq!(actions, [Action::Kill], "and it does not give up");
    let (life, _) = run(life, &[(8, Event::Gone)]);
    assert_eq!((life.phase(), life.is_occupied()), (Phase::Stopped, false));
    assert_eq!(life.last_exit(), Some(Outcome::Signal(15)));
}

#[test]
fn a_restart_clears_what_the_previous_run_left() {
    let (life, _) = run(ready(Restart::OnFailure), &[(1, FAILED)]);
    let (life, actions) = run(life, &[(3, Event::Elapsed)]);
    assert_eq!(actions, [Action::AskToStop], "processes are left");
    let (life, actions) = run(life, &[(4, Event::Gone)]);
    assert_eq!((actions, life.starts()), (vec![Action::Launch], 2));
}

#[test]
fn disabled_stays_disabled() {
    let (life, _) = run(ready(Restart::Always), &[(1, Event::Disable), (2, DONE), (2, Event::Gone)]);
    assert_eq!(life.phase(), Phase::Disabled);
    let (life, actions) =
        run(life, &[(3, Event::Start), (3, Event::Restart), (4, Event::Stop), (5, Event::Elapsed)]);
    assert_eq!((life.phase(), actions), (Phase::Disabled, vec![]));
    let (_, actions) = run(life, &[(6, Event::Enable)]);
    assert_eq!(actions, [Action::Launch]);
}

#[test]
fn a_stop_during_launch_takes_effect_after_it() {
    let (life, actions) =
        run(Lifecycle::new(policy(Restart::Always), 1), &[(0, Event::Start), (0, Event::Stop)]);
    assert_eq!(actions, []);
    let (stopping, actions) = run(life.clone(), &[(1, Event::Launched)]);
    assert_eq!(actions, [Action::AskToStop]);
    assert!(matches!(stopping.phase(), Phase::Stopping { .. }));
    let (failed, _) = run(life, &[(1, Event::LaunchFailed)]);
    assert_eq!(failed.phase(), Phase::Stopped);
}

#[test]
fn a_change_does_not_call_up_who_waits_for_others() {
    let (life, actions) = run(Lifecycle::new(policy(Restart::Never), 1), &[(1, Event::Restart)]);
    assert_eq!((life.phase(), actions), (Phase::Waiting, vec![]));
    let (_, actions) = run(life, &[(2, Event::Start)]);
    assert_eq!(actions, [Action::Launch], "its turn, or an operator");
}

#[test]
fn what_hangs_may_leave_a_trace_before_it_is_killed() {
    let policy = Policy {
        dump_signal: Some(crate::manifest::StopSignal::SigQuit),
        dump_timeout: 3 * S,
        ..policy(Restart::Never)
    };
    let (life, _) =
        run(Lifecycle::new(policy, 1), &[(0, Event::Start), (0, Event::Launched), (1, Event::Stop)]);
    let (life, actions) = run(life, &[(6, Event::Elapsed)]);
    assert_eq!(actions, [Action::Dump]);
    let (life, actions) = run(life, &[(8, Event::Elapsed)]);
    assert_eq!(actions, [], "too early");
    let (dumping, actions) = run(life.clone(), &[(9, Event::Elapsed)]);
    assert_eq!(actions, [Action::Kill]);
    assert!(matches!(dumping.phase(), Phase::Stopping { killed: true, .. }));
    let (_, actions) = run(life, &[(8, Event::TimeIsUp)]);
    assert_eq!(actions, [Action::Kill], "no time is left for it");
}

#[test]
fn a_stop_whose_time_is_up_kills_once() {
    let (life, actions) = run(ready(Restart::Never), &[(1, Event::TimeIsUp)]);
    assert_eq!(actions, [], "nobody stops it");
    let (life, actions) = run(life, &[(1, Event::Stop), (2, Event::TimeIsUp)]);
    assert_eq!(actions, [Action::Kill]);
    let (_, actions) = run(life, &[(2, Event::TimeIsUp)]);
    assert_eq!(actions, []);
}

#[test]
fn who_announces_its_end_is_judged_by_it() {
    for (exit, expected) in [(DONE, Phase::Exited), (FAILED, Phase::Failed { cause: FailCause::Exit })] {
        let (life, actions) = run(ready(Restart::Never), &[(1, Event::Leaving)]);
        assert_eq!(actions, [], "it needs no request");
        let (life, _) = run(life, &[(2, exit), (3, Event::Gone)]);
        assert_eq!(life.phase(), expected);
    }
    let (life, _) = run(ready(Restart::OnFailure), &[(1, Event::Leaving)]);
    let (late, actions) = run(life.clone(), &[(6, Event::Elapsed)]);
    assert_eq!(actions, [Action::Kill], "but not for ever");
    let (late, _) = run(late, &[(6, Event::Exited(Outcome::Signal(9))), (6, Event::Gone)]);
    assert!(matches!(late.phase(), Phase::Backoff { .. }));
    let (started, _) = run(life, &[(2, Event::Start), (3, DONE), (3, Event::Gone)]);
    assert!(matches!(started.phase(), Phase::Launching { .. }), "somebody wants it to run");
}

#[test]
fn a_new_configuration_starts_what_runs_anew_and_nothing_else() {
    let (life, actions) = run(ready(Restart::Never), &[(1, Event::Configured)]);
    assert_eq!(actions, [Action::AskToStop]);
    let (_, actions) = run(life, &[(2, Event::Gone)]);
    assert_eq!(actions, [Action::Launch]);
    for stop in [Event::Stop, Event::Disable] {
        let (life, _) = run(ready(Restart::Never), &[(1, stop)]);
        let (stopping, actions) = run(life.clone(), &[(2, Event::Configured)]);
        assert_eq!((&stopping, actions), (&life, vec![]), "what was asked for still holds");
        let (rest, _) = run(life, &[(3, Event::Gone)]);
        let (same, actions) = run(rest.clone(), &[(4, Event::Configured)]);
        assert_eq!((same, actions), (rest, vec![]));
    }
}

#[test]
fn whoever_asks_last_is_heard_by_what_ends() {
    let stops = [Event::Stop, Event::Restart, Event::Hung, Event::Leaving, Event::Disable];
    let (stopped, disabled) = (Some(Phase::Stopped), Some(Phase::Disabled));
    for first in stops {
        let (life, _) = run(ready(Restart::Never), &[(1, first)]);
        let Phase::Stopping { deadline, .. } = life.phase() else { unreachable!("{:?}", life.phase()) };
        let is_off = first == Event::Disable;
        let seconds = [
            (Event::Start, if is_off { disabled } else { None }),
            (Event::Restart, if is_off { disabled } else { None }),
            (Event::Enable, if is_off || first == Event::Restart { None } else { Some(life.phase()) }),
            (Event::Stop, if is_off { disabled } else { stopped }),
            (Event::Disable, disabled),
        ];
        for (second, expected) in seconds {
            let (life, actions) = run(life.clone(), &[(3, second)]);
            assert_eq!((life.deadline(), actions), (Some(deadline), vec![]), "{first:?} is under way");
            let (over, actions) = run(life, &[(4, Event::Gone)]);
            match expected {
                None => assert_eq!(actions, [Action::Launch], "{second:?} after {first:?}"),
                Some(Phase::Stopping { .. }) => assert_eq!(actions, [], "nothing was asked for"),
                Some(phase) => assert_eq!(over.phase(), phase, "{second:?} after {first:?}"),
            }
        }
    }
}

#[test]
fn a_stop_outlives_the_guardian_that_was_to_do_it() {
    for (asked, expected) in [(Event::Stop, Phase::Stopped), (Event::Disable, Phase::Disabled)] {
        let (life, actions) = run(ready(Restart::Always), &[(1, asked), (2, Event::Lost)]);
        assert_eq!((life.phase(), actions), (expected, vec![]));
        let launching = Lifecycle::new(policy(Restart::Always), 1);
        let (life, _) = run(launching, &[(0, Event::Start), (0, asked), (1, Event::Lost)]);
        assert_eq!(life.phase(), expected);
    }
    for asked in [Event::Start, Event::Restart] {
        let (life, _) = run(ready(Restart::Never), &[(1, asked), (2, Event::Lost)]);
        assert!(matches!(life.phase(), Phase::Backoff { .. }), "{asked:?}: {:?}", life.phase());
        assert_eq!(life.last_exit(), Some(Outcome::Lost));
    }
    let (life, _) = run(ready(Restart::Never), &[(1, DONE), (1, Event::Gone), (2, Event::Lost)]);
    assert_eq!(life.phase(), Phase::Exited, "it had ended before");
}
