//! Metrics that a plugin writes to a descriptor, one line `name{labels} value` at a time; the latest value of
//! each series counts.
//!
//! Owns the limits: lines a second, bytes of a line, series kept. What exceeds them is counted and never
//! makes the plugin wait for long.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use crate::lock::lock;
use crate::output::{Line, LineSplitter, SLICE};
use larder_telemetry::exposition::{LINE_MAX_BYTES, Number, SERIES_MAX, declaration, series_and_value};
use larder_telemetry::{LineRate, TokenBucket};

/// Bytes read at once.
const READ_BYTES: usize = 4 * 1024;
/// Reads in one turn, unless its time is over earlier. A pipe holds no more.
const TURN_READS: usize = 16;

/// Lines that a plugin has written to its metrics descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MetricLineCounts {
    /// Lines taken.
    pub taken: u64,
    /// Lines left out: malformed, too long, too many a second, or of one series too many.
    pub dropped: u64,
}

/// The latest values of one plugin, for scrapes.
#[derive(Debug, Default)]
pub(crate) struct LatestMetrics(Mutex<Series>);

#[derive(Debug, Default)]
struct Series {
    /// `TYPE` and `HELP`, by keyword and name.
    comments: BTreeMap<String, String>,
    /// In the order in which they first came.
    values: Vec<(String, Number)>,
    index: HashMap<String, usize>,
    /// What the plugin's own endpoint said last.
    scraped: String,
    counts: MetricLineCounts,
}

impl LatestMetrics {
    /// The text of all series.
    pub(crate) fn text(&self) -> String {
        let series = self.series();
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        for (what, rest) in &series.comments {
            _ = writeln!(text, "# {what} {rest}");
        }
        for (name, value) in &series.values {
            _ = writeln!(text, "{name} {value}");
        }
        text + &series.scraped
    }

    /// Replaces what came from the plugin's own endpoint.
    pub(crate) fn set_scraped(&self, text: String) {
        self.series().scraped = text;
    }

    pub(crate) fn counts(&self) -> MetricLineCounts {
        self.series().counts
    }

    /// Forgets the values, for a new run. Counts stay.
    pub(crate) fn clear(&self) {
        let mut series = self.series();
        *series = Series {
            counts: series.counts,
            scraped: std::mem::take(&mut series.scraped),
            ..Series::default()
        };
    }

    /// Takes a line; an empty one says nothing.
    fn take(&self, line: &Line<'_>, allowed: bool) {
        if line.bytes.trim_ascii().is_empty() && line.dropped == 0 {
            return;
        }
        let mut series = self.series();
        let taken = allowed && line.dropped == 0 && series.take(&String::from_utf8_lossy(line.bytes));
        series.counts.taken += u64::from(taken);
        series.counts.dropped += u64::from(!taken);
    }

    fn series(&self) -> MutexGuard<'_, Series> {
        lock(&self.0)
    }
}

impl Series {
    fn take(&mut self, line: &str) -> bool {
        if let Some(comment) = line.strip_prefix('#') {
            return self.comment(comment.trim());
        }
        let Some((name, value)) = series_and_value(line.trim()) else { return false };
        if let Some(index) = self.index.get(name) {
            self.values[*index].1 = value;
            return true;
        }
        if self.values.len() >= SERIES_MAX {
            return false;
        }
        self.index.insert(name.to_owned(), self.values.len());
        self.values.push((name.to_owned(), value));
        true
    }

    fn comment(&mut self, comment: &str) -> bool {
        let Some((keyword, name, rest)) = declaration(comment) else { return true };
        let what = format!("{keyword} {name}");
        if self.comments.len() >= SERIES_MAX && !self.comments.contains_key(&what) {
            return false;
        }
        self.comments.insert(what, rest.to_owned());
        true
    }
}

/// The reading end of one run's descriptor.
#[derive(Debug)]
pub(crate) struct MetricLines {
    pipe: Option<pipe::Receiver>,
    splitter: LineSplitter,
    bucket: TokenBucket,
    begun: Instant,
    latest_metrics: Arc<LatestMetrics>,
}

impl MetricLines {
    /// Reads lines into `latest_metrics`, which it empties.
    pub(crate) fn new(pipe: OwnedFd, latest_metrics: Arc<LatestMetrics>) -> io::Result<Self> {
        latest_metrics.clear();
        Ok(Self {
            pipe: Some(pipe::Receiver::from_owned_fd(pipe)?),
            splitter: LineSplitter::new(LINE_MAX_BYTES),
            bucket: TokenBucket::new(LineRate::default(), Duration::ZERO),
            begun: Instant::now(),
            latest_metrics,
        })
    }

