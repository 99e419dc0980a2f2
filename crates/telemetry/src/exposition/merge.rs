//! Metrics that plugins write, merged into one text in the Prometheus format under `plugin="<name>"`.
//!
//! A plugin can disturb neither the server's own metrics nor another plugin's: every line is written anew
//! from what was understood of it, reserved names are refused, a name keeps the type it was first seen with,
//! a series is taken once, and each plugin has room for so many series. What is left out is counted.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use super::sample::{
    Number, Place, Sample, declaration, is_metric_name, push_escaped, push_label, unescaped,
};

/// Series taken from one plugin; lines of more are left out and counted.
pub const SERIES_MAX: usize = 1_000;
/// Bytes of lines taken from one plugin.
const TEXT_MAX_BYTES: usize = 512 * 1024;
/// Bytes of one sample line.
pub const LINE_MAX_BYTES: usize = 4_096;

/// What a plugin's own label of this name is called, since the name is taken.
const EXPORTED: &str = "exported_plugin";

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
    kind: Option<Kind>,
    help: Option<String>,
    samples: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Untyped,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Counter, Self::Gauge, Self::Histogram, Self::Summary, Self::Untyped];

    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// What the names of its samples end with.
    fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Histogram => &["_bucket", "_sum", "_count"],
            Self::Summary => &["_sum", "_count"],
            _ => &[],
        }
    }

    /// The label that a sample of this name must have, with a number in it; `Err` if a family of this kind
    /// has no such sample.
    fn bound(self, family: &str, name: &str) -> Result<Option<&'static str>, ()> {
        match self {
            Self::Histogram if name == family => Err(()),
            Self::Histogram if name.ends_with("_bucket") => Ok(Some("le")),
            Self::Summary if name == family => Ok(Some("quantile")),
            _ => Ok(None),
        }
    }
}

/// What one plugin offers.
#[derive(Debug, Default)]
pub struct Offer {
    /// The plugin's name.
    pub plugin: String,
    /// All it has written.
    pub text: String,
    /// What was left out of that already.
    pub left_out: u64,
}

/// Merges what plugins offer, one after the other. A name in `reserved` is the server's, one that ends in `*`
/// stands for all that begin so.
pub fn merge(offers: impl IntoIterator<Item = Offer>, reserved: &[&str]) -> Merged {
    let mut families = Families::default();
    let mut dropped: BTreeMap<String, u64> = BTreeMap::new();
    for Offer { plugin, text, left_out } in offers {
        let mut source =
            Source { plugin: &plugin, reserved, declared: BTreeMap::new(), series: HashSet::new(), bytes: 0 };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lost = left_out + lines.filter(|line| source.take(line, &mut families).is_none()).count() as u64;
        if lost > 0 {
            *dropped.entry(plugin).or_default() += lost;
        }
    }
    Merged { text: families.text(), dropped }
}

#[derive(Debug, Default)]
struct Families(BTreeMap<String, Family>);

impl Families {
    fn text(self) -> String {
        let mut text = String::new();
        for (name, family) in self.0.into_iter().filter(|(_, family)| !family.samples.is_empty()) {
            // Writing to a `String` cannot fail.
            if let Some(help) = family.help {
                _ = writeln!(text, "# HELP {name} {help}");
            }
            if let Some(kind) = family.kind {
                _ = writeln!(text, "# TYPE {name} {}", kind.word());
            }
            text.push_str(&family.samples);
        }
        text
    }

    /// The family a sample belongs to: `x` for the `x_bucket` of a histogram `x`, whoever declared it.
    fn owner<'n>(&self, name: &'n str) -> &'n str {
        self.whole(name).unwrap_or(name)
    }

    fn whole<'n>(&self, part: &'n str) -> Option<&'n str> {
        let parts = Kind::Histogram.parts().iter();
        parts.filter_map(|suffix| part.strip_suffix(suffix).zip(Some(suffix))).find_map(|(base, suffix)| {
            let kind = self.0.get(base)?.kind?;
            kind.parts().contains(suffix).then_some(base)
        })
    }

    /// Whether a family of this name and kind gets along with what is there. Samples that came before may be
    /// called counters or gauges, but not parts of a whole.
    fn has_room_for(&self, name: &str, kind: Kind) -> bool {
        let taken = |part: &&str| self.0.contains_key(&format!("{name}{part}"));
        let has_samples = self.0.get(name).is_some_and(|family| !family.samples.is_empty());
        let is_whole = !kind.parts().is_empty();
        self.whole(name).is_none() && !(is_whole && (has_samples || kind.parts().iter().any(taken)))
    }
}

