//! What happens, as a bounded stream of lines with a position each, for readers that come and go.
//!
//! Publishing never waits, and makes nothing while nobody listens. A reader has a cursor of its own; one that
//! is slow loses the oldest events and is told how many.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::lock::lock;

/// Most lines kept for readers that are behind.
pub const LINES_MAX: usize = 4_096;

/// Longest line; a longer one is not published but counted.
pub const LINE_BYTES_MAX: usize = 4_096;

/// Lines a reader takes at once.
const PAGE_LINES: usize = 64;

/// One event as it goes out.
#[derive(Clone, Debug)]
pub struct EventLine {
    /// Position in the stream, from 1, without gaps.
    pub seq: u64,
    /// Its kind.
    pub kind: &'static str,
    /// One JSON object, without a line end.
    pub json: Arc<str>,
}

/// What a reader gets.
#[derive(Clone, Debug)]
pub struct EventPage {
    /// Lines after the cursor, oldest first.
    pub lines: Vec<EventLine>,
    /// Where to go on.
    pub next_cursor: u64,
    /// Lines between the cursor and the first of these that are gone.
    pub lost: u64,
}

/// The stream. Cheap to clone, usable from any thread.
#[derive(Clone, Debug, Default)]
pub struct EventLog(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    kept: Mutex<Kept>,
    readers: AtomicUsize,
    oversized: AtomicUsize,
    published: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<EventLine>,
    last_seq: u64,
}

/// Keeps the stream running while it is held.
#[derive(Debug)]
pub struct Listening(Arc<Inner>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EventLog {
    /// Publishes what `render` makes of its position, if anybody listens; `false` if it is longer than a line
    /// may be.
    pub fn publish(&self, kind: &'static str, render: impl FnOnce(u64) -> Option<String>) -> bool {
        if !self.is_wanted() {
            return true;
        }
        let mut kept = self.kept();
        let seq = kept.last_seq + 1;
        let Some(json) = render(seq) else { return false };
        if json.len() > LINE_BYTES_MAX || json.contains('\n') {
            self.0.oversized.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        kept.last_seq = seq;
        if kept.lines.len() == LINES_MAX {
            kept.lines.pop_front();
        }
        kept.lines.push_back(EventLine { seq, kind, json: json.into() });
        drop(kept);
        self.0.published.notify_waiters();
        true
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.readers() > 0
    }

    /// Keeps events coming until what is returned is dropped.
    #[must_use]
    pub fn listen(&self) -> Listening {
        self.0.readers.fetch_add(1, Ordering::Relaxed);
        Listening(Arc::clone(&self.0))
    }

    /// Readers at the moment.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.0.readers.load(Ordering::Relaxed)
    }

    /// Events that were too long to publish.
    #[must_use]
    pub fn oversized(&self) -> usize {
        self.0.oversized.load(Ordering::Relaxed)
    }

    /// The last position given out: a cursor for what comes next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.kept().last_seq
    }

    /// Up to `max` lines after `cursor`. A cursor from the future, as of another run, starts at the oldest
    /// line.
    #[must_use]
    pub fn read(&self, cursor: u64, max: usize) -> EventPage {
        let kept = self.kept();
        let cursor = if cursor > kept.last_seq { 0 } else { cursor };
        let oldest = kept.last_seq + 1 - kept.lines.len() as u64;
        let lost = oldest.saturating_sub(cursor + 1);
        let from = usize::try_from((cursor + 1).saturating_sub(oldest)).unwrap_or(usize::MAX);
        let lines: Vec<EventLine> = kept.lines.iter().skip(from).take(max).cloned().collect();
        let next_cursor = lines.last().map_or(kept.last_seq, |line| line.seq);
        EventPage { lines, next_cursor, lost }
    }

    /// As [`Self::read`], once there is something.
    pub async fn next(&self, cursor: u64, max: usize) -> EventPage {
        loop {
            let published = self.0.published.notified();
            tokio::pin!(published);
            published.as_mut().enable();
            let page = self.read(cursor, max);
            if !page.lines.is_empty() {
                return page;
            }
            published.await;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.0.kept)
    }
}

/// Where a reader is, and the promise that what follows is kept. Outlives the reader, so that another can go
/// on.
#[derive(Clone, Debug)]
pub struct Bookmark(Arc<Place>);

#[derive(Debug)]
struct Place {
    log: EventLog,
    cursor: AtomicU64,
    _listening: Listening,
}

impl Bookmark {
    /// What comes from now on.
    #[must_use]
    pub fn new(log: &EventLog) -> Self {
        // Before the position is looked at: from then on nothing is left out.
        let listening = log.listen();
        let cursor = AtomicU64::new(log.position());
        Self(Arc::new(Place { log: log.clone(), cursor, _listening: listening }))
    }

