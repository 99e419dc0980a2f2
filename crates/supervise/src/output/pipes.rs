//! A plugin's two output pipes, read line by line into the log and the journal.
//!
//! Owns the limits: length of a line, lines a second, bytes a second while a flood is being thrown away. The
//! plugin is never blocked for long, and nothing it prints takes more memory or attention than the limits
//! allow. Every line is either logged or counted as suppressed.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::journal::{Journal, Stream};
use super::line::{Line, LineSplitter};
use super::pace::SLICE;
use super::severity::{Severity, classify};
use crate::text::{escaped, glob};
use larder_telemetry::{LineRate, TokenBucket};

/// Bytes read at once.
const READ_BYTES: usize = 4 * 1024;
/// Bytes taken from one pipe before everything else gets a turn, unless its time is over earlier.
const TURN_BYTES: usize = 256 * 1024;
/// Bytes at the beginning of a line in which an awaited text is searched for: a search costs as much as both
/// lengths multiplied.
const SEARCHED_MAX_BYTES: usize = 4 * 1024;
/// How long suppressed lines go unmentioned.
const SUPPRESSED_NOTICE_AFTER: Duration = Duration::from_secs(1);

/// How much of a plugin's output is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    /// Bytes of one line; the rest is cut off and counted.
    pub line_max_bytes: usize,
    /// Lines logged over time.
    pub rate: LineRate,
    /// Severity of lines on standard error that do not say themselves.
    pub stderr_severity: Severity,
}

impl Default for OutputLimits {
    /// 16 KiB a line; [`LineRate::default`]; standard error is a warning.
    fn default() -> Self {
        Self { line_max_bytes: 16 * 1024, rate: LineRate::default(), stderr_severity: Severity::Warn }
    }
}

/// Both pipes of one run. Empty once both have reached their end.
#[derive(Debug, Default)]
pub(crate) struct Output {
    stdout: Option<Source>,
    stderr: Option<Source>,
}

#[derive(Debug)]
struct Source {
    pipe: pipe::Receiver,
    splitter: LineSplitter,
    stream: Stream,
}

impl Output {
    /// Takes the reading ends.
    pub(crate) fn new(stdout: OwnedFd, stderr: OwnedFd, limits: &OutputLimits) -> io::Result<Self> {
        let source = |fd, stream| -> io::Result<_> {
            let pipe = pipe::Receiver::from_owned_fd(fd)?;
            Ok(Some(Source { pipe, splitter: LineSplitter::new(limits.line_max_bytes), stream }))
        };
        Ok(Self { stdout: source(stdout, Stream::Stdout)?, stderr: source(stderr, Stream::Stderr)? })
    }

