//! The command line of `larder plugin`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{drills, foreground, host, moments, remote, rig, scaffold, validate};
use crate::client::{url, url_arg};
use crate::exit;

/// All subcommands.
pub(crate) fn command() -> Command {
    let remote = |command: Command| command.arg(url_arg());
    Command::new("plugin")
        .about("See, command, write and test runtime plugins")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(remote(
            Command::new("ls").about("List a server's plugins, and the files it does not run").arg(json()),
        ))
        .subcommand(remote(
            Command::new("show")
                .about("Show one plugin: its state, its latest runs, its effective manifest")
                .arg(name())
                .arg(
                    Arg::new("env")
                        .long("env")
                        .action(ArgAction::SetTrue)
                        .help("Its environment, too, without secrets"),
                )
                .arg(json()),
        ))
        .subcommand(remote(logs()))
        .subcommands(
            [
                ("start", "Start a plugin that is at rest"),
                ("stop", "End a plugin until it is started again"),
                ("restart", "End a plugin and start it again"),
                ("enable", "Let a disabled plugin run again, and start it"),
                ("disable", "End a plugin; only `enable` starts it again"),
            ]
            .map(|(word, about)| remote(Command::new(word).about(about).arg(name()))),
        )
        .subcommand(remote(Command::new("reload").about("Look through the plugin locations again")))
        .subcommand(remote(
            Command::new("audit").about("List the latest commands: who, what, outcome").arg(json()),
        ))
        .subcommand(validate_command())
        .subcommand(new())
        .subcommand(run_command())
        .subcommand(test())
        .subcommand(host_command())
}

/// Runs the chosen subcommand.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("validate", matches)) => validate::run(matches),
        Some(("new", matches)) => scaffold::run(matches),
        Some(("run", matches)) => foreground::run(matches),
        Some(("test", matches)) => drills::run(matches),
        Some(("host", matches)) => host::run(matches),
        Some((word, matches)) => remote::run(word, matches, &url(matches)),
        None => ExitCode::from(exit::USAGE),
    }
}

fn name() -> Arg {
    Arg::new("name").required(true).value_name("NAME").help("The plugin's name as `ls` shows it, or its path")
}

fn json() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the server's answer")
}

fn file() -> Arg {
    Arg::new("file").required(true).value_name("FILE").value_parser(value_parser!(PathBuf))
}

fn role() -> Arg {
    Arg::new("role")
        .long("role")
        .value_name("ROLE")
        .help("The role of the process, such as worker or scheduler")
}

fn worker_id() -> Arg {
    Arg::new("worker-id")
        .long("worker-id")
        .value_name("INT")
        .value_parser(value_parser!(i64))
        .allow_negative_numbers(true)
        .help("Which worker it is [default: 0; -1 for a scheduler]")
}

fn logs() -> Command {
    Command::new("logs")
        .about(
            "Print what a plugin printed and what became of it; lines of standard error go to standard error",
        )
        .arg(name())
        .arg(
            Arg::new("follow")
                .short('f')
                .long("follow")
                .action(ArgAction::SetTrue)
                .help("Go on with new lines"),
        )
        .arg(
            Arg::new("lines")
                .short('n')
                .long("lines")
                .value_name("INT")
                .value_parser(value_parser!(usize))
                .help("How many of the newest lines [default: 100]"),
        )
        .arg(
            Arg::new("since")
                .long("since")
                .value_name("TIME")
                .value_parser(moments::since)
                .conflicts_with("follow")
                .help("Only lines since then: `10m`, `2h`, or a time such as `2026-01-31T12:00:00Z`"),
        )
        .arg(
            Arg::new("raw")
                .long("raw")
                .action(ArgAction::SetTrue)
                .help("Only what the plugin printed, without times"),
        )
}

