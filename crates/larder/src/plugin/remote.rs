//! The subcommands that speak to a running server.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::ArgMatches;
use jiff::Timestamp;
use serde_json::Value;

use super::render;
use crate::client::{Client, ClientError};
use crate::exit;

/// Lines shown when the caller does not say how many.
const LINES_DEFAULT: usize = 100;

/// Runs `ls`, `show`, `logs`, `reload`, `audit` or a command to one plugin.
pub(super) fn run(word: &str, matches: &ArgMatches, url: &str) -> ExitCode {
    match Client::new(url).and_then(|client| perform(&client, word, matches)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

fn perform(client: &Client, word: &str, matches: &ArgMatches) -> Result<ExitCode, ClientError> {
    let wants_json = || matches.get_flag("json");
    let name = || matches.get_one::<String>("name").map_or("", String::as_str);
    match word {
        "ls" => Ok(answer(&client.get("/plugins")?, wants_json(), render::list)),
        "audit" => Ok(answer(&client.get("/plugins/audit")?, wants_json(), render::audit)),
        "reload" => Ok(answer(&client.post("/plugins/reload")?, false, render::reload)),
        "show" => {
            let plugin = client.get(&route(client, name())?)?;
            let show = if matches.get_flag("env") { render::show_with_environment } else { render::show };
            Ok(answer(&plugin, wants_json(), show))
        }
        "logs" => {
            let lines = matches.get_one("lines").copied().unwrap_or(LINES_DEFAULT);
            let style = if matches.get_flag("raw") { Style::Raw } else { Style::Timed };
            let route = route(client, name())?;
            match matches.get_one::<Timestamp>("since") {
                // As many as there are, unless it is said.
                Some(since) => {
                    let lines = matches.get_one("lines").copied().unwrap_or(usize::MAX);
                    logs(client, &format!("{route}/logs?since={since}&lines={lines}"), style)
                }
                None if matches.get_flag("follow") => {
                    follow(client, &format!("{route}/logs?lines={lines}&follow=1"), style)
                }
                None => logs(client, &format!("{route}/logs?lines={lines}"), style),
            }
        }
        action => {
            let after = client.post(&format!("{}/{action}", route(client, name())?))?;
            print(&format!("{}: {}\n", plain(&after, "name"), render::state(&after)));
            let failed = after.get("state").and_then(Value::as_str) == Some("failed");
            if let Some(error) = after.get("last_error").and_then(Value::as_str) {
                eprintln!("error: {error}");
            }
            if failed {
                eprintln!("{}", render::after_a_failure(&after));
            }
            Ok(if failed { ExitCode::from(exit::FAILED) } else { ExitCode::SUCCESS })
        }
    }
}

/// The plugin's own route: the server knows how to write its name.
fn route(client: &Client, name: &str) -> Result<String, ClientError> {
    let all = client.get("/plugins")?;
    let plugins = all.get("plugins").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let named = |field: &str| plugins.iter().find(|plugin| plain(plugin, field) == name);
    if let Some(plugin) = named("name").or_else(|| named("path")) {
        return Ok(plain(plugin, "url").to_owned());
    }
    let known: Vec<_> = plugins.iter().map(|plugin| format!("`{}`", plain(plugin, "name"))).collect();
    let hint = match known.is_empty() {
        true => "the server runs no plugins".to_owned(),
        false => format!("there are {}", known.join(", ")),
    };
    Err(ClientError::Refused(format!("no plugin named `{}`\nhint: {hint}", name.escape_debug())))
}

/// How lines are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// What the plugin printed, as it is.
    Raw,
    /// With times, and with what became of the plugin.
    Timed,
}

fn logs(client: &Client, path: &str, style: Style) -> Result<ExitCode, ClientError> {
    let answer = client.get(path)?;
    for line in answer.get("lines").and_then(Value::as_array).into_iter().flatten() {
        if !print_line(line, style) {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn follow(client: &Client, path: &str, style: Style) -> Result<ExitCode, ClientError> {
    client.events(path, |name, data| {
        let data: Value = serde_json::from_str(data).unwrap_or_default();
        match name {
            "line" => print_line(&data, style),
            "gap" => {
                eprintln!("({} lines not shown)", data.get("lines").unwrap_or(&Value::Null));
                true
            }
            _ => true,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Whether somebody still reads.
fn print_line(line: &Value, style: Style) -> bool {
    let (stream, text) = (plain(line, "stream"), plain(line, "text"));
    let text = match (style, stream) {
        (Style::Raw, "lifecycle") => return true,
        (Style::Raw, _) => text.to_owned(),
        (Style::Timed, "lifecycle") => format!("{} -- {text}", plain(line, "time")),
        (Style::Timed, _) => format!("{} {text}", plain(line, "time")),
    };
    let written =
        if stream == "stderr" { writeln!(io::stderr(), "{text}") } else { writeln!(io::stdout(), "{text}") };
    written.is_ok()
}

fn answer(document: &Value, as_json: bool, render: fn(&Value) -> String) -> ExitCode {
    let text = if as_json { format!("{document:#}\n") } else { render(document) };
    print(&text);
    ExitCode::SUCCESS
}

fn print(text: &str) {
    // Nothing can be done when nobody reads.
    _ = io::stdout().write_all(text.as_bytes());
}

fn plain<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or("")
}
