//! `larder adapters`: the storage tiers of a running server.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use crate::client::{Client, ClientError, url, url_arg};
use crate::exit;
use crate::plugin::table;

/// Where a server has them.
pub(crate) const ROUTE: &str = "/config/adapters";

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
                        .value_parser(value_parser!(u64))
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
    let adapter = || matches.get_one::<String>("adapter").map(|name| encoded(name)).unwrap_or_default();
    let to_one = |action: &str| client.send("POST", &format!("{ROUTE}/{}/{action}", adapter()), None);
    match word {
        "ls" => {
            let answer = client.get(ROUTE)?;
            Ok(if matches.get_flag("json") { format!("{answer:#}\n") } else { list(&answer) })
        }
        "attach" => {
            let config = matches.get_one::<String>("config").map_or("", String::as_str);
            let config: Value = serde_json::from_str(config)
                .map_err(|error| ClientError::Refused(format!("invalid JSON: {error}")))?;
            let mut body = json!({ "config": config });
            if let Some(index) = matches.get_one::<u64>("index") {
                body["index"] = (*index).into();
            }
            Ok(state(&client.send("POST", ROUTE, Some(&body))?))
        }
        "detach" => {
            let wait = matches.get_one::<f64>("timeout");
            let query = wait.map(|seconds| format!("?timeout_seconds={seconds}")).unwrap_or_default();
            let answer = client.send("DELETE", &format!("{ROUTE}/{}{query}", adapter()), None)?;
            let left = match answer.get("drained").and_then(Value::as_bool) {
                Some(true) => String::new(),
                _ => format!(
                    ", {} stores and loads cut short",
                    answer.get("in_use_by").unwrap_or(&Value::Null)
                ),
            };
            Ok(format!("{}: detached{left}\n", word_of(&answer, "id")))
        }
        "pause" | "resume" => Ok(state(&to_one(word)?)),
        _ => Ok(state(&to_one("breaker/reset")?)),
    }
}

/// A table of a server's adapters.
pub(crate) fn list(answer: &Value) -> String {
    let adapters = answer.get("adapters").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if adapters.is_empty() {
        return "no adapters\n".to_owned();
    }
    let mut rows =
        vec![["ID", "TYPE", "PHASE", "STATE", "BREAKER", "IN USE BY", "REASON"].map(str::to_owned).to_vec()];
    rows.extend(adapters.iter().map(|adapter| {
        let breaker = adapter.get("breaker").map(|breaker| word_of(breaker, "state")).unwrap_or_default();
        let word = |key| word_of(adapter, key);
        vec![
            word("id"),
            word("type_name"),
            word("phase"),
            word("state"),
            breaker,
            word("in_use_by"),
            word("reason"),
        ]
    }));
    table(&rows)
}

fn state(adapter: &Value) -> String {
    let word = |key| word_of(adapter, key);
    let reason = adapter.get("reason").filter(|reason| !reason.is_null());
    let reason = reason.map(|_| format!(": {}", word("reason"))).unwrap_or_default();
    format!("{}: {}, {}{reason}\n", word("id"), word("phase"), word("state"))
}

/// A value as a person reads it, on one line.
fn word_of(object: &Value, key: &str) -> String {
    match object.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.lines().next().unwrap_or_default().to_owned(),
        Some(other) => other.to_string(),
    }
}

/// An id as part of a path.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_row_for_each() {
        let adapter = json!({
            "id": "fs-0", "type_name": "fs", "phase": "active", "state": "unavailable", "in_use_by": 2,
            "breaker": { "state": "open" }, "reason": "circuit is open\nand more",
        });
        let text = list(&json!({ "adapters": [adapter] }));
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
            .collect();
        assert_eq!(rows[1], ["fs-0", "fs", "active", "unavailable", "open", "2", "circuit is open"]);
        assert_eq!(list(&json!({ "adapters": [] })), "no adapters\n");
    }

    #[test]
    fn a_name_can_not_leave_its_place_in_the_path() {
        assert_eq!(encoded("fs-0"), "fs-0");
        assert_eq!(encoded("../x?y#z é"), "..%2Fx%3Fy%23z%20%C3%A9");
    }
}
