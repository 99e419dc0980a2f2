//! Metrics that plugins write, merged into one text in the Prometheus format under `plugin="<name>"`.
//!
//! A plugin can disturb neither the server's own metrics nor another plugin's: names with a reserved prefix are refused, a name keeps the type it was
//! first seen with, a series is taken once, and each plugin has room for so many series. What is left out is counted.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

/// Series taken from one plugin.
pub const SERIES_MAX: usize = 1_000;
/// Bytes of one sample line.
pub(crate) const LINE_MAX_BYTES: usize = 4_096;

/// All plugins' metrics.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The text, metric by metric.
    pub text: String,
    /// Lines left out, by plugin.
    pub dropped: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Family {
    kind: Option<String>,
    help: Option<String>,
    samples: String,
}

/// Merges the texts of plugins, given with their names. Names beginning with one of `reserved` are the server's.
pub fn merge(sources: &[(String, String)], reserved: &[&str]) -> Merged {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut dropped: BTreeMap<String, u64> = BTreeMap::new();
    for (plugin, text) in sources {
        let mut source = Source { plugin, reserved, kinds: BTreeMap::new(), series: HashSet::new() };
        let lost = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .filter(|l| !source.line(l, &mut families))
            .count();
        if lost > 0 {
            *dropped.entry(plugin.clone()).or_default() += lost as u64;
        }
    }
    let mut text = String::new();
    for (name, family) in families.into_iter().filter(|(_, f)| !f.samples.is_empty()) {
        // Writing to a `String` cannot fail.
        if let Some(help) = family.help {
            _ = writeln!(text, "# HELP {name} {help}");
        }
        if let Some(kind) = family.kind {
            _ = writeln!(text, "# TYPE {name} {kind}");
        }
        text.push_str(&family.samples);
    }
    Merged { text, dropped }
}

struct Source<'a> {
    plugin: &'a str,
    reserved: &'a [&'a str],
    /// Types this plugin has declared.
    kinds: BTreeMap<String, String>,
    series: HashSet<String>,
}

impl Source<'_> {
    /// Takes one line; `false` if it is left out.
    fn line(&mut self, line: &str, families: &mut BTreeMap<String, Family>) -> bool {
        if line.len() > LINE_MAX_BYTES || line.contains(|c: char| c.is_control() && c != '\t') {
            return false;
        }
        match line.strip_prefix('#') {
            Some(comment) => self.comment(comment.trim_start(), families),
            None => self.sample(line, families).is_some(),
        }
    }

    fn comment(&mut self, comment: &str, families: &mut BTreeMap<String, Family>) -> bool {
        let mut words = comment.splitn(3, ' ');
        let (keyword, name, rest) = (words.next(), words.next(), words.next());
        let (Some(keyword @ ("TYPE" | "HELP")), Some(name), Some(rest)) = (keyword, name, rest) else {
            return true;
        };
        if !self.may_use(name) {
            return false;
        }
        let family = families.entry(name.to_owned()).or_default();
        if keyword == "HELP" {
            family.help.get_or_insert_with(|| rest.to_owned());
            return true;
        }
        if !["counter", "gauge", "histogram", "summary", "untyped"].contains(&rest) {
            return false;
        }
        self.kinds.insert(name.to_owned(), rest.to_owned());
        family.kind.get_or_insert_with(|| rest.to_owned()) == rest
    }

    fn sample(&mut self, line: &str, families: &mut BTreeMap<String, Family>) -> Option<()> {
        let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
        let (name, rest) = line.split_at(name_end);
        if !self.may_use(name) {
            return None;
        }
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => parse_labels(rest)?,
            None => (Vec::new(), rest),
        };
        // A timestamp after the value is left out: the scrape has its own.
        let value = rest.split_whitespace().next()?;
        value.trim_start_matches('+').parse::<f64>().ok()?;
        let mut series = format!("{name}{{plugin=\"{}\"", quoted(self.plugin));
        for (label, value) in labels {
            let label = if label == "plugin" { "exported_plugin" } else { label };
            _ = write!(series, ",{label}=\"{value}\"");
        }
        series.push('}');
        let family = families.entry(self.family_of(name)).or_default();
        let declared = self.kinds.get(&self.family_of(name));
        if family.kind.is_some() && declared.is_some() && family.kind.as_ref() != declared {
            return None;
        }
        if self.series.len() >= SERIES_MAX || !self.series.insert(series.clone()) {
            return None;
        }
        _ = writeln!(family.samples, "{series} {value}");
        Some(())
    }

    /// The metric a sample belongs to: `x` for `x_bucket`, `x_sum` and `x_count` of a declared `x`.
    fn family_of(&self, name: &str) -> String {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let base = base.filter(|base| {
            matches!(self.kinds.get(*base).map(String::as_str), Some("histogram" | "summary"))
        });
        base.unwrap_or(name).to_owned()
    }

    fn may_use(&self, name: &str) -> bool {
        let mut chars = name.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':');
        let rest = chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        first && rest && !self.reserved.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// The series of a sample line as written, and its value; `None` if it is none.
