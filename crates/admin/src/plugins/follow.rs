//! A plugin's log as it grows.
//!
//! A reader costs the server one task, woken by lines. One that reads too slowly delays only itself: what
//! left the journal meanwhile is counted and said.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use larder_admin_api::streams::Gap;
use larder_supervise::{LogLine, Stream, Supervisor};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout};

use super::view;
use crate::chunks::Chunks;

/// Pause after each piece, so that a flood goes out in pieces and not line by line.
const PIECE_PAUSE: Duration = Duration::from_millis(100);
/// Silence after which a comment shows the reader, and proxies between, that the stream lives. The removal of
/// a silent plugin is noticed then.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A reader that takes nothing for this long is given up.
const STALLED_AFTER: Duration = Duration::from_secs(300);

/// Where following begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    /// With this many of the newest lines.
    Newest(usize),
    /// After the line of this number.
    After(u64),
}

/// How lines are put into the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        tokio::select! {
            () = sender.closed() => {}
            _ = feed(&supervisor, &name, from, framing, &sender) => {}
        }
    });
    Chunks::new(chunks)
}

/// Sends lines until the plugin or the reader is gone; `None` says that one is.
async fn feed(
    supervisor: &Supervisor,
    name: &str,
    from: Cursor,
    framing: Framing,
    sender: &mpsc::Sender<Bytes>,
) -> Option<Infallible> {
    let mut follower = Follower { last: 0, framing };
    let mut piece = match from {
        Cursor::Newest(count) => follower.begin(&supervisor.tail(name, count.max(1)).ok()?, count),
        Cursor::After(number) => {
            follower.last = number;
            String::new()
        }
    };
    loop {
        if !piece.is_empty() {
            timeout(STALLED_AFTER, sender.send(piece.into())).await.ok()?.ok()?;
            sleep(PIECE_PAUSE).await;
        }
        piece = match timeout(KEEP_ALIVE, supervisor.follow(name, follower.last)).await {
            Ok(lines) => follower.frame(&lines.ok()?),
            Err(_silent) => follower.rest(&supervisor.tail(name, 1).ok()?),
        };
    }
}

struct Follower {
    /// Number of the last line sent.
    last: u64,
    framing: Framing,
}

impl Follower {
    /// Begins with the newest `count` lines; what lies before them is not missing.
    fn begin(&mut self, lines: &[LogLine], count: usize) -> String {
        let Some((first, newest)) = lines.first().zip(lines.last()) else { return String::new() };
        self.last = if count == 0 { newest.sequence } else { first.sequence - 1 };
        self.frame(lines)
    }

    /// What is sent in a silence.
    fn rest(&mut self, newest: &[LogLine]) -> String {
        if newest.last().is_some_and(|line| line.sequence < self.last) {
            // The file was taken away and put back: its count begins anew.
            self.last = 0;
        }
        match self.framing {
            Framing::Events => ": still here\n\n".to_owned(),
            Framing::Text => String::new(),
        }
    }

    /// The lines after the last one sent. Numbers that are missing between are lines that were suppressed or
    /// came too fast.
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
                Framing::Text if line.stream == Stream::Lifecycle => Ok(()),
                Framing::Text => writeln!(text, "{}", line.text),
                Framing::Events => {
                    let data = serde_json::to_string(&view::line(line)).unwrap_or_default();
                    write!(text, "id: {}\nevent: line\ndata: {data}\n\n", line.sequence)
                }
            };
        }
        text
    }

    fn frame_gap(&self, text: &mut String, missing: u64) {
        _ = match self.framing {
            Framing::Text => writeln!(text, "({missing} lines not shown)"),
            Framing::Events => {
                let data = serde_json::to_string(&Gap { lines: missing }).unwrap_or_default();
                write!(text, "event: gap\ndata: {data}\n\n")
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_supervise::Severity;

    fn line(sequence: u64) -> LogLine {
        let (time, text) = ("t".to_owned(), format!("n{sequence}"));
        LogLine { time, sequence, stream: Stream::Stdout, severity: Severity::Info, text }
    }

    fn follower(last: u64, framing: Framing) -> Follower {
        Follower { last, framing }
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
    fn a_count_that_began_anew_is_noticed() {
        let mut follower = follower(9, Framing::Events);
        assert_eq!(follower.rest(&[line(9)]), ": still here\n\n");
        assert_eq!(follower.last, 9);
        follower.rest(&[line(2)]);
        assert_eq!(follower.last, 0);
    }

    #[test]
    fn events_carry_the_number_as_id() {
        let mut follower = follower(0, Framing::Events);
        let expected = "event: gap\ndata: {\"lines\":1}\n\nid: 2\nevent: line\n\
            data: {\"time\":\"t\",\"sequence\":2,\"stream\":\"stdout\",\"severity\":\"info\",\"text\":\"n2\"}\n\n";
        assert_eq!(follower.frame(&[line(2)]), expected);
    }
}
