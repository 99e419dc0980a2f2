//! The commands. Server flags come from the flag table of `larder_server::config`.

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};
use larder_server::config::with_server_flags;

/// The whole command line.
pub(crate) fn command() -> Command {
    Command::new("larder")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A native KV-cache server for LLM inference.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(server())
        .subcommand(
            Command::new("config")
                .about("Look at a configuration without starting anything")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .disable_help_subcommand(true)
                .subcommand(show())
                .subcommand(check())
                .subcommand(docs()),
        )
        .subcommand(crate::adapters::command())
        .subcommand(crate::plugin::command())
        .subcommand(crate::bench::command())
        .subcommand(Command::new("version").about("Print the version"))
}

/// What `larder version` prints.
pub(crate) fn version_line() -> String {
    format!("larder {}", env!("CARGO_PKG_VERSION"))
}

fn server() -> Command {
    with_server_flags(Command::new("server"))
        .about("Serve LLM engines until SIGTERM or SIGINT; takes the flags of `lmcache server`")
        .override_usage("larder server --l1-size-gb GIB --eviction-policy LRU [FLAGS]")
        .after_help(
            "Every flag can also be given as an environment variable (LARDER_L1_SIZE_GB) or as a key of a TOML file \
             (--config FILE, key l1_size_gb). Command line goes before environment, environment before file.",
        )
}

fn show() -> Command {
    with_server_flags(Command::new("show"))
        .about("Print every effective setting with its source")
        .override_usage("larder config show [--format toml|json] [SERVER FLAGS]")
        .mut_arg("format", |arg| {
            arg.value_parser(PossibleValuesParser::new(["toml", "json"]))
                .value_name("toml|json")
                .help("Output format [default: toml]")
                .help_heading("Options")
        })
}

fn check() -> Command {
    with_server_flags(Command::new("check"))
        .about("Check a configuration and print every mistake")
        .override_usage("larder config check [SERVER FLAGS]")
}

fn docs() -> Command {
    Command::new("docs")
        .about("Write the generated reference pages into a directory")
        .hide(true)
        .arg(Arg::new("directory").required(true).value_name("DIRECTORY"))
}
