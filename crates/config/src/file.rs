//! The configuration file: TOML, one key per flag.
//!
//! A key that is not a flag is a mistake, never ignored. Values keep their line for messages.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::flags;
use super::mistake::Mistake;
use super::settings::Settings;
use super::source::Source;
use super::spelling::unknown_key;
use super::value::{self, quoted};

/// Largest configuration file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads the file at `path` into the file layer.
pub(crate) fn read_file(path: &str, given_by: &Source, settings: &mut Settings, mistakes: &mut Vec<Mistake>) {
    match load(Path::new(path)) {
        Ok(text) => read_text(path, &text, settings, mistakes),
        Err(problem) => mistakes.push(
            Mistake::new("config", given_by.clone(), format!("`{}` cannot be read: {problem}", quoted(path)))
                .accepted("a readable TOML file"),
        ),
    }
}

fn load(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{size} bytes are more than the limit of {FILE_BYTES_MAX}"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

fn read_text(path: &str, text: &str, settings: &mut Settings, mistakes: &mut Vec<Mistake>) {
    let path: Arc<str> = Arc::from(path);
    let place =
        |span: Range<usize>| Source::File { path: Arc::clone(&path), line: line_of(text, span.start) };
    let (table, errors) = DeTable::parse_recoverable(text);
    // What the parser makes up to go on after an error is not what the operator wrote.
    let mut broken_lines = Vec::new();
    for error in errors {
        let source = place(error.span().unwrap_or_default());
        if let Source::File { line, .. } = source {
            broken_lines.push(line);
        }
        mistakes.push(Mistake::new(
            "config",
            source,
            format!("not valid TOML: {}", one_line(error.message())),
        ));
    }
    let mut items: Vec<_> = table.into_inner().into_iter().collect();
    items.sort_by_key(|(key, _)| key.span().start);
    for (key, item) in items {
        let source = place(key.span());
        if matches!(source, Source::File { line, .. } if broken_lines.contains(&line)) {
            continue;
        }
        if key.get_ref() == "config" {
            mistakes.push(Mistake::new("config", source, "a configuration file cannot name another one"));
            continue;
        }
        match flags::all().find(|flag| flag.key() == key.get_ref().as_ref()) {
            Some(flag) => settings.put(flag, source, value::from_json(flag, to_json(item)), mistakes),
            None => mistakes.push(unknown_key(key.get_ref(), source)),
        }
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// A value that JSON cannot hold (a date, an infinite number) becomes its text, which no flag of another
/// type accepts.
fn to_json(item: Spanned<DeValue<'_>>) -> Json {
    match item.into_inner() {
        DeValue::String(text) => Json::String(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => Json::from(value),
            Err(_) => Json::String(number.to_string()),
        },
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map_or_else(|| Json::String(number.to_string()), Json::Number),
        DeValue::Boolean(value) => Json::Bool(value),
        DeValue::Datetime(datetime) => Json::String(datetime.to_string()),
        DeValue::Array(items) => Json::Array(items.into_iter().map(to_json).collect()),
        DeValue::Table(table) => Json::Object(
            table.into_iter().map(|(key, item)| (key.into_inner().into_owned(), to_json(item))).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn read(text: &str) -> (Settings, Vec<String>) {
        let mut settings = Settings::defaults();
        let mut mistakes = Vec::new();
        read_text("larder.toml", text, &mut settings, &mut mistakes);
        (settings, mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_type_can_be_given() {
        let (settings, mistakes) = read(
            "l1_size_gb = 10\neviction_policy = \"LRU\"\nchunk_size = 0x10\nl1_use_lazy = false\n\
             eviction_ratio = 2.5e-1\nruntime_plugin_locations = [\"a\", \"b\"]\n\
             runtime_plugin_config = { \"plugin.x\" = 1 }\n[[l2_adapter]]\ntype = \"fs\"\n",
        );
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(settings.float("l1-size-gb"), Some(10.0));
        assert_eq!(settings.int("chunk-size"), Some(16));
        assert_eq!(settings.get("l1-use-lazy").value, Value::Bool(false));
        assert_eq!(settings.float("eviction-ratio"), Some(0.25));
        assert_eq!(settings.list("runtime-plugin-locations"), ["a", "b"]);
        assert_eq!(settings.json("runtime-plugin-config"), serde_json::json!({"plugin.x": 1}));
        assert_eq!(settings.objects("l2-adapter"), [serde_json::json!({"type": "fs"})]);
        assert_eq!(
            settings.get("eviction-ratio").source,
            Source::File { path: "larder.toml".into(), line: 5 }
        );
    }

    #[test]
    fn wrong_keys_types_and_syntax_are_all_reported_with_their_lines() {
        let (_, mistakes) =
            read("port = \"5555\"\nchunksize = 16\nl1_use_lazy = 1\nhost = \nconfig = \"x\"\n");
        assert_eq!(mistakes.len(), 5, "{mistakes:#?}");
        assert!(mistakes.iter().any(|text| text.contains("larder.toml:4): not valid TOML")), "{mistakes:#?}");
        assert!(
            mistakes
                .iter()
                .any(|text| text.starts_with("port (file larder.toml:1): `\"5555\"` has the wrong type"))
        );
        assert!(mistakes.iter().any(|text| text.contains("did you mean `chunk_size`?")));
        let beginning = unknown_key("l1-size", Source::Default).to_string();
        assert!(beginning.contains("did you mean `l1_size_gb`?"), "{beginning}");
        assert!(
            mistakes
                .iter()
                .any(|text| text.contains("larder.toml:5): a configuration file cannot name another"))
        );
        assert!(
            mistakes
                .iter()
                .any(|text| text.starts_with("l1_use_lazy (file larder.toml:3): `1` has the wrong type"))
        );
    }

    #[test]
    fn a_missing_file_is_a_mistake_of_its_flag() {
        let mut mistakes = Vec::new();
        read_file("/nowhere/larder.toml", &Source::CommandLine, &mut Settings::defaults(), &mut mistakes);
        assert!(
            mistakes[0]
                .to_string()
                .starts_with("--config (command line): `/nowhere/larder.toml` cannot be read:")
        );
    }
}
