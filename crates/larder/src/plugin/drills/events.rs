//! Many events at once, for plugins that ask for some.

use larder_telemetry::events::EventLog;
use larder_telemetry::events::{Event, KindDoc};
use serde_json::{Map, Value, json};

/// Events of one flood: more than a server keeps for a reader that is slow.
pub(super) const FLOOD: u64 = 10_000;

/// Publishes a flood of events of the kinds that a manifest asks for.
pub(super) fn flood(log: &EventLog, wanted: &[String]) {
    let kinds: Vec<&KindDoc> =
        Event::DOCS.iter().filter(|doc| wanted.iter().any(|kind| kind == "*" || kind == doc.kind)).collect();
    for (number, doc) in (0..FLOOD).zip(kinds.iter().cycle()) {
        log.publish(doc.kind, |seq| Some(sample(doc, seq, number).to_string()));
    }
}

/// An event of this kind with something in each of its members.
fn sample(doc: &KindDoc, seq: u64, number: u64) -> Value {
    let value = |kind: &str| match kind {
        kind if kind.contains("[") => json!(["drill"]),
        kind if kind.contains("str") => json!("drill"),
        "bool" => json!(true),
        _ => json!(number + 1),
    };
    let mut event = Map::new();
    event.insert("seq".into(), seq.into());
    event.insert("time".into(), 0.0.into());
    event.insert("event".into(), doc.kind.into());
    event.extend(doc.fields.iter().map(|field| (field.name.to_owned(), value(field.kind))));
    Value::Object(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_members() {
        let log = EventLog::default();
        let _listening = log.listen();
        flood(&log, &["*".to_owned()]);
        assert_eq!(log.position(), FLOOD);
        for line in log.read(FLOOD - Event::KINDS.len() as u64, usize::MAX).lines {
            let event: Value = serde_json::from_str(&line.json).unwrap();
            let doc = Event::DOCS.iter().find(|doc| doc.kind == line.kind).unwrap();
            assert!(doc.fields.iter().all(|field| !event[field.name].is_null()), "{event}");
        }
    }
}
