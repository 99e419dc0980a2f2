//! Every effective value with its source, for `larder config show`. Credentials are redacted unless they are
//! asked for.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::flag::{Flag, Group};
use super::flags;
use super::json::{Layout, to_python_json};
use super::load::Loaded;
use super::settings::Setting;
use super::value::Value;
use larder_telemetry::redaction::redact;

/// Whether credentials are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// As they are.
    Shown,
    /// Replaced; no server accepts the replacement.
    Redacted,
}

/// The settings as a TOML file that would give the same configuration (but for redacted credentials), each
/// line with its source.
#[must_use]
pub fn to_toml(loaded: &Loaded, secrets: Secrets) -> String {
    let mut text = String::new();
    for group in Group::ALL {
        let lines: Vec<String> = shown(loaded)
            .filter(|(flag, _)| flag.group == group)
            .map(|(flag, setting)| toml_line(flag, setting, secrets))
            .collect();
        if !lines.is_empty() {
            let gap = if text.is_empty() { "" } else { "\n" };
            // Writing to a String cannot fail.
            _ = writeln!(text, "{gap}# {}\n{}", group.heading(), lines.join("\n"));
        }
    }
    text
}

/// The settings as one JSON object: `settings` by key with `value` and `source`, then `notices` and
/// `mistakes`.
pub fn to_json(loaded: &Loaded, secrets: Secrets) -> String {
    let settings: Map<String, Json> = shown(loaded)
        .map(|(flag, setting)| {
            let value =
                json!({ "value": clean_json(setting, secrets), "source": setting.source.to_string() });
            (flag.key(), value)
        })
        .collect();
    let mistakes: Vec<String> = loaded
        .config
        .as_ref()
        .err()
        .map_or_else(Vec::new, |error| error.mistakes.iter().map(ToString::to_string).collect());
    let notices: Vec<String> = loaded.notices.iter().map(ToString::to_string).collect();
    let document = json!({ "settings": settings, "notices": notices, "mistakes": mistakes });
    to_python_json(&document, Layout::Indented)
}

/// Flags that decide something: not those of the peer's command-line framework, nor deprecated ones left
/// alone.
fn shown(loaded: &Loaded) -> impl Iterator<Item = (&'static Flag, &Setting)> {
    flags::all()
        .filter(|flag| flag.group != Group::Framework)
        .filter(|flag| !flag.hidden || loaded.settings.is_given(flag.name))
        .map(|flag| (flag, loaded.settings.get(flag.name)))
}

fn clean_json(setting: &Setting, secrets: Secrets) -> Json {
    let mut value = setting.value.to_json();
    if secrets == Secrets::Redacted {
        redact(&mut value);
    }
    value
}

fn toml_line(flag: &Flag, setting: &Setting, secrets: Secrets) -> String {
    let key = flag.key();
    let source = setting.source.to_string().replace(char::is_control, "\u{fffd}");
    if flag.name == "config" {
        return match &setting.value {
            Value::Text(path) => format!("# {key} = {}  # {source}", toml_text(path)),
            _ => format!("# {key} is not given"),
        };
    }
    let clean = clean_json(setting, secrets);
    let value = match (&setting.value, &clean) {
        (Value::Absent, _) => {
            return format!("# {key} is {}  # {source}", flag.automatic.unwrap_or("not given"));
        }
        (Value::Text(_), Json::String(text)) => toml_text(text),
        (Value::List(_), Json::Array(items)) => {
            toml_array(items.iter().map(|item| toml_text(item.as_str().unwrap_or_default())))
        }
        (Value::Objects(_), Json::Array(items)) => {
            toml_array(items.iter().map(|item| toml_text(&to_python_json(item, Layout::Line))))
        }
        (Value::Json(_), value) => toml_text(&to_python_json(value, Layout::Line)),
        (_, value) => to_python_json(value, Layout::Line),
    };
    format!("{key} = {value}  # {source}")
}

fn toml_array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A literal string where possible, so that JSON inside stays readable.
fn toml_text(text: &str) -> String {
    if text.contains('"') && !text.contains(|character: char| character == '\'' || character.is_control()) {
        return format!("'{text}'");
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            other if other.is_control() => {
                // Writing to a String cannot fail.
                _ = write!(quoted, "\\u{:04X}", u32::from(other));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_toml() {
        for text in ["", "plain", "it's", "say \"hi\"", "it's \"both\"", "a\\b", "line\nfeed\u{7f}", "é😀"]
        {
            let document = format!("key = {}", toml_text(text));
            let table = toml::de::DeTable::parse(&document).unwrap();
            assert_eq!(table.get_ref().get("key").unwrap().get_ref().as_str(), Some(text), "{document}");
        }
    }
}
