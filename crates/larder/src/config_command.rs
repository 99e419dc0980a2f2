//! `larder config show | check | docs`: a configuration without a server.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;
use larder_config::show::{self, Secrets};
use larder_config::{InvalidConfig, Loaded, Notice, load, process_environment};
use larder_server::{self as server, Preflight};

use crate::command_line::{DENY_WARNINGS, ENVIRONMENT, SHOW_SECRETS};
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
    load(matches, &process_environment())
}

/// Shows what there is even when it is wrong; the mistakes follow on standard error.
fn show_settings(matches: &ArgMatches) -> ExitCode {
    let loaded = loaded(matches);
    let secrets = if matches.get_flag(SHOW_SECRETS) { Secrets::Shown } else { Secrets::Redacted };
    let text = match matches.get_one::<String>("format").map(String::as_str) {
        Some("json") => show::to_json(&loaded, secrets) + "\n",
        _ => show::to_toml(&loaded, secrets),
    };
    if io::stdout().write_all(text.as_bytes()).is_err() {
        return ExitCode::from(exit::FAILED);
    }
    tell(&loaded.notices);
    match &loaded.config {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => exit::from_invalid(error),
    }
}

/// Everything a start would refuse or warn of.
fn check_settings(matches: &ArgMatches) -> ExitCode {
    let Loaded { settings, config, notices, adapter_warnings } = loaded(matches);
    let mut warnings = [notices, adapter_warnings].concat();
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            tell(&warnings);
            return exit::from_invalid(&error);
        }
    };
    if matches.get_flag(ENVIRONMENT) {
        let Preflight { mistakes, warnings: more } =
            server::preflight(&settings, &process_environment(), &config);
        warnings.extend(more);
        if !mistakes.is_empty() {
            tell(&warnings);
            return exit::from_invalid(&InvalidConfig { mistakes });
        }
    } else {
        warnings.extend(server::memory_warning(&config));
    }
    tell(&warnings);
    if !warnings.is_empty() && matches.get_flag(DENY_WARNINGS) {
        eprintln!("error: there is something to warn of, and --{DENY_WARNINGS} is given");
        return ExitCode::from(exit::FAILED);
    }
    let warned = match warnings.len() {
        0 => String::new(),
        1 => ", with 1 warning".to_owned(),
        count => format!(", with {count} warnings"),
    };
    // Nothing can be done when nobody reads; the exit code says it too.
    _ = writeln!(io::stdout(), "the configuration is valid{warned}");
    ExitCode::SUCCESS
}

fn tell(warnings: &[Notice]) {
    for warning in warnings {
        eprintln!("warning: {}", warning.text);
        if let Some(hint) = &warning.hint {
            eprintln!("    hint: {hint}");
        }
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
