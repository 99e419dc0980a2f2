//! The subcommands that speak to a running server.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::ArgMatches;
use jiff::Timestamp;
use larder_admin_api::path;
use larder_admin_api::plugins::{LogLine, LogPage, Plugin, PluginList, Stream};
use larder_admin_api::streams::Gap;
use serde::de::DeserializeOwned;
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
        "ls" => answer(client, path::PLUGINS, wants_json(), render::list),
        "audit" => answer(client, &format!("{}/audit", path::PLUGINS), wants_json(), render::audit),
        "reload" => {
            print(&render::reload(&client.post(&format!("{}/reload", path::PLUGINS))?));
            Ok(ExitCode::SUCCESS)
        }
        "show" => {
            let show = if matches.get_flag("env") { render::show_with_environment } else { render::show };
            answer(client, &route(client, name())?, wants_json(), show)
        }
        "logs" => show_logs(client, &route(client, name())?, matches),
        action => command(client, &format!("{}/{action}", route(client, name())?)),
    }
}

fn show_logs(client: &Client, route: &str, matches: &ArgMatches) -> Result<ExitCode, ClientError> {
    let lines = matches.get_one("lines").copied().unwrap_or(LINES_DEFAULT);
    let style = if matches.get_flag("raw") { Style::Raw } else { Style::Timed };
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

fn command(client: &Client, route: &str) -> Result<ExitCode, ClientError> {
    let after: Plugin = client.post(route)?;
    print(&format!("{}: {}\n", after.name, render::state(&after)));
    if let Some(error) = &after.last_error {
        eprintln!("error: {error}");
    }
    if after.state == render::FAILED {
        eprintln!("{}", render::after_a_failure(&after));
        return Ok(ExitCode::from(exit::FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

/// The plugin's own route: the server knows how to write its name.
fn route(client: &Client, name: &str) -> Result<String, ClientError> {
    let PluginList { plugins, .. } = client.get(path::PLUGINS)?;
    let named = plugins.iter().find(|plugin| plugin.name == name);
    if let Some(plugin) = named.or_else(|| plugins.iter().find(|plugin| plugin.path == name)) {
        return Ok(plugin.url.clone());
    }
    let known: Vec<_> = plugins.iter().map(|plugin| format!("`{}`", plugin.name)).collect();
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
    let LogPage { lines, .. } = client.get(path)?;
    // Until nobody reads.
    _ = lines.iter().all(|line| print_line(line, style));
    Ok(ExitCode::SUCCESS)
}

fn follow(client: &Client, path: &str, style: Style) -> Result<ExitCode, ClientError> {
    client.events(path, |name, data| {
        if name == "gap" {
            let missing = serde_json::from_str(data).map_or(0, |gap: Gap| gap.lines);
            eprintln!("({missing} lines not shown)");
            return true;
        }
        // Other kinds of events are not for here.
        let line = serde_json::from_str(data).ok().filter(|_| name == "line");
        line.is_none_or(|line| print_line(&line, style))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Whether somebody still reads.
fn print_line(line: &LogLine, style: Style) -> bool {
    let LogLine { time, stream, text, .. } = line;
    let text = match (style, stream) {
        (Style::Raw, Stream::Lifecycle) => return true,
        (Style::Raw, _) => text.to_owned(),
        (Style::Timed, Stream::Lifecycle) => format!("{time} -- {text}"),
        (Style::Timed, _) => format!("{time} {text}"),
    };
    let written = match stream {
        Stream::Stderr => writeln!(io::stderr(), "{text}"),
        Stream::Stdout | Stream::Lifecycle => writeln!(io::stdout(), "{text}"),
    };
    written.is_ok()
}

fn answer<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    as_json: bool,
    render: fn(&T) -> String,
) -> Result<ExitCode, ClientError> {
    let text = match as_json {
        true => format!("{:#}\n", client.get::<Value>(path)?),
        false => render(&client.get(path)?),
    };
    print(&text);
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) {
    // Nothing can be done when nobody reads.
    _ = io::stdout().write_all(text.as_bytes());
}
