//! `larder server`: settings, log, node, exit code.

use std::process::ExitCode;

use clap::ArgMatches;
use larder_server::config::{Capabilities, ServerConfig, load, process_environment};
use larder_server::telemetry::install_log;

use crate::exit;

/// Runs a server until it is told to stop.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let loaded = load(matches, &process_environment(), &Capabilities::default());
    let config = match loaded.config {
        Ok(config) => config,
        Err(error) => return exit::from_invalid(&error),
    };
    let _log = match install_log(&config.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    for notice in &loaded.notices {
        tracing::info!("{notice}");
    }
    serve(config)
}

/// The only place where the binary meets the node.
fn serve(config: ServerConfig) -> ExitCode {
    match larder_server::node::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A hint is a line of its own.
            for line in format!("the server could not start: {error}").lines() {
                tracing::error!("{line}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}
