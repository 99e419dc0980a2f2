//! All plugins of one server: found, started, watched, stopped.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::roster::{Handle, Roster};
use super::status::PluginStatus;
use super::watched::Watched;
use crate::config::SupervisorConfig;
use crate::contract::{ConfigPublisher, Surroundings, environment};
use crate::discover::{Host, Location, Progress, Skipped};
use crate::error::SuperviseError;
use crate::events::EventLog;
use crate::lifecycle::{Event, Phase};
use crate::lock::lock;
use crate::manifest::{EffectiveManifest, Manifest};
use crate::metrics::{Merged, Offer, Usage, exposition, folder, usage};
use crate::os::{Cgroups, GuardianSpawner, Scratch, Spawner, Watcher, scratch};
use crate::output::{LogLine, Shares};
use crate::plugin::{Published, Shared};
use crate::text::shown;

/// Runs the plugins of one server. [`Supervisor::stop`] is the way to end them; dropping the supervisor asks
/// them to stop and waits for nothing.
#[derive(Debug)]
pub struct Supervisor<S: Spawner = GuardianSpawner> {
    pub(super) shared: Arc<Shared<S>>,
    pub(super) locations: Vec<Arc<Location>>,
    pub(super) host: Host,
    pub(super) roster: Mutex<Roster>,
    /// Set once the locations are followed.
    pub(super) watcher: OnceLock<Arc<Watcher>>,
    pub(super) watched: Mutex<Watched>,
    /// One look at the locations at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Whether it stops or has stopped.
    pub(super) stopping: watch::Sender<bool>,
    /// The most time that a stop waits for plugins.
    pub(super) stop_budget: Duration,
    /// Removed with the supervisor.
    pub(super) _scratch: Arc<Scratch>,
}

impl Supervisor {
    /// Finds the plugins and starts them; returns without waiting for them. Must be called inside a tokio
    /// runtime with time and I/O, which must go on running for plugins to be supervised. A location that does
    /// not answer is waited for some seconds, and followed later.
    ///
    /// A plugin that cannot be started is no error here: it is logged and visible in
    /// [`Supervisor::snapshot`].
    ///
    /// # Errors
    /// [`SuperviseError::RuntimeDir`].
    pub async fn start(config: SupervisorConfig) -> Result<Self, SuperviseError> {
        let (command, sole_parent) = (config.guardian.clone(), config.sole_parent);
        Self::start_with(config, |scratch| GuardianSpawner::new(command, scratch, sole_parent)).await
    }

    /// Process id of the guardian, once a plugin has been started.
    pub fn guardian_pid(&self) -> Option<u32> {
        self.shared.spawner.guardian_pid()
    }
}

impl<S: Spawner> Supervisor<S> {
    /// As [`Supervisor::start`], on a spawner made from the path of the private directory.
    ///
    /// # Errors
    /// As for [`Supervisor::start`].
    pub async fn start_with(
        config: SupervisorConfig,
        spawner: impl FnOnce(PathBuf) -> S,
    ) -> Result<Self, SuperviseError> {
        let scratch = Scratch::create_in(&scratch::places(&config.runtime_dir))?;
        if !scratch.path().starts_with(&config.runtime_dir) {
            tracing::warn!(target: "larder_supervise", "`{}` cannot hold the plugins' private directory, using `{}`",
                shown(&config.runtime_dir), shown(scratch.path()));
        }
        mention_withheld(&config);
        let scratch = Arc::new(scratch);
        let around = Surroundings {
            host: config.host.clone(),
            server_pid: std::process::id(),
            worker_count: config.worker_count,
            inherited: config.environment,
        };
        let publisher = ConfigPublisher::new(around, config.redact_secrets, Arc::clone(&scratch));
        publisher.change(&config.config, config.extra_config.as_deref())?;
        let shared = Arc::new(Shared {
            spawner: spawner(scratch.path().to_path_buf()),
            config: publisher,
            interpreters: config.interpreters,
            bare: config.defaults,
            log: config.events,
            epoch: Instant::now(),
            launches: AtomicU64::new(1),
            cgroups: Cgroups::new(config.cgroup_root),
            redact_secrets: config.redact_secrets,
            writable_by_others: config.writable_by_others,
            control: config.control,
            shares: Shares::default(),
            local_time: config.local_time,
        });
        let supervisor = Self {
            shared,
            locations: config.locations.into_iter().map(|path| Arc::new(Location::new(path))).collect(),
            host: config.host,
            roster: Mutex::default(),
            watcher: OnceLock::new(),
            watched: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            stopping: watch::Sender::new(false),
            stop_budget: config.stop_budget,
            _scratch: scratch,
        };
        supervisor.reload().await;
        Ok(supervisor)
    }

