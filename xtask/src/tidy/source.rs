//! The files that are looked at, and what is found in them.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::shell;

/// What `tidy` found wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// File and line, or the name of a crate.
    pub(super) place: String,
    pub(super) text: String,
}

impl Finding {
    pub(super) fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }

    pub(super) fn at(source: &Source, line_index: usize, text: impl Into<String>) -> Self {
        Self::new(format!("{}:{}", source.path, line_index + 1), text)
    }
}

/// One text file of the repository.
pub(crate) struct Source {
    /// Path relative to the repository root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl Source {
    /// Lines before the unit tests; tests may be as long and as blunt as they need.
    pub(super) fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let cut = lines
            .windows(2)
            .position(|pair| {
                pair[0].trim() == "#[cfg(test)]"
                    && pair[1].trim_start().starts_with("mod ")
                    && pair[1].ends_with('{')
            })
            .unwrap_or(lines.len());
        lines.into_iter().take(cut).enumerate()
    }

    pub(super) fn is_rust_product(&self) -> bool {
        self.path.ends_with(".rs") && self.path.contains("/src/") && !is_test_module(&self.path)
    }
}

/// A module that holds nothing but unit tests, by its name.
pub(super) fn is_test_module(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("_tests.rs")
}

/// The part of a line before a `//` that is not inside a string; good enough for a scan of words.
pub(super) fn without_comment(line: &str) -> &str {
    let mut in_string = false;
    let bytes = line.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' if index == 0 || bytes[index - 1] != b'\\' => in_string = !in_string,
            b'/' if !in_string && bytes.get(index + 1) == Some(&b'/') => return &line[..index],
            _ => {}
        }
    }
    line
}

/// Every text file that git tracks or would track, so that build outputs are left out by .gitignore alone.
pub(super) fn sources() -> Result<Vec<Source>> {
    let listing = shell::output(shell::program("git").args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let root = shell::root();
    let mut sources = Vec::new();
    for path in listing.split('\0').filter(|path| is_text(path)) {
        if let Some(text) = read_text(&root.join(path)) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    Ok(sources)
}

fn is_text(path: &str) -> bool {
    const KINDS: [&str; 8] = ["rs", "toml", "md", "py", "sh", "yml", "yaml", "txt"];
    let path = PathBuf::from(path);
    let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or("");
    KINDS.contains(&kind) || path.ends_with(".ci/run")
}

/// A file deleted in the work tree but still in the index is no finding.
fn read_text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
