//! Making the mutants that were asked for, and judging what survives.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::options::{Options, changed_since};
use super::outcomes::{self, Equivalent, Mutant, Verdict};
use super::tool;
use crate::tables;

const EQUIVALENT: &str = "xtask/equivalent-mutants.toml";

/// Tries the mutants that were asked for and fails when too many survive.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    let changed = options.changed.as_deref().map(changed_since).transpose()?;
    if changed.as_ref().is_some_and(|changed| !changed.iter().any(|file| tool::is_in_scope(file))) {
        eprintln!("    no file changed of which mutants are made");
        return Ok(());
    }
    let tables = tables::read(EQUIVALENT, "mutant", ["file", "mutation", "why"])?;
    let equivalents: Vec<Equivalent> =
        tables.into_iter().map(|[file, mutation, _]| Equivalent { file, mutation }).collect();
    let tool = tool::ready()?;
    let all = tool.list()?;
    let unknown: Vec<&Equivalent> =
        equivalents.iter().filter(|entry| !all.iter().any(|mutant| entry.names(mutant))).collect();
    if !unknown.is_empty() {
        bail!("{EQUIVALENT}: there is no such mutant any more:\n{}", outcomes::lines(&unknown));
    }
    let wanted: Vec<&Mutant> = all.iter().filter(|mutant| options.wants(mutant, changed.as_ref())).collect();
    let files: BTreeSet<&str> = wanted.iter().map(|mutant| mutant.file.as_str()).collect();
    eprintln!("    {} mutants in {} files", wanted.len(), files.len());
    if options.list || wanted.is_empty() {
        wanted.iter().for_each(|mutant| println!("{}", mutant.name));
        return Ok(());
    }
    let tried = tool.run(&files, options.jobs.as_deref(), options.minutes)?;
    let verdict = Verdict::of(&tried, &equivalents);
    eprintln!("{}", verdict.summary(wanted.len()));
    if !verdict.killed_after_all.is_empty() {
        let lines = outcomes::lines(&verdict.killed_after_all);
        bail!("{EQUIVALENT}: a test kills what is said to be equivalent:\n{lines}");
    }
    verdict.judge(wanted.len())
}