    /// Another configuration, for plugins that start from now on, and in the file of those that run; those
    /// whose manifests say so are restarted. Writes files.
    ///
    /// # Errors
    /// [`SuperviseError::RuntimeDir`].
    pub fn configure(&self, config: &str, extra_config: Option<&str>) -> Result<(), SuperviseError> {
        self.shared.config.change(config, extra_config)?;
        for plugin in &self.roster().plugins {
            // A plugin with so many commands waiting is restarted in any case.
            _ = plugin.commands.try_send(Event::Configured);
        }
        Ok(())
    }

    /// All plugins, in start order.
    pub fn snapshot(&self) -> Vec<PluginStatus> {
        let plugins = self.roster().plugins.clone();
        plugins.iter().map(|p| self.status_of(p)).collect()
    }

    /// What each running plugin uses, by name. Reads the process table.
    pub fn usage(&self) -> Vec<(String, Usage)> {
        let plugins = self.roster().plugins.clone();
        let running: Vec<_> =
            plugins.iter().filter_map(|p| Some((p.name.clone(), p.status.borrow().pid?))).collect();
        let leaders: Vec<_> = running.iter().map(|(_, pid)| *pid).collect();
        let all = usage(&leaders);
        running.into_iter().map(|(name, pid)| (name, all.get(&pid).copied().unwrap_or_default())).collect()
    }

    /// The metrics that plugins offer, under `plugin="<name>"`. Names beginning with one of `reserved` are
    /// refused. Reads files.
    pub fn plugin_metrics(&self, reserved: &[&str]) -> Merged {
        let plugins = self.roster().plugins.clone();
        let scratches = self.shared.config.scratches();
        let offer = |plugin: Arc<Handle>| {
            let mut offer = Offer { plugin: plugin.name.clone(), ..Offer::default() };
            for scratch in &scratches {
                let (text, left_out) = folder::read(&folder::folder(scratch.path(), &plugin.name));
                offer.text.push_str(&text);
                offer.left_out += left_out;
            }
            offer.text.push_str(&plugin.records.latest_metrics.text());
            offer
        };
        exposition::merge(plugins.into_iter().map(offer), reserved)
    }

    /// What a plugin would be started with now. Reads the manifest.
    ///
    /// # Errors
    /// [`SuperviseError::Unknown`], [`SuperviseError::Unanswering`], [`SuperviseError::Stopped`].
    pub async fn manifest(&self, name: &str) -> Result<EffectiveManifest, SuperviseError> {
        let plugin = self.find(name)?;
        let (path, bare) = (plugin.path.clone(), self.shared.bare.clone());
        let read = move |_: &Progress| {
            let file = Manifest::path_for(&path);
            EffectiveManifest { file: file.exists().then_some(file), manifest: Manifest::load(&path, &bare) }
        };
        plugin.location.ask(read).await
    }

    /// The rules that a plugin's manifest has for its own keys, as a JSON Schema of the extra configuration;
    /// `None` where it has none. Reads the manifest.
    ///
    /// # Errors
    /// As for [`Supervisor::manifest`], and [`SuperviseError::Manifest`].
    pub async fn schema(&self, name: &str) -> Result<Option<Value>, SuperviseError> {
        let manifest = self.manifest(name).await?.manifest?;
        Ok(manifest.config.map(|schema| schema.document(name)))
    }

    /// What was found and not run, with reasons.
    pub fn skipped(&self) -> Vec<Skipped> {
        self.roster().skipped.clone()
    }

    /// The events that plugins can ask for.
    pub fn events(&self) -> EventLog {
        self.shared.log.clone()
    }

    /// The newest `count` lines that a plugin printed.
    ///
    /// # Errors
    /// [`SuperviseError::Unknown`].
    pub fn tail(&self, name: &str, count: usize) -> Result<Vec<LogLine>, SuperviseError> {
        Ok(self.find(name)?.records.journal.tail(count))
    }

    /// The lines that a plugin prints after the one with this number, as soon as there are any. Lines that
    /// have left the journal are skipped; the numbers show it.
    ///
    /// # Errors
    /// [`SuperviseError::Unknown`].
    pub async fn follow(&self, name: &str, after: u64) -> Result<Vec<LogLine>, SuperviseError> {
        let journal = Arc::clone(&self.find(name)?.records.journal);
        Ok(journal.after(after).await)
    }

