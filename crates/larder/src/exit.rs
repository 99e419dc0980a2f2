//! Exit codes, the same for every command.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use larder_config::{InvalidConfig, flags_beginning_with};

/// The configuration cannot be used, or the command failed.
pub(crate) const FAILED: u8 = 1;
/// The command line is malformed.
pub(crate) const USAGE: u8 = 2;
/// An address is taken or cannot be bound.
pub(crate) const ADDRESS: u8 = 3;

/// Every code with its meaning, for the reference.
pub(crate) const TABLE: &[(u8, &str)] = &[
    (0, "done, or stopped by SIGTERM or SIGINT"),
    (FAILED, "invalid configuration, or the server could not start"),
    (USAGE, "malformed command line: unknown flag, missing value, value of the wrong type"),
    (ADDRESS, "an address is in use or cannot be bound"),
];

/// Prints what is wrong with the command line, or the help that was asked for.
pub(crate) fn from_usage(error: &clap::Error) -> ExitCode {
    if let Some(text) = ambiguity(error) {
        eprintln!("error: {text}\n\nFor more information, try '--help'.");
        return ExitCode::from(USAGE);
    }
    // Nothing can be done when the terminal is gone.
    _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// The parser calls a shortened flag unknown when it could be several.
fn ambiguity(error: &clap::Error) -> Option<String> {
    let ContextValue::String(word) = error.get(ContextKind::InvalidArg)? else { return None };
    let flags = flags_beginning_with(word);
    let is_ours = error.kind() == ErrorKind::UnknownArgument && flags.len() > 1;
    is_ours.then(|| format!("ambiguous flag `{word}`: could be {}", flags.join(", ")))
}

/// Prints every mistake.
pub(crate) fn from_invalid(error: &InvalidConfig) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(if error.is_usage() { USAGE } else { FAILED })
}
