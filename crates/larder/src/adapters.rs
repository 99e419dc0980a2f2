//! `larder adapters`: the storage tiers of a running server.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use larder_admin_api::adapters::{Adapter, AdapterList, AttachRequest, Detached};
use larder_admin_api::path;
use serde_json::Value;

use crate::client::{Client, ClientError, url, url_arg};
use crate::exit;
use crate::plugin::table;

/// All subcommands.
pub(crate) fn command() -> Command {
    let adapter =
        || Arg::new("adapter").required(true).value_name("ADAPTER").help("Its id, or its place in the list");
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the server's answer");
    let to_one = |word: &'static str, about: &'static str| {
        Command::new(word).about(about).arg(url_arg()).arg(adapter())
    };
    Command::new("adapters")
        .about("See and change the storage tiers of a running server")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(Command::new("ls").about("List them, the preferred one first").arg(url_arg()).arg(json))
        .subcommand(
            Command::new("attach")
                .about("Add one")
                .arg(url_arg())
                .arg(
                    Arg::new("config")
                        .required(true)
                        .value_name("JSON")
                        .help("Its configuration, as for `larder server --l2-adapter`"),
                )
                .arg(
                    Arg::new("index")
                        .long("index")
                        .value_name("PLACE")
                        .value_parser(value_parser!(usize))
                        .help("Its place in the list [default: the last]"),
                ),
        )
        .subcommand(
            to_one("detach", "Take one away when what uses it is done").arg(
                Arg::new("timeout")
                    .long("timeout")
                    .value_name("SECONDS")
                    .value_parser(value_parser!(f64))
                    .help("Longest wait for that [default: 30]"),
            ),
        )
        .subcommand(to_one("pause", "Keep new work from one"))
        .subcommand(to_one("resume", "Let one have new work again"))
        .subcommand(to_one("reset", "Close the circuit breaker of one, so that it is tried again at once"))
}

/// Carries out what was asked for.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let Some((word, matches)) = matches.subcommand() else { return ExitCode::from(exit::USAGE) };
    match Client::new(&url(matches)).and_then(|client| perform(&client, word, matches)) {
        Ok(text) => {
            // Nothing can be done when nobody reads.
            _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

fn perform(client: &Client, word: &str, matches: &ArgMatches) -> Result<String, ClientError> {
    let adapter = || {
        let name = matches.get_one::<String>("adapter").map_or("", String::as_str);
        format!("{}/{}", path::ADAPTERS, path::segment(name))
    };
    let to_one = |action: &str| client.post::<Adapter>(&format!("{}/{action}", adapter()));
    match word {
        "ls" if matches.get_flag("json") => Ok(format!("{:#}\n", client.get::<Value>(path::ADAPTERS)?)),
        "ls" => Ok(list(&client.get(path::ADAPTERS)?)),
        "attach" => {
            let config = matches.get_one::<String>("config").map_or("", String::as_str);
            let config = serde_json::from_str(config)
                .map_err(|error| ClientError::Refused(format!("invalid JSON: {error}")))?;
            let body = AttachRequest { config, index: matches.get_one("index").copied() };
            Ok(state(&client.send("POST", path::ADAPTERS, Some(&body))?))
        }
        "detach" => {
            let wait = matches.get_one::<f64>("timeout");
            let query = wait.map(|seconds| format!("?timeout_seconds={seconds}")).unwrap_or_default();
            let detached: Detached = client.send("DELETE", &format!("{}{query}", adapter()), None::<&()>)?;
            let left = match detached.drained {
                true => String::new(),
                false => format!(", {} stores and loads cut short", detached.in_use_by),
            };
            Ok(format!("{}: detached{left}\n", detached.id))
        }
        "pause" | "resume" => Ok(state(&to_one(word)?)),
        _ => Ok(state(&to_one("breaker/reset")?)),
    }
}

/// A table of a server's adapters.
pub(crate) fn list(answer: &AdapterList) -> String {
    if answer.adapters.is_empty() {
        return "no adapters\n".to_owned();
    }
    let mut rows =
        vec![["ID", "TYPE", "PHASE", "STATE", "BREAKER", "IN USE BY", "REASON"].map(str::to_owned).to_vec()];
    rows.extend(answer.adapters.iter().map(|adapter| {
        vec![
            adapter.id.clone(),
            adapter.type_name.to_string(),
            adapter.phase.to_string(),
            adapter.state.to_string(),
            adapter.breaker.as_ref().map_or("-", |breaker| &*breaker.state).to_owned(),
            adapter.in_use_by.to_string(),
            reason(adapter).unwrap_or("-").to_owned(),
        ]
    }));
    table(&rows)
}

fn state(adapter: &Adapter) -> String {
    let reason = reason(adapter).map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{}: {}, {}{reason}\n", adapter.id, adapter.phase, adapter.state)
}

/// The first line of why it does not do well.
fn reason(adapter: &Adapter) -> Option<&str> {
    adapter.reason.as_deref().map(|reason| reason.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use larder_admin_api::adapters::Breaker;

    use super::*;

    #[test]
    fn a_list_has_a_row_for_each() {
        let adapter = Adapter {
            id: "fs-0".into(),
            type_name: "fs".into(),
            phase: "active".into(),
            state: "unavailable".into(),
            in_use_by: 2,
            breaker: Some(Breaker { state: "open".into(), openings: 1 }),
            reason: Some("circuit is open\nand more".into()),
            ..Adapter::default()
        };
        let text = list(&AdapterList { adapters: vec![adapter] });
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
            .collect();
        assert_eq!(rows[1], ["fs-0", "fs", "active", "unavailable", "open", "2", "circuit is open"]);
        assert_eq!(list(&AdapterList::default()), "no adapters\n");
    }
}
