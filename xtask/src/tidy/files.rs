//! Shape of files: length, line ends, and paths that exist only on somebody's machine.

use super::source::{Finding, Source};

/// A file past this holds more than one idea (unit tests not counted).
const LINES_MAX: usize = 500;

/// Folders that exist on one machine only.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wor", "k/"), concat!("/roo", "t/"), concat!("/hom", "e/"), concat!("/User", "s/")];

/// The lint by which every crate has its casts looked at; a lint of the workspace would look at tests too.
const CASTS: &str = "clippy::cast_possible_truncation";

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.path.ends_with(".rs") || source.path.ends_with(".py") {
        let length = source.product_lines().count();
        if length > LINES_MAX && !is_test(&source.path) {
            findings.push(Finding::at(source, LINES_MAX, format!("{length} lines, at most {LINES_MAX}")));
        }
    }
    for (index, line) in source.text.lines().enumerate() {
        if line.ends_with(char::is_whitespace) && !source.path.ends_with(".md") {
            findings.push(Finding::at(source, index, "white space at the end of the line"));
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|path| names_path(line, path)) {
            findings.push(Finding::at(source, index, format!("`{path}` is a path of one machine")));
        }
    }
    if is_root(&source.path) && !source.text.contains(CASTS) {
        findings.push(Finding::new(
            source.path.clone(),
            format!("asks clippy for no `{CASTS}`, as other crates do"),
        ));
    }
    if !source.text.is_empty() && !source.text.ends_with('\n') {
        findings.push(Finding::new(source.path.clone(), "no newline at the end"));
    }
    findings
}

/// The root of a crate's product code.
fn is_root(path: &str) -> bool {
    path.starts_with("crates/") && (path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs"))
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || super::source::is_test_module(path)
}

/// The path starts there: `x/home/y` and `https://host/home/` are something else.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        !before.is_some_and(|character| character.is_alphanumeric() || "_-.~$}/".contains(character))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&Source { path: path.to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn long_files_are_found_and_tests_do_not_count() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!(findings("crates/core/src/a.rs", &long), 1);
        assert_eq!(findings("tests/python/scenarios/test_a.py", &long), 0);
        let with_tests = format!("x\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(findings("crates/core/src/a.rs", &with_tests), 0);
    }

    #[test]
    fn every_crate_has_its_casts_looked_at() {
        assert_eq!(findings("crates/core/src/lib.rs", "mod a;\n"), 1);
        assert_eq!(findings("crates/core/src/lib.rs", "#![warn(clippy::cast_possible_truncation)]\n"), 0);
    }

    #[test]
    fn machine_paths_are_found_only_where_a_path_starts() {
        assert_eq!(findings("docs/a.md", concat!("see /wor", "k/shared\n")), 1);
        assert_eq!(findings("docs/a.md", "a network/work of art, https://example.org/home/x\n"), 0);
    }
}
