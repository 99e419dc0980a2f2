//! The commands. Server flags come from the flag table of `larder_config`.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command};
use larder_config::{list_server_flags, with_server_flags};
use larder_telemetry::BuildInfo;

/// This build.
pub(crate) const BUILD: BuildInfo =
    BuildInfo { version: env!("CARGO_PKG_VERSION"), commit: env!("LARDER_COMMIT") };

/// How the server is started.
pub(crate) const SERVER_USAGE: &str = "larder server --l1-size-gb GIB --eviction-policy LRU [FLAGS]";

/// Flag that prints the help with every flag.
pub(crate) const HELP_ALL: &str = "help-all";

/// Flags of `config show` and `config check`.
pub(crate) const SHOW_SECRETS: &str = "show-secrets";
pub(crate) const DENY_WARNINGS: &str = "deny-warnings";
pub(crate) const ENVIRONMENT: &str = "environment";

/// The whole command line.
pub(crate) fn command() -> Command {
    Command::new("larder")
        .version(concat!(env!("CARGO_PKG_VERSION"), " (", env!("LARDER_COMMIT"), ")"))
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
        .subcommand(crate::status::command())
        .subcommand(crate::adapters::command())
        .subcommand(crate::plugin::command())
        .subcommand(crate::bench::command())
        .subcommand(Command::new("version").about("Print the version"))
}

/// The help of a command that takes server flags, with all of them.
pub(crate) fn full_help(path: &[&str]) -> String {
    let mut command = command();
    for word in path {
        let Some(found) = command.find_subcommand(word) else { break };
        command = found.clone();
    }
    let words: Vec<&str> = std::iter::once("larder").chain(path.iter().copied()).collect();
    list_server_flags(command, |flag| !flag.hidden).bin_name(words.join(" ")).render_help().to_string()
}

fn help_all() -> Arg {
    Arg::new(HELP_ALL)
        .long(HELP_ALL)
        .action(ArgAction::SetTrue)
        .help("Print help with every flag, also those accepted for `lmcache server` alone")
}

/// Takes every flag of the server, and leaves listing them to `larder server --help`.
fn reading(name: &'static str) -> Command {
    list_server_flags(with_server_flags(Command::new(name)), |_| false)
        .arg(help_all())
        .after_help("Takes every flag of `larder server`; --help-all lists them.")
}

fn server() -> Command {
    with_server_flags(Command::new("server"))
        .arg(help_all())
        .about("Serve LLM engines until SIGTERM or SIGINT; takes the flags of `lmcache server`")
        .override_usage(SERVER_USAGE)
        .after_help(
            "Every flag can also be given as an environment variable (LARDER_L1_SIZE_GB) or as a key of a TOML file \
             (--config FILE, key l1_size_gb). Command line goes before environment, environment before file.",
        )
}

fn show() -> Command {
    reading("show")
        .about("Print every effective setting with its source")
        .override_usage("larder config show [--format toml|json] [SERVER FLAGS]")
        .mut_arg("format", |arg| {
            arg.value_parser(PossibleValuesParser::new(["toml", "json"]))
                .value_name("toml|json")
                .help("Output format [default: toml]")
                .help_heading("Options")
                .hide(false)
        })
        .arg(
            Arg::new(SHOW_SECRETS)
                .long(SHOW_SECRETS)
                .action(ArgAction::SetTrue)
                .help("Print credentials too, so that the output can be used as a file")
                .help_heading("Options"),
        )
}

fn check() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help).help_heading("Options")
    };
    reading("check")
        .about("Check a configuration and print every mistake, and what a start would warn of")
        .override_usage("larder config check [--deny-warnings] [--environment] [SERVER FLAGS]")
        .arg(switch(DENY_WARNINGS, "Fail if there is anything to warn of"))
        .arg(switch(ENVIRONMENT, "Try on this machine: memory, /dev/shm, ports, directories"))
}

fn docs() -> Command {
    Command::new("docs")
        .about("Write the generated reference pages into a directory")
        .arg(Arg::new("directory").required(true).value_name("DIRECTORY"))
}