    /// The position of what was heard last.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.0.cursor.load(Ordering::Relaxed)
    }

    /// Goes to another position.
    pub fn set(&self, cursor: u64) {
        self.0.cursor.store(cursor, Ordering::Relaxed);
    }
}

/// The bookmark of one plugin, through all runs between which it is not put to rest.
#[derive(Debug, Default)]
pub struct KeptBookmark(Mutex<Option<Bookmark>>);

impl KeptBookmark {
    /// Goes on where the run before was, or begins now.
    pub fn begin(&self, log: &EventLog) -> Bookmark {
        self.kept().get_or_insert_with(|| Bookmark::new(log)).clone()
    }

    /// What comes from now on is not missed.
    pub fn end(&self) {
        *self.kept() = None;
    }

    fn kept(&self) -> MutexGuard<'_, Option<Bookmark>> {
        lock(&self.0)
    }
}

/// One reader of some kinds of events.
#[derive(Debug)]
pub struct Listener {
    place: Bookmark,
    kinds: Vec<String>,
    read: VecDeque<EventLine>,
}

/// What a reader hears of.
#[derive(Debug)]
pub enum Delivery {
    /// The next event.
    Event(EventLine),
    /// So many events, of whatever kinds, are gone.
    Lost(u64),
}

impl Listener {
    /// Reads `kinds`, `*` being all, from the bookmark on.
    #[must_use]
    pub fn new(place: Bookmark, kinds: Vec<String>) -> Self {
        Self { place, kinds, read: VecDeque::new() }
    }

    /// The next event of its kinds, or what was lost before it. May be dropped at any time.
    pub async fn next(&mut self) -> Delivery {
        loop {
            while let Some(line) = self.read.pop_front() {
                self.place.set(line.seq);
                if self.kinds.iter().any(|kind| kind == "*" || kind == line.kind) {
                    return Delivery::Event(line);
                }
            }
            let cursor = self.place.cursor();
            let EventPage { lines, lost, .. } = self.place.0.log.next(cursor, PAGE_LINES).await;
            self.read = lines.into();
            if lost > 0 {
                self.place.set(cursor + lost);
                return Delivery::Lost(lost);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(log: &EventLog, kind: &'static str, times: usize) {
        for _ in 0..times {
            log.publish(kind, |seq| Some(format!("{{\"seq\":{seq}}}")));
        }
    }

    #[test]
    fn nothing_is_made_while_nobody_listens() {
        let log = EventLog::default();
        log.publish("a", |_| unreachable!("nobody listens"));
        let listening = log.listen();
        publish(&log, "a", 1);
        drop(listening);
        publish(&log, "a", 1);
        let page = log.read(0, 10);
        assert_eq!((page.lines.len(), page.next_cursor, page.lost), (1, 1, 0));
        assert_eq!(&*page.lines[0].json, "{\"seq\":1}");
    }

    #[test]
    fn a_slow_reader_is_told_what_it_lost() {
        let log = EventLog::default();
        let _listening = log.listen();
        publish(&log, "a", LINES_MAX + 5);
        let page = log.read(2, 10);
        assert_eq!((page.lost, page.lines[0].seq, page.next_cursor), (3, 6, 15));
        assert_eq!(log.read(page.next_cursor, 1).lines[0].seq, 16);
    }

    #[test]
    fn lines_are_lines_and_not_too_long() {
        let log = EventLog::default();
        let _listening = log.listen();
        for text in ["x".repeat(LINE_BYTES_MAX + 1), "two\nlines".to_owned()] {
            assert!(!log.publish("a", |_| Some(text)));
        }
        assert_eq!((log.position(), log.oversized()), (0, 2));
    }

    #[tokio::test]
    async fn a_listener_hears_its_kinds_from_its_first_moment_and_can_go_on_where_it_was() {
        let log = EventLog::default();
        let bookmark = KeptBookmark::default();
        let mut first = Listener::new(bookmark.begin(&log), vec!["a".to_owned()]);
        publish(&log, "b", 1);
        publish(&log, "a", 2);
        assert!(matches!(first.next().await, Delivery::Event(EventLine { seq: 2, .. })));
        drop(first);
        publish(&log, "c", 1);
        let mut second = Listener::new(bookmark.begin(&log), vec!["*".to_owned()]);
        assert!(matches!(second.next().await, Delivery::Event(EventLine { seq: 3, .. })));
        assert!(matches!(second.next().await, Delivery::Event(EventLine { seq: 4, .. })));
        publish(&log, "b", LINES_MAX + 2);
        assert!(matches!(second.next().await, Delivery::Lost(2)));
        assert!(matches!(second.next().await, Delivery::Event(EventLine { seq: 7, .. })));
        bookmark.end();
        drop(second);
        assert!(!log.is_wanted());
    }
}
