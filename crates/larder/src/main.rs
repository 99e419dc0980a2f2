//! The `larder` binary: command line and composition root. What a command does lives in the crates below.

mod adapters;
mod bench;
mod client;
mod command_line;
mod config_command;
mod docs;
mod exit;
mod plugin;
mod server_command;

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
    match matches.subcommand() {
        Some(("server", matches)) => server_command::run(matches),
        Some(("config", matches)) => config_command::run(matches),
        Some(("adapters", matches)) => adapters::run(matches),
        Some(("plugin", matches)) => plugin::run(matches),
        Some(("bench", matches)) => bench::run(matches),
        _ => {
            // Nothing can be done when nobody reads.
            let _ = writeln!(io::stdout(), "{}", command_line::version_line());
            ExitCode::SUCCESS
        }
    }
}
