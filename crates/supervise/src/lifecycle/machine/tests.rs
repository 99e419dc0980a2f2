mod any_sequence;
mod restarts;
mod stops;
mod times;

use super::*;

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
