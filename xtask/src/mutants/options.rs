//! Which mutants are asked for.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use super::outcomes::Mutant;
use crate::shell;

#[derive(Default)]
pub(super) struct Options {
    /// Only files that differ from this commit.
    pub(super) changed: Option<String>,
    pub(super) packages: Vec<String>,
    pub(super) files: Vec<String>,
    pub(super) jobs: Option<String>,
    /// When to stop trying further mutants.
    pub(super) minutes: Option<u64>,
    pub(super) list: bool,
}

impl Options {
    pub(super) fn parse(args: &[String]) -> Result<Self> {
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
    pub(super) fn wants(&self, mutant: &Mutant, changed: Option<&BTreeSet<String>>) -> bool {
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

pub(super) fn changed_since(base: &str) -> Result<BTreeSet<String>> {
    let listing = shell::output(shell::program("git").args(["diff", "--name-only", base, "--"]))?;
    Ok(listing.lines().map(str::to_owned).collect())
}