pub(crate) fn series_and_value(line: &str) -> Option<(&str, &str)> {
    let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let rest = match line[name_end..].strip_prefix('{') {
        Some(labels) => parse_labels(labels)?.1,
        None => &line[name_end..],
    };
    let value = rest.split_whitespace().next()?;
    value.trim_start_matches('+').parse::<f64>().ok()?;
    (name_end > 0).then_some((&line[..line.len() - rest.len()], value))
}

/// Label pairs with their values as written, and what follows the closing brace.
fn parse_labels(mut text: &str) -> Option<(Vec<(&str, &str)>, &str)> {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    loop {
        text = text.trim_start_matches([' ', ',']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let rest = rest.strip_prefix('"').filter(|_| valid && !name.as_bytes()[0].is_ascii_digit())?;
        let end = closing_quote(rest)?;
        if labels.iter().any(|(known, _)| *known == name) {
            return None;
        }
        labels.push((name, &rest[..end]));
        text = &rest[end + 1..];
    }
}

/// The first quote that no backslash precedes.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|b| {
        let ends = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        ends
    })
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn merged(sources: &[(&str, &str)]) -> Merged {
        let sources: Vec<_> = sources.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect();
        merge(&sources, &["lmcache_", "larder_"])
    }

    #[test]
    fn plugins_share_a_metric_and_keep_apart() {
        let a = "# HELP jobs Jobs done.\n# TYPE jobs counter\njobs{kind=\"x\"} 1\njobs 2 1700000000\n";
        let b = "# TYPE jobs counter\njobs{plugin=\"liar\",kind=\"a\\\"}b\"} +3\n";
        let expected = "# HELP jobs Jobs done.\n# TYPE jobs counter\n\
            jobs{plugin=\"a\",kind=\"x\"} 1\njobs{plugin=\"a\"} 2\n\
            jobs{plugin=\"b\",exported_plugin=\"liar\",kind=\"a\\\"}b\"} +3\n";
        assert_eq!(
            merged(&[("a", a), ("b", b)]),
            Merged { text: expected.to_owned(), dropped: BTreeMap::new() }
        );
    }

    #[test]
    fn histograms_stay_together() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 2\nh_count 1\ng_count 4\n";
        let all = merged(&[("p", text)]).text;
        let lines: Vec<_> = all.lines().map(|l| l.split('{').next().unwrap()).collect();
        assert_eq!(lines, ["g_count", "# TYPE h histogram", "h_bucket", "h_sum", "h_count"]);
    }

    #[test]
    fn collisions_and_nonsense_are_counted() {
        for line in [
            "larder_up 1",
            "# TYPE lmcache_x gauge",
            "1x 2",
            "x",
            "x one",
            "x{a=\"b} 1",
            "x{a=\"1\",a=\"2\"} 1",
            "x{1a=\"1\"} 1",
            "# TYPE x wrong",
            "x\u{1b} 1",
        ] {
            let result = merged(&[("p", line)]);
            assert_eq!((result.text.as_str(), result.dropped.get("p")), ("", Some(&1)), "{line}");
        }
        let twice = merged(&[("p", "x 1\nx 2\n")]);
        assert_eq!((twice.text.as_str(), twice.dropped["p"]), ("x{plugin=\"p\"} 1\n", 1));
        let types = merged(&[("a", "# TYPE x gauge\nx 1\n"), ("b", "# TYPE x counter\nx 2\n")]);
        assert_eq!((types.text.lines().count(), types.dropped["b"]), (2, 2));
    }

    #[test]
    fn one_plugin_has_room_for_so_many() {
        let many: String = (0..SERIES_MAX + 7).map(|i| format!("x{{i=\"{i}\"}} 1\n")).collect();
        let result = merged(&[("greedy", &many), ("modest", "y 1\n")]);
        assert_eq!(result.text.lines().count(), SERIES_MAX + 1);
        assert_eq!(result.dropped["greedy"], 7);
    }

    proptest! {
        #[test]
        fn any_text_yields_whole_lines(text in "([a-z#{}=\",. \\\\0-9\n]{0,60})") {
            let result = merged(&[("p", &text)]);
            for line in result.text.lines() {
                prop_assert!(line.starts_with("# ") || line.contains("{plugin=\"p\""), "{line}");
            }
        }
    }
}
