//! `larder config show | check | docs`: a configuration without a server.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;
use larder_server::config::{Capabilities, Loaded, load, process_environment, show};

use crate::{docs, exit};

/// Runs one of the configuration commands.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("show", matches)) => show_settings(matches),
        Some(("check", matches)) => check_settings(matches),
        Some(("docs", matches)) => write_docs(matches),
        _ => ExitCode::from(exit::USAGE),
    }
}

fn loaded(matches: &ArgMatches) -> Loaded {
    load(matches, &process_environment(), &Capabilities::default())
}

/// Shows what there is even when it is wrong; the mistakes follow on standard error.
fn show_settings(matches: &ArgMatches) -> ExitCode {
    let loaded = loaded(matches);
    let text = match matches.get_one::<String>("format").map(String::as_str) {
        Some("json") => show::to_json(&loaded) + "\n",
        _ => show::to_toml(&loaded),
    };
    if io::stdout().write_all(text.as_bytes()).is_err() {
        return ExitCode::from(exit::FAILED);
    }
    outcome(&loaded)
}

fn check_settings(matches: &ArgMatches) -> ExitCode {
    let loaded = loaded(matches);
    let code = outcome(&loaded);
    if loaded.config.is_ok() {
        // Nothing can be done when nobody reads; the exit code says it too.
        let _ = writeln!(io::stdout(), "the configuration is valid");
    }
    code
}

fn outcome(loaded: &Loaded) -> ExitCode {
    for notice in &loaded.notices {
        eprintln!("note: {notice}");
    }
    match &loaded.config {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => exit::from_invalid(error),
    }
}

fn write_docs(matches: &ArgMatches) -> ExitCode {
    let directory = matches.get_one::<String>("directory").map_or(".", String::as_str);
    for (name, text) in docs::pages() {
        let path = Path::new(directory).join(name);
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("error: `{}` cannot be written: {error}", path.display());
            return ExitCode::from(exit::FAILED);
        }
    }
    ExitCode::SUCCESS
}
