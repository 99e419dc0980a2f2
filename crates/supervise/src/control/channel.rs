//! The control channel: one socket per run that asks for it, JSON-RPC 2.0 objects one a line in both
//! directions.
//!
//! Owns the socket, the limits and the delivery of events; what requests mean is in `session`. A plugin
//! that does not read is not read from either, loses events and is told how many. The server never waits for
//! it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::host::{Alert, ControlRecord};
use super::session::{Effect, Session};
use crate::output::LineSplitter;
use larder_telemetry::events::{Bookmark, Delivery, Listener};
use larder_telemetry::{LineRate, TokenBucket};

/// Bytes of one request; a longer one is answered as malformed.
const REQUEST_MAX_BYTES: usize = 64 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// Bytes that wait to be read by the plugin, beyond which nothing is answered and no event is sent.
const OUTPUT_MAX_BYTES: usize = 256 * 1024;
/// Requests answered; beyond them they are refused.
const REQUESTS: LineRate = LineRate { per_second: 100, burst: 200 };

/// The server's end of one run's channel.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Option<UnixStream>,
    session: Session,
    /// Where it is in the stream of events, if it may hear any.
    place: Option<Bookmark>,
    record: Arc<ControlRecord>,
    splitter: LineSplitter,
    /// Lines read and not answered yet, from one read; `None` for one that was too long.
    waiting: VecDeque<Option<String>>,
    unwritten: Vec<u8>,
    events: Option<Listener>,
    bucket: TokenBucket,
    begun: Instant,
}

impl Channel {
    /// A channel and the plugin's end of it.
    pub(crate) fn new(
        session: Session,
        place: Option<Bookmark>,
        record: Arc<ControlRecord>,
    ) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        record.clear_alert();
        let channel = Self {
            socket: Some(UnixStream::from_std(ours)?),
            session,
            place,
            record,
            splitter: LineSplitter::new(REQUEST_MAX_BYTES),
            waiting: VecDeque::new(),
            unwritten: Vec::new(),
            events: None,
            bucket: TokenBucket::new(REQUESTS, Duration::ZERO),
            begun: Instant::now(),
        };
        Ok((channel, theirs.into()))
    }

    /// Waits until something can be done and does some of it; returns an alert if one was raised. Never
    /// returns once the plugin has closed its end. May be dropped at any time.
    pub(crate) async fn turn(&mut self) -> Option<Alert> {
        let roomy = self.unwritten.len() < OUTPUT_MAX_BYTES;
        if roomy && !self.waiting.is_empty() {
            return self.answer_next();
        }
        let Some(socket) = &self.socket else { return std::future::pending().await };
        tokio::select! {
            biased;
            // An error shows again when writing or reading.
            _ = socket.writable(), if !self.unwritten.is_empty() => self.write(),
            _ = socket.readable(), if self.waiting.is_empty() => self.read(UnixStream::try_read),
            config = self.session.reconfigured(), if roomy => self.send_config(&config),
            event = next_event(&mut self.events), if roomy => self.send_event(event),
        }
        None
    }

    /// Takes the requests that the plugin left behind and returns the alerts among them.
    pub(crate) fn close(mut self) -> Vec<Alert> {
        self.session.run_over();
        // Past the runtime, which may not have seen yet that there is something.
        self.read(|socket, bytes| Ok(rustix::io::read(socket, bytes)?));
        let mut alerts = Vec::new();
        while !self.waiting.is_empty() {
            alerts.extend(self.answer_next());
            self.unwritten.clear();
        }
        alerts
    }

    fn read(&mut self, read: impl FnOnce(&UnixStream, &mut [u8]) -> io::Result<usize>) {
        let Some(socket) = &self.socket else { return };
        let mut bytes = [0; READ_BYTES];
        let waiting = &mut self.waiting;
        match read(socket, &mut bytes) {
            Ok(count @ 1..) => self.splitter.push(&bytes[..count], |line| {
                let whole = line.dropped == 0;
                if !whole || !line.bytes.trim_ascii().is_empty() {
                    waiting.push_back(whole.then(|| String::from_utf8_lossy(line.bytes).into_owned()));
                }
            }),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            _ => self.hang_up(),
        }
    }

    fn write(&mut self) {
        let Some(socket) = &self.socket else { return };
        match socket.try_write(&self.unwritten) {
            Ok(written) => _ = self.unwritten.drain(..written),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.hang_up(),
        }
        if self.unwritten.is_empty() {
            // An idle channel keeps no buffer.
            self.unwritten = Vec::new();
        }
    }

    fn hang_up(&mut self) {
        if self.socket.is_some() {
            self.session.run_over();
        }
        self.socket = None;
        self.events = None;
        self.unwritten = Vec::new();
    }

    fn answer_next(&mut self) -> Option<Alert> {
        let line = self.waiting.pop_front()?;
        let allowed = self.bucket.take(self.begun.elapsed());
        let reply = self.session.take(line.as_deref(), allowed);
        self.record.count(|c| match reply.malformed {
            true => c.malformed += 1,
            false if !allowed => c.refused += 1,
            false => c.requests += 1,
        });
        if let Some(text) = reply.text {
            self.send(&text);
        }
        match reply.effect? {
            Effect::Subscribe { kinds, after } => {
                let place = self.place.clone().filter(|_| !kinds.is_empty());
                if let (Some(place), Some(after)) = (&place, after) {
                    place.set(after);
                }
                self.events = place.map(|place| Listener::new(place, kinds));
                None
            }
            Effect::Alert(alert) => {
                self.record.raise(&alert);
                Some(alert)
            }
        }
    }

    fn send_config(&mut self, config: &Value) {
        self.send(&format!(r#"{{"jsonrpc":"2.0","method":"config","params":{{"config":{config}}}}}"#));
    }

    fn send_event(&mut self, heard: Delivery) {
        match heard {
            Delivery::Event(event) => {
                self.record.count(|c| c.events += 1);
                let kind = Value::from(event.kind);
                self.send(&format!(
                    r#"{{"jsonrpc":"2.0","method":"event","params":{{"kind":{kind},"event":{}}}}}"#,
                    event.json
                ));
            }
            Delivery::Lost(count) => {
                self.record.count(|c| c.lost_events += count);
                self.send(&format!(r#"{{"jsonrpc":"2.0","method":"dropped","params":{{"count":{count}}}}}"#));
            }
        }
    }

    fn send(&mut self, line: &str) {
        if self.socket.is_some() {
            self.unwritten.extend_from_slice(line.as_bytes());
            self.unwritten.push(b'\n');
        }
    }
}

async fn next_event(events: &mut Option<Listener>) -> Delivery {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
