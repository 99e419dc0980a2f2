//! What others can see of one plugin at any time.

use crate::lifecycle::{Lifecycle, Phase};
use crate::os::CgroupStatus;

/// What a plugin's task publishes after every event.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) pid: Option<u32>,
    pub(crate) interpreter: Option<String>,
    pub(crate) last_error: Option<String>,
    /// What the plugin last said about itself.
    pub(crate) status_text: Option<String>,
    pub(crate) cgroup: Option<CgroupStatus>,
    /// What is not as it should be, and does not keep it from running.
    pub(crate) notices: Vec<String>,
    pub(crate) kills: u64,
    /// Commands taken so far.
    pub(crate) commands: u64,
}

impl Published {
    pub(crate) fn new(lifecycle: Lifecycle) -> Self {
        Self {
            lifecycle,
            pid: None,
            interpreter: None,
            last_error: None,
            status_text: None,
            cgroup: None,
            notices: Vec::new(),
            kills: 0,
            commands: 0,
        }
    }

    /// Whether nothing runs and nothing is about to.
    pub(crate) fn is_at_rest(&self) -> bool {
        !self.lifecycle.is_occupied()
            && !matches!(
                self.lifecycle.phase(),
                Phase::Launching { .. } | Phase::Backoff { .. } | Phase::Scheduled { .. }
            )
    }
}
