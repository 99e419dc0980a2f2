//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write};

use larder_telemetry::Histogram;
use larder_telemetry::exposition::push_label;

/// Builds one scrape. Families are written in the order they are added.
#[derive(Debug, Default)]
pub(super) struct Scrape {
    text: String,
}

/// Families of one shape: name, kind, help, and how a sample is taken.
pub(super) type Table<T, V = u64> = [(&'static str, Kind, &'static str, fn(&T) -> V)];

/// The same for histograms.
pub(super) type Histograms<T> = [(&'static str, &'static str, fn(&T) -> &Histogram)];

/// What samples are taken of, and the labels they get.
pub(super) type Labelled<'a, T> = (Vec<(&'a str, &'a str)>, &'a T);

/// What a family of samples is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// It only rises; the name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Numbers counted by size.
    Histogram,
}

impl Scrape {
    /// Begins a family.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        debug_assert!(!self.text.contains(&format!("# TYPE {name} ")), "{name} is one family");
        // Writing to a string cannot fail.
        _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { scrape: self, name }
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// Families of one sample without labels.
    pub(super) fn singles<V: Display>(&mut self, rows: &[(&'static str, Kind, &str, V)]) {
        for (name, kind, help, value) in rows {
            self.single(name, *kind, help, value);
        }
    }

    /// A family for each row, with one sample without labels.
    pub(super) fn all<T, V: Display>(&mut self, rows: &Table<T, V>, subject: &T) {
        self.each(rows, &[(Vec::new(), subject)]);
    }

    /// A family for each row, with a sample for each subject under its labels.
    pub(super) fn each<T, V: Display>(&mut self, rows: &Table<T, V>, subjects: &[Labelled<'_, T>]) {
        for (name, kind, help, value) in rows {
            let mut family = self.family(name, *kind, help);
            for (labels, subject) in subjects {
                family.sample(labels, value(subject));
            }
        }
    }

    /// As [`Self::each`], for histograms.
    pub(super) fn each_histogram<T>(&mut self, rows: &Histograms<T>, subjects: &[Labelled<'_, T>]) {
        for (name, help, histogram) in rows {
            let mut family = self.family(name, Kind::Histogram, help);
            for (labels, subject) in subjects {
                family.histogram(labels, histogram(subject));
            }
        }
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
        self.line("", labels, value)
    }

    /// Adds all samples of a histogram.
    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) -> &mut Self {
        let mut count = 0;
        for (bound, total) in histogram.cumulative() {
            let bound = if bound.is_finite() { format!("{bound:?}") } else { "+Inf".to_owned() };
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.line("_bucket", &labels, total);
            count = total;
        }
        self.line("_sum", labels, histogram.sum()).line("_count", labels, count)
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        let text = &mut self.scrape.text;
        text.push_str(self.name);
        text.push_str(suffix);
        if !labels.is_empty() {
            text.push('{');
            labels.iter().for_each(|(label, value)| push_label(text, label, value));
            text.push('}');
        }
        _ = writeln!(text, " {value}");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_has_its_buckets_its_sum_and_its_count() {
        let mut histogram = Histogram::new(&[1.0, 2.5]);
        [0.5, 2.0, 9.0].into_iter().for_each(|number| histogram.record(number));
        let mut scrape = Scrape::default();
        scrape.family("h", Kind::Histogram, "Help.").histogram(&[("a", "x")], &histogram);
        let text = "# HELP h Help.\n# TYPE h histogram\nh_bucket{a=\"x\",le=\"1.0\"} 1\n\
                    h_bucket{a=\"x\",le=\"2.5\"} 2\nh_bucket{a=\"x\",le=\"+Inf\"} 3\nh_sum{a=\"x\"} 11.5\n\
                    h_count{a=\"x\"} 3\n";
        assert_eq!(scrape.finish(), text);
    }

    #[test]
    fn hostile_label_values_stay_inside_their_quotes() {
        let mut scrape = Scrape::default();
        scrape.family("m_total", Kind::Counter, "Help.").sample(&[("a", "x\"} 1\nevil 2\\"), ("b", "")], 3);
        let text =
            "# HELP m_total Help.\n# TYPE m_total counter\nm_total{a=\"x\\\"} 1\\nevil 2\\\\\",b=\"\"} 3\n";
        assert_eq!(scrape.finish(), text);
    }
}
