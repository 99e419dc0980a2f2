use super::*;
use proptest::prelude::*;

const S: Duration = Duration::from_secs(1);

fn policy(restart: Restart) -> Policy {
    Policy {
        restart,
        delay: S,
        delay_max: 8 * S,
        start_limit_burst: 4,
        start_limit_interval: 60 * S,
        ..Policy::default()
    }
}

/// Steps through `events` at the given seconds and returns the last actions.
fn run(mut life: Lifecycle, events: &[(u64, Event)]) -> (Lifecycle, Vec<Action>) {
    let mut actions = Vec::new();
    for (second, event) in events {
        (life, actions) = life.step(*event, S * u32::try_from(*second).unwrap());
    }
    (life, actions)
}

fn ready(restart: Restart) -> Lifecycle {
    let (life, _) = run(Lifecycle::new(policy(restart), 1), &[(0, Event::Start), (0, Event::Launched)]);
    assert_eq!(life.phase(), Phase::Ready { since: Duration::ZERO });
    life
}

const FAILED: Event = Event::Exited(Outcome::Code(1));
const DONE: Event = Event::Exited(Outcome::Code(0));

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
fn a_dead_guardian_is_not_the_plugins_fault() {
    let (life, _) = run(ready(Restart::Never), &[(1, Event::Lost)]);
    assert!(matches!(life.phase(), Phase::Backoff { .. }));
    assert_eq!(life.last_exit(), Some(Outcome::Lost));
    let (life, actions) = run(life, &[(3, Event::Elapsed)]);
    assert_eq!((actions, life.starts()), (vec![Action::Launch], 2));
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

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Start),
        Just(Event::Stop),
        Just(Event::Restart),
        Just(Event::Disable),
        Just(Event::Enable),
        Just(Event::Hung),
        Just(Event::BecameReady),
        Just(Event::Degraded),
        Just(Event::Recovered),
        Just(Event::Leaving),
        Just(Event::TimeIsUp),
        Just(Event::Unsupervised),
        Just(Event::Lost),
        Just(Event::Elapsed),
        Just(Event::Launched),
        Just(Event::LaunchFailed),
        Just(Event::Rejected),
        Just(DONE),
        Just(FAILED),
        Just(Event::Gone),
    ]
}

/// The operating system as far as the machine can know it; refuses events that it could not send.
#[derive(Default)]
struct World {
    launching: bool,
    leader: bool,
    others: bool,
}

impl World {
    fn allows(&self, event: Event) -> bool {
        match event {
            Event::Launched | Event::LaunchFailed | Event::Rejected => self.launching,
            Event::Exited(_) => self.leader,
            Event::Gone => !self.leader && self.others,
            Event::BecameReady | Event::Hung | Event::Degraded | Event::Recovered | Event::Leaving => {
                self.leader
            }
            _ => true,
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Launched => *self = Self { launching: false, leader: true, others: true },
            Event::LaunchFailed | Event::Rejected | Event::Gone | Event::Lost => *self = Self::default(),
            Event::Exited(_) => self.leader = false,
            Event::Unsupervised if self.launching => *self = Self::default(),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn invariants_hold_over_any_sequence(
        events in proptest::collection::vec((any_event(), 0u64..20_000), 0..80),
        restart in prop_oneof![Just(Restart::Never), Just(Restart::OnFailure), Just(Restart::Always)],
        awaits_ready: bool,
        seed: u64,
    ) {
        let policy = Policy { awaits_ready, ready_timeout: Some(3 * S), ..policy(restart) };
        let mut life = Lifecycle::new(policy.clone(), seed);
        let mut world = World::default();
        let mut now = Duration::ZERO;
        for (event, pause_ms) in events {
            if !world.allows(event) {
                continue;
            }
            now += Duration::from_millis(pause_ms);
            let before = life.clone();
            let (next, actions) = life.step(event, now);
            prop_assert_eq!(&(next.clone(), actions.clone()), &before.clone().step(event, now), "equal input, equal output");
            world.take(event);
            life = next;
            for action in &actions {
                match action {
                    Action::Launch => {
                        prop_assert!(!world.launching && !world.leader && !world.others, "two runs at once");
                        world.launching = true;
                    }
                    Action::AskToStop | Action::Dump | Action::Kill => prop_assert!(world.others, "a signal for nobody"),
                }
            }
            prop_assert!(actions.len() <= 1);
            prop_assert_eq!(life.is_occupied(), world.launching || world.others);
            if matches!(life.phase(), Phase::Stopped | Phase::Disabled | Phase::Waiting) {
                prop_assert!(!life.is_occupied(), "at rest with processes left");
            }
            if matches!(before.phase(), Phase::Disabled) && event != Event::Enable {
                prop_assert_eq!(life.phase(), Phase::Disabled);
            }
            if let Phase::Backoff { until } = life.phase() {
                let waits_already = matches!(before.phase(), Phase::Backoff { .. });
                prop_assert!(until <= now + policy.delay_max || waits_already, "a wait beyond the cap");
            }
            if let Phase::Stopping { .. } | Phase::Backoff { .. } = life.phase() {
                prop_assert!(life.deadline().is_some(), "a wait without an end");
            }
        }
        // Whatever came before, a stop ends in rest once the processes end.
        if world.launching {
            (life, _) = life.step(Event::Launched, now);
            world.take(Event::Launched);
        }
        (life, _) = life.step(Event::Stop, now);
        if world.leader {
            (life, _) = life.step(DONE, now);
        }
        if life.is_occupied() {
            (life, _) = life.step(Event::Gone, now);
        }
        prop_assert!(!life.is_occupied());
        prop_assert!(matches!(life.phase(), Phase::Stopped | Phase::Disabled), "at rest");
    }
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
