//! Bytes of a pipe cut into lines of bounded length.
//!
//! Owns the partial line between reads. Ends a line at `\n`, `\r\n` or a lone `\r` (a progress bar redrawn),
//! as the peer does. A longer line than the limit is handed out once, cut, with the number of bytes that were
//! dropped.

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// The bytes kept.
    pub(crate) bytes: &'a [u8],
    /// Bytes of this line that did not fit.
    pub(crate) dropped: u64,
}

/// Splits a byte stream into [`Line`]s.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    partial: Vec<u8>,
    dropped: u64,
    max_bytes: usize,
    after_cr: bool,
}

impl LineSplitter {
    /// Keeps at most `max_bytes` of a line.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { partial: Vec::new(), dropped: 0, max_bytes, after_cr: false }
    }

    /// Hands every line that `chunk` completes to `sink`.
    pub(crate) fn push(&mut self, mut chunk: &[u8], mut sink: impl FnMut(Line<'_>)) {
        if chunk.is_empty() {
            return;
        }
        if std::mem::take(&mut self.after_cr) && chunk[0] == b'\n' {
            chunk = &chunk[1..];
        }
        while let Some(end) = chunk.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            self.emit(&chunk[..end], &mut sink);
            let mut next = end + 1;
            if chunk[end] == b'\r' {
                match chunk.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            chunk = &chunk[next..];
        }
        self.keep(chunk);
    }

    /// Hands out the last line if the stream ended without a line end.
    pub(crate) fn finish(&mut self, mut sink: impl FnMut(Line<'_>)) {
        if !self.partial.is_empty() || self.dropped > 0 {
            self.emit(&[], &mut sink);
        }
        self.after_cr = false;
    }

    fn emit(&mut self, tail: &[u8], sink: &mut impl FnMut(Line<'_>)) {
        if self.partial.is_empty() && self.dropped == 0 && tail.len() <= self.max_bytes {
            return sink(Line { bytes: tail, dropped: 0 });
        }
        self.keep(tail);
        sink(Line { bytes: &self.partial, dropped: self.dropped });
        // An idle plugin keeps no buffer.
        self.partial = Vec::new();
        self.dropped = 0;
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.max_bytes - self.partial.len();
        let (kept, lost) = bytes.split_at(bytes.len().min(room));
        self.partial.extend_from_slice(kept);
        self.dropped += lost.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]], max: usize) -> Vec<(Vec<u8>, u64)> {
        let mut lines = Vec::new();
        let mut splitter = LineSplitter::new(max);
        for chunk in chunks {
            splitter.push(chunk, |l| lines.push((l.bytes.to_vec(), l.dropped)));
        }
        splitter.finish(|l| lines.push((l.bytes.to_vec(), l.dropped)));
        lines
    }

    #[test]
    fn universal_line_ends() {
        let lines = split(&[b"a\nb\r\nc\rd\r", b"\ne\n\nf"], 10);
        let texts: Vec<_> = lines.iter().map(|(l, _)| String::from_utf8_lossy(l).into_owned()).collect();
        assert_eq!(texts, ["a", "b", "c", "d", "e", "", "f"]);
    }

    #[test]
    fn a_long_line_is_cut_once_and_memory_stays_bounded() {
        let mut splitter = LineSplitter::new(16);
        for _ in 0..1000 {
            splitter.push(&[b'x'; 4096], |_| panic!("no line end yet"));
            assert!(splitter.partial.capacity() <= 64);
        }
        let mut lines = Vec::new();
        splitter.push(b"\nshort\n", |l| lines.push((l.bytes.to_vec(), l.dropped)));
        assert_eq!(lines, [(vec![b'x'; 16], 4_096_000 - 16), (b"short".to_vec(), 0)]);
    }

    proptest! {
        #[test]
        fn chunking_does_not_matter(text in "[ab\r\n]{0,60}", cuts in proptest::collection::vec(0usize..60, 0..6), max in 1usize..8) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let lines = split(&chunks, max);
            prop_assert_eq!(&lines, &split(&[bytes], max));
            let unified = text.replace("\r\n", "\n").replace('\r', "\n");
            let mut reference: Vec<_> = unified.split('\n').collect();
            if reference.last() == Some(&"") { reference.pop(); }
            prop_assert_eq!(lines.len(), reference.len());
            for ((kept, dropped), whole) in lines.iter().zip(reference) {
                prop_assert_eq!(&kept[..], &whole.as_bytes()[..whole.len().min(max)]);
                prop_assert_eq!(*dropped as usize, whole.len() - kept.len());
            }
        }
    }
}
