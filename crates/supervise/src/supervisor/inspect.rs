//! What can be asked of a supervisor. Changes nothing.

use std::sync::Arc;

use serde_json::Value;

use super::roster::Handle;
use super::state::Supervisor;
use super::status::PluginStatus;
use crate::discover::{Progress, Skipped};
use crate::error::SuperviseError;
use crate::manifest::{EffectiveManifest, Manifest};
use crate::metrics::{Usage, folder, usage};
use crate::os::Spawner;
use crate::output::LogLine;
use crate::text::shown;
use larder_telemetry::events::EventLog;
use larder_telemetry::exposition::{self, Merged, Offer};

impl<S: Spawner> Supervisor<S> {
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

    pub(super) fn status_of(&self, plugin: &Handle) -> PluginStatus {
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