fn validate_command() -> Command {
    Command::new("validate")
        .about("Explain which files would run and how, and every mistake; runs nothing")
        .arg(
            Arg::new("path")
                .required(true)
                .num_args(1..)
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("Plugin files and folders"),
        )
        .arg(extra_config().help("Hold these keys against the rules in the manifests"))
        .arg(role().help("As beside a process of this role [default: as in the server, which has none]"))
        .arg(worker_id())
        .args(rig::server_flags())
}

fn new() -> Command {
    Command::new("new")
        .about("Write a plugin to start from, with its manifest")
        .arg(
            Arg::new("lang")
                .long("lang")
                .required(true)
                .value_name("python|bash")
                .value_parser(["python", "bash"])
                .help("The language"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Where [default: the current folder]"),
        )
        .arg(
            Arg::new("helper")
                .long("helper")
                .action(ArgAction::SetTrue)
                .help("Also write `_plugin.py`, which the Python examples share"),
        )
        .arg(Arg::new("name").required(true).value_name("NAME").help("The file's name without its extension"))
}

fn run_command() -> Command {
    Command::new("run")
        .about("Run one plugin in the foreground as a server would, with a server's configuration")
        .arg(file().help("The plugin"))
        .arg(extra_config())
        .arg(role())
        .arg(worker_id())
        .args(rig::server_flags())
        .arg(
            Arg::new("events")
                .long("events")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Send it these events, one JSON object a line as in `/events`"),
        )
        .arg(
            Arg::new("event-interval-ms")
                .long("event-interval-ms")
                .value_name("INT")
                .value_parser(value_parser!(u64))
                .default_value("1000")
                .help("Pause between two events"),
        )
}

fn test() -> Command {
    Command::new("test")
        .about("Put a plugin through drills and print a report: start, output, stop, bad configuration, killed server")
        .arg(file().help("The plugin"))
        .arg(extra_config())
        .arg(role())
        .arg(worker_id())
        .args(rig::server_flags())
        .arg(
            Arg::new("seconds")
                .long("seconds")
                .value_name("INT")
                .value_parser(value_parser!(u64).range(1..=600))
                .default_value("3")
                .help("How long it is watched in each drill"),
        )
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("DRILL")
                .value_parser(drills::NAMES)
                .action(ArgAction::Append)
                .value_delimiter(',')
                .help("Only this drill; may be repeated"),
        )
        .arg(
            Arg::new("report")
                .long("report")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Also write the results to a file: JUnit's XML if it ends in `.xml`, else JSON"),
        )
}

fn extra_config() -> Arg {
    Arg::new("extra-config")
        .long("extra-config")
        .value_name("JSON")
        .help("As `--runtime-plugin-config` of the server")
}

fn host_command() -> Command {
    Command::new("host")
        .about("Run plugins beside another process, for engines that embed LMCache")
        .override_usage("larder plugin host --role ROLE [OPTIONS] (--pid PID | -- COMMAND...)")
        .arg(role().required(true))
        .arg(worker_id())
        .arg(
            Arg::new("worker-count")
                .long("worker-count")
                .value_name("INT")
                .value_parser(value_parser!(u32))
                .default_value("1")
                .help("How many workers there are"),
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The engine's LMCache configuration, YAML or JSON [default: LMCACHE_CONFIG_FILE]"),
        )
        .arg(
            Arg::new("location")
                .long("location")
                .action(ArgAction::Append)
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("A plugin file or folder; may be repeated, and replaces the configuration's list"),
        )
        .arg(
            Arg::new("pid")
                .long("pid")
                .value_name("PID")
                .value_parser(value_parser!(i32).range(1..))
                .conflicts_with("command")
                .help("Accompany this process"),
        )
        .arg(
            Arg::new("command")
                .num_args(1..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .required_unless_present("pid")
                .value_name("COMMAND")
                .value_parser(value_parser!(std::ffi::OsString))
                .help("Start this and accompany it; its exit code is passed on"),
        )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_is_well_formed() {
        super::command().debug_assert();
    }
}
