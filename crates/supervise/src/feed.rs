//! Events for plugins: one JSON object a line on standard input, for those whose manifest asks.
//!
//! Publishing never waits. Events are kept once for all plugins, up to a limit; a plugin that reads too slowly loses the oldest ones and is told how many.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::unix::pipe;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Events kept for the slowest reader.
pub(crate) const EVENTS_KEPT_MAX: usize = 1024;
/// Bytes of one event; longer ones are not published.
pub(crate) const EVENT_MAX_BYTES: usize = 64 * 1024;

/// One event: its kind, for filters, and its line.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) kind: &'static str,
    pub(crate) line: Arc<str>,
}

/// Where the server publishes events. Cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct EventSink(broadcast::Sender<Event>);

impl Default for EventSink {
    fn default() -> Self {
        Self(broadcast::channel(EVENTS_KEPT_MAX).0)
    }
}

impl EventSink {
    /// Whether any plugin listens; if not, an event need not even be rendered.
    pub fn is_wanted(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Publishes one event. `json` is one object on one line; `false` if it is longer than 64 KiB or has a line break.
    pub fn publish(&self, kind: &'static str, json: &str) -> bool {
        if json.len() > EVENT_MAX_BYTES || json.contains('\n') {
            return false;
        }
        if self.is_wanted() {
            // The last listener may have gone meanwhile.
            _ = self.0.send(Event { kind, line: json.into() });
        }
        true
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}

/// The standard input of one run and what is written to it.
#[derive(Debug)]
pub(crate) struct Feed {
    pipe: pipe::Sender,
    events: Option<broadcast::Receiver<Event>>,
    kinds: Vec<String>,
    /// The rest of a line that the pipe has not taken yet.
    unwritten: Vec<u8>,
    /// Events this run has lost.
    pub(crate) lost: u64,
}

impl Feed {
    /// `kinds` names the events wanted, `*` all of them; none leaves standard input silent.
    pub(crate) fn new(stdin: OwnedFd, sink: &EventSink, kinds: &[String]) -> std::io::Result<Self> {
        let events = (!kinds.is_empty()).then(|| sink.subscribe());
        let pipe = pipe::Sender::from_owned_fd(stdin)?;
        Ok(Self { pipe, events, kinds: kinds.to_vec(), unwritten: Vec::new(), lost: 0 })
    }

    /// Waits for an event and writes some of it. Never returns where there is nothing to write. May be dropped at any time.
    pub(crate) async fn turn(&mut self) {
        if self.unwritten.is_empty() {
            self.take_next().await;
        }
        if self.unwritten.is_empty() {
            return;
        }
        // An error shows again when writing.
        _ = self.pipe.writable().await;
        match self.pipe.try_write(&self.unwritten) {
            Ok(written) => _ = self.unwritten.drain(..written),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            // The plugin has closed its end; it hears no more.
            Err(_) => {
                self.events = None;
                self.unwritten.clear();
            }
        }
    }

    async fn take_next(&mut self) {
        let Some(events) = &mut self.events else { return std::future::pending().await };
        match events.recv().await {
            Ok(event) if self.kinds.iter().any(|kind| kind == "*" || kind == event.kind) => {
                self.unwritten.extend_from_slice(event.line.as_bytes());
                self.unwritten.push(b'\n');
            }
            Ok(_) => {}
            Err(RecvError::Lagged(count)) => {
                self.lost += count;
                self.unwritten = format!("{{\"event\":\"lost\",\"lost\":{count}}}\n").into_bytes();
            }
            Err(RecvError::Closed) => self.events = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::fs::File;
    use std::io::Read;

    fn rig(kinds: &[&str]) -> (EventSink, Feed, File) {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let sink = EventSink::default();
        let kinds: Vec<_> = kinds.iter().map(|k| (*k).to_owned()).collect();
        let feed = Feed::new(write, &sink, &kinds).unwrap();
        (sink, feed, read.into())
    }

    fn seen(read: &mut File) -> String {
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = read.read(&mut buffer) {
            text.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn only_the_kinds_asked_for() {
        let (sink, mut feed, mut read) = rig(&["store"]);
        assert!(sink.is_wanted());
        assert!(sink.publish("evict", "{\"n\":1}") && sink.publish("store", "{\"n\":2}"));
        assert!(!sink.publish("store", "two\nlines"));
        feed.turn().await;
        feed.turn().await;
        assert_eq!(seen(&mut read), "{\"n\":2}\n");
    }

    #[tokio::test]
    async fn a_slow_reader_loses_events_and_is_told() {
        let (sink, mut feed, mut read) = rig(&["*"]);
        for n in 0..EVENTS_KEPT_MAX + 10 {
            sink.publish("store", &format!("{{\"n\":{n}}}"));
        }
        feed.turn().await;
        feed.turn().await;
        assert_eq!(seen(&mut read), "{\"event\":\"lost\",\"lost\":10}\n{\"n\":10}\n");
        assert_eq!(feed.lost, 10);
    }

    #[tokio::test]
    async fn a_full_pipe_delays_and_a_closed_one_ends() {
        let (sink, mut feed, mut read) = rig(&["*"]);
        let long = format!("{{\"x\":\"{}\"}}", "y".repeat(EVENT_MAX_BYTES - 10));
        sink.publish("a", &long);
        sink.publish("a", &long);
        while tokio::time::timeout(std::time::Duration::from_millis(50), feed.turn()).await.is_ok() {}
        let first = seen(&mut read);
        feed.turn().await;
        assert!((first + &seen(&mut read)).starts_with(&format!("{long}\n{{\"x\"")));
        drop(read);
        while !feed.unwritten.is_empty() {
            feed.turn().await;
        }
        sink.publish("a", "{}");
        let silent = tokio::time::timeout(std::time::Duration::from_millis(50), async {
            loop {
                feed.turn().await;
            }
        });
        assert!(silent.await.is_err());
        assert!(!sink.is_wanted());
    }

    #[test]
    fn nobody_listens() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let sink = EventSink::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _guard = runtime.enter();
        let _feed = Feed::new(write, &sink, &[]).unwrap();
        assert!(!sink.is_wanted());
        assert!(sink.publish("store", "{}"));
        drop(read);
    }
}
