//! What documents say is where: every file, module and item that a page names exists.

use super::modules::{Crate, crates};
use super::source::{Finding, Source};

/// Endings of what is taken for a path of this repository.
const KINDS: [&str; 5] = [".rs", ".py", ".toml", ".md", ".sh"];

/// Pages that speak of this repository's files; the guide speaks of its reader's.
const PAGES: [&str; 3] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "STYLE.md"];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let trees = crates(sources);
    let mut findings = Vec::new();
    for page in sources.iter().filter(|source| PAGES.contains(&source.path.as_str())) {
        for (index, line) in page.text.lines().enumerate() {
            let named = line.split('`').skip(1).step_by(2);
            let wrong = named.filter(|name| {
                let name = name.trim_end_matches('/');
                (is_path(name) && !has_file(sources, name))
                    || item(name).is_some_and(|item| !has_item(&trees, item))
            });
            findings.extend(wrong.map(|name| Finding::at(page, index, format!("there is no `{name}`"))));
        }
    }
    findings.extend(unlisted_threads(sources));
    findings
}

/// Threads whose name ARCHITECTURE.md does not know.
fn unlisted_threads(sources: &[Source]) -> Vec<Finding> {
    let Some(page) = sources.iter().find(|source| source.path == "ARCHITECTURE.md") else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let is_shipped = |source: &&Source| source.is_rust_product() && !source.path.starts_with("xtask/");
    for source in sources.iter().filter(is_shipped) {
        for (index, line) in source.product_lines() {
            let named = ["name(\"", "start(\"l2-", "within("].iter().any(|opener| line.contains(opener));
            let names = line.split('"').skip(1).step_by(2);
            let threads = names.filter(|name| name.starts_with("larder-") || name.starts_with("l2-"));
            let unknown = threads
                .filter(|name| named && !name.contains('{') && !page.text.contains(&format!("`{name}`")));
            findings.extend(
                unknown.map(|name| {
                    Finding::at(source, index, format!("ARCHITECTURE.md lists no thread `{name}`"))
                }),
            );
        }
    }
    findings
}

fn is_path(name: &str) -> bool {
    let is_one_of_ours = name.starts_with("crates/") || KINDS.iter().any(|kind| name.ends_with(kind));
    is_one_of_ours
        && name.contains('/')
        && !name.contains([' ', '*', '<', '$', '~'])
        && !name.starts_with('/')
}

/// A path may leave out what is before the crate's folder, and `src`.
fn has_file(sources: &[Source], name: &str) -> bool {
    sources.iter().any(|source| {
        let short = source.path.replace("/src/", "/");
        [source.path.as_str(), short.as_str()].iter().any(|path| {
            let starts = path.match_indices(name).filter(|(at, _)| *at == 0 || path[..*at].ends_with('/'));
            starts
                .map(|(at, _)| &path[at + name.len()..])
                .any(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    })
}

/// The crate and the path in it of what is written like an item of ours.
fn item(name: &str) -> Option<(&str, Vec<&str>)> {
    let mut parts = name.split("::");
    let (first, rest) = (parts.next()?, parts.collect::<Vec<_>>());
    let is_plain = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    (!rest.is_empty() && is_plain(&first) && rest.iter().all(is_plain)).then_some((first, rest))
}

/// Items of crates that are not ours are taken on trust.
fn has_item(trees: &[Crate<'_>], (first, rest): (&str, Vec<&str>)) -> bool {
    let name = first.replace('_', "-");
    trees
        .iter()
        .find(|tree| tree.folder() == format!("crates/{name}"))
        .is_none_or(|tree| tree.has_item(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(page: &str) -> usize {
        let files = [
            ("CONTRIBUTING.md", page),
            ("crates/core/src/lib.rs", "mod cache;\npub use cache::Cache;\n"),
            ("crates/core/src/cache.rs", "pub struct Cache;\nimpl Cache {\n    pub fn reserve() {}\n}\n"),
        ];
        let source = |(path, text): (&str, &str)| Source { path: path.to_owned(), text: text.to_owned() };
        check(&files.map(source)).len()
    }

    #[test]
    fn paths_in_every_spelling_are_looked_up() {
        assert_eq!(
            found("see `crates/core/src/cache.rs`, `core/cache.rs`, `core/src/cache.rs` and `crates/core`"),
            0
        );
        assert_eq!(found("see `crates/core/src/table.rs`, `core/table.rs` and `crates/cor`"), 3);
        assert_eq!(found("a command: `cargo xtask test`, a name: `/dev/shm`, a pattern: `crates/*/src`"), 0);
    }

    #[test]
    fn items_are_looked_up_in_their_crate() {
        assert_eq!(
            found(
                "`core::cache`, `core::Cache`, `core::cache::Cache`, `std::sync::Arc`, `core::cache::reserve`"
            ),
            0
        );
        assert_eq!(found("`core::table`, `core::Table`, `core::cache::Table`"), 3);
    }
}
