//! JSON text as Python's `json.dumps` writes it with its default settings: separators `", "` and `": "`,
//! every character outside ASCII escaped, floats by their shortest form.

use std::fmt::Write as _;

use serde_json::{Number, Value as Json};

/// How the text is broken into lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One line.
    Line,
    /// Two spaces per level.
    Indented,
}

/// Writes `value` as Python would.
#[must_use]
pub fn to_python_json(value: &Json, layout: Layout) -> String {
    let mut text = String::new();
    write_value(&mut text, value, layout, 0);
    text
}

fn write_value(text: &mut String, value: &Json, layout: Layout, depth: usize) {
    match value {
        Json::Null => text.push_str("null"),
        Json::Bool(true) => text.push_str("true"),
        Json::Bool(false) => text.push_str("false"),
        Json::Number(number) => write_number(text, number),
        Json::String(string) => write_string(text, string),
        Json::Array(items) if items.is_empty() => text.push_str("[]"),
        Json::Object(entries) if entries.is_empty() => text.push_str("{}"),
        Json::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(text, layout, depth + 1, index > 0);
                write_value(text, item, layout, depth + 1);
            }
            close(text, layout, depth, ']');
        }
        Json::Object(entries) => {
            text.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                separate(text, layout, depth + 1, index > 0);
                write_string(text, key);
                text.push_str(": ");
                write_value(text, item, layout, depth + 1);
            }
            close(text, layout, depth, '}');
        }
    }
}

fn separate(text: &mut String, layout: Layout, depth: usize, follows: bool) {
    match (layout, follows) {
        (Layout::Line, true) => text.push_str(", "),
        (Layout::Line, false) => {}
        (Layout::Indented, follows) => {
            text.push_str(if follows { ",\n" } else { "\n" });
            indent(text, depth);
        }
    }
}

fn close(text: &mut String, layout: Layout, depth: usize, bracket: char) {
    if layout == Layout::Indented {
        text.push('\n');
        indent(text, depth);
    }
    text.push(bracket);
}

fn indent(text: &mut String, depth: usize) {
    for _ in 0..depth {
        text.push_str("  ");
    }
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            ' '..='~' => text.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    push(text, format_args!("\\u{unit:04x}"));
                }
            }
        }
    }
    text.push('"');
}

fn write_number(text: &mut String, number: &Number) {
    match number.as_f64() {
        Some(float) if number.is_f64() => text.push_str(&python_float(float)),
        _ => push(text, format_args!("{number}")),
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    _ = text.write_fmt(arguments);
}

/// The shortest decimal that reads back as `value`; exponents below -4 and from 16 on, with two digits or
/// more.
fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floats_read_as_python_prints_them() {
        for (value, text) in [
            (120.0, "120.0"),
            (0.8, "0.8"),
            (0.01, "0.01"),
            (-0.0, "-0.0"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e100, "1.25e+100"),
            (0.1 + 0.2, "0.30000000000000004"),
        ] {
            assert_eq!(python_float(value), text);
        }
    }

    #[test]
    fn everything_outside_ascii_is_escaped() {
        let text = to_python_json(&json!({"é": "a\"\\\n\u{7f}\u{1}😀/"}), Layout::Line);
        assert_eq!(text, r#"{"\u00e9": "a\"\\\n\u007f\u0001\ud83d\ude00/"}"#);
    }

    #[test]
    fn layouts_match_pythons() {
        let value = json!({"a": [1, 2.0], "b": {}, "c": [], "d": {"e": null}});
        assert_eq!(
            to_python_json(&value, Layout::Line),
            r#"{"a": [1, 2.0], "b": {}, "c": [], "d": {"e": null}}"#
        );
        assert_eq!(
            to_python_json(&value, Layout::Indented),
            "{\n  \"a\": [\n    1,\n    2.0\n  ],\n  \"b\": {},\n  \"c\": [],\n  \"d\": {\n    \"e\": null\n  }\n}"
        );
    }
}
