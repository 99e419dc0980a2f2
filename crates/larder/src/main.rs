//! The `larder` binary: one module a command, and exit codes. What a server is lives in the crates below; a
//! command that needs none, or asks one over HTTP, is all here.

// Tests count small things and may cast them.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_lossless,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

mod adapters;
mod bench;
mod client;
mod command_line;
mod config_command;
mod docs;
mod exit;
mod plugin;
mod server_command;
mod status;

use std::io::{self, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    // The process may be the guardian of another server's plugins: that never returns, and comes before any
    // thread or allocation of size.
    larder_supervise::run_guardian_if_asked();

    let matches = match command_line::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return exit::from_usage(&error),
    };
    if let Some(help) = full_help(&matches) {
        // Nothing can be done when nobody reads.
        _ = write!(io::stdout(), "{help}");
        return ExitCode::SUCCESS;
    }
    match matches.subcommand() {
        Some(("server", matches)) => server_command::run(matches),
        Some(("config", matches)) => config_command::run(matches),
        Some(("status", matches)) => status::run(matches),
        Some(("adapters", matches)) => adapters::run(matches),
        Some(("plugin", matches)) => plugin::run(matches),
        Some(("bench", matches)) => bench::run(matches),
        _ => {
            // Nothing can be done when nobody reads.
            _ = writeln!(io::stdout(), "{}", command_line::BUILD);
            ExitCode::SUCCESS
        }
    }
}

/// The help that `--help-all` asks for.
fn full_help(matches: &clap::ArgMatches) -> Option<String> {
    let (mut path, mut inner) = (Vec::new(), matches);
    while let Some((word, matches)) = inner.subcommand() {
        path.push(word);
        inner = matches;
    }
    let asked = inner.try_get_one::<bool>(command_line::HELP_ALL).ok().flatten();
    asked.is_some_and(|asked| *asked).then(|| command_line::full_help(&path))
}
