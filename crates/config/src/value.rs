//! Values of flags, and how each layer's spelling of one becomes one.
//!
//! A value here has the type its flag asks for and lies in the flag's own range. Rules between
//! flags live in `check.rs`.

use serde_json::Value as Json;

use super::flag::{Choice, Flag, Kind};

/// The value of one flag.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not given, and no default.
    Absent,
    /// [`Kind::Switch`], [`Kind::Pair`].
    Bool(bool),
    /// [`Kind::Int`].
    Int(i64),
    /// [`Kind::Float`].
    Float(f64),
    /// [`Kind::Text`], [`Kind::Name`], [`Kind::Choice`].
    Text(String),
    /// [`Kind::List`].
    List(Vec<String>),
    /// [`Kind::Json`].
    Json(Json),
    /// [`Kind::Objects`].
    Objects(Vec<Json>),
}

impl Value {
    /// Whether the value asks for nothing: absent, empty or false.
    #[must_use]
    pub fn is_off(&self) -> bool {
        match self {
            Self::Absent | Self::Bool(false) => true,
            Self::Text(text) => text.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Objects(objects) => objects.is_empty(),
            _ => false,
        }
    }

    /// The value as JSON, `null` when absent.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Absent => Json::Null,
            Self::Bool(value) => Json::from(*value),
            Self::Int(value) => Json::from(*value),
            Self::Float(value) => Json::from(*value),
            Self::Text(text) => Json::from(text.as_str()),
            Self::List(items) => Json::from(items.clone()),
            Self::Json(value) => value.clone(),
            Self::Objects(objects) => Json::from(objects.clone()),
        }
    }
}

/// Why a spelling is not a value of its flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong, starting with the value in backticks.
    pub problem: String,
    /// What the operator can do, where that is known.
    pub hint: Option<String>,
    /// The spelling does not have the flag's type at all, which is a usage error on the command line.
    pub mistyped: bool,
}

impl Unfit {
    fn mistyped(problem: String) -> Self {
        Self { problem, hint: None, mistyped: true }
    }

    fn out_of_range(shown: &str) -> Self {
        Self { problem: format!("`{shown}` is out of range"), hint: None, mistyped: false }
    }
}

/// Longest part of a rejected value that a message repeats, in characters.
const QUOTED_CHARS_MAX: usize = 120;

/// `text` as it may appear between backticks in a message: cut, without control characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(QUOTED_CHARS_MAX)
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect();
    if text.chars().nth(QUOTED_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Reads the words given for one flag on the command line.
///
/// # Errors
/// [`Unfit`] when a word is not a value of the flag.
pub(crate) fn from_words(flag: &Flag, words: Vec<String>) -> Result<Value, Unfit> {
    match flag.kind {
        Kind::List => Ok(Value::List(words)),
        Kind::Objects => words.iter().map(|word| object(word)).collect::<Result<_, _>>().map(Value::Objects),
        _ => match words.last() {
            Some(word) => from_text(flag, word),
            None => Ok(Value::Absent),
        },
    }
}

/// Reads one text, as found in an environment variable or as a default.
///
/// A list is a JSON array of texts or a comma-separated line; objects are one JSON object or an array of
/// them.
///
/// # Errors
/// [`Unfit`] when the text is not a value of the flag.
pub(crate) fn from_text(flag: &Flag, text: &str) -> Result<Value, Unfit> {
    match flag.kind {
        Kind::Switch | Kind::Pair => boolean(text).map(Value::Bool),
        Kind::Int { min, max } => {
            let value = int(text)
                .ok_or_else(|| Unfit::mistyped(format!("`{}` is not a whole number", quoted(text))))?;
            int_in_range(value, min, max)
        }
        Kind::Float(range) => {
            let value =
                float(text).ok_or_else(|| Unfit::mistyped(format!("`{}` is not a number", quoted(text))))?;
            if range.contains(value) {
                Ok(Value::Float(value))
            } else {
                Err(Unfit::out_of_range(&quoted(text)))
            }
        }
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Name => name(text),
        Kind::Choice(choices) => choice(flag, choices, text),
        Kind::List => list(text),
        Kind::Json => json(text).map(Value::Json),
        Kind::Objects => match json(text)? {
            Json::Array(items) => objects(items),
            item => objects(vec![item]),
        },
    }
}

/// Reads one value of a configuration file.
///
/// # Errors
/// [`Unfit`] when it is not a value of the flag.
pub(crate) fn from_json(flag: &Flag, value: Json) -> Result<Value, Unfit> {
    let wrong_type =
        |value: &Json| Unfit::mistyped(format!("`{}` has the wrong type", quoted(&value.to_string())));
    match (flag.kind, value) {
        (Kind::Switch | Kind::Pair, Json::Bool(value)) => Ok(Value::Bool(value)),
        (Kind::Int { min, max }, Json::Number(number)) if number.is_i64() => {
            int_in_range(number.as_i64().unwrap_or_default(), min, max)
        }
        (Kind::Float(_), Json::Number(number)) => from_text(flag, &number.to_string()),
        (Kind::Text | Kind::Name | Kind::Choice(_), Json::String(text)) => from_text(flag, &text),
        (Kind::List, Json::String(text)) => Ok(Value::List(vec![text])),
        (Kind::List, Json::Array(items)) => texts(items),
        (Kind::Json, Json::String(text)) => json(&text).map(Value::Json),
        (Kind::Json, value) => Ok(Value::Json(value)),
        (Kind::Objects, Json::String(text)) => from_text(flag, &text),
        (Kind::Objects, Json::Array(items)) => objects(items),
        (Kind::Objects, value @ Json::Object(_)) => Ok(Value::Objects(vec![value])),
        (_, value) => Err(wrong_type(&value)),
    }
}

fn int_in_range(value: i64, min: i64, max: i64) -> Result<Value, Unfit> {
    if (min..=max).contains(&value) {
        Ok(Value::Int(value))
    } else {
        Err(Unfit::out_of_range(&value.to_string()))
    }
}

fn name(text: &str) -> Result<Value, Unfit> {
    if text.is_empty() {
        return Err(Unfit { problem: "`` is empty".into(), hint: None, mistyped: false });
    }
    Ok(Value::Text(text.to_owned()))
}

fn boolean(text: &str) -> Result<bool, Unfit> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" | "" => Ok(false),
        _ => Err(Unfit::mistyped(format!("`{}` is neither true nor false", quoted(text)))),
    }
}

