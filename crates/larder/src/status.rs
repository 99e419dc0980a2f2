//! `larder status`: a running server on one screen.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use larder_admin_api::adapters::AdapterList;
use larder_admin_api::health::Health;
use larder_admin_api::node::{Lookups, Node};
use larder_admin_api::path;
use larder_admin_api::plugins::PluginList;
use larder_server::Size;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

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
    let client = Client::new(&url);
    let shown = match matches.get_flag("json") {
        true => client.and_then(|client| ask(&client)).map(|screen| {
            let screen: Screen<Value, Value, Value> = screen;
            // Plain data.
            (serde_json::to_string_pretty(&screen).unwrap_or_default() + "\n", screen.trouble)
        }),
        false => client.and_then(|client| ask(&client)).map(|screen| (render(&url, &screen), screen.trouble)),
    };
    match shown {
        Ok((text, trouble)) => {
            // Nothing can be done when nobody reads.
            _ = io::stdout().write_all(text.as_bytes());
            if trouble.is_some() { ExitCode::from(exit::FAILED) } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

/// What a server says, read as far as it is needed.
#[derive(Serialize)]
struct Screen<Status, Adapters, Plugins> {
    trouble: Option<String>,
    status: Status,
    adapters: Adapters,
    plugins: Plugins,
}

fn ask<S: DeserializeOwned, A: DeserializeOwned, P: DeserializeOwned>(
    client: &Client,
) -> Result<Screen<S, A, P>, ClientError> {
    let trouble = match client.get::<Health>(path::HEALTHCHECK) {
        Ok(_) => None,
        Err(ClientError::Refused(reason)) => Some(reason),
        Err(error) => return Err(error),
    };
    Ok(Screen {
        trouble,
        status: client.get(path::STATUS)?,
        adapters: client.get(path::ADAPTERS)?,
        plugins: client.get(path::PLUGINS)?,
    })
}

fn render(url: &str, screen: &Screen<Node, AdapterList, PluginList>) -> String {
    let Node { larder, storage_manager, worker_liveness, active_sessions, .. } = &screen.status;
    let l1 = &storage_manager.l1_manager;
    let Lookups { requested_tokens: asked, hit_tokens: found, .. } = larder.lookups;
    let state = match &screen.trouble {
        None => "ready".to_owned(),
        Some(trouble) => format!("NOT READY: {trouble}"),
    };
    let mut text = format!(
        "larder {} at {url}: {state}\n\
         engines  {}; {} registered, {active_sessions} requests in flight\n\
         pool     {} of {} ({}), {} objects, policy {}\n\
         lookups  {asked} tokens asked for, {found} found ({})\n",
        larder.version,
        larder.endpoints.join(" and "),
        worker_liveness.tracked_instances,
        Size(l1.memory_used_bytes),
        Size(l1.memory_total_bytes),
        share(l1.memory_used_bytes, l1.memory_total_bytes),
        l1.total_object_count,
        storage_manager.l1_eviction_controller.eviction_policy,
        share(found, asked),
    );
    for part in [adapters::list(&screen.adapters), plugin::list(&screen.plugins)] {
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
        let mut status = Node { active_sessions: 3, ..Node::default() };
        status.worker_liveness.tracked_instances = 2;
        let l1 = &mut status.storage_manager.l1_manager;
        (l1.memory_used_bytes, l1.memory_total_bytes, l1.total_object_count) = (1 << 20, 4 << 20, 7);
        status.storage_manager.l1_eviction_controller.eviction_policy = "LRU".into();
        status.larder.version = "0.1.0".into();
        status.larder.endpoints = vec!["tcp://127.0.0.1:5555".to_owned()];
        status.larder.lookups = Lookups { total: 1, requested_tokens: 1024, hit_tokens: 512 };
        let screen = Screen {
            trouble: Some("not running: sweeper".to_owned()),
            status,
            adapters: AdapterList::default(),
            plugins: PluginList::default(),
        };
        let text = "larder 0.1.0 at http://h: NOT READY: not running: sweeper\n\
                    engines  tcp://127.0.0.1:5555; 2 registered, 3 requests in flight\n\
                    pool     1 MiB of 4 MiB (25 %), 7 objects, policy LRU\n\
                    lookups  1024 tokens asked for, 512 found (50 %)\n\
                    \nno adapters\n\nno plugins\n";
        assert_eq!(render("http://h", &screen), text);
        assert_eq!(share(0, 0), "-");
    }
}
