//! The modules of each crate, and which names of which files a file takes: enough of Rust's rules on paths
//! for code as rustfmt leaves it.

use std::collections::BTreeMap;

use super::source::{Source, without_comment};

/// Re-exports that hand on re-exports are followed this far.
const HOPS_MAX: usize = 8;

/// One crate's modules, by their path from its root.
pub(super) struct Crate<'s> {
    folder: &'s str,
    modules: BTreeMap<Vec<&'s str>, Module<'s>>,
}

/// One file, and the module it is.
pub(super) struct Module<'s> {
    pub(super) file: &'s str,
    path: Vec<&'s str>,
    /// Product code without comments and `use` items.
    code: String,
    /// Every `use`, one path each.
    uses: Vec<Use>,
}

struct Use {
    path: Vec<String>,
    /// What it is called here; `*` for a glob.
    name: String,
    /// Handed on to others, and so not taken.
    is_public: bool,
}

/// The crates there are sources of; those that have `src/lib.rs` or `src/main.rs`.
pub(super) fn crates(sources: &[Source]) -> Vec<Crate<'_>> {
    let mut crates: BTreeMap<&str, Crate<'_>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.is_rust_product()) {
        let Some((folder, inner)) = source.path.split_once("/src/") else { continue };
        let module = Module::read(source, inner);
        let tree = crates.entry(folder).or_insert_with(|| Crate { folder, modules: BTreeMap::new() });
        tree.modules.insert(module.path.clone(), module);
    }
    crates.into_values().collect()
}

/// Every path of product code that is used or starts with `std`.
pub(super) fn paths(source: &Source) -> Vec<Vec<String>> {
    let module = Module::read(source, "");
    let inline = paths_that_start_with(&module.code, "std");
    let inline = inline.into_iter().map(|rest| std::iter::once("std".to_owned()).chain(rest).collect());
    module.uses.into_iter().map(|used| used.path).chain(inline).collect()
}

impl<'s> Module<'s> {
    fn read(source: &'s Source, inner: &'s str) -> Self {
        let mut path: Vec<&str> = inner.trim_end_matches(".rs").split('/').collect();
        if matches!(path.last(), Some(&("lib" | "main" | "mod"))) {
            path.pop();
        }
        let code: Vec<&str> = source.product_lines().map(|(_, line)| without_comment(line)).collect();
        let (uses, code) = split_uses(&code.join("\n"));
        Self { file: &source.path, path, code, uses }
    }
}

impl<'s> Crate<'s> {
    pub(super) fn modules(&self) -> impl Iterator<Item = &Module<'s>> {
        self.modules.values()
    }

    /// The folder above `src`, from the repository's root.
    pub(super) fn folder(&self) -> &'s str {
        self.folder
    }

    /// Whether a path from the crate's root names a module, or an item that its module defines or hands on.
    pub(super) fn has_item(&self, path: &[&str]) -> bool {
        let depth =
            (0..=path.len()).rev().find(|&depth| self.modules.contains_key(&path[..depth])).unwrap_or(0);
        let Some(name) = path.get(depth) else { return true };
        let module = self.modules.get(&path[..depth]);
        module.is_some_and(|module| module.defines(name) || module.uses.iter().any(|used| used.name == *name))
    }

    /// Files of this crate that a module takes names of, each with a name. A module that only hands names on
    /// takes none: whoever asks it for one is sent on.
    pub(super) fn names_taken(&self, module: &Module<'s>) -> Vec<(&'s str, String)> {
        let mut taken = Vec::new();
        if module.is_face() {
            return taken;
        }
        for used in module.uses.iter().filter(|used| !used.is_public) {
            let path = self.absolute(module, &used.path);
            if used.name != "*" && path.as_ref().is_some_and(|path| self.is_module(path)) {
                // A module is taken for what is in it: `use crate::clock;` and then `clock::now()`.
                let path = path.unwrap_or_default();
                for rest in paths_that_start_with(&module.code, &used.name) {
                    let whole = path.iter().cloned().chain(rest).collect::<Vec<_>>();
                    taken.extend(self.definer(&whole, 0));
                }
            } else if let Some(path) = path {
                taken.extend(self.definer(&path, 0));
            }
        }
        for start in ["crate", "super", "self"] {
            for rest in paths_that_start_with(&module.code, start) {
                let path: Vec<String> = std::iter::once(start.to_owned()).chain(rest).collect();
                taken.extend(self.absolute(module, &path).and_then(|path| self.definer(&path, 0)));
            }
        }
        taken
    }

    /// Whether a module above declares it.
    pub(super) fn is_declared(&self, module: &Module<'s>) -> bool {
        let Some((name, parent)) = module.path.split_last() else { return true };
        let declared = format!("mod {name};");
        let is_binary = parent == ["bin"];
        is_binary
            || self
                .modules
                .get(parent)
                .is_some_and(|parent| parent.code.lines().any(|line| without_visibility(line) == declared))
    }

    /// A path of `module` from the root of the crate; none if it leads out of the crate.
    fn absolute(&self, module: &Module<'s>, path: &[String]) -> Option<Vec<String>> {
        let mut here: Vec<String> = module.path.iter().map(|&part| part.to_owned()).collect();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => {
                here.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    here.pop()?;
                    rest = &rest[1..];
                }
            }
            child => {
                here.push(child.to_owned());
                if !self.is_module(&here) {
                    return None;
                }
                rest = &rest[1..];
            }
        }
        here.extend(rest.iter().cloned());
        Some(here)
    }

    fn is_module(&self, path: &[String]) -> bool {
        self.module(path).is_some()
    }

    fn module(&self, path: &[String]) -> Option<&Module<'s>> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        self.modules.iter().find(|(known, _)| **known == path).map(|(_, module)| module)
    }

    /// The file that defines the first name of a path that is no module, and that name; none if all are
    /// modules.
    fn definer(&self, path: &[String], hops: usize) -> Option<(&'s str, String)> {
        let depth = (0..=path.len()).rev().find(|&depth| self.is_module(&path[..depth]))?;
        let module = self.module(&path[..depth])?;
        let name = path.get(depth)?;
        if hops < HOPS_MAX
            && !module.defines(name)
            && let Some(found) = self.handed_on(module, name, hops)
        {
            return Some(found);
        }
        Some((module.file, name.clone()))
    }

    fn handed_on(&self, module: &Module<'s>, name: &str, hops: usize) -> Option<(&'s str, String)> {
        let named = module.uses.iter().find(|used| used.name == name);
        if let Some(path) = named.and_then(|used| self.absolute(module, &used.path)) {
            return self.definer(&path, hops + 1);
        }
        let globs = module.uses.iter().filter(|used| used.name == "*");
        let mut paths = globs.filter_map(|used| self.absolute(module, &used.path[..used.path.len() - 1]));
        paths.find_map(|path| {
            let whole: Vec<String> = path.into_iter().chain([name.to_owned()]).collect();
            self.definer(&whole, hops + 1).filter(|(file, _)| *file != module.file)
        })
    }
}

