//! Running other programs: the repository root, one named step at a time, and a summary that hides no
//! failure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The repository root: the folder above this crate.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The `cargo` that runs us, so that a toolchain chosen outside stays in force.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// A program started in the repository root.
pub(crate) fn program(path: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(path);
    command.current_dir(root());
    command
}

/// Runs `command` with our own output; an unsuccessful exit is an error that shows the command line.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = command_line(command);
    let status = command.status().with_context(|| format!("starting `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Runs `command` and returns its standard output as text.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("starting `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of `{line}` is not text"))
}

/// Whether `command` can be started and succeeds; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

fn command_line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// Named steps which all run, even after one failed, so that one run shows everything that is wrong.
#[derive(Default)]
pub(crate) struct Steps {
    rows: Vec<(String, Option<String>, f64)>,
}

impl Steps {
    /// Runs one step and remembers how it ended.
    pub(crate) fn step(&mut self, name: &str, body: impl FnOnce() -> Result<()>) {
        eprintln!("\n==> {name}");
        let start = Instant::now();
        let failure = body().err().map(|error| format!("{error:#}"));
        if let Some(text) = &failure {
            eprintln!("    {name}: {text}");
        }
        self.rows.push((name.to_owned(), failure, start.elapsed().as_secs_f64()));
    }

    /// Prints one line a step and fails when any step failed.
    pub(crate) fn finish(self) -> Result<()> {
        let width = self.rows.iter().map(|row| row.0.len()).max().unwrap_or(0);
        eprintln!();
        for (name, failure, seconds) in &self.rows {
            let mark = if failure.is_some() { "FAILED" } else { "ok" };
            eprintln!("{name:width$}  {mark:6}  {seconds:7.1} s");
        }
        let failed: Vec<&str> =
            self.rows.iter().filter(|row| row.1.is_some()).map(|row| row.0.as_str()).collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}
