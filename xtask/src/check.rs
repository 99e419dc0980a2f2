//! `cargo xtask check`: everything that judges the text of the repository without running it.

use anyhow::{Result, bail};

use crate::shell::{self, Steps};
use crate::{gen_docs, tidy};

/// Runs the checks alone.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(arg) = args.first() {
        bail!("`check` takes no argument, got `{arg}`");
    }
    let mut steps = Steps::default();
    self::steps(&mut steps);
    steps.finish()
}

/// Adds the checks to a list of steps.
pub(crate) fn steps(steps: &mut Steps) {
    steps.step("format", || shell::run(shell::cargo().args(["fmt", "--all", "--check"])));
    steps.step("clippy", clippy);
    steps.step("tidy", || tidy::run(&[]));
    steps.step("generated docs", || gen_docs::run(&["--check".to_owned()]));
    steps.step("cargo-deny", deny);
}

fn clippy() -> Result<()> {
    shell::run(shell::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// `tidy` already checks licences and sources from the same deny.toml, so a machine without cargo-deny loses
/// only its richer report (and the advisory data base, which needs a network anyway).
fn deny() -> Result<()> {
    if !shell::succeeds(shell::cargo().args(["deny", "--version"])) {
        eprintln!("    cargo-deny is not installed: `tidy` checked licences and sources");
        return Ok(());
    }
    shell::run(shell::cargo().args(["deny", "--offline", "check", "licenses", "bans", "sources"]))
}
