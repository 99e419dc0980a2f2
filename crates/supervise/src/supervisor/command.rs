//! What can be asked for one plugin: that it starts, stops, or starts anew.

use super::state::Supervisor;
use super::status::PluginStatus;
use crate::error::SuperviseError;
use crate::lifecycle::{Event, Phase};
use crate::os::Spawner;
use crate::plugin::Published;

impl<S: Spawner> Supervisor<S> {
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
}

/// Whether a command has had its effect.
fn is_settled(status: &Published) -> bool {
    !matches!(status.lifecycle.phase(), Phase::Launching { .. } | Phase::Stopping { .. })
}
