//! `cargo xtask test`: every check and every test that needs nothing but this machine and crates.io.

use anyhow::{Result, bail};

use crate::check;
use crate::shell::{self, Steps};

/// Runs all checks, then the tests, then the doc tests.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(arg) = args.first() {
        bail!("`test` takes no argument, got `{arg}`");
    }
    let mut steps = Steps::default();
    check::steps(&mut steps);
    steps.step("tests", tests);
    steps.step("doc tests", || shell::run(shell::cargo().args(["test", "--quiet", "--workspace", "--doc"])));
    steps.finish()
}

/// nextest where it is installed, plain `cargo test` elsewhere.
fn tests() -> Result<()> {
    if shell::succeeds(shell::cargo().args(["nextest", "--version"])) {
        shell::run(shell::cargo().args(["nextest", "run", "--workspace", "--no-fail-fast"]))
    } else {
        eprintln!("    cargo-nextest is not installed: using `cargo test`");
        shell::run(shell::cargo().args(["test", "--workspace", "--all-targets", "--no-fail-fast"]))
    }
}
