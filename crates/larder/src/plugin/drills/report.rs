//! What came of the drills: lines for people, a file for programs.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

/// Lines of a plugin's output that are shown with a failed drill: its last ones; the rest is left out.
const OUTPUT_LINES_MAX: usize = 10;

/// The result of one drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Ok(String),
    /// No mistake, but worth a thought.
    Note(String),
    /// A plugin like this should not go beside a server.
    Failed(String),
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Note(_) => "note",
            Self::Failed(_) => "FAILED",
        }
    }

    fn text(&self) -> String {
        let (Self::Ok(text) | Self::Note(text) | Self::Failed(text)) = self;
        text.replace('\n', "; ")
    }
}

/// One drill and what came of it.
#[derive(Clone, Debug)]
struct Result {
    name: &'static str,
    verdict: Verdict,
    /// What the plugin said last.
    output: Vec<String>,
}

/// All results so far.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Result>);

impl Report {
    /// Adds a result and returns its lines; a failure brings along what the plugin said last.
    pub(super) fn add(&mut self, name: &'static str, verdict: Verdict, mut output: Vec<String>) -> String {
        let mut lines = format!("{:<6}  {name:<19}  {}", verdict.word(), verdict.text());
        output.drain(..output.len().saturating_sub(OUTPUT_LINES_MAX));
        if matches!(verdict, Verdict::Failed(_)) {
            for line in &output {
                // Writing to a string cannot fail.
                _ = write!(lines, "\n        | {line}");
            }
        }
        self.0.push(Result { name, verdict, output });
        lines
    }

    /// How many failed.
    pub(super) fn failed(&self) -> usize {
        self.0.iter().filter(|result| matches!(result.verdict, Verdict::Failed(_))).count()
    }

    /// The last line.
    pub(super) fn summary(&self) -> String {
        format!("{} drills, {} failed", self.0.len(), self.failed())
    }

    /// Writes the results for programs: JUnit's XML where the name ends in `.xml`, else JSON.
    pub(super) fn write(&self, path: &Path, plugin: &Path) -> std::result::Result<(), String> {
        let is_xml = path.extension().is_some_and(|extension| extension == "xml");
        let plugin = plugin.to_string_lossy();
        let text = if is_xml { self.junit(&plugin) } else { format!("{:#}\n", self.json(&plugin)) };
        std::fs::write(path, text).map_err(|error| format!("`{}` cannot be written: {error}", path.display()))
    }

    fn json(&self, plugin: &str) -> Value {
        let drills = self.0.iter().map(|Result { name, verdict, output }| {
            json!({ "name": name, "outcome": verdict.word().to_lowercase(), "text": verdict.text(), "output": output })
        });
        json!({ "plugin": plugin, "drills": drills.collect::<Vec<_>>(), "failed": self.failed() })
    }

    fn junit(&self, plugin: &str) -> String {
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\">\n",
            xml(plugin),
            self.0.len(),
            self.failed()
        );
        for Result { name, verdict, output } in &self.0 {
            _ = write!(text, "<testcase classname=\"{}\" name=\"{name}\">", xml(plugin));
            let said = xml(&verdict.text());
            _ = match verdict {
                Verdict::Failed(_) => {
                    write!(text, "<failure message=\"{said}\">{}</failure>", xml(&output.join("\n")))
                }
                _ => write!(text, "<system-out>{said}</system-out>"),
            };
            text.push_str("</testcase>\n");
        }
        text.push_str("</testsuite>\n</testsuites>\n");
        text
    }
}

/// Text in which nothing is markup; what XML cannot hold is replaced.
fn xml(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => clean.push_str("&amp;"),
            '<' => clean.push_str("&lt;"),
            '>' => clean.push_str("&gt;"),
            '"' => clean.push_str("&quot;"),
            '\n' | '\t' => clean.push(character),
            character if character.is_control() => clean.push('\u{fffd}'),
            character => clean.push(character),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_sum() {
        let mut report = Report::default();
        assert_eq!(
            report.add("start", Verdict::Ok("runs".into()), vec!["x".into()]),
            "ok      start                runs"
        );
        let output = (0..20).map(|line| line.to_string()).collect();
        let lines = report.add("bad configuration", Verdict::Failed("a\nb".into()), output);
        assert!(lines.starts_with("FAILED  bad configuration    a; b\n        | 10\n"), "{lines}");
        assert!(lines.ends_with("\n        | 19"), "{lines}");
        assert_eq!((report.summary().as_str(), report.failed()), ("2 drills, 1 failed", 1));
    }

    #[test]
    fn programs_can_read_it() {
        let mut report = Report::default();
        report.add("start", Verdict::Ok("runs".into()), Vec::new());
        report.add("stop", Verdict::Failed("\"<killed>\" & \u{1b}".into()), vec!["last".into()]);
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            let path = folder.path().join(name);
            report.write(&path, Path::new("p.sh")).unwrap();
            std::fs::read_to_string(path).unwrap()
        };
        let document: Value = serde_json::from_str(&read("r.json")).unwrap();
        assert_eq!((&document["failed"], &document["drills"][1]["outcome"]), (&json!(1), &json!("failed")));
        let junit = read("r.xml");
        assert!(junit.contains("tests=\"2\" failures=\"1\""), "{junit}");
        assert!(
            junit.contains("<failure message=\"&quot;&lt;killed&gt;&quot; &amp; \u{fffd}\">last</failure>"),
            "{junit}"
        );
    }
}
