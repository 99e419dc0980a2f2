//! What came of the drills.

/// The result of one drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Ok(String),
    /// No mistake, but worth a thought.
    Note(String),
    /// A plugin like this should not go beside a server.
    Failed(String),
}

/// All results so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    drills: usize,
    failed: usize,
}

impl Report {
    /// Adds a result and returns its line.
    pub(super) fn add(&mut self, name: &'static str, verdict: Verdict) -> String {
        self.drills += 1;
        let (mark, text) = match verdict {
            Verdict::Ok(text) => ("ok", text),
            Verdict::Note(text) => ("note", text),
            Verdict::Failed(text) => {
                self.failed += 1;
                ("FAILED", text)
            }
        };
        format!("{mark:<6}  {name:<19}  {}", text.replace('\n', "; "))
    }

    /// How many failed.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// The last line.
    pub(super) fn summary(&self) -> String {
        format!("{} drills, {} failed", self.drills, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_sum() {
        let mut report = Report::default();
        assert_eq!(report.add("start", Verdict::Ok("runs".into())), "ok      start                runs");
        assert_eq!(
            report.add("bad configuration", Verdict::Failed("a\nb".into())),
            "FAILED  bad configuration    a; b"
        );
        assert_eq!((report.summary().as_str(), report.failed()), ("2 drills, 1 failed", 1));
    }
}
