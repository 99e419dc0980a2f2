//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write};

/// Builds one scrape. Families are written in the order they are added.
#[derive(Debug, Default)]
pub(super) struct Scrape {
    text: String,
}

/// What a family of samples is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// It only rises; the name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Scrape {
    /// Begins a family.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string cannot fail.
        _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { scrape: self, name }
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// Adds families that are rendered already.
    pub(super) fn append(&mut self, rendered: &str) {
        self.text.push_str(rendered);
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// A family whose samples follow.
pub(super) struct Family<'s> {
    scrape: &'s mut Scrape,
    name: &'static str,
}

impl Family<'_> {
    /// Adds a sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        let text = &mut self.scrape.text;
        text.push_str(self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            _ = write!(text, "{label}=\"");
            escape(text, value);
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        _ = writeln!(text, " {value}");
        self
    }
}

fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_label_values_stay_inside_their_quotes() {
        let mut scrape = Scrape::default();
        scrape.family("m_total", Kind::Counter, "Help.").sample(&[("a", "x\"} 1\nevil 2\\"), ("b", "")], 3);
        let text =
            "# HELP m_total Help.\n# TYPE m_total counter\nm_total{a=\"x\\\"} 1\\nevil 2\\\\\",b=\"\"} 3\n";
        assert_eq!(scrape.finish(), text);
    }
}
