//! How texts, paths and times are shown, and how names are matched.
//!
//! A plugin chooses its output and its file name; neither may start a new log line, move the cursor or
//! reorder what is read.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::Timestamp;

/// Text in which everything that a terminal or a log reader would act on is spelled out as an escape.
///
/// Tabs stay; other control characters, line and paragraph separators and bidirectional overrides become
/// `\n`, `\x1b`, `\u{202e}`.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe_in_a_line) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            c if !is_unsafe_in_a_line(c) => safe.push(c),
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

/// A point in time as it is shown: RFC 3339 with milliseconds, in UTC, so that texts sort as times do.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Matches with one backtracking point, so that no pattern takes more than quadratic time.
pub(crate) fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

fn is_unsafe_in_a_line(c: char) -> bool {
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
            prop_assert!(!escaped(&text).chars().any(is_unsafe_in_a_line));
        }

        #[test]
        fn agrees_with_the_recursive_definition(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            fn reference(p: &[u8], n: &[u8]) -> bool {
                match (p.first(), n.first()) {
                    (None, None) => true,
                    (Some(b'*'), _) => reference(&p[1..], n) || (!n.is_empty() && reference(p, &n[1..])),
                    (Some(c), Some(d)) if *c == b'?' || c == d => reference(&p[1..], &n[1..]),
                    _ => false,
                }
            }
            prop_assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), reference(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
