//! What a source file may not mention: the clock and the outside world in `core`, `unsafe` outside its two
//! homes, names of the peer in the supervisor, leftovers anywhere.

use super::modules::paths;
use super::source::{Finding, Source, without_comment};

/// Words that `core` has no use for: it is given time and randomness and returns decisions (invariant 1).
const CORE_REFUSES: [&str; 6] = ["tokio", "serde", "Instant", "SystemTime", "async", "await"];

/// The same for modules of the standard library, however they are named.
const CORE_REFUSES_OF_STD: [&str; 8] = ["time", "fs", "net", "env", "thread", "process", "io", "os"];

/// How names of the peer begin. The supervisor knows those of the contract with plugins (invariant 4).
const PEERS_NAMES: &str = "LMCACHE_";

/// The two homes of `unsafe` (invariant 3).
const UNSAFE_HOMES: [&str; 2] = ["crates/pool/src/", "crates/supervise/src/os/"];

/// How many lines above an `unsafe` its SAFETY comment may start.
const SAFETY_REACH_LINES: usize = 8;

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if !source.path.ends_with(".rs") || source.path.starts_with("xtask/src/tidy/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    findings.extend(leftovers(source));
    if source.path.starts_with("crates/") && source.is_rust_product() {
        findings.extend(core_purity(source));
        findings.extend(supervise_purity(source));
        findings.extend(unsafe_blocks(source));
    }
    findings
}

fn core_purity(source: &Source) -> Vec<Finding> {
    if !source.path.starts_with("crates/core/src/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in source.product_lines() {
        let code = without_comment(line);
        for refused in CORE_REFUSES.iter().filter(|refused| has_word(code, refused)) {
            findings.push(Finding::at(
                source,
                index,
                format!("core is pure: `{refused}` is not allowed here"),
            ));
        }
    }
    let of_std = paths(source).into_iter().filter(|path| path.first().is_some_and(|first| first == "std"));
    let refused = of_std.filter_map(|path| path.get(1).cloned());
    findings.extend(refused.filter(|module| CORE_REFUSES_OF_STD.contains(&module.as_str())).map(|module| {
        Finding::new(source.path.clone(), format!("core is pure: `std::{module}` is not allowed here"))
    }));
    findings
}

fn supervise_purity(source: &Source) -> Vec<Finding> {
    let is_elsewhere = source.path.starts_with("crates/supervise/src/")
        && !source.path.starts_with("crates/supervise/src/contract/");
    let lines = source.product_lines().filter(|(_, line)| without_comment(line).contains(PEERS_NAMES));
    let told = "supervise knows the peer's names in its `contract` only";
    lines.filter(|_| is_elsewhere).map(|(index, _)| Finding::at(source, index, told)).collect()
}

fn unsafe_blocks(source: &Source) -> Vec<Finding> {
    let lines: Vec<&str> = source.text.lines().collect();
    let at_home = UNSAFE_HOMES.iter().any(|home| source.path.starts_with(home));
    let mut findings = Vec::new();
    for (index, line) in source.product_lines() {
        if !has_word(without_comment(line), "unsafe") {
            continue;
        }
        if !at_home {
            findings.push(Finding::at(source, index, "`unsafe` lives in pool and supervise/src/os only"));
            continue;
        }
        let reach = &lines[index.saturating_sub(SAFETY_REACH_LINES)..=index];
        if !reach.iter().any(|near| near.contains("SAFETY:") || near.contains("# Safety")) {
            findings.push(Finding::at(source, index, "`unsafe` without a SAFETY comment above it"));
        }
    }
    findings
}

fn leftovers(source: &Source) -> Vec<Finding> {
    const WORDS: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];
    const MACROS: [&str; 3] = ["dbg!(", "todo!(", "unimplemented!("];
    const ATTRIBUTE: &str = "#[allow(";
    let mut findings = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        for word in WORDS.iter().filter(|word| has_word(line, word)) {
            findings.push(Finding::at(source, index, format!("`{word}`: file an issue instead")));
        }
        for call in MACROS.iter().filter(|call| line.contains(**call)) {
            findings.push(Finding::at(source, index, format!("`{call}` left behind")));
        }
        if line.contains(ATTRIBUTE) {
            findings.push(Finding::at(
                source,
                index,
                "use `#[expect(..., reason = \"...\")]`, never `allow`",
            ));
        }
    }
    findings
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(start, _)| {
        !is_part(line[..start].chars().next_back()) && !is_part(line[start + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&Source { path: path.to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn core_may_not_read_the_clock() {
        assert_eq!(findings("crates/core/src/a.rs", "let t = std::time::Instant::now();\n"), 2);
        assert_eq!(findings("crates/core/src/a.rs", "// std::time::Instant is given\n"), 0);
        assert_eq!(findings("crates/core/src/a.rs", "use std::{mem, time::{self, Duration}};\n"), 2);
        assert_eq!(
            findings("crates/core/src/a.rs", "let run = async move { std::thread::yield_now() };\n"),
            2
        );
        assert_eq!(findings("crates/core/src/a.rs", "let awaited = instant + serde_free;\n"), 0);
        assert_eq!(findings("crates/server/src/a.rs", "let t = std::time::Instant::now();\n"), 0);
    }

    #[test]
    fn unsafe_has_two_homes_and_a_reason() {
        assert_eq!(findings("crates/server/src/a.rs", "// SAFETY: no\nunsafe { x() };\n"), 1);
        assert_eq!(findings("crates/pool/src/a.rs", "unsafe { x() };\n"), 1);
        assert_eq!(findings("crates/pool/src/a.rs", "// SAFETY: x is fine\nunsafe { x() };\n"), 0);
        assert_eq!(findings("crates/server/src/a.rs", "#![forbid(unsafe_code)]\n"), 0);
    }

    #[test]
    fn tests_are_not_product_lines() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(findings("crates/core/src/a.rs", text), 0);
    }

    #[test]
    fn leftovers_are_found_in_tests_too() {
        assert_eq!(findings("crates/core/tests/a.rs", "// TODO later\n"), 1);
        assert_eq!(findings("crates/core/tests/a.rs", "#[allow(dead_code)]\n"), 1);
        assert_eq!(findings("crates/core/tests/a.rs", "let todos = 1;\n"), 0);
    }
}
