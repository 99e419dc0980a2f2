//! The shape of Rust code: short functions, faces without logic, one module style, no file that nobody
//! compiles, one order of derives, comments no wider than code.

use std::collections::BTreeSet;

use super::modules::{Crate, crates};
use super::source::{Finding, Source, without_comment};

/// A function past this holds more than one idea.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that are longer and may be: file, name, lines at most, since when, why. The list may only
/// shrink, and so may the numbers.
const LONG_FUNCTIONS: [(&str, &str, usize, &str, &str); 0] = [];

/// What rustfmt keeps code to.
const COLUMNS_MAX: usize = 110;

/// The order of derives; others follow as they like.
const DERIVES: [&str; 9] =
    ["Clone", "Copy", "Debug", "Default", "PartialEq", "Eq", "PartialOrd", "Ord", "Hash"];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let rust = || sources.iter().filter(|source| source.path.ends_with(".rs"));
    let mut findings: Vec<Finding> = rust().flat_map(lines).collect();
    let mut long = BTreeSet::new();
    for source in rust().filter(|source| source.is_rust_product()) {
        for (index, name, length) in
            functions(source).into_iter().filter(|found| found.2 > FUNCTION_LINES_MAX)
        {
            let known =
                LONG_FUNCTIONS.iter().find(|known| (known.0, known.1) == (source.path.as_str(), name));
            long.extend(known.map(|known| (known.0, known.1)));
            let most = known.map_or(FUNCTION_LINES_MAX, |known| known.2);
            if length > most {
                findings.push(Finding::at(
                    source,
                    index,
                    format!("`{name}` has {length} lines, at most {most}"),
                ));
            }
        }
    }
    let short = LONG_FUNCTIONS.iter().filter(|known| !long.contains(&(known.0, known.1)));
    findings.extend(short.map(|known| {
        Finding::new("xtask/src/tidy/shape.rs", format!("`{}` of {} is not long any more", known.1, known.0))
    }));
    findings.extend(crates(sources).iter().flat_map(modules));
    findings
}

fn lines(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        let is_prose = line.trim_start().starts_with("//") && !line.contains('|') && !line.contains("://");
        if is_prose && line.chars().count() > COLUMNS_MAX {
            findings.push(Finding::at(source, index, format!("a comment wider than {COLUMNS_MAX} columns")));
        }
        if let Some((_, rest)) = line.split_once("#[derive(") {
            let places = rest.split([',', ')']).map(|name| name.trim().rsplit("::").next().unwrap_or(""));
            let places = places.filter_map(|name| DERIVES.iter().position(|known| *known == name));
            if !places.is_sorted() {
                let order = DERIVES.join(", ");
                findings.push(Finding::at(
                    source,
                    index,
                    format!("derives are written in the order {order}"),
                ));
            }
        }
    }
    findings
}

/// Line, name and length of each function of product code, closures and nested ones within their function.
fn functions(source: &Source) -> Vec<(usize, &str, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, &str, usize)> = None;
    for (index, line) in source.product_lines() {
        let indent = line.len() - line.trim_start().len();
        match open {
            None => {
                if let Some(name) =
                    function_name(line).filter(|_| !without_comment(line).trim_end().ends_with('}'))
                {
                    open = Some((index, name, indent));
                }
            }
            // rustfmt closes a function in the column that opened it; a declaration ends with a semicolon.
            Some((start, name, column)) if indent == column => {
                let line = line.trim_end();
                if line.trim_start() == "}" {
                    found.push((start, name, index - start + 1));
                    open = None;
                } else if line.ends_with(';') {
                    open = None;
                }
            }
            Some(_) => {}
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let code = without_comment(line).trim();
    let at = if code.starts_with("fn ") { 0 } else { code.find(" fn ")? + 1 };
    let head_is_a_signature = code[..at].split_whitespace().all(|word| {
        word.starts_with("pub")
            || ["const", "async", "unsafe", "extern", "\"C\"", "crate)", "super)"].contains(&word)
    });
    let name = code[at + "fn ".len()..].split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (head_is_a_signature && !name.is_empty() && !code.ends_with(';')).then_some(name)
}

fn modules(tree: &Crate<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for module in tree.modules() {
        let is_face = module.file.ends_with("/mod.rs");
        if is_face && !module.is_face() {
            findings.push(Finding::new(
                module.file,
                "`mod.rs` declares and re-exports; logic has a file of its own",
            ));
        }
        let has_children = tree.modules().any(|other| other.is_child_of(module));
        let is_root = module.file.ends_with("/lib.rs") || module.file.ends_with("/main.rs");
        if has_children && !is_face && !is_root {
            findings.push(Finding::new(module.file, "a module with files below it is `<name>/mod.rs`"));
        }
        if !is_root && !tree.is_declared(module) {
            findings.push(Finding::new(module.file, "no module declares this file"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: format!("crates/a/src/{path}"), text: text.to_owned() }
    }

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files.iter().map(|(path, text)| source(path, text)).collect();
        check(&sources).into_iter().map(|finding| format!("{}: {}", finding.place, finding.text)).collect()
    }

    #[test]
    fn a_long_function_is_found_wherever_it_stands() {
        let body = "        x();\n".repeat(FUNCTION_LINES_MAX);
        let long = format!(
            "impl A {{\n    pub(crate) async fn long(\n    ) {{\n{body}    }}\n    fn short() {{}}\n}}\n"
        );
        let findings = found(&[("lib.rs", &long)]);
        assert_eq!(findings, ["crates/a/src/lib.rs:2: `long` has 73 lines, at most 70"]);
        assert_eq!(
            found(&[("lib.rs", &format!("trait A {{\n    fn short();\n}}\nconst X: &[X] = &[\n{body}];\n"))]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_face_has_no_logic_and_folders_have_faces() {
        let files = [("lib.rs", "mod a;\nmod b;\n"), ("a/mod.rs", "mod c;\nfn x() {}\n"), ("a/c.rs", "")];
        assert!(
            found(&files)[0].starts_with("crates/a/src/a/mod.rs: `mod.rs` declares"),
            "{:?}",
            found(&files)
        );
        let files = [("lib.rs", "mod a;\n"), ("a.rs", "mod c;\n"), ("a/c.rs", "")];
        assert!(found(&files)[0].contains("is `<name>/mod.rs`"));
    }

    #[test]
    fn a_file_that_nobody_compiles_is_found() {
        assert_eq!(
            found(&[("lib.rs", "mod a;\n"), ("a.rs", ""), ("b.rs", "")]),
            ["crates/a/src/b.rs: no module declares this file"]
        );
    }

    #[test]
    fn derives_have_one_order_and_comments_one_width() {
        assert_eq!(found(&[("lib.rs", concat!("#[der", "ive(Debug, Clone)]\nstruct A;\n"))]).len(), 1);
        assert_eq!(
            found(&[("lib.rs", "#[derive(Clone, Debug, Hash, Serialize, thiserror::Error)]\nstruct A;\n")])
                .len(),
            0
        );
        assert_eq!(found(&[("lib.rs", &format!("// Wide. {}\n", "x".repeat(COLUMNS_MAX)))]).len(), 1);
    }
}
