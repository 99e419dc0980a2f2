//! Runs plugins beside the process until it ends.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use larder_supervise::{Supervisor, SupervisorConfig};

use super::companion::{Companion, CompanionError, Signals};
use crate::exit;
use crate::plugin::foreground::{block_on, log};
use crate::plugin::host_config::{FILE_VARIABLE, HostConfig};
use crate::plugin::rig;

/// Runs plugins until the process ends; its exit code is passed on.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    match prepare_and_run(matches) {
        Ok(code) => ExitCode::from(code),
        Err(Failure(code, text)) => {
            eprintln!("error: {text}");
            ExitCode::from(code)
        }
    }
}

/// An exit code and what to say.
struct Failure(u8, String);

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(exit::FAILED, text)
    }
}

impl From<CompanionError> for Failure {
    fn from(error: CompanionError) -> Self {
        Self(error.exit_code(), error.to_string())
    }
}

fn prepare_and_run(matches: &ArgMatches) -> Result<u8, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let file =
        matches.get_one::<PathBuf>("config").cloned().or_else(|| variable(FILE_VARIABLE).map(PathBuf::from));
    let config = HostConfig::load(file.as_deref(), variable).map_err(|error| error.to_string())?;
    let locations = match matches.get_many::<PathBuf>("location") {
        Some(named) => named.cloned().collect(),
        None => config.locations,
    };
    let mut settings = SupervisorConfig::new(locations, config.json);
    settings.host = rig::host(matches);
    settings.worker_count = matches.get_one("worker-count").copied().unwrap_or(1);
    settings.extra_config = config.extra_config;
    let _log = log()?;
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    block_on(accompany(matches, settings))?
}

async fn accompany(matches: &ArgMatches, settings: SupervisorConfig) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let mut companion = Companion::from_matches(matches)?;
    let mut starting = std::pin::pin!(start(settings));
    // Outer: whether it has been started; inner: whether there is one.
    let mut supervisor: Option<Option<Supervisor>> = None;
    let code = loop {
        tokio::select! {
            started = &mut starting, if supervisor.is_none() => supervisor = Some(started),
            code = companion.ended() => break code,
            signal = signals.next() => {
                if let Some(code) = companion.pass_on(signal) {
                    break code;
                }
            }
            () = watch(supervisor.as_ref().and_then(Option::as_ref)) => {}
        }
    };
    if let Some(supervisor) = supervisor.flatten() {
        supervisor.stop().await;
    }
    Ok(code)
}

/// An engine goes on without plugins rather than not at all.
async fn start(settings: SupervisorConfig) -> Option<Supervisor> {
    if settings.locations.is_empty() {
        tracing::warn!("no plugin locations are configured");
        return None;
    }
    let started = Supervisor::start(settings).await;
    started.inspect_err(|error| tracing::error!("plugins were not started: {error}")).ok()
}

/// Follows changes in the locations. Never returns.
async fn watch(supervisor: Option<&Supervisor>) {
    if let Some(supervisor) = supervisor {
        supervisor.watch(|_| ()).await;
    }
    std::future::pending().await
}
