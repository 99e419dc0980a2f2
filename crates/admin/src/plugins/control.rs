//! The handle through which the admin API reaches the supervisor, and the commands it passes on.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::http::StatusCode;
use larder_supervise::{
    MANIFEST_SUFFIX, PluginStatus, ReloadReport, Skipped, SuperviseError, Supervisor, Usage,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::audit::Audit;
use super::view::state;
use crate::reply::Refusal;
use larder_config::ServerConfig;
use larder_config::json::{Resolved, plugin_config_json, plugin_extra_config_json};

/// Commands under way at once; one more is refused.
const COMMANDS_MAX: usize = 32;
/// Readers that follow a log at once; one more is refused.
const FOLLOWERS_MAX: usize = 32;

/// The plugins as the admin API sees them. Cheap to clone; empty until [`Plugins::attach`].
#[derive(Clone, Debug)]
pub struct Plugins(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    supervisor: OnceLock<Arc<Supervisor>>,
    audit: Mutex<Audit>,
    commands: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

/// What can be asked of one plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Start,
    Stop,
    Restart,
    Enable,
    Disable,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error("this server runs no plugins\nhint: start it with `--runtime-plugin-locations`")]
    NoPlugins,
    #[error("{COMMANDS_MAX} plugin commands are under way already")]
    Busy,
    #[error("{FOLLOWERS_MAX} readers follow plugin logs already")]
    TooManyFollowers,
    #[error(transparent)]
    Supervise(#[from] SuperviseError),
    #[error("the server is stopping")]
    Stopping,
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        let status = match error {
            CommandError::NoPlugins | CommandError::Supervise(SuperviseError::Unknown(_)) => {
                StatusCode::NOT_FOUND
            }
            CommandError::Busy
            | CommandError::TooManyFollowers
            | CommandError::Stopping
            | CommandError::Supervise(SuperviseError::Stopped | SuperviseError::Unanswering(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            CommandError::Supervise(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl Action {
    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Start, Self::Stop, Self::Restart, Self::Enable, Self::Disable]
            .into_iter()
            .find(|action| action.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }

    async fn perform(self, supervisor: &Supervisor, name: &str) -> Result<PluginStatus, SuperviseError> {
        match self {
            Self::Start => supervisor.start_plugin(name).await,
            Self::Stop => supervisor.stop_plugin(name).await,
            Self::Restart => supervisor.restart(name).await,
            Self::Enable => supervisor.enable(name).await,
            Self::Disable => supervisor.disable(name).await,
        }
    }
}

impl Default for Plugins {
    fn default() -> Self {
        Self(Arc::new(Inner {
            supervisor: OnceLock::new(),
            audit: Mutex::default(),
            commands: Arc::new(Semaphore::new(COMMANDS_MAX)),
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
        }))
    }
}

impl Plugins {
    /// Makes the supervisor visible. Only the first one counts.
    pub fn attach(&self, supervisor: Arc<Supervisor>) {
        _ = self.0.supervisor.set(supervisor);
    }

    /// Hands another configuration to the plugins. Writes files.
    pub(crate) fn configure(&self, config: &ServerConfig, resolved: &Resolved) {
        let Some(supervisor) = self.supervisor() else { return };
        let extra = plugin_extra_config_json(config);
        if let Err(error) = supervisor.configure(&plugin_config_json(config, resolved), extra.as_deref()) {
            tracing::error!("plugins start with the configuration of before: {error}");
        }
    }

    /// The supervisor, where plugins are configured and started.
    pub(super) fn supervisor(&self) -> Option<&Arc<Supervisor>> {
        self.0.supervisor.get()
    }

    /// The status of the plugin with this name or path.
    pub(super) fn find(&self, name_or_path: &str) -> Result<PluginStatus, CommandError> {
        let mut all = self.supervisor().ok_or(CommandError::NoPlugins)?.snapshot();
        let index = all
            .iter()
            .position(|plugin| plugin.name == name_or_path)
            .or_else(|| all.iter().position(|plugin| plugin.path == name_or_path))
            .ok_or_else(|| SuperviseError::Unknown(name_or_path.to_owned()))?;
        Ok(all.swap_remove(index))
    }

    /// Files that were found and are not run. Manifests of plugins are where they belong.
    pub(super) fn skipped(&self) -> Vec<Skipped> {
        let Some(supervisor) = self.supervisor() else { return Vec::new() };
        let manifests: HashSet<String> =
            supervisor.snapshot().into_iter().map(|plugin| plugin.path + MANIFEST_SUFFIX).collect();
        let mut skipped = supervisor.skipped();
        skipped.retain(|skip| !manifests.contains(&skip.path));
        skipped
    }

    /// What the running plugins use, by name. Reads the process table away from the control thread.
    pub(super) async fn usage(&self) -> HashMap<String, Usage> {
        let Some(supervisor) = self.supervisor().cloned() else { return HashMap::new() };
        let usage = tokio::task::spawn_blocking(move || supervisor.usage().into_iter().collect());
        usage.await.unwrap_or_default()
    }

    /// Carries out `action`, to its end even if nobody waits for it any more, and records it.
    pub(super) async fn command(
        &self,
        caller: String,
        action: Action,
        name: String,
    ) -> Result<PluginStatus, CommandError> {
        let slot = self.slot(&self.0.commands, CommandError::Busy)?;
        let plugins = self.clone();
        let work = tokio::spawn(async move {
            let _slot = slot;
            let result = plugins.perform(action, &name).await;
            let outcome = result.as_ref().map(|status| state(status.phase).to_owned()).map_err(first_line);
            plugins.audit().record(caller, action.word(), Some(&name), outcome);
            result
        });
        work.await.unwrap_or(Err(CommandError::Stopping))
    }

    async fn perform(&self, action: Action, name: &str) -> Result<PluginStatus, CommandError> {
        let found = self.find(name)?;
        let supervisor = self.supervisor().ok_or(CommandError::NoPlugins)?;
        Ok(action.perform(supervisor, &found.name).await?)
    }

    /// Looks through the locations again, to the end even if nobody waits for it, and records it.
    pub(super) async fn reload(&self, caller: String) -> Result<ReloadReport, CommandError> {
        let slot = self.slot(&self.0.commands, CommandError::Busy)?;
        let supervisor = self.supervisor().cloned().ok_or(CommandError::NoPlugins)?;
        let plugins = self.clone();
        let work = tokio::spawn(async move {
            let _slot = slot;
            let report = supervisor.reload().await;
            let ReloadReport { added, changed, removed } = &report;
            let outcome =
                format!("{} added, {} changed, {} removed", added.len(), changed.len(), removed.len());
            plugins.audit().record(caller, "reload", None, Ok(outcome));
            report
        });
        work.await.map_err(|_| CommandError::Stopping)
    }

    /// Records what changes of files have changed.
    pub(super) fn note_changes(&self, report: &ReloadReport) {
        let ReloadReport { added, changed, removed } = report;
        for (names, outcome) in [(added, "found"), (changed, "changed"), (removed, "gone")] {
            for name in names {
                self.audit().record("file change".into(), "reload", Some(name), Ok(outcome.to_owned()));
            }
        }
    }

    /// A place among those that follow a log, held as long as the permit.
    pub(super) fn follower(&self) -> Result<OwnedSemaphorePermit, CommandError> {
        self.slot(&self.0.followers, CommandError::TooManyFollowers)
    }

    fn slot(&self, slots: &Arc<Semaphore>, full: CommandError) -> Result<OwnedSemaphorePermit, CommandError> {
        Arc::clone(slots).try_acquire_owned().map_err(|_| full)
    }

    /// The audit trail.
    pub(super) fn audit(&self) -> MutexGuard<'_, Audit> {
        self.0.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Entries of the trail stay on their line.
fn first_line(error: &CommandError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_plugins_nothing_can_be_commanded_and_it_is_recorded() {
        let plugins = Plugins::default();
        let refused = plugins.command("127.0.0.1:9".into(), Action::Stop, "x".into()).await;
        assert!(matches!(refused, Err(CommandError::NoPlugins)), "{refused:?}");
        assert_eq!(plugins.audit().total(), 1);
        assert!(plugins.usage().await.is_empty());
    }

    #[tokio::test]
    async fn places_are_limited_and_given_back() {
        let plugins = Plugins::default();
        let mut held: Vec<_> = (0..FOLLOWERS_MAX).map(|_| plugins.follower().unwrap()).collect();
        assert!(matches!(plugins.follower(), Err(CommandError::TooManyFollowers)));
        held.pop();
        assert!(plugins.follower().is_ok());
    }

    #[test]
    fn every_action_has_its_word() {
        for word in ["start", "stop", "restart", "enable", "disable"] {
            assert_eq!(Action::parse(word).map(Action::word), Some(word));
        }
        assert_eq!(Action::parse("kill"), None);
    }
}
