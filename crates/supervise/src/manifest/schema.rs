//! What a plugin's own keys in the extra configuration have to look like: a part of JSON Schema, key by key.
//!
//! Keys are written `plugin.<name>.<key>` in the extra configuration and `<key>` in the manifest. Owns the
//! check, the defaults, and the explanation of everything that does not fit.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use larder_telemetry::redaction::redact;

/// The dialect of the documents made here.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Characters of a wrong value that are shown; the rest is cut off.
const SHOWN_CHARS_MAX: usize = 80;

/// The rules for one plugin's keys, by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema(BTreeMap<String, Rule>);

/// The rules for one key; each left out holds for every value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rule {
    /// What kind of value it is.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The only values it can have.
    #[serde(rename = "enum", skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Value>>,
    /// The smallest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// The largest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// Whether the plugin does not start without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// What holds where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Kinds of values, as JSON Schema names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Object,
}

/// A key that is not as its rule has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Misfit {
    /// The whole key.
    pub key: String,
    /// What it has, as JSON, cut where it is long, masked where it looks like a secret; `None` if it is
    /// missing.
    pub got: Option<String>,
    /// What it takes.
    pub wanted: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, got, wanted } = self;
        match got {
            Some(got) => write!(f, "`{key}` is `{got}`, wanted {wanted}"),
            None => write!(f, "`{key}` is missing, wanted {wanted}"),
        }
    }
}

impl Schema {
    /// The first rule that contradicts itself: its key, what is wrong with it, and what would be right.
    pub(crate) fn contradiction(&self) -> Option<(String, String, String)> {
        self.0.iter().find_map(|(key, rule)| {
            let (message, hint) = rule.contradiction()?;
            Some((key.clone(), message, hint.to_owned()))
        })
    }

    /// The keys of the plugin of this name in `extra`, defaults filled in.
    ///
    /// # Errors
    /// All that do not fit.
    pub fn settings(&self, plugin: &str, extra: &Value) -> Result<Map<String, Value>, Vec<Misfit>> {
        let prefix = prefix(plugin);
        let mut settings = Map::new();
        let mut misfits = Vec::new();
        let given = extra.as_object().into_iter().flatten();
        for (whole, value) in given.filter(|(key, _)| key.starts_with(&prefix)) {
            let key = &whole[prefix.len()..];
            match self.0.get(key) {
                Some(rule) if rule.admits(value) => _ = settings.insert(key.to_owned(), value.clone()),
                Some(rule) => misfits.push(Misfit {
                    key: whole.clone(),
                    got: Some(shown(key, value)),
                    wanted: rule.wanted(),
                }),
                None => misfits.push(Misfit {
                    key: whole.clone(),
                    got: Some(shown(key, value)),
                    wanted: self.listed(),
                }),
            }
        }
        for (key, rule) in &self.0 {
            let whole = format!("{prefix}{key}");
            if extra.get(&whole).is_some() {
                continue;
            }
            match &rule.default {
                Some(default) => _ = settings.insert(key.clone(), default.clone()),
                None if rule.required => {
                    misfits.push(Misfit { key: whole, got: None, wanted: rule.wanted() });
                }
                None => {}
            }
        }
        if misfits.is_empty() { Ok(settings) } else { Err(misfits) }
    }

    /// The rules as a JSON Schema of the extra configuration.
    #[must_use]
    pub fn document(&self, plugin: &str) -> Value {
        let prefix = prefix(plugin);
        let properties: Map<String, Value> =
            self.0.iter().map(|(key, rule)| (format!("{prefix}{key}"), rule.document())).collect();
        let required: Vec<String> = self
            .0
            .iter()
            .filter(|(_, rule)| rule.required && rule.default.is_none())
            .map(|(key, _)| format!("{prefix}{key}"))
            .collect();
        let known: Vec<&String> = properties.keys().collect();
        json!({
            "$schema": DIALECT,
            "title": format!("Configuration of the runtime plugin {plugin}"),
            "type": "object",
            // Keys of others are none of this plugin's business.
            "propertyNames": { "anyOf": [{ "enum": known }, { "not": { "pattern": format!("^{}", escaped(&prefix)) } }] },
            "properties": properties,
            "required": required,
        })
    }

    fn listed(&self) -> String {
        let keys: Vec<_> = self.0.keys().map(|key| format!("`{key}`")).collect();
        if keys.is_empty() {
            "no key of its own".to_owned()
        } else {
            format!("one of the keys {}", keys.join(", "))
        }
    }
}

impl Rule {
    fn contradiction(&self) -> Option<(String, &'static str)> {
        let bounded = self.minimum.is_some() || self.maximum.is_some();
        if bounded && !matches!(self.kind, Some(Kind::Integer | Kind::Number)) {
            return Some((
                "has bounds and is no number".to_owned(),
                "add `type = \"number\"`, or leave them out",
            ));
        }
        if let (Some(minimum), Some(maximum)) = (self.minimum, self.maximum)
            && minimum > maximum
        {
            return Some(("has a minimum above its maximum".to_owned(), "exchange them"));
        }
        if self.values.as_ref().is_some_and(Vec::is_empty) {
            return Some(("admits no value".to_owned(), "list what it can be in `enum`"));
        }
        let unlisted = Self { values: None, ..self.clone() };
        if let Some(value) = self.values.iter().flatten().find(|value| !unlisted.admits(value)) {
            return Some((format!("lists `{value}`, which its other rules refuse"), "correct either"));
        }
        let default = self.default.as_ref().filter(|default| !self.admits(default))?;
        Some((format!("has the default `{default}`, which it refuses"), "correct either"))
    }