impl Module<'_> {
    /// Nothing but modules and names of others.
    pub(super) fn is_face(&self) -> bool {
        !["fn ", "struct ", "enum ", "impl ", "trait ", "const ", "static ", "type "]
            .iter()
            .any(|item| self.code.lines().any(|line| without_visibility(line).starts_with(item)))
    }

    pub(super) fn is_child_of(&self, parent: &Self) -> bool {
        self.path.split_last().is_some_and(|(_, head)| head == parent.path)
    }

    fn defines(&self, name: &str) -> bool {
        self.code.lines().any(|line| {
            let words: Vec<&str> = without_visibility(line)
                .split(|character: char| !character.is_alphanumeric() && character != '_')
                .take(4)
                .collect();
            let kinds = ["fn", "struct", "enum", "trait", "const", "static", "type", "macro_rules"];
            words.windows(2).any(|pair| kinds.contains(&pair[0]) && pair[1] == name)
        })
    }
}

fn without_visibility(line: &str) -> &str {
    let line = line.trim_start();
    let Some(rest) = line.strip_prefix("pub") else { return line };
    let rest = if rest.starts_with('(') { rest.split_once(')').map_or("", |parts| parts.1) } else { rest };
    rest.trim_start()
}

/// All `use` items, and the code without them.
fn split_uses(code: &str) -> (Vec<Use>, String) {
    let (mut uses, mut rest) = (Vec::new(), String::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let Some(head) = without_visibility(line).strip_prefix("use ") else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let mut tree = head.to_owned();
        while !tree.trim_end().ends_with(';') {
            let Some(more) = lines.next() else { break };
            tree.push_str(more.trim());
        }
        let is_public = line.trim_start().starts_with("pub");
        let found = leaves(tree.trim_end().trim_end_matches(';'));
        uses.extend(found.into_iter().map(|(path, name)| Use { path, name, is_public }));
    }
    (uses, rest)
}

/// The paths of one tree with their names: `a::{b, c as d}` is `a::b` and `a::c` named `d`.
fn leaves(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    if let Some((head, inner)) = tree.split_once('{') {
        let prefix: Vec<String> = segments(head);
        let inner = inner.strip_suffix('}').unwrap_or(inner);
        return split_outside_braces(inner)
            .into_iter()
            .flat_map(leaves)
            .map(|(path, name)| {
                let rest = path.into_iter().filter(|part| part != "self");
                let path: Vec<String> = prefix.iter().cloned().chain(rest).collect();
                let name = if name == "self" { path.last().cloned().unwrap_or_default() } else { name };
                (path, name)
            })
            .collect();
    }
    let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
    let path = segments(path);
    let name = if name.is_empty() { path.last().cloned().unwrap_or_default() } else { name.to_owned() };
    if path.is_empty() { Vec::new() } else { vec![(path, name)] }
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn split_outside_braces(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (index, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&list[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts
}

/// What follows `start::` wherever it stands as a whole word.
fn paths_that_start_with(code: &str, start: &str) -> Vec<Vec<String>> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let needle = format!("{start}::");
    let places = code.match_indices(&needle).filter(|(at, _)| {
        let before = code[..*at].chars().next_back();
        !before.is_some_and(|character| is_word(character) || character == ':' || character == '$')
    });
    places
        .map(|(at, _)| {
            let rest = &code[at + needle.len()..];
            let end =
                rest.find(|character: char| !is_word(character) && character != ':').unwrap_or(rest.len());
            segments(&rest[..end])
        })
        .filter(|path| !path.is_empty())
        .collect()
}
