//! One plugin and everything it holds; what is done with it is in the files beside this one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::launch::Shared;
use super::published::Published;
use super::records::{Origin, Records};
use crate::contract::Feed;
use crate::control::Channel;
use crate::health::HealthChecks;
use crate::lifecycle::{Alarm, Event, FailCause, Lifecycle};
use crate::manifest::{Manifest, Outcome};
use crate::metrics::{MetricLines, Scraper};
use crate::os::{LaunchId, ProcessEvent, RunGroup};
use crate::output::{LineLog, Output, Pace};
use crate::text::shown;

/// One plugin and everything it holds.
pub(crate) struct Plugin<S> {
    pub(super) origin: Origin,
    pub(super) label: String,
    pub(super) shared: Arc<Shared<S>>,
    pub(super) lifecycle: Lifecycle,
    pub(super) manifest: Manifest,
    pub(super) alarm: Alarm,
    pub(super) records: Records,
    pub(super) commands: mpsc::Receiver<Event>,
    pub(super) status: watch::Sender<Published>,
    pub(super) published: Published,
    pub(super) log: LineLog,
    /// What the spawner reports about `run`.
    pub(super) events: Option<mpsc::Receiver<ProcessEvent>>,
    pub(super) run: Option<Run>,
    pub(super) health: Option<HealthChecks>,
    pub(super) metrics: Option<MetricLines>,
    pub(super) scraper: Option<Scraper>,
    pub(super) control: Option<Channel>,
    /// Standard input of the run, until it is closed.
    pub(super) feed: Option<Feed>,
    pub(super) pace: Pace,
    /// Whether the supervisor has let go of it.
    pub(super) released: bool,
    /// Whether what drove it failed, so that it is not known what its run has been through.
    pub(super) unsupervised: bool,
}

/// The current or latest run.
pub(super) struct Run {
    pub(super) id: LaunchId,
    pub(super) output: Output,
    /// Its control group, until it is gone.
    pub(super) group: Option<RunGroup>,
    pub(super) unlogged_exit: Option<UnloggedExit>,
    /// What followed the exit, to be logged after it.
    pub(super) unlogged_consequence: Option<Consequence>,
}

/// An exit that is not in the log yet, because the last output comes first.
#[derive(Clone, Copy)]
pub(super) struct UnloggedExit {
    pub(super) outcome: Outcome,
    /// Whether it was a success or asked for.
    pub(super) expected: bool,
    pub(super) latest: Instant,
}

/// What follows the end of a run.
#[derive(Clone, Copy)]
pub(super) enum Consequence {
    Restart(Duration),
    Rest(FailCause),
}

impl<S> Plugin<S> {
    pub(crate) fn new(
        origin: Origin,
        shared: Arc<Shared<S>>,
        manifest: Manifest,
        records: Records,
        commands: mpsc::Receiver<Event>,
        status: watch::Sender<Published>,
    ) -> Self {
        let label = shown(&origin.path);
        let log = LineLog::new(label.clone(), Arc::clone(&records.journal), manifest.output);
        let published = status.borrow().clone();
        let lifecycle = published.lifecycle.clone();
        Self {
            origin,
            label,
            shared,
            lifecycle,
            manifest,
            alarm: Alarm::default(),
            records,
            commands,
            status,
            published,
            log,
            events: None,
            run: None,
            health: None,
            metrics: None,
            scraper: None,
            control: None,
            feed: None,
            pace: Pace::default(),
            released: false,
            unsupervised: false,
        }
    }
}
