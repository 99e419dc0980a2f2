//! Foreign text made safe for one log line.
//!
//! A plugin chooses its output and its file name; neither may start a new log line, move the cursor or
//! reorder what is read.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Text in which everything that a terminal or a log reader would act on is spelled out as an escape.
///
/// Tabs stay; other control characters, line and paragraph separators and bidirectional overrides become
/// `\n`, `\x1b`, `\u{202e}`.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(unsafe_in_a_line) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            c if !unsafe_in_a_line(c) => safe.push(c),
            // Writing to a `String` cannot fail.
            c if (c as u32) < 0x100 => _ = write!(safe, "\\x{:02x}", c as u32),
            c => _ = write!(safe, "\\u{{{:x}}}", c as u32),
        }
    }
    Cow::Owned(safe)
}

/// A path as it is shown in logs and status: escaped, and so that no two paths look the same.
pub(crate) fn shown(path: &Path) -> String {
    let mut safe = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        // Otherwise a name could spell out another one's escape.
        safe.push_str(&escaped(&chunk.valid().replace('\\', "\\\\")));
        for byte in chunk.invalid() {
            // Writing to a `String` cannot fail.
            _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

fn unsafe_in_a_line(c: char) -> bool {
    match c {
        '\t' => false,
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_text_is_untouched() {
        assert!(matches!(escaped("[x] tab\there, ünïcode 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn forgeries_are_spelled_out() {
        assert_eq!(escaped("a\nb\r\x1b[31m\u{202e}\u{85}\0"), "a\\nb\\r\\x1b[31m\\u{202e}\\x85\\x00");
    }

    #[test]
    fn no_two_paths_look_the_same() {
        use std::ffi::OsStr;
        let of = |bytes: &[u8]| shown(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(of(b"a/\xff.sh"), "a/\\xff.sh");
        assert_eq!(of(b"a/\\xff.sh"), "a/\\\\xff.sh");
        assert_ne!(of(b"\xfe"), of(b"\xff"));
        assert_eq!(of("日本 语.py".as_bytes()), "日本 语.py");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in any::<String>()) {
            prop_assert!(!escaped(&text).chars().any(unsafe_in_a_line));
        }
    }
}