struct Source<'a> {
    plugin: &'a str,
    reserved: &'a [&'a str],
    /// Types this plugin has declared.
    declared: BTreeMap<String, Kind>,
    series: HashSet<String>,
    /// Length of what was taken.
    bytes: usize,
}

impl Source<'_> {
    /// Takes one line; `None` if it is left out.
    fn take(&mut self, line: &str, families: &mut Families) -> Option<()> {
        let is_text = !line.contains(|c: char| c.is_control() && c != '\t');
        if line.len() > LINE_MAX_BYTES || self.bytes + line.len() > TEXT_MAX_BYTES || !is_text {
            return None;
        }
        self.bytes += line.len();
        match line.strip_prefix('#') {
            Some(comment) => self.comment(comment.trim_start(), families),
            None => self.sample(Sample::read(line)?, families),
        }
    }

    fn comment(&mut self, comment: &str, families: &mut Families) -> Option<()> {
        let Some((keyword, name, rest)) = declaration(comment) else { return Some(()) };
        if !self.may_use(name) {
            return None;
        }
        if keyword == "HELP" {
            let mut help = String::with_capacity(rest.len());
            push_escaped(&mut help, &unescaped(rest).unwrap_or_else(|| rest.to_owned()), Place::Help);
            families.0.entry(name.to_owned()).or_default().help.get_or_insert(help);
            return Some(());
        }
        let kind = Kind::parse(rest.trim_end())?;
        self.declared.insert(name.to_owned(), kind);
        let known = families.0.get(name).and_then(|family| family.kind);
        if known.is_some_and(|known| known != kind) || (known.is_none() && !families.has_room_for(name, kind))
        {
            return None;
        }
        families.0.entry(name.to_owned()).or_default().kind = Some(kind);
        Some(())
    }

    fn sample(&mut self, sample: Sample<'_>, families: &mut Families) -> Option<()> {
        let Sample { name, mut labels, value } = sample;
        let owner = families.owner(name);
        let kind = families.0.get(owner).and_then(|family| family.kind);
        let declared = self.declared.get(owner).copied();
        // Parts without the whole mean something else to this plugin than to the one that declared it.
        let is_other = declared != kind && (declared.is_some() || owner != name);
        if is_other || !self.may_use(name) {
            return None;
        }
        if let Some(bound) = kind.map_or(Ok(None), |kind| kind.bound(owner, name)).ok()? {
            let (_, text) = labels.iter_mut().find(|(label, _)| *label == bound)?;
            *text = Number::read(text)?.to_string();
        }
        if labels.iter().any(|(label, _)| *label == "plugin")
            && labels.iter().any(|(label, _)| *label == EXPORTED)
        {
            return None;
        }
        let mut series = format!("{name}{{");
        push_label(&mut series, "plugin", self.plugin);
        for (label, value) in &labels {
            push_label(&mut series, if *label == "plugin" { EXPORTED } else { label }, value);
        }
        series.push('}');
        // The order of labels makes no other series.
        labels.sort_unstable();
        let identity = format!("{name}{labels:?}");
        if self.series.len() >= SERIES_MAX || !self.series.insert(identity) {
            return None;
        }
        _ = writeln!(families.0.entry(owner.to_owned()).or_default().samples, "{series} {value}");
        Some(())
    }

    fn may_use(&self, name: &str) -> bool {
        let taken = |reserved: &&str| match reserved.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == *reserved,
        };
        is_metric_name(name) && !self.reserved.iter().any(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn merged(sources: &[(&str, &str)]) -> Merged {
        let offer = |(plugin, text): &(&str, &str)| Offer {
            plugin: (*plugin).to_owned(),
            text: (*text).to_owned(),
            left_out: 0,
        };
        merge(sources.iter().map(offer), &["lmcache_*", "larder_*", "up"])
    }

    #[test]
    fn plugins_share_a_metric_and_keep_apart() {
        let a = "# HELP jobs Jobs done.\n# TYPE jobs counter\njobs{kind=\"x\"} 1\njobs 2 1700000000\n";
        let b = "# TYPE jobs counter\njobs{plugin=\"liar\",kind=\"a\\\"}b\"} +3\n";
        let expected = "# HELP jobs Jobs done.\n# TYPE jobs counter\n\
            jobs{plugin=\"a\",kind=\"x\"} 1\njobs{plugin=\"a\"} 2\n\
            jobs{plugin=\"b\",exported_plugin=\"liar\",kind=\"a\\\"}b\"} 3\n";
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
            "x ++5",
            "up 1",
            "x 1 2 3",
            "x{plugin=\"a\",exported_plugin=\"b\"} 1",
            "x{__name__=\"y\"} 1",
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
        let padding = "y".repeat(LINE_MAX_BYTES - 100);
        let long: String = (0..SERIES_MAX).map(|i| format!("x{{i=\"{i}{padding}\"}} 1\n")).collect();
        let result = merged(&[("wordy", &long), ("modest", "y 1\n")]);
        assert!(result.text.len() < TEXT_MAX_BYTES + LINE_MAX_BYTES && result.text.contains("modest"));
        assert!(result.dropped["wordy"] > 0);
    }

    #[test]
    fn what_a_c_program_prints_is_printed_as_prometheus_reads_it() {
        let result = merged(&[("p", "a -nan\nb inf\nc -Infinity\nd +7\ne{plugin=\"x\"} 1e3\n")]);
        let expected = "a{plugin=\"p\"} NaN\nb{plugin=\"p\"} +Inf\nc{plugin=\"p\"} -Inf\nd{plugin=\"p\"} 7\n\
            e{plugin=\"p\",exported_plugin=\"x\"} 1000\n";
        assert_eq!((result.text.as_str(), result.dropped.len()), (expected, 0));
    }

    #[test]
    fn parts_of_one_plugin_s_histogram_are_no_gauge_of_another() {
        let histogram = "# TYPE h histogram\nh_bucket{le=\"+1\"} 1\nh_bucket 2\nh 3\nh_count 1\n";
        let gauge = "# TYPE h_count gauge\nh_count 4\n";
        let first = merged(&[("a", histogram), ("b", gauge)]);
        assert_eq!(
            first.text,
            "# TYPE h histogram\nh_bucket{plugin=\"a\",le=\"1\"} 1\nh_count{plugin=\"a\"} 1\n"
        );
        assert_eq!((first.dropped["a"], first.dropped["b"]), (2, 2));
        larder_testkit::exposition::parse(&merged(&[("a", gauge), ("b", histogram)]).text).unwrap();
    }

    /// Lines of a kind that plugins write, right and wrong.
    fn lines() -> impl Strategy<Value = String> {
        let name = "(h|h_sum|h_count|h_bucket|x|up|lmcache_y|[a-z_:]{1,3})";
        let label = "(plugin|exported_plugin|le|quantile|a|__a|[a-z]{1,2})=\"([a-z0-9+.\\\\\"]|\\\\n){0,4}\"";
        let value = "([+-]{0,2}(nan|inf|[0-9]{1,3}(\\.[0-9]{1,2})?(e-?[0-9]{1,3})?))( [0-9]{1,2})?";
        let comment = "# (TYPE|HELP) (h|x|h_sum) (histogram|summary|gauge|counter|a\\\\b|\"q\")";
        let sample = format!("{name}(\\{{({label},?){{0,3}}\\}})? {value}");
        let sample = proptest::string::string_regex(&sample).unwrap();
        let line = prop_oneof![sample, comment, "[a-z#{}=\",. \\\\0-9]{0,30}"];
        proptest::collection::vec(line, 0..25).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #[test]
        fn whatever_plugins_write_the_scrape_can_be_read(a in lines(), b in lines(), name in "[a-z\"\\\\]{1,4}") {
            let result = merged(&[(&name, &a), ("other", &b)]);
            let families = larder_testkit::exposition::parse(&result.text);
            prop_assert!(families.is_ok(), "{families:?} in\n{}", result.text);
            for sample in families.unwrap().iter().flat_map(|family| &family.samples) {
                prop_assert!(sample.name != "up" && !sample.name.starts_with("lmcache_"));
                let plugin = &sample.labels["plugin"];
                prop_assert!(*plugin == name || plugin == "other", "{plugin}");
            }
        }
    }
}
