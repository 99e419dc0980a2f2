//! The shape of one log line, as text or as JSON. A record is always exactly one line: control characters are
//! escaped, so nothing that is logged can forge a line or move a terminal's cursor.

use std::fmt::{self, Write as _};

use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

use super::writer::LINE_BYTES_MAX;

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// The field's usual line.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The shape of this word of `--log-format`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// Text or JSON.
    pub(super) format: LogFormat,
    /// Colour text by level.
    pub(super) color: bool,
}

/// One record before it becomes a line.
pub(super) struct Record<'a> {
    pub(super) time: Zoned,
    pub(super) level: Level,
    pub(super) place: Place<'a>,
    pub(super) message: String,
    /// Fields beside the message, in order of appearance.
    pub(super) fields: Vec<(&'static str, String)>,
}

/// Where in the source the record was made.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) file: &'a str,
    pub(super) line: u32,
    pub(super) module: &'a str,
}

impl<'a> Place<'a> {
    fn of(metadata: &'a Metadata<'a>) -> Self {
        let path = metadata.file().unwrap_or("larder");
        Self {
            file: path.rsplit(['/', '\\']).next().unwrap_or(path),
            line: metadata.line().unwrap_or_default(),
            module: metadata.module_path().unwrap_or_else(|| metadata.target()),
        }
    }
}

impl<'a> Record<'a> {
    /// Takes an event apart.
    pub(super) fn of(event: &'a Event<'a>) -> Self {
        let metadata = event.metadata();
        let mut record = Self {
            time: Zoned::now(),
            level: *metadata.level(),
            place: Place::of(metadata),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut record);
        record
    }

    fn put(&mut self, field: &Field, value: String) {
        // Errors give their hint a line of its own; a record has one line.
        let value = value.replace("\nhint: ", "; hint: ");
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push((field.name(), value));
        }
    }

    /// The record as one line with its end.
    pub(super) fn to_line(&self, style: Style) -> String {
        match style.format {
            LogFormat::Text => self.to_text(style.color),
            LogFormat::Json => self.to_json(),
        }
    }

    fn to_text(&self, color: bool) -> String {
        let (before, after) = if color { (color_of(self.level), "\x1b[0m") } else { ("", "") };
        let mut line = String::with_capacity(128 + self.message.len());
        let time = self.time.datetime();
        push(
            &mut line,
            format_args!(
                "{before}[{:04}-{:02}-{:02} {:02}:{:02}:{:02},{:03}] LMCache {}:{after} ",
                time.year(),
                time.month(),
                time.day(),
                time.hour(),
                time.minute(),
                time.second(),
                time.millisecond(),
                level_name(self.level),
            ),
        );
        push_escaped(&mut line, &self.message);
        for (name, value) in &self.fields {
            push(&mut line, format_args!(" {name}="));
            push_escaped(&mut line, value);
        }
        cut(&mut line);
        let (before, after) = if color { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let Place { file, line: number, module } = self.place;
        push(&mut line, format_args!(" {before}({file}:{number}:{module}){after}\n"));
        line
    }

    fn to_json(&self) -> String {
        let mut message = self.message.clone();
        cut(&mut message);
        let mut object = serde_json::json!({
            "time": self.time.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string(),
            "level": level_name(self.level),
            "message": message,
            "file": self.place.file,
            "line": self.place.line,
            "module": self.place.module,
        });
        for (name, value) in &self.fields {
            let mut value = value.clone();
            cut(&mut value);
            object["fields"][*name] = value.into();
        }
        let mut line = object.to_string();
        line.push('\n');
        line
    }
}

impl Visit for Record<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            push(&mut text, format_args!(": {error}"));
            cause = error.source();
        }
        self.put(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

/// Level names as the field's log readers know them.
pub(super) fn level_name(level: Level) -> &'static str {
    match level {
        Level::TRACE => "TRACE",
        Level::DEBUG => "DEBUG",
        Level::INFO => "INFO",
        Level::WARN => "WARNING",
        Level::ERROR => "ERROR",
    }
}

fn color_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[2m",
    }
}

fn push(line: &mut String, arguments: fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    _ = line.write_fmt(arguments);
}

fn push_escaped(line: &mut String, text: &str) {
    let mut clean = 0;
    for (index, character) in text.char_indices().filter(|(_, character)| character.is_control()) {
        line.push_str(&text[clean..index]);
        clean = index + character.len_utf8();
        match character {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            other => push(line, format_args!("\\x{:02x}", u32::from(other))),
        }
    }
    line.push_str(&text[clean..]);
}

/// Cuts an overlong line and says by how much.
fn cut(line: &mut String) {
    if line.len() > LINE_BYTES_MAX {
        let end = line.floor_char_boundary(LINE_BYTES_MAX);
        let lost = line.len() - end;
        line.truncate(end);
        push(line, format_args!("... ({lost} more bytes)"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str) -> Record<'static> {
        Record {
            time: "2026-04-07T16:25:48.567+02:00[+02:00]".parse().unwrap(),
            level: Level::INFO,
            place: Place { file: "run.rs", line: 12, module: "larder_server::run" },
            message: message.into(),
            fields: Vec::new(),
        }
    }

    const TEXT: Style = Style { format: LogFormat::Text, color: false };
    const JSON: Style = Style { format: LogFormat::Json, color: false };

    #[test]
    fn text_has_the_shape_log_readers_expect() {
        assert_eq!(
            record("[p/x.py] hello").to_line(TEXT),
            "[2026-04-07 16:25:48,567] LMCache INFO: [p/x.py] hello (run.rs:12:larder_server::run)\n"
        );
    }

    #[test]
    fn color_wraps_only_the_ends() {
        let line = record("hello").to_line(Style { color: true, ..TEXT });
        assert_eq!(
            line,
            "\x1b[32m[2026-04-07 16:25:48,567] LMCache INFO:\x1b[0m hello \x1b[2m(run.rs:12:larder_server::run)\x1b[0m\n"
        );
    }

    #[test]
    fn a_record_is_one_line_without_control_characters() {
        let line = record("a\nb\r\t\x1b[2J\u{9b}é").to_line(TEXT);
        assert!(line.contains(r"INFO: a\nb\r\t\x1b[2J\x9bé ("));
        assert_eq!(line.matches(char::is_control).collect::<String>(), "\n");
        assert_eq!(record("a\nb").to_line(JSON).matches('\n').count(), 1);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let mut record = record("hello \"you\"");
        record.fields.push(("port", "5555".into()));
        let value: serde_json::Value = serde_json::from_str(&record.to_line(JSON)).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "time": "2026-04-07T16:25:48.567+02:00", "level": "INFO", "message": "hello \"you\"", "file": "run.rs",
                "line": 12, "module": "larder_server::run", "fields": {"port": "5555"},
            })
        );
    }

    #[test]
    fn an_overlong_line_is_cut_and_says_so() {
        let line = record(&"é".repeat(LINE_BYTES_MAX)).to_line(TEXT);
        assert!(line.len() < LINE_BYTES_MAX + 200);
        assert!(line.contains(" more bytes) (run.rs:12:"));
    }
}
