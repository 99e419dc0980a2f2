//! What is kept of one plugin beyond its task, and what the task knows it by.

use std::path::PathBuf;
use std::sync::Arc;

use super::history::History;
use crate::control::ControlRecord;
use crate::discover::Location;
use crate::metrics::LatestMetrics;
use crate::output::Journal;
use larder_telemetry::events::KeptBookmark;

/// What a plugin has said, kept for whoever asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    pub(crate) journal: Arc<Journal>,
    pub(crate) latest_metrics: Arc<LatestMetrics>,
    pub(crate) control: Arc<ControlRecord>,
    pub(crate) bookmark: Arc<KeptBookmark>,
    pub(crate) history: Arc<History>,
}

/// What the task of a plugin knows it by.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) location: Arc<Location>,
}
