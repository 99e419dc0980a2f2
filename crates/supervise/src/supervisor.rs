//! All plugins of one server: found, started, watched, stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::config::SupervisorConfig;
use crate::discovery::{self, Discovery, Skipped};
use crate::environment::{self, Briefing};
use crate::error::SuperviseError;
use crate::journal::{Journal, LogLine};
use crate::launch::Shared;
use crate::lifecycle::{Event, Lifecycle, Phase};
use crate::manifest::Manifest;
use crate::os::GuardianSpawner;
use crate::plugin::{Plugin, Published};
use crate::scratch::Scratch;
use crate::spawner::Spawner;
use crate::start_order;
use crate::status::{PluginStatus, StopReport};
use crate::text::shown;

/// Commands to one plugin that can wait to be taken.
const COMMANDS_MAX: usize = 16;

/// Runs the plugins of one server. Dropping it ends them all, without grace; [`Supervisor::stop`] is the way to end them.
#[derive(Debug)]
pub struct Supervisor<S: Spawner = GuardianSpawner> {
    shared: Arc<Shared<S>>,
    plugins: Vec<Handle>,
    skipped: Vec<Skipped>,
    /// Removed with the supervisor.
    _scratch: Scratch,
}

/// The supervisor's end of one plugin's task.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) name: String,
    path: PathBuf,
    pub(crate) enabled: bool,
    pub(crate) after: Vec<String>,
    pub(crate) commands: mpsc::Sender<Event>,
    pub(crate) status: watch::Receiver<Published>,
    journal: Arc<Journal>,
}

impl Supervisor {
    /// Finds the plugins and starts them; returns without waiting for them. Must be called inside a tokio runtime with time
    /// and I/O, which must go on running for plugins to be supervised.
    ///
    /// A plugin that cannot be started is no error here: it is logged and visible in [`Supervisor::snapshot`].
    pub fn start(config: SupervisorConfig) -> Result<Self, SuperviseError> {
        let (command, sole_parent) = (config.guardian.clone(), config.sole_parent);
        Self::start_with(config, |scratch| GuardianSpawner::new(command, scratch, sole_parent))
    }

    /// Process id of the guardian, once a plugin has been started.
    pub fn guardian_pid(&self) -> Option<u32> {
        self.shared.spawner.guardian_pid()
    }
}

impl<S: Spawner> Supervisor<S> {
    /// As [`Supervisor::start`], on a spawner made from the path of the private directory.
    pub fn start_with(
        config: SupervisorConfig,
        spawner: impl FnOnce(PathBuf) -> S,
    ) -> Result<Self, SuperviseError> {
        let Discovery { plugins, skipped } =
            discovery::discover(&config.locations, &config.host, &config.interpreters);
        for Skipped { path, reason } in &skipped {
            match reason {
                discovery::SkipReason::Missing => {
                    tracing::warn!(target: "larder_supervise", "Runtime plugin location {path} does not exist");
                }
                reason if reason.is_notable() => {
                    tracing::info!(target: "larder_supervise", "Skipping {path}: {reason}");
                }
                reason => tracing::debug!(target: "larder_supervise", "Skipping {path}: {reason}"),
            }
        }
        let scratch = Scratch::create(&config.runtime_dir)?;
        let config_file = scratch.write("config.json", &config.config)?;
        let environment = environment::build(
            config.environment,
            Briefing {
                host: &config.host,
                worker_count: config.worker_count,
                config: &config.config,
                extra_config: config.extra_config.as_deref(),
                config_file: &config_file,
            },
        );
        let shared = Arc::new(Shared {
            spawner: spawner(scratch.path().to_path_buf()),
            environment,
            interpreters: config.interpreters,
            bare: Manifest::bare(config.policy, config.output),
            scratch: scratch.path().to_path_buf(),
            epoch: Instant::now(),
            launches: AtomicU64::new(1),
        });
        let mut supervisor = Self { shared, plugins: Vec::new(), skipped, _scratch: scratch };
        for path in plugins {
            supervisor.add(path);
        }
        start_order::begin(&supervisor.plugins);
        Ok(supervisor)
    }

    fn add(&mut self, path: PathBuf) {
        let name = self.free_name(&path);
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let seed = (self.plugins.len() as u64) ^ u64::from(std::process::id()) << 32;
        // A mistake in it is found again, and told, by the first launch.
        let manifest = Manifest::load(&path, &self.shared.bare).unwrap_or_else(|_| self.shared.bare.clone());
        let (sender, status) = watch::channel(Published::new(Lifecycle::new(manifest.policy.clone(), seed)));
        let journal = Arc::new(Journal::default());
        let plugin =
            Plugin::new(path.clone(), self.shared.clone(), manifest.clone(), journal.clone(), inbox, sender);
        tokio::spawn(plugin.supervise());
        self.plugins.push(Handle {
            name,
            path,
            enabled: manifest.enabled,
            after: manifest.after,
            commands,
            status,
            journal,
        });
    }