    fn admits(&self, value: &Value) -> bool {
        let number = value.as_f64();
        self.kind.is_none_or(|kind| kind.admits(value))
            && self.values.as_ref().is_none_or(|values| values.iter().any(|known| is_same(known, value)))
            && self.minimum.is_none_or(|minimum| number.is_none_or(|n| n >= minimum))
            && self.maximum.is_none_or(|maximum| number.is_none_or(|n| n <= maximum))
    }

    fn wanted(&self) -> String {
        if let Some(values) = &self.values {
            let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
            return format!("one of {}", values.join(", "));
        }
        let kind = self.kind.map_or("a value", Kind::name);
        match (self.minimum, self.maximum) {
            (Some(low), Some(high)) => format!("{kind} from {low} to {high}"),
            (Some(low), None) => format!("{kind} of {low} or more"),
            (None, Some(high)) => format!("{kind} of {high} or less"),
            (None, None) => kind.to_owned(),
        }
    }

    fn document(&self) -> Value {
        // Plain data; `required` is said elsewhere in JSON Schema.
        serde_json::to_value(Self { required: false, ..self.clone() }).unwrap_or_default()
    }
}

impl Kind {
    fn admits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Boolean => "`true` or `false`",
            Self::Array => "a list",
            Self::Object => "an object",
        }
    }
}

/// Equality as JSON Schema has it, for which 1 and 1.0 are one number.
fn is_same(a: &Value, b: &Value) -> bool {
    a == b || (a.as_f64().is_some() && a.as_f64() == b.as_f64())
}

fn prefix(plugin: &str) -> String {
    format!("plugin.{plugin}.")
}

fn shown(key: &str, value: &Value) -> String {
    let mut clean = json!({ key: value });
    redact(&mut clean);
    let text = clean[key].to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A text as a regular expression that matches only it.
fn escaped(text: &str) -> String {
    let special = |c: char| c.is_ascii_punctuation() && c != '_' && c != '-';
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(toml: &str) -> Schema {
        toml::from_str(toml).unwrap()
    }

    const RULES: &str = r#"
        interval = { type = "number", minimum = 0.5, maximum = 60, default = 5, description = "Seconds." }
        mode = { enum = ["push", "pull"] }
        url = { type = "string", required = true }
        count = { type = "integer" }
        api_key = { type = "string" }
    "#;

    #[test]
    fn defaults_are_filled_in_and_other_plugins_left_alone() {
        let extra = json!({"plugin.p.url": "http://x", "plugin.p.count": 3.0, "plugin.px.url": 4, "x": 5});
        let settings = Value::Object(schema(RULES).settings("p", &extra).unwrap());
        assert_eq!(settings, json!({"url": "http://x", "count": 3.0, "interval": 5}));
        assert_eq!(schema("").settings("p", &Value::Null), Ok(Map::new()));
    }

    #[test]
    fn all_that_does_not_fit_is_told_at_once() {
        let extra = json!({
            "plugin.p.interval": 0.1, "plugin.p.mode": "poll", "plugin.p.count": 1.5, "plugin.p.intervall": 1,
            "plugin.p.api_key": 7,
        });
        let misfits = schema(RULES).settings("p", &extra).unwrap_err();
        let told: Vec<_> = misfits.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "`plugin.p.interval` is `0.1`, wanted a number from 0.5 to 60",
                "`plugin.p.mode` is `\"poll\"`, wanted one of `\"push\"`, `\"pull\"`",
                "`plugin.p.count` is `1.5`, wanted an integer",
                "`plugin.p.intervall` is `1`, wanted one of the keys `api_key`, `count`, `interval`, `mode`, `url`",
                "`plugin.p.api_key` is `\"<redacted>\"`, wanted a string",
                "`plugin.p.url` is missing, wanted a string",
            ]
        );
    }

    #[test]
    fn contradictions() {
        for (rule, expected) in [
            ("{ minimum = 1 }", "has bounds and is no number"),
            ("{ type = \"number\", minimum = 2, maximum = 1 }", "has a minimum above its maximum"),
            ("{ enum = [] }", "admits no value"),
            ("{ type = \"string\", enum = [1] }", "lists `1`, which its other rules refuse"),
            ("{ type = \"integer\", default = \"x\" }", "has the default `\"x\"`, which it refuses"),
            ("{ enum = [1, 2], default = 3 }", "has the default `3`, which it refuses"),
        ] {
            let found = schema(&format!("x = {rule}")).contradiction().unwrap();
            assert_eq!((found.0.as_str(), found.1.as_str()), ("x", expected), "{rule}");
        }
        assert_eq!(schema(RULES).contradiction(), None);
    }

    #[test]
    fn the_document_is_json_schema() {
        let document = schema(RULES).document("p");
        assert_eq!(document["required"], json!(["plugin.p.url"]));
        assert_eq!(
            document["properties"]["plugin.p.interval"],
            json!({"type": "number", "minimum": 0.5, "maximum": 60.0, "default": 5, "description": "Seconds."})
        );
        assert_eq!(document["propertyNames"]["anyOf"][1]["not"]["pattern"], "^plugin\\.p\\.");
    }
}
