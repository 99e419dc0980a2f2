//! `cargo xtask mutants`: changes the code in small ways and sees whether the tests notice.
//!
//! cargo-mutants does the changing. What survives is either a hole in the tests or the same program in other
//! words, which `xtask/equivalent-mutants.toml` lists with the reason.

mod outcomes;
mod tool;

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use crate::{shell, tables};
use outcomes::{Equivalent, Mutant, Verdict};

const EQUIVALENT: &str = "xtask/equivalent-mutants.toml";

#[derive(Default)]
struct Options {
    /// Only files that differ from this commit.
    changed: Option<String>,
    packages: Vec<String>,
    files: Vec<String>,
    jobs: Option<String>,
    /// When to stop trying further mutants.
    minutes: Option<u64>,
    list: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.iter().peekable();
        while let Some(arg) = args.next() {
            if arg == "--changed" {
                let base = args.next_if(|next| !next.starts_with("--"));
                options.changed = Some(base.map_or_else(default_base, |base| Ok(base.clone()))?);
                continue;
            }
            if arg == "--list" {
                options.list = true;
                continue;
            }
            let mut value = || args.next().cloned().with_context(|| format!("`{arg}` needs a value"));
            match arg.as_str() {
                "--package" => options.packages.push(value()?),
                "--file" => options.files.push(value()?),
                "--jobs" => options.jobs = Some(value()?),
                "--minutes" => {
                    let text = value()?;
                    options.minutes = Some(text.parse().with_context(|| format!("`{text}` is no number"))?);
                }
                other => bail!("unknown option `{other}` of `mutants`"),
            }
        }
        Ok(options)
    }

    /// Whether a file is asked for: `--file` takes a path or the beginning of one.
    fn wants(&self, mutant: &Mutant, changed: Option<&BTreeSet<String>>) -> bool {
        (self.packages.is_empty() || self.packages.contains(&mutant.package))
            && (self.files.is_empty() || self.files.iter().any(|file| mutant.file.starts_with(file)))
            && changed.is_none_or(|changed| changed.contains(&mutant.file))
    }
}

/// Where the branch left main; the commit before on main itself.
fn default_base() -> Result<String> {
    let git = |args: &[&str]| shell::output(shell::program("git").args(args));
    let head = git(&["rev-parse", "HEAD"])?;
    let base = git(&["merge-base", "main", "HEAD"]).unwrap_or_default();
    Ok(if base.is_empty() || base == head { "HEAD~1".to_owned() } else { base.trim().to_owned() })
}

fn changed_since(base: &str) -> Result<BTreeSet<String>> {
    let listing = shell::output(shell::program("git").args(["diff", "--name-only", base, "--"]))?;
    Ok(listing.lines().map(str::to_owned).collect())
}

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
