//! The node's stream: typed events, rendered with their position and time.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::event::Event;
use super::stream::{EventLog, EventPage, Listening};

/// The node's event stream. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct EventBus(EventLog);

#[derive(Serialize)]
struct Stamped<'e> {
    seq: u64,
    time: f64,
    #[serde(flatten)]
    event: &'e Event<'e>,
}

impl EventBus {
    /// Publishes what `event` makes, if anybody listens.
    pub fn publish<'e>(&self, event: impl FnOnce() -> Event<'e>) {
        if !self.0.is_wanted() {
            return;
        }
        let event = event();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = since_1970.as_secs_f64();
        self.0.publish(event.kind(), |seq| serde_json::to_string(&Stamped { seq, time, event: &event }).ok());
    }

    /// The lines, for whoever does not care what they mean.
    #[must_use]
    pub fn log(&self) -> &EventLog {
        &self.0
    }

    /// Keeps events coming until what is returned is dropped.
    #[must_use]
    pub fn subscribe(&self) -> Listening {
        self.0.listen()
    }

    /// Readers at the moment.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.0.readers()
    }

    /// The last position given out: a cursor for what comes next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.0.position()
    }

    /// Up to `max` lines after `cursor`. A cursor from the future, as of another run, starts at the oldest
    /// line.
    #[must_use]
    pub fn read(&self, cursor: u64, max: usize) -> EventPage {
        self.0.read(cursor, max)
    }

    /// As [`Self::read`], once there is something.
    pub async fn next(&self, cursor: u64, max: usize) -> EventPage {
        self.0.next(cursor, max).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_out_with_their_position_and_time() {
        let bus = EventBus::default();
        bus.publish(|| unreachable!("nobody listens"));
        let _listening = bus.subscribe();
        bus.publish(|| Event::Clear { force: false });
        let page = bus.read(0, 10);
        let json: serde_json::Value = serde_json::from_str(&page.lines[0].json).unwrap();
        assert_eq!(
            (&json["event"], &json["seq"], &json["force"]),
            (&"clear".into(), &1.into(), &false.into())
        );
        assert!(json["time"].as_f64().unwrap() > 1e9);
    }

    #[test]
    fn hostile_names_do_not_grow_the_stream() {
        let bus = EventBus::default();
        let _listening = bus.subscribe();
        let name = "x".repeat(10_000);
        bus.publish(|| Event::Instance { instance_id: 1, change: "registered", model_name: &name });
        assert_eq!((bus.position(), bus.log().oversized()), (0, 1));
    }
}