    /// The stem, the file name or the whole path: the shortest that is still free.
    fn free_name(&self, path: &std::path::Path) -> String {
        let stem = path.file_stem().map(|s| shown(s.as_ref()));
        let file = path.file_name().map(|s| shown(s.as_ref()));
        let taken = |name: &String| self.plugins.iter().any(|p| p.name == *name);
        [stem, file].into_iter().flatten().find(|name| !taken(name)).unwrap_or_else(|| shown(path))
    }

    /// All plugins, in start order.
    pub fn snapshot(&self) -> Vec<PluginStatus> {
        self.plugins.iter().map(|p| self.status_of(p)).collect()
    }

    /// What was found and not run, with reasons.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The newest `count` lines that a plugin printed.
    pub fn tail(&self, name: &str, count: usize) -> Result<Vec<LogLine>, SuperviseError> {
        Ok(self.find(name)?.journal.tail(count))
    }

    /// Starts a plugin that is at rest; clears a crash-loop latch. Returns once it runs or has failed to.
    pub async fn start_plugin(&self, name: &str) -> Result<PluginStatus, SuperviseError> {
        self.command(name, Event::Start).await
    }

    /// Ends a plugin until it is started again. Returns once nothing of it is left.
    pub async fn stop_plugin(&self, name: &str) -> Result<PluginStatus, SuperviseError> {
        self.command(name, Event::Stop).await
    }

    /// Ends a plugin and starts it again. Returns once it runs or has failed to.
    pub async fn restart(&self, name: &str) -> Result<PluginStatus, SuperviseError> {
        self.command(name, Event::Restart).await
    }

    /// Ends a plugin and keeps it from being started by anything but [`Supervisor::enable`].
    pub async fn disable(&self, name: &str) -> Result<PluginStatus, SuperviseError> {
        self.command(name, Event::Disable).await
    }

    /// Lets a disabled plugin run again, and starts it.
    pub async fn enable(&self, name: &str) -> Result<PluginStatus, SuperviseError> {
        self.command(name, Event::Enable).await
    }

    /// Ends all plugins within `budget` and leaves nothing behind: asks, waits as long as each policy and the budget allow, then kills.
    /// What others start after ends after them.
    pub async fn stop(self, budget: Duration) -> StopReport {
        let deadline = Instant::now() + budget;
        let mut report = StopReport::default();
        for wave in start_order::waves(&self.plugins).iter().rev() {
            self.stop_wave(wave, deadline, &mut report).await;
        }
        if !self.shared.spawner.close().await {
            report.remaining = report.killed.clone();
        }
        report
    }

    async fn stop_wave(&self, wave: &[usize], deadline: Instant, report: &mut StopReport) {
        let mut running = Vec::new();
        for plugin in wave.iter().filter_map(|index| self.plugins.get(*index)) {
            let before = plugin.status.borrow().clone();
            if plugin.commands.send(Event::Stop).await.is_ok() && !before.at_rest() {
                running.push((plugin, before));
            }
        }
        for (plugin, before) in running {
            let mut status = plugin.status.clone();
            let over = status.wait_for(|s| s.commands > before.commands && s.at_rest());
            let ended = timeout_at(deadline, over).await.is_ok_and(|s| s.is_ok());
            let name = plugin.name.clone();
            if !ended || plugin.status.borrow().kills > before.kills {
                report.killed.push(name.clone());
            }
            report.stopped.push(name);
        }
    }

    async fn command(&self, name: &str, event: Event) -> Result<PluginStatus, SuperviseError> {
        let plugin = self.find(name)?;
        let mut status = plugin.status.clone();
        let taken = status.borrow().commands;
        plugin.commands.send(event).await.map_err(|_| SuperviseError::Stopped)?;
        status.wait_for(|s| s.commands > taken && settled(s)).await.map_err(|_| SuperviseError::Stopped)?;
        Ok(self.status_of(plugin))
    }

    fn find(&self, name: &str) -> Result<&Handle, SuperviseError> {
        self.plugins.iter().find(|p| p.name == name).ok_or_else(|| SuperviseError::Unknown(name.to_owned()))
    }

    fn status_of(&self, plugin: &Handle) -> PluginStatus {
        let published = plugin.status.borrow().clone();
        let lifecycle = &published.lifecycle;
        let due_in = lifecycle.deadline().map(|at| at.saturating_sub(self.shared.now()));
        PluginStatus {
            name: plugin.name.clone(),
            path: shown(&plugin.path),
            phase: lifecycle.phase(),
            pid: published.pid,
            interpreter: published.interpreter,
            starts: lifecycle.starts(),
            last_exit: lifecycle.last_exit(),
            last_error: published.last_error,
            status_text: published.status_text,
            lingering: lifecycle.occupied() && published.pid.is_none(),
            kills: published.kills,
            due_in_ms: due_in.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            lines: plugin.journal.counts(),
        }
    }
}

/// Whether a command has had its effect.
fn settled(status: &Published) -> bool {
    !matches!(status.lifecycle.phase(), Phase::Launching { .. } | Phase::Stopping { .. })
}
