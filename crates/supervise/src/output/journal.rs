//! The latest lines of one plugin, in bounded memory, with counts of everything that went by.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Notify;

use super::severity::Severity;
use crate::lock::lock;
use crate::text::{escaped, moment};

/// Lines kept for each plugin.
pub(crate) const JOURNAL_MAX_LINES: usize = 500;
/// Bytes of text kept for each plugin.
pub(crate) const JOURNAL_MAX_BYTES: usize = 128 * 1024;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Stream {
    Stdout,
    Stderr,
    /// Said by the supervisor: what became of the plugin.
    Lifecycle,
}

/// One line as it was logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// When it came: RFC 3339 with milliseconds, in UTC.
    pub time: String,
    /// Its number among all lines of this plugin, from 1; gaps are suppressed lines.
    pub sequence: u64,
    /// Where it came from.
    pub stream: Stream,
    /// How serious it is.
    pub severity: Severity,
    /// The text, escaped and perhaps cut.
    pub text: String,
}

/// What went by so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LineCounts {
    /// Lines on standard output.
    pub stdout: u64,
    /// Lines on standard error.
    pub stderr: u64,
    /// Lines that the supervisor added.
    pub lifecycle: u64,
    /// Lines that were cut.
    pub truncated: u64,
    /// Lines that were counted and not logged.
    pub suppressed: u64,
    /// Bytes on both streams.
    pub bytes: u64,
}

/// The record of one plugin's output. Shared between its task and whoever reads.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    inner: Mutex<Inner>,
    appended: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<LogLine>,
    bytes: usize,
    counts: LineCounts,
}

impl Journal {
    /// Changes the counts.
    pub(crate) fn count(&self, change: impl FnOnce(&mut LineCounts)) {
        change(&mut self.inner().counts);
    }

    /// The counts so far.
    pub(crate) fn counts(&self) -> LineCounts {
        self.inner().counts
    }

    /// Appends a line, dropping the oldest ones beyond the limits.
    pub(crate) fn append(&self, stream: Stream, severity: Severity, text: &str) {
        let mut inner = self.inner();
        let sequence = inner.counts.stdout + inner.counts.stderr + inner.counts.lifecycle;
        let time = moment(Timestamp::now());
        inner.bytes += text.len();
        inner.lines.push_back(LogLine { time, sequence, stream, severity, text: text.to_owned() });
        while inner.lines.len() > JOURNAL_MAX_LINES || inner.bytes > JOURNAL_MAX_BYTES {
            let Some(oldest) = inner.lines.pop_front() else { break };
            inner.bytes -= oldest.text.len();
        }
        drop(inner);
        self.appended.notify_waiters();
    }

    /// Adds what became of the plugin to what it printed.
    pub(crate) fn note(&self, severity: Severity, text: &str) {
        self.count(|counts| counts.lifecycle += 1);
        self.append(Stream::Lifecycle, severity, &escaped(text));
    }

    /// The lines after the one with this number, as soon as there are any.
    pub(crate) async fn after(&self, sequence: u64) -> Vec<LogLine> {
        loop {
            let mut appended = pin!(self.appended.notified());
            // Before looking, so that no line falls between looking and waiting.
            appended.as_mut().enable();
            let lines: Vec<_> =
                self.inner().lines.iter().filter(|l| l.sequence > sequence).cloned().collect();
            if !lines.is_empty() {
                return lines;
            }
            appended.await;
        }
    }

    /// The newest `count` lines, oldest first.
    pub(crate) fn tail(&self, count: usize) -> Vec<LogLine> {
        let inner = self.inner();
        inner.lines.iter().skip(inner.lines.len().saturating_sub(count)).cloned().collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_follower_gets_every_line_once() {
        let journal = Arc::new(Journal::default());
        let writer = Arc::clone(&journal);
        let writing = tokio::spawn(async move {
            for i in 1..=100 {
                writer.count(|c| c.stdout += 1);
                writer.append(Stream::Stdout, Severity::Info, &i.to_string());
                if i % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut seen: Vec<u64> = Vec::new();
        while seen.len() < 100 {
            let last = seen.last().copied().unwrap_or(0);
            seen.extend(journal.after(last).await.iter().map(|l| l.sequence));
        }
        assert_eq!(seen, (1..=100).collect::<Vec<_>>());
        writing.await.unwrap();
    }

    #[test]
    fn memory_is_bounded_by_lines_and_by_bytes() {
        let journal = Journal::default();
        for i in 0..2 * JOURNAL_MAX_LINES {
            journal.count(|c| c.stdout += 1);
            journal.append(Stream::Stdout, Severity::Info, &i.to_string());
        }
        let tail = journal.tail(usize::MAX);
        assert_eq!(tail.len(), JOURNAL_MAX_LINES);
        assert_eq!(tail.last().map(|l| (l.sequence, l.text.as_str())), Some((1000, "999")));
        let long = "x".repeat(JOURNAL_MAX_BYTES / 4);
        for _ in 0..20 {
            journal.append(Stream::Stderr, Severity::Warn, &long);
        }
        assert_eq!(journal.tail(usize::MAX).len(), 4);
        assert_eq!(journal.tail(1).len(), 1);
    }
}
