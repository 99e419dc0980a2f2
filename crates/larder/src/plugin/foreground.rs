//! `larder plugin run`: one plugin as a server runs it, until it ends or is interrupted.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use larder_supervise::{Outcome, Phase, PluginStatus, Supervisor};
use larder_telemetry::{LogConfig, LogFormat, LogGuard, LogLevel, install_log};
use tokio::signal::unix::{SignalKind, signal};

use super::events::{self, Scripted};
use super::rig::{Rig, the_plugin};
use super::watch;
use crate::exit;

/// Runs the plugin; its exit code is passed on.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    match prepare_and_run(matches) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

fn prepare_and_run(matches: &ArgMatches) -> Result<ExitCode, String> {
    let rig = Rig::new(matches)?;
    let script = matches.get_one::<PathBuf>("events").map(|path| events::read(path)).transpose()?;
    let pause = Duration::from_millis(matches.get_one("event-interval-ms").copied().unwrap_or(1000));
    let _log = log()?;
    block_on(accompany(&rig, script.unwrap_or_default(), pause))?
}

/// The log as a server writes it.
pub(super) fn log() -> Result<LogGuard, String> {
    let config = LogConfig { level: LogLevel::Info, format: LogFormat::Text, config_file: None };
    install_log(&config).map_err(|error| error.to_string())
}

/// Runs a supervisor in the foreground. A location that does not answer is not waited for at the end.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("runtime cannot be started: {error}"))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

async fn accompany(rig: &Rig, script: Vec<Scripted>, pause: Duration) -> Result<ExitCode, String> {
    let failed = |error: std::io::Error| format!("signals cannot be handled: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let supervisor = tokio::select! {
        started = Supervisor::start(rig.supervisor_config()) => started.map_err(|error| error.to_string())?,
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
    };
    let name = the_plugin(&supervisor)?.name;
    let begun = async {
        let is_decided =
            |status: &PluginStatus| watch::has_started(status) || status.phase == Phase::Disabled;
        let status = watch::until(&supervisor, is_decided).await?;
        if status.phase == Phase::Disabled {
            tracing::info!("its manifest says `enabled = false`; started all the same");
            // Its failure shows in the status.
            _ = supervisor.enable(&name).await;
        }
        if !script.is_empty() {
            tokio::spawn(events::publish(script, supervisor.events(), pause));
        }
        watch::until(&supervisor, watch::is_over).await
    };
    let ended = tokio::select! {
        status = begun => status,
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    let report = supervisor.stop().await;
    if !report.killed.is_empty() {
        tracing::warn!("it did not end by itself and was killed");
    }
    Ok(ended.map_or(ExitCode::SUCCESS, |status| code(&status)))
}

/// As a shell would say it.
fn code(status: &PluginStatus) -> ExitCode {
    if let Some(error) = &status.last_error {
        eprintln!("error: {error}");
    }
    match status.last_exit {
        Some(Outcome::Code(code)) => ExitCode::from(u8::try_from(code).unwrap_or(exit::FAILED)),
        Some(Outcome::Signal(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(exit::FAILED)),
        _ => ExitCode::from(exit::FAILED),
    }
}