    /// Waits for lines and takes some. Never returns once the plugin has closed its end. May be dropped at
    /// any time.
    pub(crate) async fn turn(&mut self) {
        let Some(pipe) = &self.pipe else { return std::future::pending().await };
        // An error shows again when reading.
        _ = pipe.readable().await;
        let begun = Instant::now();
        for _ in 0..TURN_READS {
            if !self.read(pipe::Receiver::try_read) || begun.elapsed() >= SLICE {
                return;
            }
        }
    }

    /// Takes what the pipe still holds.
    pub(crate) fn close(mut self) {
        // Past the runtime, which may not have seen yet that there is something.
        let read = |pipe: &pipe::Receiver, bytes: &mut [u8]| Ok(rustix::io::read(pipe, bytes)?);
        for _ in 0..=TURN_READS {
            if !self.read(read) {
                return;
            }
        }
    }

    /// Takes some; whether there may be more.
    fn read(&mut self, read: impl FnOnce(&pipe::Receiver, &mut [u8]) -> io::Result<usize>) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut bytes = [0; READ_BYTES];
        let now = self.begun.elapsed();
        let (latest_metrics, bucket) = (&self.latest_metrics, &mut self.bucket);
        let mut take = |line: Line<'_>| latest_metrics.take(&line, bucket.take(now));
        match read(pipe, &mut bytes) {
            Ok(count @ 1..) => {
                self.splitter.push(&bytes[..count], take);
                return true;
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            _ => {
                self.splitter.finish(&mut take);
                self.pipe = None;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::fs::File;
    use std::io::Write;

    fn rig() -> (Arc<LatestMetrics>, MetricLines, File) {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let latest_metrics = Arc::new(LatestMetrics::default());
        let lines = MetricLines::new(read, Arc::clone(&latest_metrics)).unwrap();
        (latest_metrics, lines, write.into())
    }

    #[tokio::test]
    async fn the_latest_value_counts() {
        let (latest_metrics, mut lines, mut write) = rig();
        write.write_all(b"# TYPE jobs counter\njobs{k=\"a b\"} 1\nup 1\n\njobs{k=\"a b\"} 2 17\nnonsense\nx{ 1\nlate 3").unwrap();
        lines.turn().await;
        assert_eq!(latest_metrics.text(), "# TYPE jobs counter\njobs{k=\"a b\"} 2\nup 1\n");
        drop(write);
        lines.turn().await;
        assert!(latest_metrics.text().ends_with("late 3\n"), "the last line needs no end");
        assert_eq!(latest_metrics.counts(), MetricLineCounts { taken: 5, dropped: 2 });
        let (read, _write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        MetricLines::new(read, Arc::clone(&latest_metrics)).unwrap();
        assert_eq!(
            (latest_metrics.text().as_str(), latest_metrics.counts().taken),
            ("", 5),
            "a new run begins empty"
        );
    }

    #[tokio::test]
    async fn the_last_lines_of_a_run_count() {
        let (latest_metrics, lines, mut write) = rig();
        write.write_all(b"up 1").unwrap();
        drop(write);
        lines.close();
        assert_eq!(latest_metrics.text(), "up 1\n");
    }

    #[tokio::test(start_paused = true)]
    async fn series_and_lines_have_limits() {
        let (latest_metrics, mut lines, mut write) = rig();
        for i in 0..=SERIES_MAX {
            write.write_all(format!("x{{i=\"{i}\"}} 1\n").as_bytes()).unwrap();
        }
        write.write_all(&[b'y'; LINE_MAX_BYTES + 1]).unwrap();
        write.write_all(b" 1\n").unwrap();
        lines.turn().await;
        assert_eq!(latest_metrics.counts(), MetricLineCounts { taken: SERIES_MAX as u64, dropped: 2 });
        for _ in 0..20 {
            write.write_all(&b"x{i=\"0\"} 2\n".repeat(1000)).unwrap();
            lines.turn().await;
        }
        let counts = latest_metrics.counts();
        assert!(counts.dropped > 2 && counts.taken <= 12_000, "{counts:?}");
        lines.close();
    }
}
