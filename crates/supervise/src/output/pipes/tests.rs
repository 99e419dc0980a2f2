use super::*;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::Write;

struct Rig {
    output: Output,
    log: LineLog,
    journal: Arc<Journal>,
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Rig {
    fn new(limits: OutputLimits) -> Self {
        let pipe = || pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let ((out_read, out_write), (err_read, err_write)) = (pipe(), pipe());
        let journal = Arc::new(Journal::default());
        let log = LineLog::new("p/x.py".to_owned(), Arc::clone(&journal), limits);
        let output = Output::new(out_read, err_read, &limits).unwrap();
        Self { output, log, journal, stdout: Some(out_write.into()), stderr: Some(err_write.into()) }
    }

    fn print(&mut self, bytes: &[u8]) {
        self.stdout.as_mut().unwrap().write_all(bytes).unwrap();
    }

    async fn read_to_end(&mut self) -> Vec<String> {
        self.stdout = None;
        self.stderr = None;
        while !self.output.has_ended() {
            self.output.turn(&mut self.log).await;
        }
        self.output.close(&mut self.log);
        self.journal.tail(usize::MAX).into_iter().map(|l| l.text).collect()
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_survived() {
    let mut rig = Rig::new(OutputLimits::default());
    rig.print(b"good\n\xff\xfe bad\n  indented  \nlast without end");
    let lines = rig.read_to_end().await;
    assert_eq!(lines, ["good", "\u{fffd}\u{fffd} bad", "  indented", "last without end"]);
}

#[tokio::test]
async fn streams_keep_their_severity() {
    let mut rig = Rig::new(OutputLimits::default());
    rig.print(b"plain\n<3>marked\n");
    rig.stderr.as_mut().unwrap().write_all(b"trouble\n<6>news\n").unwrap();
    rig.read_to_end().await;
    let mut seen: Vec<_> =
        rig.journal.tail(10).into_iter().map(|l| (l.stream == Stream::Stderr, l.severity, l.text)).collect();
    seen.sort();
    let expected = [
        (false, Severity::Info, "plain"),
        (false, Severity::Error, "marked"),
        (true, Severity::Info, "news"),
        (true, Severity::Warn, "trouble"),
    ];
    assert_eq!(seen, expected.map(|(e, s, t)| (e, s, t.to_owned())));
}

#[tokio::test]
async fn a_line_is_cut_and_marked() {
    let mut rig = Rig::new(OutputLimits { line_max_bytes: 10, ..OutputLimits::default() });
    rig.print(b"0123456789abcdef\nforged\r[other.py] x\n");
    let lines = rig.read_to_end().await;
    assert_eq!(lines, ["0123456789 ...[6 bytes cut]", "forged", "[other.py] ...[2 bytes cut]"]);
    assert_eq!(rig.journal.counts().truncated, 2);
}

#[tokio::test]
async fn every_line_is_logged_or_counted() {
    let rate = LineRate { per_second: 0, burst: 3 };
    let mut rig = Rig::new(OutputLimits { rate, ..OutputLimits::default() });
    rig.print("x\n".repeat(1000).as_bytes());
    let lines = rig.read_to_end().await;
    assert_eq!(lines.len(), 3);
    let counts = rig.journal.counts();
    assert_eq!((counts.stdout, counts.suppressed, counts.bytes), (1000, 997, 2000));
    assert_eq!(rig.log.mentioned, 997);
}

#[tokio::test(start_paused = true)]
async fn suppression_is_mentioned_when_the_plugin_falls_silent() {
    let rate = LineRate { per_second: 0, burst: 1 };
    let mut rig = Rig::new(OutputLimits { rate, ..OutputLimits::default() });
    rig.print(b"a\nb\nc\n");
    rig.output.turn(&mut rig.log).await;
    assert_eq!((rig.log.suppressed, rig.log.mentioned), (2, 0));
    rig.output.turn(&mut rig.log).await;
    assert_eq!(rig.log.mentioned, 2);
}

#[test]
fn an_awaited_text_is_searched_for_where_that_is_cheap() {
    let awaited = Awaited::Containing("up".to_owned());
    let line = |before: usize| [vec![b'x'; before], b"up".to_vec()].concat();
    assert!(awaited.matches(&line(SEARCHED_MAX_BYTES - 2)));
    assert!(!awaited.matches(&line(1 << 20)));
}
