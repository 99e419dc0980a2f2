//! Events for plugins: one JSON object a line on standard input, for those whose manifest asks.
//!
//! Reads the stream at the plugin's pace and never waits for it; what the plugin is too slow for is lost, and
//! it is told how many.

use std::os::fd::OwnedFd;

use tokio::net::unix::pipe;

use larder_telemetry::events::{Delivery, Listener};

/// The standard input of one run and what is written to it.
#[derive(Debug)]
pub(crate) struct Feed {
    pipe: pipe::Sender,
    events: Option<Listener>,
    /// The rest of a line that the pipe has not taken yet.
    unwritten: Vec<u8>,
    /// Events this run has lost.
    pub(crate) lost: u64,
}

impl Feed {
    /// Writes what `events` hears; without them standard input stays silent.
    pub(crate) fn new(stdin: OwnedFd, events: Option<Listener>) -> std::io::Result<Self> {
        Ok(Self { pipe: pipe::Sender::from_owned_fd(stdin)?, events, unwritten: Vec::new(), lost: 0 })
    }

    /// Waits for an event and writes some of it. Never returns where there is nothing to write. May be
    /// dropped at any time.
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
        match events.next().await {
            Delivery::Event(event) => {
                self.unwritten.extend_from_slice(event.json.as_bytes());
                self.unwritten.push(b'\n');
            }
            Delivery::Lost(count) => {
                self.lost += count;
                self.unwritten = format!("{{\"event\":\"lost\",\"lost\":{count}}}\n").into_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_telemetry::events::{Bookmark, EventLog, LINE_BYTES_MAX, LINES_MAX};
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::fs::File;
    use std::io::Read;

    fn rig(kinds: &[&str]) -> (EventLog, Feed, File) {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let log = EventLog::default();
        let kinds: Vec<_> = kinds.iter().map(|k| (*k).to_owned()).collect();
        let events = (!kinds.is_empty()).then(|| Listener::new(Bookmark::new(&log), kinds));
        let feed = Feed::new(write, events).unwrap();
        (log, feed, read.into())
    }

    fn publish(log: &EventLog, kind: &'static str, json: &str) -> bool {
        log.publish(kind, |_| Some(json.to_owned()))
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
        let (log, mut feed, mut read) = rig(&["store"]);
        assert!(log.is_wanted());
        assert!(publish(&log, "evict", "{\"n\":1}") && publish(&log, "store", "{\"n\":2}"));
        feed.turn().await;
        assert_eq!(seen(&mut read), "{\"n\":2}\n");
    }

    #[tokio::test]
    async fn a_slow_reader_loses_events_and_is_told() {
        let (log, mut feed, mut read) = rig(&["*"]);
        for n in 0..LINES_MAX + 10 {
            publish(&log, "store", &format!("{{\"n\":{n}}}"));
        }
        feed.turn().await;
        feed.turn().await;
        assert_eq!(seen(&mut read), "{\"event\":\"lost\",\"lost\":10}\n{\"n\":10}\n");
        assert_eq!(feed.lost, 10);
    }

    #[tokio::test]
    async fn a_full_pipe_delays_and_a_closed_one_ends() {
        let (log, mut feed, mut read) = rig(&["*"]);
        let long = format!("{{\"x\":\"{}\"}}", "y".repeat(LINE_BYTES_MAX - 10));
        let count = 40;
        for _ in 0..count {
            publish(&log, "a", &long);
        }
        while tokio::time::timeout(std::time::Duration::from_millis(50), feed.turn()).await.is_ok() {}
        let mut all = seen(&mut read);
        assert!(all.lines().count() < count, "a pipe takes less");
        while all.lines().count() < count || !all.ends_with('\n') {
            feed.turn().await;
            all += &seen(&mut read);
        }
        assert!(all.lines().all(|line| line == long));
        drop(read);
        publish(&log, "a", "{}");
        feed.turn().await;
        let silent = tokio::time::timeout(std::time::Duration::from_millis(50), feed.turn());
        assert!(silent.await.is_err());
        assert!(!log.is_wanted());
    }

    #[tokio::test]
    async fn nobody_listens() {
        let (log, _feed, _read) = rig(&[]);
        assert!(!log.is_wanted());
    }
}
