//! The command line of `larder bench`.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::policy;
use crate::exit;

/// All subcommands.
pub(crate) fn command() -> Command {
    Command::new("bench")
        .about("Measure without a server: eviction policies on traces")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(policy::command())
}

/// Runs the chosen subcommand.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("policy", matches)) => policy::run(matches),
        _ => ExitCode::from(exit::USAGE),
    }
}
