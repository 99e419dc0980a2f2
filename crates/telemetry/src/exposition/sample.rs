//! One sample line, read leniently and written strictly: what is printed back is built from what was
//! understood, never copied.

use std::fmt::{self, Display, Write as _};

/// A sample as a plugin wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) labels: Vec<(&'a str, String)>,
    pub(super) value: Number,
}

impl<'a> Sample<'a> {
    /// Reads a line; `None` if it is no sample. A timestamp after the value is left out: the scrape has its
    /// own.
    pub(super) fn read(line: &'a str) -> Option<Self> {
        let (series, value) = series_and_value(line)?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name.trim_end(), read_labels(labels)?.0),
            None => (series.trim_end(), Vec::new()),
        };
        Some(Self { name, labels, value })
    }
}

/// Keyword, name and text of a comment that declares a type or a help; `None` for a remark.
#[must_use]
pub fn declaration(comment: &str) -> Option<(&str, &str, &str)> {
    let mut words = comment.splitn(3, ' ');
    let keyword = words.next().filter(|word| matches!(*word, "TYPE" | "HELP"))?;
    Some((keyword, words.next()?, words.next()?))
}

/// The series of a sample line as written, and its value; `None` if it is none.
#[must_use]
pub fn series_and_value(line: &str) -> Option<(&str, Number)> {
    let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    if !is_metric_name(&line[..name_end]) {
        return None;
    }
    let rest = match line[name_end..].trim_start().strip_prefix('{') {
        Some(labels) => read_labels(labels)?.1,
        None => &line[name_end..],
    };
    let mut words = rest.split_whitespace();
    let value = Number::read(words.next()?)?;
    let is_time = |word: &str| word.parse::<i64>().is_ok();
    let ends = words.next().is_none_or(is_time) && words.next().is_none();
    ends.then(|| (line[..line.len() - rest.len()].trim_end(), value))
}

/// The value of a sample. Written as every scraper reads it: with one sign at most, without that of a `NaN`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(f64);

impl Number {
    pub(super) fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        match value.abs() {
            size if size.is_nan() => formatter.write_str("NaN"),
            f64::INFINITY if value > 0.0 => formatter.write_str("+Inf"),
            f64::INFINITY => formatter.write_str("-Inf"),
            // Beyond these the plain form is long.
            size if size != 0.0 && !(1e-5..1e17).contains(&size) => write!(formatter, "{value:e}"),
            _ => write!(formatter, "{value}"),
        }
    }
}

pub(super) fn is_metric_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// Names that begin with two underscores are the scraper's: `__name__` would rename the metric.
fn is_label_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with("__")
}

/// Label pairs with their values unescaped, and what follows the closing brace.
fn read_labels(mut text: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels: Vec<(&str, String)> = Vec::new();
    loop {
        text = text.trim_start_matches([' ', ',']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let rest = rest.strip_prefix('"').filter(|_| is_label_name(name))?;
        let end = closing_quote(rest)?;
        if labels.iter().any(|(known, _)| *known == name) {
            return None;
        }
        labels.push((name, unescaped(&rest[..end])?));
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

/// The text behind its escapes; `None` if one is none.
pub(super) fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next()? {
                'n' => '\n',
                same @ ('\\' | '"') => same,
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

/// Adds a pair to a list of labels, in the Prometheus text format, that has at least an opening brace.
pub fn push_label(series: &mut String, name: &str, value: &str) {
    let comma = if series.ends_with('{') { "" } else { "," };
    // Writing to a `String` cannot fail.
    _ = write!(series, "{comma}{name}=\"");
    push_escaped(series, value, Place::Label);
    series.push('"');
}

/// Where a text stands; what has to be escaped there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Label,
    Help,
}

/// Adds text in which nothing ends the line, or the quotes around it.
pub(super) fn push_escaped(text: &mut String, value: &str, place: Place) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' if place == Place::Label => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_printed_back_as_every_scraper_reads_them() {
        for (written, printed) in [
            ("-nan", "NaN"),
            ("+nan", "NaN"),
            ("NaN", "NaN"),
            ("inf", "+Inf"),
            ("+Inf", "+Inf"),
            ("-infinity", "-Inf"),
            ("+5", "5"),
            ("5.", "5"),
            (".5", "0.5"),
            ("-0", "-0"),
            ("1e300", "1e300"),
            ("1e-300", "1e-300"),
            ("0.1", "0.1"),
            ("1e999", "+Inf"),
            ("123456789", "123456789"),
        ] {
            assert_eq!(Number::read(written).map(|n| n.to_string()).as_deref(), Some(printed), "{written}");
        }
        for none in ["++5", "--5", "+-5", "", "1_000", "0x10", "five", "1e", "nanx"] {
            assert_eq!(Number::read(none), None, "{none}");
        }
    }

    #[test]
    fn a_line_has_a_name_labels_a_value_and_perhaps_a_time() {
        assert_eq!(
            series_and_value("x{a=\"b c\"} +1 17").map(|(s, v)| (s, v.to_string())),
            Some(("x{a=\"b c\"}", "1".into()))
        );
        let sample = Sample::read("x {a=\"\\\"}\",} 1").unwrap();
        assert_eq!((sample.name, &sample.labels[..]), ("x", &[("a", "\"}".to_owned())][..]));
        for none in [
            "x",
            "x 1 2 3",
            "x 1 now",
            "1x 1",
            "{a=\"b\"} 1",
            "x{a=\"\\y\"} 1",
            "x{__name__=\"y\"} 1",
            "x{a=\"b} 1",
        ] {
            assert_eq!(Sample::read(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_number_is_changed(value: f64) {
            let printed = Number(value).to_string();
            let again = Number::read(&printed).unwrap();
            prop_assert!(again.0.to_bits() == value.to_bits() || value.is_nan() && again.0.is_nan(), "{printed}");
        }
    }
}
