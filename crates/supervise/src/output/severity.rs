//! How serious a plugin means a line of its output to be.
//!
//! Three ways in common use are understood: `<3>` (systemd), `E!` (Telegraf) and a JSON line with a level.
//! Anything else takes the level of its stream.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest line that is looked into for a JSON level, in bytes.
const JSON_MAX_BYTES: usize = 4096;

/// Seriousness of a line, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Severity {
    Debug,
    Info,
    Warn,
    Error,
}

impl Severity {
    /// Writes a line of the log.
    pub(crate) fn log(self, text: fmt::Arguments<'_>) {
        match self {
            Self::Debug => tracing::debug!(target: "larder_supervise", "{text}"),
            Self::Info => tracing::info!(target: "larder_supervise", "{text}"),
            Self::Warn => tracing::warn!(target: "larder_supervise", "{text}"),
            Self::Error => tracing::error!(target: "larder_supervise", "{text}"),
        }
    }
}

/// The severity a line claims, and the line without a mark that is for machines only.
pub(crate) fn classify(line: &str, default: Severity) -> (Severity, &str) {
    let bytes = line.as_bytes();
    match bytes {
        [b'<', digit @ b'0'..=b'7', b'>', ..] => (from_syslog(digit - b'0'), &line[3..]),
        [letter, b'!', rest @ ..] if rest.first().is_none_or(|b| *b == b' ') => {
            (from_letter(*letter).unwrap_or(default), line)
        }
        [b'{', .., b'}'] if bytes.len() <= JSON_MAX_BYTES => (from_json(line).unwrap_or(default), line),
        _ => (default, line),
    }
}

fn from_syslog(level: u8) -> Severity {
    match level {
        0..=3 => Severity::Error,
        4 => Severity::Warn,
        5 | 6 => Severity::Info,
        _ => Severity::Debug,
    }
}

fn from_letter(letter: u8) -> Option<Severity> {
    Some(match letter {
        b'E' => Severity::Error,
        b'W' => Severity::Warn,
        b'I' => Severity::Info,
        b'D' | b'T' => Severity::Debug,
        _ => return None,
    })
}

fn from_json(line: &str) -> Option<Severity> {
    #[derive(Deserialize)]
    struct Leveled<'a> {
        #[serde(borrow, alias = "severity", alias = "lvl")]
        level: Cow<'a, str>,
    }
    let leveled: Leveled<'_> = serde_json::from_str(line).ok()?;
    Some(match leveled.level.to_ascii_lowercase().as_str() {
        "error" | "err" | "fatal" | "critical" | "panic" => Severity::Error,
        "warn" | "warning" => Severity::Warn,
        "info" | "notice" => Severity::Info,
        "debug" | "trace" => Severity::Debug,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_in_use() {
        let table = [
            ("<3>disk gone", Severity::Error, "disk gone"),
            ("<4>x", Severity::Warn, "x"),
            ("<6>", Severity::Info, ""),
            ("<7>x", Severity::Debug, "x"),
            ("<8>x", Severity::Info, "<8>x"),
            ("E! bad", Severity::Error, "E! bad"),
            ("W!", Severity::Warn, "W!"),
            ("E!x", Severity::Info, "E!x"),
            ("X! x", Severity::Info, "X! x"),
            ("{\"level\":\"WARNING\",\"m\":1}", Severity::Warn, "{\"level\":\"WARNING\",\"m\":1}"),
            ("{\"severity\":\"error\"}", Severity::Error, "{\"severity\":\"error\"}"),
            ("{\"level\":3}", Severity::Info, "{\"level\":3}"),
            ("{}", Severity::Info, "{}"),
            ("", Severity::Info, ""),
        ];
        for (line, severity, text) in table {
            assert_eq!(classify(line, Severity::Info), (severity, text), "{line}");
        }
    }
}
