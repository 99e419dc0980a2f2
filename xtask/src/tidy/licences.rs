//! Licences and origins of every dependency, against the lists in deny.toml.
//!
//! cargo-deny says the same with more detail, but takes longer to build than everything else together; this
//! check runs everywhere.

use anyhow::{Context, Result};
use serde_json::Value;

use super::edges::text;
use super::source::Finding;
use crate::shell;

/// How `cargo metadata` spells the registry that deny.toml allows.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let path = shell::root().join("deny.toml");
    let deny = std::fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))?;
    let allowed = allowed_licences(&deny);
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = text(package, "name");
        let source = package["source"].as_str();
        if source.is_some_and(|source| source != CRATES_IO) {
            findings.push(Finding::new(name, format!("comes from `{}`", source.unwrap_or(""))));
        }
        let licence = text(package, "license");
        if !satisfied(licence, &allowed) {
            findings.push(Finding::new(name, format!("licence `{licence}` is not on the list in deny.toml")));
        }
    }
    Ok(findings)
}

/// The strings of `allow = [...]` under `[licenses]`.
fn allowed_licences(deny: &str) -> Vec<String> {
    let section = deny.split("\n[").find(|part| part.starts_with("licenses]")).unwrap_or("");
    let list =
        section.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |pair| pair.0);
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// An SPDX expression of the shapes that occur: `A OR B`, `A AND B`, `(A OR B) AND C`, `A/B`, `A WITH E`.
fn satisfied(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    split_top(&expression, " AND ").iter().all(|part| {
        let part = part.trim();
        let inner = part.strip_prefix('(').and_then(|part| part.strip_suffix(')')).unwrap_or(part);
        if inner.contains('(') {
            return satisfied_any(inner, allowed);
        }
        inner.split(" OR ").any(|choice| allowed.iter().any(|licence| licence == choice.trim()))
    })
}

fn satisfied_any(expression: &str, allowed: &[String]) -> bool {
    split_top(expression, " OR ").iter().any(|choice| satisfied(choice, allowed))
}

/// Splits at a separator outside parentheses.
fn split_top<'a>(expression: &'a str, separator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (index, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 && index >= start && expression[index..].starts_with(separator) {
            parts.push(&expression[start..index]);
            start = index + separator.len();
        }
    }
    parts.push(&expression[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_judged() {
        let allowed: Vec<String> = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned).to_vec();
        for yes in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
            assert!(satisfied(yes, &allowed), "{yes}");
        }
        for no in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-2.0"] {
            assert!(!satisfied(no, &allowed), "{no}");
        }
    }

    #[test]
    fn the_list_is_read() {
        let deny =
            "x = 1\n\n[licenses]\nallow = [\n    \"MIT\",\n    \"ISC\",\n]\n\n[bans]\nallow = [\"no\"]\n";
        assert_eq!(allowed_licences(deny), ["MIT", "ISC"]);
    }
}
