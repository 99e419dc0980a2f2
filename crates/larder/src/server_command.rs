//! `larder server`: settings, log, node, exit code.

use std::process::ExitCode;

use clap::ArgMatches;
use larder_server::config::{Capabilities, Live, load, process_environment};
use larder_server::telemetry::{LogHandle, install_log};

use crate::exit;

/// Runs a server until it is told to stop.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let (environment, capabilities) = (process_environment(), Capabilities::default());
    let mut loaded = load(matches, &environment, &capabilities);
    let notices = std::mem::take(&mut loaded.notices);
    let live = match Live::start(loaded, environment, capabilities) {
        Ok(live) => live,
        Err(error) => return exit::from_invalid(&error),
    };
    let log = match install_log(&live.config().log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    for notice in &notices {
        tracing::info!("{notice}");
    }
    serve(live, log.handle().clone())
}

/// The only place where the binary meets the node.
fn serve(live: Live, log: LogHandle) -> ExitCode {
    match larder_server::node::run(live, Some(log)) {
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