/// Numbers may carry surrounding blanks and single underscores between digits, as the peer's do.
fn plain_number(text: &str) -> Option<String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let digit_at =
        |index: Option<usize>| index.and_then(|index| bytes.get(index)).is_some_and(u8::is_ascii_digit);
    let sound = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'_')
        .all(|(index, _)| digit_at(index.checked_sub(1)) && digit_at(Some(index + 1)));
    sound.then(|| text.replace('_', ""))
}

fn int(text: &str) -> Option<i64> {
    plain_number(text)?.parse().ok()
}

fn float(text: &str) -> Option<f64> {
    plain_number(text)?.parse().ok()
}

fn choice(flag: &Flag, choices: &[Choice], text: &str) -> Result<Value, Unfit> {
    let word = if flag.name == "log-level" { level_word(text) } else { text.to_owned() };
    match choices.iter().find(|choice| choice.word == word) {
        Some(Choice { refused: None, .. }) => Ok(Value::Text(word)),
        Some(Choice { refused: Some((reason, hint)), .. }) => Err(Unfit {
            problem: format!("`{word}` cannot be used: {reason}"),
            hint: Some((*hint).to_owned()),
            mistyped: false,
        }),
        None => Err(Unfit::mistyped(format!("`{}` is not one of the choices", quoted(text)))),
    }
}

/// The peer's level names are upper case and include CRITICAL; `warn` is common elsewhere.
fn level_word(text: &str) -> String {
    match text.trim().to_ascii_lowercase().as_str() {
        "warn" => "warning".into(),
        "critical" | "fatal" => "error".into(),
        "notset" => "trace".into(),
        word => word.to_owned(),
    }
}

fn list(text: &str) -> Result<Value, Unfit> {
    if text.trim_start().starts_with('[') {
        return match json(text)? {
            Json::Array(items) => texts(items),
            other => Err(Unfit::mistyped(format!("`{}` is not a list", quoted(&other.to_string())))),
        };
    }
    Ok(Value::List(
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect(),
    ))
}

fn texts(items: Vec<Json>) -> Result<Value, Unfit> {
    let mut words = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Json::String(word) => words.push(word),
            other => return Err(Unfit::mistyped(format!("`{}` is not a text", quoted(&other.to_string())))),
        }
    }
    Ok(Value::List(words))
}

/// The parser's own message is given without the value, which may hold credentials.
fn json(text: &str) -> Result<Json, Unfit> {
    serde_json::from_str(text).map_err(|error| Unfit {
        problem: format!("not valid JSON: {error}"),
        hint: Some("quote the whole value for the shell, such as '{\"key\": \"value\"}'".into()),
        mistyped: false,
    })
}

