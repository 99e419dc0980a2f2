//! Texts people read: error and log messages are lowercase phrases without a full stop (STYLE.md,
//! "Messages").

use super::source::{Finding, Source, without_comment};

/// What stands right before a message.
const OPENERS: [&str; 10] = [
    "#[error(\"",
    "error!(\"",
    "warn!(\"",
    "info!(\"",
    "debug!(\"",
    "trace!(\"",
    "bail!(\"",
    "anyhow!(\"",
    ".context(\"",
    "with_context(|| format!(\"",
];

/// Messages whose text is fixed by compatibility: operators' log filters match the reference server's words.
const COMPATIBLE: [&str; 6] = [
    "Launched runtime plugin",
    "Runtime plugin",
    "Failed to launch plugin",
    "Skipping ",
    "LMCache ",
    "Starting ",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if !source.is_rust_product() || source.path.starts_with("xtask/src/tidy/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in source.product_lines() {
        let code = without_comment(line);
        for opener in OPENERS {
            if let Some(start) = code.find(opener).map(|at| at + opener.len())
                && let Some(why) = judge(message(&code[start..]))
            {
                findings.push(Finding::at(source, index, why));
            }
        }
    }
    findings
}

/// The literal up to its closing quote.
fn message(rest: &str) -> &str {
    let end = rest
        .char_indices()
        .find(|(index, character)| *character == '"' && !rest[..*index].ends_with('\\'))
        .map_or(rest.len(), |(index, _)| index);
    &rest[..end]
}

fn judge(message: &str) -> Option<String> {
    if COMPATIBLE.iter().any(|known| message.starts_with(known)) {
        return None;
    }
    let mut characters = message.chars();
    let (first, second) = (characters.next()?, characters.next());
    // An acronym or an environment variable may start a message; an ordinary capitalised word may not.
    if first.is_uppercase() && second.is_some_and(char::is_lowercase) {
        return Some(format!("message starts with a capital letter: \"{message}\""));
    }
    if message.ends_with('.') && !message.ends_with("...") {
        return Some(format!("message ends with a full stop: \"{message}\""));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check(&Source { path: "crates/core/src/a.rs".to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn messages_are_lowercase_phrases() {
        assert_eq!(findings("#[error(\"Bad chunk size\")]\n"), 1);
        assert_eq!(findings("#[error(\"chunk size `{0}` is not a power of two.\")]\n"), 1);
        assert_eq!(findings("#[error(\"chunk size `{0}` is not a power of two\")]\n"), 0);
        assert_eq!(findings("#[error(\"ZMTP greeting is too short\")]\n"), 0);
    }

    #[test]
    fn fixed_texts_of_the_reference_server_are_left_alone() {
        assert_eq!(findings("info!(\"Launched runtime plugin: {path} with {interpreter}\")\n"), 0);
    }
}
