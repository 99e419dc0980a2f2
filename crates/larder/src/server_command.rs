//! `larder server`: settings, log, node, exit code.

use std::process::ExitCode;

use clap::ArgMatches;
use larder_config::{Live, Notice, load, process_environment};
use larder_telemetry::{LogHandle, install_log};

use crate::command_line::{self, BUILD};
use crate::exit;

/// Runs a server until it is told to stop.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let environment = process_environment();
    let mut loaded = load(matches, &environment);
    let notices = std::mem::take(&mut loaded.notices);
    let live = match Live::start(loaded, environment) {
        Ok(live) => live,
        Err(error) => {
            let code = exit::from_invalid(&error);
            if error.is_incomplete() {
                eprintln!("usage: {}", command_line::SERVER_USAGE);
            }
            return code;
        }
    };
    let log = match install_log(&live.config().log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    for Notice { text, hint } in notices {
        tracing::warn!("{text}");
        if let Some(hint) = hint {
            tracing::warn!("hint: {hint}");
        }
    }
    serve(live, log.handle().clone())
}

/// The only place where the binary meets the node.
fn serve(live: Live, log: LogHandle) -> ExitCode {
    match larder_server::run(BUILD, live, Some(log)) {
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