    /// Whether both pipes have reached their end.
    pub(crate) fn has_ended(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Waits for output and relays some. Never returns once both pipes have ended. May be dropped at any
    /// time.
    pub(crate) async fn turn(&mut self, log: &mut LineLog) {
        let notice_at = log.notice_at;
        let notice = async {
            match notice_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let slot = tokio::select! {
            () = readable(&self.stdout) => &mut self.stdout,
            () = readable(&self.stderr) => &mut self.stderr,
            () = notice => return log.mention_suppressed(),
        };
        let Some(source) = slot else { return };
        if source.relay(log, SLICE) {
            *slot = None;
        }
        if self.has_ended() {
            log.mention_suppressed();
        }
    }

    /// Takes what both pipes hold at this moment and gives them up.
    pub(crate) fn close(&mut self, log: &mut LineLog) {
        for mut source in [self.stdout.take(), self.stderr.take()].into_iter().flatten() {
            let stream = source.stream;
            source.relay(log, Duration::MAX);
            source.splitter.finish(|line| log.line(stream, line));
        }
        log.mention_suppressed();
    }
}

async fn readable(source: &Option<Source>) {
    match source {
        // An error shows again when reading.
        Some(source) => _ = source.pipe.readable().await,
        None => std::future::pending().await,
    }
}

impl Source {
    /// One turn of so much time; whether the pipe has reached its end.
    fn relay(&mut self, log: &mut LineLog, time: Duration) -> bool {
        let mut buffer = [0; READ_BYTES];
        let (mut taken, begun) = (0, Instant::now());
        let stream = self.stream;
        while taken < TURN_BYTES && begun.elapsed() < time {
            match self.pipe.try_read(&mut buffer) {
                Ok(0) => {
                    self.splitter.finish(|line| log.line(stream, line));
                    return true;
                }
                Ok(count) => {
                    taken += count;
                    log.journal.count(|c| c.bytes += count as u64);
                    self.splitter.push(&buffer[..count], |line| log.line(stream, line));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        false
    }
}

/// Where a plugin's lines go: the log, in the shape `[<path>] <line>`, and its journal.
#[derive(Debug)]
pub(crate) struct LineLog {
    /// The path as shown.
    label: String,
    journal: Arc<Journal>,
    limits: OutputLimits,
    bucket: TokenBucket,
    epoch: Instant,
    /// Suppressed lines of the plugin's whole life.
    suppressed: u64,
    /// Those of them that the log has mentioned.
    mentioned: u64,
    notice_at: Option<Instant>,
    awaited: Option<Awaited>,
    found: bool,
}

/// A line that means something to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The first.
    Any,
    /// One that contains this text; `*` stands for anything.
    Containing(String),
}

impl Awaited {
    fn matches(&self, line: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Containing(text) => {
                glob(format!("*{text}*").as_bytes(), &line[..line.len().min(SEARCHED_MAX_BYTES)])
            }
        }
    }
}

impl LineLog {
    pub(crate) fn new(label: String, journal: Arc<Journal>, limits: OutputLimits) -> Self {
        let bucket = TokenBucket::new(limits.rate, Duration::ZERO);
        let epoch = Instant::now();
        Self {
            label,
            journal,
            limits,
            bucket,
            epoch,
            suppressed: 0,
            mentioned: 0,
            notice_at: None,
            awaited: None,
            found: false,
        }
    }

    /// Begins a run: its limits, and the line it is waited for.
    pub(crate) fn begin(&mut self, limits: OutputLimits, awaited: Option<Awaited>) {
        if limits.rate != self.limits.rate {
            self.bucket = TokenBucket::new(limits.rate, self.epoch.elapsed());
        }
        self.limits = limits;
        self.awaited = awaited;
        self.found = false;
    }

    /// Whether the awaited line has come since the last time this was asked.
    pub(crate) fn take_found(&mut self) -> bool {
        std::mem::take(&mut self.found)
    }

    fn line(&mut self, stream: Stream, line: Line<'_>) {
        let truncated = line.dropped > 0;
        if self.awaited.as_ref().is_some_and(|awaited| awaited.matches(line.bytes)) {
            self.awaited = None;
            self.found = true;
        }
        let allowed = self.bucket.take(self.epoch.elapsed());
        self.journal.count(|c| {
            match stream {
                Stream::Stdout => c.stdout += 1,
                Stream::Stderr => c.stderr += 1,
                Stream::Lifecycle => c.lifecycle += 1,
            }
            c.truncated += u64::from(truncated);
            c.suppressed += u64::from(!allowed);
        });
        if !allowed {
            self.suppressed += 1;
            self.notice_at.get_or_insert_with(|| Instant::now() + SUPPRESSED_NOTICE_AFTER);
            return;
        }
        // At most once a second, or the mentions would be a flood themselves.
        if self.notice_at.is_some_and(|at| at <= Instant::now()) {
            self.mention_suppressed();
        }
        let text = String::from_utf8_lossy(line.bytes);
        let default = match stream {
            Stream::Stdout | Stream::Lifecycle => Severity::Info,
            Stream::Stderr => self.limits.stderr_severity,
        };
        let (severity, text) = classify(text.trim_end(), default);
        let mut text = escaped(text);
        if truncated {
            text.to_mut().push_str(&format!(" ...[{} bytes cut]", line.dropped));
        }
        self.journal.append(stream, severity, &text);
        self.write(severity, &text);
    }

    fn mention_suppressed(&mut self) {
        self.notice_at = None;
        let count = self.suppressed - self.mentioned;
        if count > 0 {
            self.mentioned = self.suppressed;
            self.write(Severity::Warn, &format!("suppressed {count} lines"));
        }
    }

    fn write(&self, severity: Severity, text: &str) {
        severity.log(format_args!("[{}] {text}", self.label));
    }
}

#[cfg(test)]
mod tests;
