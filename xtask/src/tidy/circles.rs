//! Files that import each other in a loop: whoever changes one of them has to know all.
//!
//! What is read is the text of `use` items and of paths that start with `crate`, `super` or `self`; methods
//! that one file adds to the type of another are no import. A name that a module only hands on counts for the
//! file that defines it.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::{Crate, crates};
use super::source::{Finding, Source};

/// Rings that are left, by the folder that holds all of their files. The reasons are in ARCHITECTURE.md,
/// "Circles".
const KNOWN: [&str; 1] = ["crates/zmtp/src/router/"];

/// File to file: the names taken.
type Arrows<'s> = BTreeMap<&'s str, BTreeMap<&'s str, BTreeSet<String>>>;

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut known = BTreeSet::new();
    for tree in crates(sources) {
        let arrows = arrows(&tree);
        for circle in circles(&arrows) {
            match KNOWN.iter().find(|folder| circle.iter().all(|file| file.starts_with(**folder))) {
                Some(folder) => _ = known.insert(*folder),
                None => findings.push(describe(&circle, &arrows)),
            }
        }
    }
    let gone = KNOWN.iter().filter(|folder| !known.contains(*folder));
    findings.extend(gone.map(|folder| {
        Finding::new("xtask/src/tidy/circles.rs", format!("there is no circle in `{folder}` any more"))
    }));
    findings
}

fn arrows<'s>(tree: &Crate<'s>) -> Arrows<'s> {
    let mut arrows = Arrows::new();
    for module in tree.modules() {
        for (target, name) in tree.names_taken(module) {
            if target != module.file {
                arrows.entry(module.file).or_default().entry(target).or_default().insert(name);
            }
        }
    }
    arrows
}

/// Sets of files each of which reaches all others of its set.
fn circles<'s>(arrows: &Arrows<'s>) -> Vec<BTreeSet<&'s str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        arrows.keys().map(|file| (*file, reached_from(file, arrows))).collect();
    let mut circles = Vec::new();
    let mut placed = BTreeSet::new();
    for (file, all) in &reached {
        if placed.contains(file) || !all.contains(file) {
            continue;
        }
        let is_back = |other: &&&str| reached.get(**other).is_some_and(|theirs| theirs.contains(file));
        let circle: BTreeSet<&str> = all.iter().filter(is_back).copied().collect();
        placed.extend(circle.iter().copied());
        circles.push(circle);
    }
    circles
}

fn reached_from<'s>(file: &'s str, arrows: &Arrows<'s>) -> BTreeSet<&'s str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = vec![file];
    while let Some(next) = open.pop() {
        let targets = arrows.get(next).into_iter().flat_map(BTreeMap::keys);
        open.extend(targets.filter(|target| reached.insert(**target)));
    }
    reached
}

fn describe(circle: &BTreeSet<&str>, arrows: &Arrows<'_>) -> Finding {
    let mut text = format!("circle of {} files", circle.len());
    for file in circle {
        for (target, names) in arrows.get(file).into_iter().flatten().filter(|(to, _)| circle.contains(*to)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            text.push_str(&format!("\n    {file} takes {} from {target}", names.join(", ")));
        }
    }
    Finding::new(*circle.first().unwrap_or(&""), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let source = |(path, text): &(&str, &str)| Source {
            path: format!("crates/a/src/{path}"),
            text: (*text).to_owned(),
        };
        let sources: Vec<Source> = files.iter().map(source).collect();
        check(&sources).into_iter().filter(|f| f.place.starts_with("crates/a/")).map(|f| f.text).collect()
    }

    #[test]
    fn two_files_that_take_from_each_other_are_a_circle() {
        let circle = found(&[
            ("lib.rs", "mod one;\nmod two;\n"),
            ("one.rs", "use crate::two::{B, C};\npub struct A;\n"),
            ("two.rs", "pub struct B(super::one::A);\npub struct C;\n"),
        ]);
        assert_eq!(circle.len(), 1);
        assert!(circle[0].contains("one.rs takes B, C from crates/a/src/two.rs"), "{circle:?}");
    }

    #[test]
    fn a_face_hands_names_on_and_is_no_part_of_a_circle() {
        let files = |one| {
            vec![
                ("lib.rs", "mod part;\nmod user;\npub use part::{Part, deep::Deep};\npub use user::User;\n"),
                ("part/mod.rs", "mod leaf;\npub mod deep;\npub use self::leaf::Part;\n"),
                ("part/leaf.rs", one),
                ("part/deep.rs", "use super::Part;\npub struct Deep(Part);\n"),
                ("user.rs", "use crate::Part;\nuse crate::part;\npub struct User(Part, part::deep::Deep);\n"),
            ]
        };
        assert_eq!(found(&files("pub struct Part;\n")), Vec::<String>::new());
        let circle = found(&files("use crate::User;\npub struct Part;\n"));
        assert!(circle[0].starts_with("circle of 3 files"), "{circle:?}");
    }

    #[test]
    fn comments_and_tests_take_nothing() {
        let circle = found(&[
            ("lib.rs", "mod one;\nmod two;\n"),
            (
                "one.rs",
                "/// Not a [`crate::two::B`].\npub struct A;\n#[cfg(test)]\nmod tests {\n    use crate::two::B;\n}\n",
            ),
            ("two.rs", "use super::one::A;\npub struct B(A);\n"),
        ]);
        assert_eq!(circle, Vec::<String>::new());
    }
}
