//! The Prometheus text format, version 0.0.4, read strictly: what the laxest scraper forgives is an error
//! here.
//!
//! Beyond the grammar: one HELP and one TYPE a family, before its samples, which stand together; no series
//! twice; numbers as Prometheus itself writes them.

use std::collections::{BTreeMap, HashSet};

/// One family and its samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    /// Its name: that of its samples, or what they begin with.
    pub name: String,
    /// Its HELP, unescaped.
    pub help: Option<String>,
    /// Its TYPE.
    pub kind: Option<String>,
    /// Its samples, in order.
    pub samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name as written.
    pub name: String,
    /// The labels, unescaped.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// Reads a whole scrape.
///
/// # Errors
/// The number of the first line that is wrong, the line, and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Family>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    let mut reader = Reader::default();
    for (index, line) in text.split_terminator('\n').enumerate() {
        reader.line(line).map_err(|cause| format!("line {}: `{line}`: {cause}", index + 1))?;
    }
    Ok(reader.families)
}

#[derive(Default)]
struct Reader {
    families: Vec<Family>,
    series: HashSet<String>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err("a control character".to_owned());
        }
        if line.trim().is_empty() {
            return Err("an empty line".to_owned());
        }
        match line.strip_prefix("# ") {
            Some(comment) => self.comment(comment),
            None if line.starts_with('#') => Err("a comment without a space".to_owned()),
            None => self.sample(line),
        }
    }

    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let mut words = comment.splitn(3, ' ');
        let (keyword, name, rest) = (words.next(), words.next(), words.next().unwrap_or_default());
        let (Some(keyword @ ("HELP" | "TYPE")), Some(name)) = (keyword, name) else { return Ok(()) };
        is_name(name, true)?;
        let family = self.family(name)?;
        if !family.samples.is_empty() {
            return Err(format!("{keyword} after a sample"));
        }
        if keyword == "HELP" {
            let help = unescaped(rest, false)?;
            return family.help.replace(help).map_or(Ok(()), |_| Err("a second HELP".to_owned()));
        }
        if !["counter", "gauge", "histogram", "summary", "untyped"].contains(&rest) {
            return Err("no such type".to_owned());
        }
        family.kind.replace(rest.to_owned()).map_or(Ok(()), |_| Err("a second TYPE".to_owned()))
    }

    /// The family that the lines belong to now. One that was left is not come back to.
    fn family(&mut self, name: &str) -> Result<&mut Family, String> {
        let last = self.families.len().checked_sub(1);
        let index = self.families.iter().position(|family| family.name == name);
        match (index, last) {
            (Some(index), Some(last)) if index == last => {}
            (Some(_), _) => return Err(format!("`{name}` was left and comes back")),
            (None, _) => {
                if let Some(other) = self.families.iter().find(|family| family.owns(name)) {
                    return Err(format!("`{name}` is a part of `{}`", other.name));
                }
                self.families.push(Family { name: name.to_owned(), ..Family::default() });
            }
        }
        self.families.last_mut().ok_or_else(|| "no family".to_owned())
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let (name, rest) = line.split_at(end);
        is_name(name, true)?;
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (BTreeMap::new(), rest),
        };
        let mut words = rest.strip_prefix(' ').ok_or("no space before the value")?.split(' ');
        let value = number(words.next().unwrap_or_default())?;
        if let Some(time) = words.next() {
            time.parse::<i64>().map_err(|_| "a time that is no integer")?;
        }
        if words.next().is_some() {
            return Err("something after the time".to_owned());
        }
        if !self.series.insert(format!("{name}{labels:?}")) {
            return Err("a series twice".to_owned());
        }
        let owner = match self.families.last() {
            Some(last) if last.owns(name) => last.name.clone(),
            _ => name.to_owned(),
        };
        let family = self.family(&owner)?;
        family.fits(name, &labels)?;
        family.samples.push(Sample { name: name.to_owned(), labels, value });
        Ok(())
    }
}

impl Family {
    /// Whether a sample of this name, other than the family's own, is one of its.
    fn owns(&self, name: &str) -> bool {
        let parts: &[&str] = match self.kind.as_deref() {
            Some("histogram") => &["_bucket", "_sum", "_count"],
            Some("summary") => &["_sum", "_count"],
            _ => &[],
        };
        name.strip_prefix(self.name.as_str()).is_some_and(|rest| parts.contains(&rest))
    }

