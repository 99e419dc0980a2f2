//! `larder status`: a running server on one screen.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use larder_server::Size;
use serde_json::{Value, json};

use crate::client::{Client, ClientError, url, url_arg};
use crate::{adapters, exit, plugin};

/// The command.
pub(crate) fn command() -> Command {
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the server's answers");
    Command::new("status")
        .about("Show a running server: whether it is ready, its memory, hits, tiers and plugins")
        .arg(url_arg())
        .arg(json)
}

/// Prints what is there. It fails if there is no server, or one that does not serve engines.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let url = url(matches);
    match Client::new(&url).and_then(|client| ask(&client)) {
        Ok(answer) => {
            let text = if matches.get_flag("json") { format!("{answer:#}\n") } else { render(&url, &answer) };
            // Nothing can be done when nobody reads.
            _ = io::stdout().write_all(text.as_bytes());
            if answer["trouble"].is_null() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

fn ask(client: &Client) -> Result<Value, ClientError> {
    let trouble = match client.get("/healthcheck") {
        Ok(_) => Value::Null,
        Err(ClientError::Refused(reason)) => reason.into(),
        Err(error) => return Err(error),
    };
    Ok(json!({
        "trouble": trouble,
        "status": client.get("/status")?,
        "adapters": client.get(adapters::ROUTE)?,
        "plugins": client.get("/plugins")?,
    }))
}

fn render(url: &str, answer: &Value) -> String {
    let status = &answer["status"];
    let (larder, l1) = (&status["larder"], &status["storage_manager"]["l1_manager"]);
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let (used, total) = (count(&l1["memory_used_bytes"]), count(&l1["memory_total_bytes"]));
    let (asked, found) =
        (count(&larder["lookups"]["requested_tokens"]), count(&larder["lookups"]["hit_tokens"]));
    let policy =
        status["storage_manager"]["l1_eviction_controller"]["eviction_policy"].as_str().unwrap_or("-");
    let state = match answer["trouble"].as_str() {
        None => "ready".to_owned(),
        Some(trouble) => format!("NOT READY: {trouble}"),
    };
    let endpoints: Vec<&str> =
        larder["endpoints"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut text = format!(
        "larder {} at {url}: {state}\n\
         engines  {}; {} registered, {} requests in flight\n\
         pool     {} of {} ({}), {} objects, policy {policy}\n\
         lookups  {asked} tokens asked for, {found} found ({})\n",
        larder["version"].as_str().unwrap_or("-"),
        endpoints.join(" and "),
        count(&status["worker_liveness"]["tracked_instances"]),
        count(&status["active_sessions"]),
        Size(used),
        Size(total),
        share(used, total),
        count(&l1["total_object_count"]),
        share(found, asked),
    );
    for part in [adapters::list(&answer["adapters"]), plugin::list(&answer["plugins"])] {
        text.push('\n');
        text.push_str(&part);
    }
    text
}

fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        _ => format!("{:.0} %", part as f64 / whole as f64 * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_tells_what_is_there_and_what_is_wrong() {
        let answer = json!({
            "trouble": "not running: sweeper",
            "status": {
                "active_sessions": 3,
                "worker_liveness": { "tracked_instances": 2 },
                "storage_manager": {
                    "l1_manager": { "memory_used_bytes": 1 << 20, "memory_total_bytes": 4 << 20, "total_object_count": 7 },
                    "l1_eviction_controller": { "eviction_policy": "LRU" },
                },
                "larder": {
                    "version": "0.1.0", "endpoints": ["tcp://127.0.0.1:5555"],
                    "lookups": { "requested_tokens": 1024, "hit_tokens": 512 },
                },
            },
            "adapters": { "adapters": [] },
            "plugins": { "plugins": [], "skipped": [] },
        });
        let text = "larder 0.1.0 at http://h: NOT READY: not running: sweeper\n\
                    engines  tcp://127.0.0.1:5555; 2 registered, 3 requests in flight\n\
                    pool     1 MiB of 4 MiB (25 %), 7 objects, policy LRU\n\
                    lookups  1024 tokens asked for, 512 found (50 %)\n\
                    \nno adapters\n\nno plugins\n";
        assert_eq!(render("http://h", &answer), text);
        assert_eq!(share(0, 0), "-");
    }
}
