//! The `#!` line of a script, read as the kernel and `env` would read it.
//!
//! Owns the syntax only: whether the named program exists is the business of [`super::interpreter`].

/// Longest first line that is looked at, in bytes. The kernel stops at 256; `env -S` lines in use are longer.
pub(crate) const FIRST_LINE_MAX_BYTES: usize = 4096;

/// The program a `#!` line asks for and what it is given before the script's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shebang {
    /// A path, or a bare name to be looked up on `PATH`.
    pub program: String,
    /// Words between the program and the script.
    pub args: Vec<String>,
    /// `NAME=value` words given to `env`.
    pub environment: Vec<(String, String)>,
}

/// Reads the `#!` line at the start of `head`, the first bytes of a file. `None` where there is none, or none
/// that is UTF-8 text.
pub(super) fn parse(head: &[u8]) -> Option<Shebang> {
    let rest = head.strip_prefix(b"#!")?;
    let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    let line = std::str::from_utf8(&rest[..end.min(FIRST_LINE_MAX_BYTES)]).ok()?.trim();
    let (program, tail) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if program.is_empty() {
        return None;
    }
    let tail = tail.trim();
    if program.rsplit('/').next() == Some("env")
        && let Some(through) = through_env(tail)
    {
        return Some(through);
    }
    Some(Shebang {
        program: program.to_owned(),
        args: tail.split_whitespace().map(str::to_owned).collect(),
        environment: Vec::new(),
    })
}

/// What `env` would run. `None` for the options of `env` that are left to the real one.
fn through_env(tail: &str) -> Option<Shebang> {
    let split = ["-S", "--split-string=", "-vS"].iter().find_map(|flag| tail.strip_prefix(flag));
    let words = match split {
        Some(text) => split_words(text)?,
        None => tail.split_whitespace().map(str::to_owned).collect(),
    };
    let mut environment = Vec::new();
    let mut words = words.into_iter();
    for word in words.by_ref() {
        if word.starts_with('-') {
            return None;
        }
        match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => environment.push((name.to_owned(), value.to_owned())),
            _ => return Some(Shebang { program: word, args: words.collect(), environment }),
        }
    }
    None
}

/// Splits as `env -S` does: blanks separate, quotes group, a backslash takes the next character as it is.
/// `None` where a quote stays open or `$` asks for an expansion.
fn split_words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '$') => return None,
            (_, '\\') => word.get_or_insert_default().push(chars.next()?),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(line: &str) -> Option<(String, Vec<String>)> {
        parse(line.as_bytes()).map(|s| (s.program, s.args))
    }

    fn some(program: &str, args: &[&str]) -> Option<(String, Vec<String>)> {
        Some((program.to_owned(), args.iter().map(|a| (*a).to_owned()).collect()))
    }

    #[test]
    fn lines_people_write() {
        assert_eq!(parsed("#!/bin/sh\necho"), some("/bin/sh", &[]));
        assert_eq!(parsed("#! /bin/bash -e\n"), some("/bin/bash", &["-e"]));
        assert_eq!(parsed("#!/opt/venv/bin/python\r\nprint()"), some("/opt/venv/bin/python", &[]));
        assert_eq!(parsed("#!/x/python -u -B\n"), some("/x/python", &["-u", "-B"]));
        assert_eq!(parsed("#!/usr/bin/env python3\n"), some("python3", &[]));
        assert_eq!(parsed("#!/usr/bin/env -S python3 -u"), some("python3", &["-u"]));
        assert_eq!(parsed("#!/usr/bin/env -Spython3 -u"), some("python3", &["-u"]));
        assert_eq!(
            parsed("#!/usr/bin/env -S bash -c 'exec \"$0\"' x"),
            some("bash", &["-c", "exec \"$0\"", "x"])
        );
        assert_eq!(parsed("#!/usr/bin/env --split-string=perl -w"), some("perl", &["-w"]));
    }

    #[test]
    fn env_assignments_are_kept() {
        let shebang = parse(b"#!/usr/bin/env -S A=1 B= python3 -u\n").unwrap();
        assert_eq!(shebang.environment, [("A".into(), "1".into()), ("B".into(), String::new())]);
        assert_eq!(shebang.program, "python3");
    }

    #[test]
    fn what_env_alone_understands_is_left_to_env() {
        assert_eq!(parsed("#!/usr/bin/env -i python3"), some("/usr/bin/env", &["-i", "python3"]));
        assert_eq!(
            parsed("#!/usr/bin/env -S python3 ${X}"),
            some("/usr/bin/env", &["-S", "python3", "${X}"])
        );
        assert_eq!(parsed("#!/usr/bin/env"), some("/usr/bin/env", &[]));
    }

    #[test]
    fn no_shebang() {
        for head in ["", "#", "#!", "#!   \n/bin/sh", "echo", " #!/bin/sh"] {
            assert_eq!(parsed(head), None, "{head:?}");
        }
        assert_eq!(parse(b"#!/bin/\xff\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(head in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut line = b"#!".to_vec();
            line.extend(head);
            if let Some(shebang) = parse(&line) {
                prop_assert!(!shebang.program.is_empty());
            }
        }
    }
}
