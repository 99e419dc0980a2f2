//! JSON text as Python's `json.dumps` writes it with its default settings: separators `", "` and `": "`,
//! every character outside ASCII escaped, floats by their shortest form.

use std::io::{self, Write};

use serde::Serialize as _;
use serde_json::Value as Json;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

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
    match layout {
        Layout::Line => write(value, Spaced),
        Layout::Indented => write(value, PrettyFormatter::new()),
    }
}

fn write(value: &Json, separators: impl Formatter) -> String {
    let mut text = Vec::new();
    // Memory takes everything, and everything that is written is ASCII.
    _ = value.serialize(&mut Serializer::with_formatter(&mut text, Python(separators)));
    String::from_utf8(text).unwrap_or_default()
}

/// The separators of one line.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, is_first: bool) -> io::Result<()> {
        to.write_all(if is_first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, is_first: bool) -> io::Result<()> {
        self.begin_array_value(to, is_first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

/// Methods that are the other formatter's.
macro_rules! passed_on {
    ($($method:ident($($argument:ident: $type:ty)?))*) => {$(
        fn $method<W: ?Sized + Write>(&mut self, to: &mut W $(, $argument: $type)?) -> io::Result<()> {
            self.0.$method(to $(, $argument)?)
        }
    )*};
}

/// Texts and floats as Python's, between the separators of another formatter.
struct Python<F>(F);

impl<F: Formatter> Formatter for Python<F> {
    fn write_f64<W: ?Sized + Write>(&mut self, to: &mut W, value: f64) -> io::Result<()> {
        to.write_all(python_float(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, to: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            match character {
                ' '..='~' => write!(to, "{character}")?,
                _ => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write!(to, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }

    passed_on! {
        begin_array() begin_array_value(is_first: bool) end_array_value() end_array()
        begin_object() begin_object_key(is_first: bool) begin_object_value() end_object_value() end_object()
    }
}

/// The shortest decimal that reads back as `value`; exponents below -4 and from 16 on, with two digits or
/// more.
fn python_float(value: f64) -> String {
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
