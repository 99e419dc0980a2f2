//! Reading a JSON object key by key, collecting mistakes instead of stopping at the first.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use larder_core::units::gib_to_bytes;

use super::types::ConfigProblem;

/// One JSON object being read. Keys not asked for by the end are unknown.
pub(super) struct Fields<'a> {
    path: String,
    object: &'a Map<String, Value>,
    asked: BTreeSet<String>,
    /// Required keys that are missing, each with the place of its problem.
    missing: Vec<(usize, String)>,
    pub(super) problems: Vec<ConfigProblem>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(path: String, object: &'a Map<String, Value>) -> Self {
        Self {
            path,
            object,
            asked: BTreeSet::new(),
            missing: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key; `null` counts as not given.
    pub(super) fn value(&mut self, key: &str) -> Option<&'a Value> {
        self.asked.insert(key.to_owned());
        self.object.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn problem(&mut self, key: &str, text: impl Into<String>, hint: Option<String>) {
        self.problems.push(ConfigProblem { path: self.path_of(key), text: text.into(), hint });
    }

    fn refuse(&mut self, key: &str, value: &Value, accepted: &str) {
        let text = match is_told(key) {
            true => format!("value `{value}` is not {accepted}"),
            false => format!("its value is not {accepted}"),
        };
        self.problem(key, text, None);
    }

    pub(super) fn required(&mut self, key: &str, what: &str) {
        self.missing.push((self.problems.len(), key.to_owned()));
        self.problem(key, "required key is missing", Some(format!("give {what}")));
    }

    pub(super) fn string(&mut self, key: &str) -> Option<String> {
        let value = self.value(key)?;
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            self.refuse(key, value, "a string");
        }
        text
    }

    /// A string that must be there and not be empty.
    pub(super) fn required_string(&mut self, key: &str, what: &str) -> String {
        match self.value(key) {
            None => {
                self.required(key, what);
                String::new()
            }
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            Some(value) => {
                self.refuse(key, value, "a non-empty string");
                String::new()
            }
        }
    }

    pub(super) fn bool(&mut self, key: &str, default: bool) -> bool {
        match self.value(key) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(value) => {
                self.refuse(key, value, "`true` or `false`");
                default
            }
        }
    }

    /// An integer within bounds.
    pub(super) fn integer(&mut self, key: &str, min: u64, max: u64) -> Option<u64> {
        let value = self.value(key)?;
        let number = value.as_u64().filter(|number| (min..=max).contains(number));
        if number.is_none() {
            let accepted = if max == u64::MAX {
                format!("an integer from {min} on")
            } else {
                format!("an integer within {min}..={max}")
            };
            self.refuse(key, value, &accepted);
        }
        number
    }

    /// A number within bounds.
    pub(super) fn number(&mut self, key: &str, min: f64, max: f64) -> Option<f64> {
        let value = self.value(key)?;
        let number = value.as_f64().filter(|number| (min..=max).contains(number));
        if number.is_none() {
            let accepted = if max.is_finite() {
                format!("a number within {min}..={max}")
            } else {
                format!("a number from {min} on")
            };
            self.refuse(key, value, &accepted);
        }
        number
    }

    /// A size in GiB as bytes; fractions are fine.
    pub(super) fn gib(&mut self, key: &str) -> Option<u64> {
        /// The largest size taken, so that sums of sizes stay far from the end of the number range.
        const GIB_MAX: f64 = 1_073_741_824.0;
        self.number(key, 0.0, GIB_MAX).map(gib_to_bytes)
    }

    /// One of some words.
    pub(super) fn choice(&mut self, key: &str, choices: &[&str]) -> Option<String> {
        let value = self.value(key)?;
        match value.as_str().filter(|word| choices.contains(word)) {
            Some(word) => Some(word.to_owned()),
            None => {
                let hint = format!("use one of `{}`", choices.join("`, `"));
                self.problem(key, format!("value `{value}` is not known"), Some(hint));
                None
            }
        }
    }

    /// A list of numbers that each pass.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        accepted: &str,
        item: impl Fn(&Value) -> Option<T>,
    ) -> Vec<T> {
        match self.value(key) {
            None => Vec::new(),
            Some(value) => {
                let items =
                    value.as_array().and_then(|items| items.iter().map(&item).collect::<Option<Vec<T>>>());
                items.unwrap_or_else(|| {
                    self.refuse(key, value, accepted);
                    Vec::new()
                })
            }
        }
    }

    /// A nested object.
    pub(super) fn object(&mut self, key: &str) -> Option<Self> {
        let value = self.value(key)?;
        match value.as_object() {
            Some(object) => Some(Fields::new(self.path_of(key), object)),
            None => {
                self.refuse(key, value, "an object");
                None
            }
        }
    }

    /// Takes over what a nested object collected.
    pub(super) fn absorb(&mut self, nested: Fields<'_>) {
        let (problems, warnings) = nested.finish();
        self.problems.extend(problems);
        self.warnings.extend(warnings);
    }

    /// Ends reading: whatever was not asked for becomes a warning, with the nearest known key, or the hint of
    /// the required key that it was to be.
    pub(super) fn finish(mut self) -> (Vec<ConfigProblem>, Vec<String>) {
        let unknown: Vec<&String> = self.object.keys().filter(|key| !self.asked.contains(*key)).collect();
        for (place, key) in &self.missing {
            if let Some(given) = unknown.iter().find(|given| is_meant(given, key)) {
                self.problems[*place].hint = Some(format!("`{given}` is not known: did you mean `{key}`?"));
            }
        }
        for key in unknown {
            let path = self.path_of(key);
            let meant = self.asked.iter().filter(|known| is_meant(key, known));
            let warning = match meant.min_by_key(|known| distance(key, known)) {
                Some(known) => format!("key `{path}` is not known and ignored: did you mean `{known}`?"),
                None => format!("key `{path}` is not known and ignored"),
            };
            self.warnings.push(warning);
        }
        (self.problems, self.warnings)
    }
}

/// Whether a value under this key may stand in a message: who may log in is nobody else's business.
fn is_told(key: &str) -> bool {
    !["password", "secret", "token", "access_key"].iter().any(|part| key.contains(part))
}

/// Whether an unknown key is probably a known one with a slip of the pen, or its beginning (`trigger` for
/// `trigger_watermark`).
fn is_meant(given: &str, known: &str) -> bool {
    distance(given, known) <= 2 || known.strip_prefix(given).is_some_and(|rest| rest.starts_with('_'))
}

/// Edits that turn one word into another.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        for (a, b, edits) in
            [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("base_pth", "base_path", 1)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