fn object(text: &str) -> Result<Json, Unfit> {
    let value = json(text)?;
    if value.is_object() { Ok(value) } else { Err(not_an_object(&value)) }
}

fn objects(items: Vec<Json>) -> Result<Value, Unfit> {
    match items.iter().find(|item| !item.is_object() && !item.is_string()) {
        Some(other) => Err(not_an_object(other)),
        None => items
            .into_iter()
            .map(|item| match item {
                Json::String(text) => object(&text),
                item => Ok(item),
            })
            .collect::<Result<_, _>>()
            .map(Value::Objects),
    }
}

fn not_an_object(value: &Json) -> Unfit {
    let kind = match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    };
    Unfit { problem: format!("the JSON value is {kind}, not an object"), hint: None, mistyped: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;

    fn flag(name: &str) -> &'static Flag {
        flags::find(name).unwrap()
    }

    #[test]
    fn every_default_is_a_value_of_its_flag() {
        for flag in flags::all() {
            if let Some(default) = flag.default {
                from_text(flag, default).unwrap_or_else(|unfit| panic!("{}: {}", flag.name, unfit.problem));
            }
        }
    }

    #[test]
    fn numbers_are_read_as_the_peer_reads_them() {
        assert_eq!(from_text(flag("port"), " 5_555 "), Ok(Value::Int(5555)));
        assert_eq!(from_text(flag("port"), "+7"), Ok(Value::Int(7)));
        assert_eq!(from_text(flag("l1-size-gb"), "1e-3"), Ok(Value::Float(0.001)));
        for text in ["", "_1", "1_", "1__0", "0x10", "1.0", "abc"] {
            assert!(from_text(flag("port"), text).unwrap_err().mistyped, "{text}");
        }
        for text in ["inf", "nan", "-1", "0"] {
            assert!(!from_text(flag("l1-size-gb"), text).unwrap_err().mistyped, "{text}");
        }
    }

    #[test]
    fn ranges_hold_at_their_ends() {
        for (name, text, fits) in [
            ("chunk-size", "1", true),
            ("chunk-size", "0", false),
            ("chunk-size", "65536", true),
            ("chunk-size", "65537", false),
            ("port", "65535", true),
            ("port", "65536", false),
            ("eviction-trigger-watermark", "1", true),
            ("eviction-trigger-watermark", "1.01", false),
            ("worker-reap-timeout-seconds", "0", true),
            ("worker-reap-timeout-seconds", "29.9", false),
            ("worker-reap-timeout-seconds", "30", true),
            ("metrics-sample-rate", "0", false),
            ("metrics-sample-rate", "1", true),
        ] {
            assert_eq!(from_text(flag(name), text).is_ok(), fits, "{name} {text}");
        }
    }

    #[test]
    fn a_refused_word_says_why_and_a_typo_is_mistyped() {
        let builtin = from_text(flag("hash-algorithm"), "builtin").unwrap_err();
        assert!(builtin.problem.contains("differs from process to process"));
        assert!(!builtin.mistyped);
        assert!(from_text(flag("hash-algorithm"), "blake4").unwrap_err().mistyped);
    }

    #[test]
    fn levels_accept_the_peers_spelling() {
        for (text, word) in
            [("INFO", "info"), ("WARNING", "warning"), ("warn", "warning"), ("CRITICAL", "error")]
        {
            assert_eq!(from_text(flag("log-level"), text), Ok(Value::Text(word.into())));
        }
    }

    #[test]
    fn a_rejected_document_is_not_repeated() {
        let unfit = from_text(flag("l2-adapter"), r#"{"password": "hunter2""#).unwrap_err();
        assert!(!unfit.problem.contains("hunter2"));
    }

    #[test]
    fn objects_come_one_by_one_or_as_an_array() {
        let both = Value::Objects(vec![serde_json::json!({"type": "fs"}), serde_json::json!({"type": "s3"})]);
        assert_eq!(from_text(flag("l2-adapter"), r#"[{"type":"fs"},{"type":"s3"}]"#), Ok(both.clone()));
        let words = vec![r#"{"type":"fs"}"#.to_owned(), r#"{"type":"s3"}"#.to_owned()];
        assert_eq!(from_words(flag("l2-adapter"), words), Ok(both));
        assert!(from_words(flag("l2-adapter"), vec!["[]".into()]).is_err());
    }
}
