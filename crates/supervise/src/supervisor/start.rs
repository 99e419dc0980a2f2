//! How a supervisor starts, and how it takes another configuration.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::watch;
use tokio::time::Instant;

use super::state::Supervisor;
use crate::config::SupervisorConfig;
use crate::contract::{ConfigPublisher, Surroundings, environment};
use crate::discover::Location;
use crate::error::SuperviseError;
use crate::lifecycle::Event;
use crate::os::{Cgroups, GuardianSpawner, Scratch, Spawner, scratch};
use crate::output::Shares;
use crate::plugin::Shared;
use crate::text::shown;

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
