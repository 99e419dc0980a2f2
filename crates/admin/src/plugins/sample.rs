//! The plugins at the moment of a scrape.

use std::collections::HashMap;
use std::sync::Arc;

use larder_supervise::{PluginStatus, Usage};
use larder_telemetry::exposition::Merged;

use super::control::Plugins;

/// Names that are the server's or the scraper's; a plugin's metric with such a name is left out.
const RESERVED: [&str; 12] = [
    "larder_*",
    "lmcache_mp_*",
    "lmcache:*",
    "vllm:*",
    "target_info*",
    "build_info*",
    "process_*",
    "python_*",
    "scrape_*",
    "up",
    "ALERTS",
    "ALERTS_FOR_STATE",
];

/// The plugins at the moment of a scrape.
#[derive(Debug, Default)]
pub(crate) struct PluginSample {
    /// How they stand.
    pub(crate) all: Vec<PluginStatus>,
    /// What they use, by name.
    pub(crate) usage: HashMap<String, Usage>,
    /// What plugins offer themselves.
    pub(crate) offered: Merged,
    /// Files that are not run.
    pub(crate) skipped: usize,
    /// Commands taken.
    pub(crate) commands: u64,
}

impl Plugins {
    /// Looks at all plugins and what they use.
    pub(crate) async fn sample(&self) -> PluginSample {
        let Some(supervisor) = self.supervisor() else { return PluginSample::default() };
        let reader = Arc::clone(supervisor);
        let read = tokio::task::spawn_blocking(move || {
            (reader.usage().into_iter().collect(), reader.plugin_metrics(&RESERVED))
        });
        let (usage, offered) = read.await.unwrap_or_default();
        PluginSample {
            all: supervisor.snapshot(),
            usage,
            offered,
            skipped: self.skipped().len(),
            commands: self.audit().total(),
        }
    }
}
