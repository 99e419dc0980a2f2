//! A plugin's log as it grows.
//!
//! A reader costs the server one task and a look at the journal's newest number every [`LOOK_EVERY`]. One that reads too slowly
//! delays only itself: what left the journal meanwhile is counted and said.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use futures_core::Stream;
use larder_supervise::{LogLine, Supervisor};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep, timeout};

/// Pause between two looks at a journal that has not grown.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Silence after which a comment shows the reader, and proxies between, that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A reader that takes nothing for this long is given up.
const STALLED_AFTER: Duration = Duration::from_secs(300);

/// Where following begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cursor {
    /// With this many of the newest lines.
    Newest(usize),
    /// After the line of this number.
    After(u64),
}

/// How lines are put into the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events, a JSON object each; the id is the line's number.
    Events,
    /// The lines themselves.
    Text,
}

/// The lines of the plugin `name` from `from` on. Ends when the plugin is gone from the supervisor.
pub(super) fn stream(
    supervisor: Arc<Supervisor>,
    name: String,
    from: Cursor,
    framing: Framing,
    place: OwnedSemaphorePermit,
) -> Chunks {
    let (sender, chunks) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        let mut follower = Follower { last: 0, framing, spoke: Instant::now() };
        let mut chunk = match from {
            Cursor::Newest(count) => {
                supervisor.tail(&name, count.max(1)).map(|lines| follower.begin(&lines, count))
            }
            Cursor::After(number) => {
                follower.last = number;
                follower.look(&supervisor, &name)
            }
        };
        while let Ok(text) = chunk {
            if !text.is_empty() {
                follower.spoke = Instant::now();
                if !matches!(timeout(STALLED_AFTER, sender.send(text.into())).await, Ok(Ok(()))) {
                    return;
                }
            }
            tokio::select! {
                () = sender.closed() => return,
                () = sleep(LOOK_EVERY) => {}
            }
            chunk = follower.look(&supervisor, &name);
        }
    });
    Chunks(chunks)
}

/// Pieces of a response's body.
pub(super) struct Chunks(mpsc::Receiver<Bytes>);

impl Stream for Chunks {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(Ok))
    }
}

struct Follower {
    /// Number of the last line sent.
    last: u64,
    framing: Framing,
    /// When something was sent last.
    spoke: Instant,
}

impl Follower {
    /// Begins with the newest `count` lines; what lies before them is not missing.
    fn begin(&mut self, lines: &[LogLine], count: usize) -> String {
        let Some((first, newest)) = lines.first().zip(lines.last()) else { return String::new() };
        self.last = if count == 0 { newest.sequence } else { first.sequence - 1 };
        self.frame(lines)
    }

    fn look(
        &mut self,
        supervisor: &Supervisor,
        name: &str,
    ) -> Result<String, larder_supervise::SuperviseError> {
        let newest = supervisor.tail(name, 1)?.last().map_or(0, |line| line.sequence);
        if newest < self.last {
            // The file was taken away and put back: its count begins anew.
            self.last = 0;
        }
        if newest == self.last {
            let silent = self.framing == Framing::Events && self.spoke.elapsed() >= KEEP_ALIVE;
            return Ok(if silent { ": still here\n\n".to_owned() } else { String::new() });
        }
        let count = usize::try_from(newest - self.last).unwrap_or(usize::MAX);
        // More may have come since; they wait for the next look.
        let lines = supervisor.tail(name, count)?;
        Ok(self.frame(&lines))
    }

    /// The lines after the last one sent. Numbers that are missing between are lines that were suppressed or came too fast.
    fn frame(&mut self, lines: &[LogLine]) -> String {
        let mut text = String::new();
        let sent = self.last;
        for line in lines.iter().filter(|line| line.sequence > sent) {
            let missing = line.sequence - self.last - 1;
            if missing > 0 {
                self.frame_gap(&mut text, missing);
            }
            self.last = line.sequence;
            // Writing to a string cannot fail; a line is plain data.
            _ = match self.framing {
                Framing::Text => writeln!(text, "{}", line.text),
                Framing::Events => {
                    let data = serde_json::to_string(line).unwrap_or_default();
                    write!(text, "id: {}\nevent: line\ndata: {data}\n\n", line.sequence)
                }
            };
        }
        text
    }

    fn frame_gap(&self, text: &mut String, missing: u64) {
        _ = match self.framing {
            Framing::Text => writeln!(text, "({missing} lines not shown)"),
            Framing::Events => write!(text, "event: gap\ndata: {{\"lines\":{missing}}}\n\n"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_supervise::{Severity, Stream as Origin};

    fn line(sequence: u64) -> LogLine {
        LogLine { sequence, stream: Origin::Stdout, severity: Severity::Info, text: format!("n{sequence}") }
    }

    fn follower(last: u64, framing: Framing) -> Follower {
        Follower { last, framing, spoke: Instant::now() }
    }

    #[test]
    fn gaps_are_said_and_old_lines_are_not_repeated() {
        let mut follower = follower(4, Framing::Text);
        assert_eq!(follower.frame(&[line(3), line(4), line(5), line(9)]), "n5\n(3 lines not shown)\nn9\n");
        assert_eq!(follower.frame(&[line(9)]), "");
        assert_eq!(follower.last, 9);
    }

    #[test]
    fn the_first_lines_shown_leave_nothing_out() {
        let mut beginner = follower(0, Framing::Text);
        assert_eq!(beginner.begin(&[line(7), line(9)], 2), "n7\n(1 lines not shown)\nn9\n");
        let mut beginner = follower(0, Framing::Text);
        assert_eq!(beginner.begin(&[line(9)], 0), "");
        assert_eq!((beginner.last, beginner.begin(&[], 5)), (9, String::new()));
    }

    #[test]
    fn events_carry_the_number_as_id() {
        let mut follower = follower(0, Framing::Events);
        let expected = "event: gap\ndata: {\"lines\":1}\n\nid: 2\nevent: line\n\
            data: {\"sequence\":2,\"stream\":\"stdout\",\"severity\":\"info\",\"text\":\"n2\"}\n\n";
        assert_eq!(follower.frame(&[line(2)]), expected);
    }
}