    fn fits(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<(), String> {
        let needed = match self.kind.as_deref() {
            Some("histogram") if name == self.name => return Err("a histogram has only parts".to_owned()),
            Some("histogram") if name.ends_with("_bucket") => "le",
            Some("summary") if name == self.name => "quantile",
            _ => return Ok(()),
        };
        let bound = labels.get(needed).ok_or_else(|| format!("no `{needed}`"))?;
        number(bound).map(|_| ())
    }
}

/// Label pairs, and what follows the closing brace.
fn labels(mut text: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, rest) = text.split_once("=\"").ok_or("a label without a value")?;
        is_name(name, false)?;
        let end = closing_quote(rest).ok_or("a label value without an end")?;
        if labels.insert(name.to_owned(), unescaped(&rest[..end], true)?).is_some() {
            return Err(format!("the label `{name}` twice"));
        }
        let rest = &rest[end + 1..];
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        text = rest.strip_prefix(',').ok_or("no comma between labels")?;
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

fn unescaped(text: &str, quoted: bool) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if quoted => '"',
                other => return Err(format!("an escape that is none: {other:?}")),
            },
            other => other,
        });
    }
    Ok(plain)
}

/// As Prometheus writes numbers: Go's `ParseFloat` takes more, but no signed `NaN` and no second sign.
fn number(text: &str) -> Result<f64, String> {
    match text {
        "NaN" => return Ok(f64::NAN),
        "+Inf" => return Ok(f64::INFINITY),
        "-Inf" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let begins = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let parsed = text.parse::<f64>().ok().filter(|value| digits && begins && value.is_finite());
    parsed.ok_or_else(|| format!("`{text}` is no number"))
}

fn is_name(name: &str, of_metric: bool) -> Result<(), String> {
    let may_begin = |c: char| c.is_ascii_alphabetic() || c == '_' || (of_metric && c == ':');
    let whole = name.chars().all(|c| may_begin(c) || c.is_ascii_digit());
    let reserved = !of_metric && name.starts_with("__");
    match name.starts_with(may_begin) && whole && !reserved {
        true => Ok(()),
        false => Err(format!("`{name}` is no name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_read_by_family() {
        let text = "# HELP a_total Says \\\\ and\\nmore.\n# TYPE a_total counter\na_total{b=\"x\\\"} 1\",c=\"\"} 3\na_total 1e300 17\n\
             # TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum -0.5\nh_count 1\nfree NaN\n";
        let families = parse(text).unwrap();
        let names: Vec<_> = families.iter().map(|family| family.name.as_str()).collect();
        assert_eq!(names, ["a_total", "h", "free"]);
        assert_eq!(families[0].help.as_deref(), Some("Says \\ and\nmore."));
        assert_eq!(families[0].samples[0].labels["b"], "x\"} 1");
        assert_eq!(families[1].samples.len(), 3);
        assert!(families[2].samples[0].value.is_nan());
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn what_a_scraper_may_refuse_is_refused() {
        for text in [
            "a 1",
            "a\n",
            "a one\n",
            "a ++5\n",
            "a +5\n",
            "a -nan\n",
            "a nan\n",
            "a 0x1\n",
            "a inf\n",
            "a 1 x\n",
            "a 1 2 3\n",
            "1a 1\n",
            "a{b=\"1\",b=\"2\"} 1\n",
            "a{b=\"\\x\"} 1\n",
            "a{b=\"1\" c=\"2\"} 1\n",
            "a{__name__=\"b\"} 1\n",
            "a 1\na 2\n",
            "a{b=\"1\",c=\"2\"} 1\na{c=\"2\",b=\"1\"} 1\n",
            "a 1\nb 1\na{c=\"1\"} 1\n",
            "a 1\n# TYPE a gauge\n",
            "# TYPE a gauge\n# TYPE a gauge\na 1\n",
            "# HELP a x\n# HELP a y\na 1\n",
            "# TYPE a gauge\n# HELP a x\nb 1\n# TYPE a gauge\n",
            "# TYPE a what\n",
            "# HELP a \\x\n",
            "# TYPE h histogram\nh 1\n",
            "# TYPE h histogram\nh_bucket 1\n",
            "# TYPE h histogram\nh_bucket{le=\"x\"} 1\n",
            "# TYPE h histogram\nh_count 1\nb 1\nh_sum 1\n",
            "a\u{1b} 1\n",
            "\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
