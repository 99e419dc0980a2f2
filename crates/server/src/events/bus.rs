//! The stream: the latest lines, a position for each, and a wake-up for readers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::Notify;

use super::event::Event;

/// Most lines kept for readers that are behind.
const LINES_MAX: usize = 4_096;

/// Longest line; an event with longer names in it is not published but counted.
const LINE_BYTES_MAX: usize = 4_096;

/// One event as it goes out.
#[derive(Clone, Debug)]
pub struct Line {
    /// Position in the stream, from 1, without gaps.
    pub seq: u64,
    /// Its kind.
    pub kind: &'static str,
    /// One JSON object, without a line end.
    pub json: Arc<str>,
}

/// What a reader gets.
#[derive(Clone, Debug)]
pub struct Page {
    /// Lines after the cursor, oldest first.
    pub lines: Vec<Line>,
    /// Where to go on.
    pub next_cursor: u64,
    /// Lines between the cursor and the first of these that are gone.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    last_seq: u64,
}

/// The node's event stream.
#[derive(Debug, Default)]
pub struct EventBus {
    kept: Mutex<Kept>,
    readers: AtomicUsize,
    oversized: AtomicUsize,
    published: Notify,
}

/// Keeps the stream running while it is held.
#[derive(Debug)]
pub struct Subscription(Arc<EventBus>);

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

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
        if self.readers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let event = event();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let stamped = Stamped { seq: kept.last_seq + 1, time: since_1970.as_secs_f64(), event: &event };
        let Ok(json) = serde_json::to_string(&stamped) else { return };
        if json.len() > LINE_BYTES_MAX {
            self.oversized.fetch_add(1, Ordering::Relaxed);
            return;
        }
        kept.last_seq += 1;
        if kept.lines.len() == LINES_MAX {
            kept.lines.pop_front();
        }
        let seq = kept.last_seq;
        kept.lines.push_back(Line { seq, kind: event.kind(), json: json.into() });
        drop(kept);
        self.published.notify_waiters();
    }

    /// Keeps events coming until the subscription is dropped.
    pub fn subscribe(self: &Arc<Self>) -> Subscription {
        self.readers.fetch_add(1, Ordering::Relaxed);
        Subscription(Arc::clone(self))
    }

    /// Readers at the moment.
    pub fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }

    /// Events that were too long to publish.
    pub fn oversized(&self) -> usize {
        self.oversized.load(Ordering::Relaxed)
    }

    /// The last position given out: a cursor for what comes next.
    pub fn position(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).last_seq
    }

    /// Up to `max` lines after `cursor`. A cursor from the future, as of another run, starts at the oldest line.
    pub fn read(&self, cursor: u64, max: usize) -> Page {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let cursor = if cursor > kept.last_seq { 0 } else { cursor };
        let oldest = kept.last_seq + 1 - kept.lines.len() as u64;
        let lost = oldest.saturating_sub(cursor + 1);
        let from = (cursor + 1).saturating_sub(oldest) as usize;
        let lines: Vec<Line> = kept.lines.iter().skip(from).take(max).cloned().collect();
        let next_cursor = lines.last().map_or(kept.last_seq, |line| line.seq);
        Page { lines, next_cursor, lost }
    }

    /// As [`Self::read`], once there is something.
    pub async fn next(&self, cursor: u64, max: usize) -> Page {
        loop {
            let published = self.published.notified();
            tokio::pin!(published);
            published.as_mut().enable();
            let page = self.read(cursor, max);
            if !page.lines.is_empty() {
                return page;
            }
            published.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clear(bus: &EventBus, times: usize) {
        for _ in 0..times {
            bus.publish(|| Event::Clear { force: false });
        }
    }

    #[test]
    fn nothing_is_made_while_nobody_listens() {
        let bus = Arc::new(EventBus::default());
        bus.publish(|| unreachable!("nobody listens"));
        let subscription = bus.subscribe();
        clear(&bus, 1);
        drop(subscription);
        clear(&bus, 1);
        let page = bus.read(0, 10);
        assert_eq!((page.lines.len(), page.next_cursor, page.lost), (1, 1, 0));
        let json: serde_json::Value = serde_json::from_str(&page.lines[0].json).unwrap();
        assert_eq!(
            (&json["event"], &json["seq"], &json["force"]),
            (&"clear".into(), &1.into(), &false.into())
        );
    }

    #[test]
    fn a_slow_reader_is_told_what_it_lost() {
        let bus = Arc::new(EventBus::default());
        let _subscription = bus.subscribe();
        clear(&bus, LINES_MAX + 5);
        let page = bus.read(2, 10);
        assert_eq!((page.lost, page.lines[0].seq, page.next_cursor), (3, 6, 15));
        assert_eq!(bus.read(page.next_cursor, 1).lines[0].seq, 16);
    }

    #[test]
    fn hostile_names_do_not_grow_the_stream() {
        let bus = Arc::new(EventBus::default());
        let _subscription = bus.subscribe();
        let name = "x".repeat(10_000);
        bus.publish(|| Event::Instance { instance_id: 1, change: "registered", model_name: &name });
        assert_eq!((bus.position(), bus.oversized()), (0, 1));
    }
}
