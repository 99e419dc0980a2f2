//! cargo-mutants: found, installed once, started, stopped when the time is up.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::outcomes::{self, Fate, Mutant};
use crate::shell;

/// What is changed: the code whose mistakes cost bytes, other people's time or a process that is not ours.
const SCOPE: [&str; 6] = [
    "crates/core/src/**",
    "crates/engine/src/**",
    "crates/rpc/src/**",
    "crates/tier/src/**",
    "crates/storage/src/decorators/**",
    "crates/supervise/src/lifecycle/**",
];

/// Whether mutants are made of a file, named as git does.
pub(super) fn is_in_scope(file: &str) -> bool {
    SCOPE.iter().any(|scope| match scope.strip_suffix("**") {
        Some(folder) => file.starts_with(folder),
        None => file == *scope,
    })
}

/// The release that is installed; another one that is there already is used as it is.
const VERSION: &str = "27.1.0";

/// Where it is installed and where it writes, below the repository.
const FOLDER: &str = "target/mutants";

/// Exit codes that mean that mutants were tried: all killed, some missed, some timed out.
const TRIED: [i32; 3] = [0, 2, 3];

/// Shortest time a test run gets before it counts as hanging, in seconds.
const TEST_TIMEOUT_MIN: &str = "120";

/// cargo-mutants, ready to run.
pub(super) struct Tool(PathBuf);

/// Finds cargo-mutants, or installs it from crates.io.
pub(super) fn ready() -> Result<Tool> {
    let installed = shell::root().join(FOLDER).join("bin/cargo-mutants");
    for path in [PathBuf::from("cargo-mutants"), installed.clone()] {
        if shell::succeeds(Command::new(&path).args(["mutants", "--version"])) {
            return Ok(Tool(path));
        }
    }
    eprintln!("    installing cargo-mutants {VERSION} from crates.io into {FOLDER} (once)");
    let mut install = shell::cargo();
    install.args(["install", "cargo-mutants", "--version", VERSION, "--locked", "--root", FOLDER]);
    shell::run(&mut install)
        .context("cargo-mutants can't be installed\nhint: put a `cargo-mutants` of your own into PATH")?;
    Ok(Tool(installed))
}

impl Tool {
    fn command<'a>(&self, files: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = shell::program(&self.0);
        command.args(["mutants", "--workspace"]);
        command.args(files.into_iter().flat_map(|file| ["--file", file]));
        command
    }

    /// Every mutant there may be.
    pub(super) fn list(&self) -> Result<Vec<Mutant>> {
        let text = shell::output(self.command(SCOPE).args(["--list", "--json"]))?;
        let json: serde_json::Value = serde_json::from_str(&text).context("reading the list of mutants")?;
        let mutants: Vec<Mutant> =
            json.as_array().into_iter().flatten().filter_map(Mutant::from_json).collect();
        if mutants.is_empty() {
            bail!(
                "cargo-mutants finds nothing to change: does `.cargo/mutants.toml` name the folders that are there?"
            );
        }
        Ok(mutants)
    }

    /// Tries the mutants of these files, in random order when there may not be time for all.
    pub(super) fn run(
        &self,
        files: &BTreeSet<&str>,
        jobs: Option<&str>,
        minutes: Option<u64>,
    ) -> Result<Vec<(Mutant, Fate)>> {
        let mut command = self.command(files.iter().copied());
        command.args(["--output", FOLDER, "--minimum-test-timeout", TEST_TIMEOUT_MIN]);
        command.args(jobs.iter().flat_map(|jobs| ["--jobs", *jobs]));
        if minutes.is_some() {
            command.arg("--shuffle");
        }
        if shell::succeeds(shell::cargo().args(["nextest", "--version"])) {
            command.args(["--test-tool", "nextest"]);
        }
        // One failure is enough, and nobody looks at its stack.
        command
            .env("NEXTEST_PROFILE", "mutants")
            .env("CARGO_PROFILE_DEV_DEBUG", "none")
            .env("RUST_BACKTRACE", "0");
        let mut child = command.stdin(Stdio::null()).spawn().context("starting cargo-mutants")?;
        let deadline = minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                // It ends what it started and leaves what it found so far.
                shell::run(Command::new("kill").args(["-INT", &child.id().to_string()]))?;
                child.wait()?;
                break None;
            }
            thread::sleep(Duration::from_millis(200));
        };
        if let Some(status) = status.filter(|status| !status.code().is_some_and(|code| TRIED.contains(&code)))
        {
            bail!("cargo-mutants ended with {status}: do the tests pass without any mutant?");
        }
        let path = shell::root().join(FOLDER).join("mutants.out/outcomes.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))?;
        outcomes::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_scope_by_its_folder_or_its_name() {
        assert!(is_in_scope("crates/core/src/lease.rs"));
        assert!(is_in_scope("crates/supervise/src/lifecycle/machine.rs"));
        assert!(!is_in_scope("crates/core/tests/lease.rs"));
        assert!(!is_in_scope("CHANGELOG.md"));
    }

    #[test]
    fn every_part_of_the_scope_is_there() {
        for scope in SCOPE {
            let path = shell::root().join(scope.trim_end_matches("/**"));
            assert!(path.exists(), "`{}` is gone", path.display());
        }
    }
}
