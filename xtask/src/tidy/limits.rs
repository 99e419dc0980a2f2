//! Every limit (a constant `*_MAX`) has a reader, and what is beyond it does not vanish in silence (invariant
//! 8).
//!
//! Either a reader visibly refuses, counts or logs, or the constant's documentation says what becomes of the
//! rest.

use std::collections::BTreeMap;

use super::source::{Finding, Source, without_comment};

/// How near to a reader of a limit the answer to its being reached has to stand.
const REACH_LINES: usize = 10;

/// What refusing, counting or logging looks like in code.
const ANSWERS: [&str; 18] = [
    "tracing::",
    "warn!",
    "info!",
    "error!",
    "debug!",
    "bail!",
    "Err(",
    "Error::",
    "count",
    "fetch_add",
    "+= 1",
    "refus",
    "Refus",
    "LimitKind",
    "Mistake",
    "dropped",
    "too_many",
    "TooMany",
];

/// What the documentation of a limit says becomes of the rest.
const FATES: [&str; 24] = [
    "refuse", "reject", "error", "shorten", "cut", "rest", "later", "next", "oldest", "evict", "drop",
    "left out", "beyond", "more", "longer", "then", "ends", "ended", "waits", "kept", "in turn", "is said",
    "allowed", "accepted",
];

struct Limit<'s> {
    source: &'s Source,
    line_index: usize,
    documentation: String,
}

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let product: Vec<&Source> = sources
        .iter()
        .filter(|source| source.is_rust_product() && source.path.starts_with("crates/"))
        .collect();
    let mut limits: BTreeMap<&str, Vec<Limit<'_>>> = BTreeMap::new();
    let mut readers: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for source in product {
        let lines: Vec<&str> = source.product_lines().map(|(_, line)| line).collect();
        let code: Vec<&str> = lines.iter().map(|line| without_comment(line)).collect();
        for (index, line) in code.iter().enumerate() {
            let defined = defined(line);
            if let Some(name) = defined {
                let documentation = documentation(&lines[..index]);
                limits.entry(name).or_default().push(Limit { source, line_index: index, documentation });
            }
            let is_handed_on = is_in_use_item(&code[..=index]);
            for name in names(line).filter(|name| Some(*name) != defined && !is_handed_on) {
                let near =
                    &code[index.saturating_sub(REACH_LINES)..(index + REACH_LINES + 1).min(code.len())];
                readers.entry(name).or_default().push(near.iter().any(|line| has_any(line, &ANSWERS)));
            }
        }
    }
    let mut findings = Vec::new();
    for (name, limits) in &limits {
        let answers = readers.get(name);
        let is_answered = answers.is_some_and(|answers| answers.contains(&true));
        for limit in limits {
            let why = match answers {
                None => "nobody reads it",
                Some(_) if is_answered || has_any(&limit.documentation, &FATES) => continue,
                Some(_) => "say what becomes of what is beyond it",
            };
            findings.push(Finding::at(limit.source, limit.line_index, format!("`{name}`: {why}")));
        }
    }
    findings
}

fn defined(line: &str) -> Option<&str> {
    let rest = line.split_once("const ")?.1;
    let name = rest.split(':').next()?;
    names(name).next().filter(|found| *found == name)
}

/// The documentation that ends where `before` does.
fn documentation(before: &[&str]) -> String {
    let lines = before.iter().rev().map(|line| line.trim_start());
    let mut lines: Vec<&str> =
        lines.take_while(|line| line.starts_with("///") || line.starts_with("#[")).collect();
    lines.reverse();
    lines.join(" ")
}

/// Whether the last of these lines belongs to a `use`.
fn is_in_use_item(code: &[&str]) -> bool {
    let Some((last, before)) = code.split_last() else { return false };
    is_use(last)
        || before.iter().rev().take_while(|line| !line.trim_end().ends_with(';')).any(|line| is_use(line))
}

fn is_use(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("pub").map_or(line, |rest| rest.split_once(' ').map_or("", |parts| parts.1));
    line.starts_with("use ")
}

/// The names of limits in a line.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.ends_with("_MAX") && word.len() > "_MAX".len() && !word.starts_with('_'))
}

fn has_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let source = Source { path: "crates/a/src/lib.rs".to_owned(), text: text.to_owned() };
        check(&[source]).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_limit_without_a_reader_is_found() {
        assert_eq!(found("/// Beyond it: refused.\nconst A_MAX: usize = 1;\n"), ["`A_MAX`: nobody reads it"]);
        assert_eq!(
            found("pub use a::{\n    A_MAX,\n    B,\n};\n/// The rest waits.\nconst A_MAX: usize = 1;\n")
                .len(),
            1
        );
    }

    #[test]
    fn a_silent_clamp_is_found() {
        let clamp = "const A_MAX: usize = 1;\nfn f(x: usize) -> usize {\n    x.min(A_MAX)\n}\n";
        assert_eq!(
            found(&format!("/// How many.\n{clamp}")),
            ["`A_MAX`: say what becomes of what is beyond it"]
        );
        assert_eq!(
            found(&format!("/// How many; the rest comes in the next turn.\n{clamp}")),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_reader_that_refuses_is_enough() {
        let text = "const A_MAX: usize = 1;\nfn f(x: usize) -> Result<(), Error> {\n    if x > A_MAX {\n        return Err(Error);\n    }\n    Ok(())\n}\n";
        assert_eq!(found(text), Vec::<String>::new());
    }
}