    /// Starts a plugin that is at rest; clears a crash-loop latch. Returns once it runs or has failed to.
    ///
    /// # Errors
    /// [`SuperviseError::Unknown`], [`SuperviseError::Stopped`].
    pub async fn start_plugin(&self, name: &str) -> Result<PluginStatus, SuperviseError> {
        self.command(name, Event::Start).await
    }

    /// Ends a plugin until it is started again. Returns once nothing of it is left.
    ///
    /// # Errors
    /// [`SuperviseError::Unknown`], [`SuperviseError::Stopped`].
    pub async fn stop_plugin(&self, name: &str) -> Result<PluginStatus, SuperviseError> {
        self.command(name, Event::Stop).await
    }

    /// Ends a plugin and starts it again. Returns once it runs or has failed to.
    ///
    /// # Errors
    /// [`SuperviseError::Unknown`], [`SuperviseError::Stopped`].
    pub async fn restart(&self, name: &str) -> Result<PluginStatus, SuperviseError> {
        self.command(name, Event::Restart).await
    }

    /// Ends a plugin and keeps it from being started by anything but [`Supervisor::enable`].
    ///
    /// # Errors
    /// [`SuperviseError::Unknown`], [`SuperviseError::Stopped`].
    pub async fn disable(&self, name: &str) -> Result<PluginStatus, SuperviseError> {
        self.command(name, Event::Disable).await
    }

    /// Lets a disabled plugin run again, and starts it.
    ///
    /// # Errors
    /// [`SuperviseError::Unknown`], [`SuperviseError::Stopped`].
    pub async fn enable(&self, name: &str) -> Result<PluginStatus, SuperviseError> {
        self.command(name, Event::Enable).await
    }

    async fn command(&self, name: &str, event: Event) -> Result<PluginStatus, SuperviseError> {
        let plugin = self.find(name)?;
        let mut status = plugin.status.clone();
        let number = plugin.commands.send(event).await.ok_or(SuperviseError::Stopped)?;
        let effective = status.wait_for(|s| s.commands >= number && is_settled(s));
        effective.await.map_err(|_| SuperviseError::Stopped)?;
        Ok(self.status_of(&plugin))
    }

    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        lock(&self.roster)
    }

    fn find(&self, name: &str) -> Result<Arc<Handle>, SuperviseError> {
        self.roster().find(name).ok_or_else(|| SuperviseError::Unknown(name.to_owned()))
    }

    fn status_of(&self, plugin: &Handle) -> PluginStatus {
        let published = plugin.status.borrow().clone();
        let lifecycle = &published.lifecycle;
        let past = plugin.records.history.past();
        let due_in = lifecycle.deadline().map(|at| at.saturating_sub(self.shared.now()));
        PluginStatus {
            name: plugin.name.clone(),
            path: shown(&plugin.path),
            phase: lifecycle.phase(),
            since: past.since,
            started: past.started,
            uptime_ms: past.uptime_ms,
            runs: past.runs,
            pid: published.pid,
            interpreter: published.interpreter,
            starts: lifecycle.starts(),
            last_exit: lifecycle.last_exit(),
            last_error: published.last_error,
            status_text: published.status_text,
            lingering: lifecycle.is_occupied() && published.pid.is_none(),
            cgroup: published.cgroup,
            notices: published.notices,
            kills: published.kills,
            due_in_ms: due_in.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            lines: plugin.records.journal.counts(),
            metric_lines: plugin.records.latest_metrics.counts(),
            alert: plugin.records.control.alert(),
            control: plugin.records.control.counts(),
        }
    }
}

fn mention_withheld(config: &SupervisorConfig) {
    let withheld = config.environment.iter().filter(|(name, value)| environment::is_withheld(name, value));
    let mut names: Vec<String> = withheld.map(|(name, _)| format!("`{}`", shown(name.as_ref()))).collect();
    names.sort();
    if !names.is_empty() {
        tracing::info!(target: "larder_supervise",
            "Runtime plugins do not inherit {}, which look like secrets, unless `inherit_secrets` in their manifests names them",
            names.join(", "));
    }
}

/// Whether a command has had its effect.
fn is_settled(status: &Published) -> bool {
    !matches!(status.lifecycle.phase(), Phase::Launching { .. } | Phase::Stopping { .. })
}

#[cfg(test)]
mod tests;
