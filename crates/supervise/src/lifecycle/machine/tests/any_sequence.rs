//! What holds whatever happens.

use super::*;
use proptest::prelude::*;

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
