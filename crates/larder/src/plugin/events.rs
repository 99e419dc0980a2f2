//! Events from a file for a plugin that asks for them.

use std::path::Path;
use std::time::Duration;

use larder_telemetry::events::Event;
use larder_telemetry::events::EventLog;
use serde_json::Value;

/// Bytes of a file of events.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// One event: its kind and its line.
pub(super) type Scripted = (&'static str, String);

/// Reads the events; the text names the line that is none.
pub(super) fn read(path: &Path) -> Result<Vec<Scripted>, String> {
    let failed = |cause: String| format!("`{}`: {cause}", path.display());
    let size = path.metadata().map_err(|error| failed(error.to_string()))?.len();
    if size > FILE_MAX_BYTES {
        return Err(failed(format!("{size} bytes are too many\nhint: at most {FILE_MAX_BYTES}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| event(line).map_err(|cause| failed(format!("line {}: {cause}", index + 1))))
        .collect()
}

fn event(line: &str) -> Result<Scripted, String> {
    let document: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let kind = document.get("event").and_then(Value::as_str).unwrap_or_default();
    let known = Event::KINDS.iter().copied().find(|known| *known == kind);
    let known = known
        .ok_or_else(|| format!("no event of kind `{kind}`\nhint: there are {}", Event::KINDS.join(", ")))?;
    Ok((known, line.trim().to_owned()))
}

/// Publishes them one after the other.
pub(super) async fn publish(events: Vec<Scripted>, log: EventLog, pause: Duration) {
    for (kind, line) in events {
        if !log.is_wanted() {
            tracing::warn!(
                "the plugin does not listen to events: its manifest needs `events = [\"{kind}\"]`"
            );
            return;
        }
        if !log.publish(kind, |_| Some(line)) {
            tracing::warn!("an event of kind `{kind}` is too long");
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_s_events_are_known() {
        for event in [Event::Clear { force: true }, Event::Evict { objects: 1, used_bytes: 2 }] {
            assert_eq!(self::event(&serde_json::to_string(&event).unwrap()).unwrap().0, event.kind());
        }
    }

    #[test]
    fn kinds_are_checked_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events");
        std::fs::write(&file, "{\"event\":\"store\",\"n\":1}\n\n{\"event\": \"evict\"}\n").unwrap();
        let events = read(&file).unwrap();
        assert_eq!(events[0], ("store", "{\"event\":\"store\",\"n\":1}".to_owned()));
        assert_eq!(events[1].0, "evict");
        std::fs::write(&file, "{\"event\":\"store\"}\n{\"event\":\"x\"}\n").unwrap();
        assert!(read(&file).unwrap_err().contains("line 2: no event of kind `x`\nhint: there are store, "));
        std::fs::write(&file, "no json\n").unwrap();
        assert!(read(&file).unwrap_err().contains("line 1: "));
        assert!(read(&folder.path().join("none")).is_err());
    }
}
