//! How what is run follows what is in the locations: the look at them, what it changes, and what calls for
//! the next.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::roster::{Fingerprint, Handle, Orders, ReloadReport, Roster, free_name};
use super::start_order;
use super::state::Supervisor;
use super::watched::{Concern, Watched};
use crate::discover::{Discovery, SkipReason, Skipped, Survey, discovery, is_executable, survey};
use crate::error::SuperviseError;
use crate::lifecycle::{Event, Lifecycle, Phase};
use crate::lock::lock;
use crate::manifest::Manifest;
use crate::os::{Change, Spawner, Watcher};
use crate::plugin::{Commands, Origin, Plugin, Published, Records};
use crate::text::shown;

/// Quiet after a change before the locations are looked through: editors and copies come in several steps.
const QUIET: Duration = Duration::from_millis(300);
/// Longest wait for that quiet; then they are looked through all the same.
const QUIET_MAX: Duration = Duration::from_secs(5);
/// Between two looks for what the kernel does not tell, such as another file system mounted over a folder.
pub(super) const POLL_EVERY: Duration = Duration::from_secs(10);
/// Rest after changes that concern no plugin, which a plugin may cause all the time.
const UNCONCERNED_PAUSE: Duration = Duration::from_millis(50);
/// Changed files that are looked at one by one; if there are more, everything is.
const FILES_LOOKED_AT_MAX: usize = 64;

/// What a look at all locations has found.
struct Found {
    /// What each location holds, or held when it last answered.
    surveys: Vec<Arc<Survey>>,
    discovery: Discovery,
    /// What the files of each plugin say; those of a location that does not answer are missing.
    orders: HashMap<PathBuf, (Orders, Manifest)>,
    blind: bool,
}

impl<S: Spawner> Supervisor<S> {
    /// Looks through the locations again: starts what is new, restarts what changed, stops what is gone.
    /// Returns without waiting for plugins.
    pub async fn reload(&self) -> ReloadReport {
        let mut stopping = self.stopping.subscribe();
        let looked = async {
            let _turn = self.changing.lock().await;
            let found = self.look().await;
            self.take(found)
        };
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => ReloadReport::default(),
            report = looked => report,
        }
    }

    /// Reloads whenever something in the locations changes, for as long as the returned future is polled, and
    /// tells what that changed.
    pub async fn watch(&self, tell: impl Fn(&ReloadReport)) {
        match Watcher::new() {
            // A second one would tell the same.
            Ok(watcher) => _ = self.watcher.set(Arc::new(watcher)),
            Err(error) => tracing::warn!(target: "larder_supervise",
                "cannot watch plugin locations: {error}; looking through them every {} s", POLL_EVERY.as_secs()),
        }
        loop {
            // First for what changed before the watch began.
            let report = self.reload().await;
            if report != ReloadReport::default() {
                tell(&report);
            }
            self.change().await;
        }
    }

    /// Returns some quiet time after a change that may concern a plugin.
    async fn change(&self) {
        let mut poll_at = Instant::now() + POLL_EVERY;
        loop {
            match timeout_at(poll_at, self.changes()).await {
                Ok(changes) if self.concerns_plugins(&changes).await => return self.quiet().await,
                Ok(_) => sleep(UNCONCERNED_PAUSE).await,
                Err(_) => {
                    if self.has_moved().await {
                        return;
                    }
                    poll_at = Instant::now() + POLL_EVERY;
                }
            }
        }
    }

    async fn changes(&self) -> Vec<Change> {
        match self.watcher.get() {
            Some(watcher) => watcher.changes().await,
            None => std::future::pending().await,
        }
    }

    async fn quiet(&self) {
        let latest = Instant::now() + QUIET_MAX;
        let mut until = Instant::now() + QUIET;
        while let Ok(changes) = timeout_at(until.min(latest), self.changes()).await {
            if self.concerns_plugins(&changes).await {
                until = Instant::now() + QUIET;
            }
        }
    }

    /// Whether a change, as far as a look at the changed files tells, can change what is run.
    pub(super) async fn concerns_plugins(&self, changes: &[Change]) -> bool {
        let mut perhaps: HashSet<(usize, PathBuf)> = HashSet::new();
        {
            let watched = lock(&self.watched);
            for change in changes {
                match watched.concern(change, &self.shared.interpreters) {
                    Concern::Nobody => {}
                    Concern::Plugins => return true,
                    Concern::Perhaps(location, file) => _ = perhaps.insert((location, file)),
                }
                if perhaps.len() > FILES_LOOKED_AT_MAX {
                    return true;
                }
            }
        }
        for (location, file) in perhaps {
            let Some(location) = self.locations.get(location) else { continue };
            // One that does not answer is looked at again in any case.
            if location.ask(move |_| is_executable(&file)).await.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    /// Whether a look is due although no change was told: a folder is another one than it was, or cannot be
    /// watched.
    pub(super) async fn has_moved(&self) -> bool {
        let (surveys, blind) = {
            let roster = self.roster();
            (roster.surveys.clone(), roster.blind)
        };
        if blind || self.watcher.get().is_none() {
            return true;
        }
        for (location, survey) in self.locations.iter().zip(surveys) {
            if !location.ask(move |_| survey.is_in_place()).await.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    /// Looks through all locations at once.
    async fn look(&self) -> Found {
        let asked: Vec<_> = self.locations.iter().map(|location| self.survey(Arc::clone(location))).collect();
        let known = self.roster().surveys.clone();
        let mut surveys = Vec::new();
        let mut silent = Vec::new();
        for (index, asked) in asked.into_iter().enumerate() {
            // A reader that failed has told nothing, as one that does not answer.
            let survey = asked.await.ok().and_then(Result::ok);
            if survey.is_none() {
                let path = shown(self.locations[index].path());
                silent.push(Skipped { path, reason: SkipReason::Unanswering });
            }
            surveys.push(survey.map(Arc::new).or_else(|| known.get(index).cloned()).unwrap_or_default());
        }
        let blind = !silent.is_empty() || surveys.iter().any(|survey| survey.unwatched.is_some());
        let (merged, host) = (surveys.clone(), self.host.clone());
        let merge = move || discovery::merge(merged.iter().map(AsRef::as_ref), &host);
        let mut discovery = tokio::task::spawn_blocking(merge).await.unwrap_or_default();
        silent.append(&mut discovery.skipped);
        discovery.skipped = silent;
        let orders = self.read_orders(&discovery).await;
        Found { surveys, discovery, orders, blind }
    }

    fn survey(
        &self,
        location: Arc<crate::discover::Location>,
    ) -> tokio::task::JoinHandle<Result<Survey, SuperviseError>> {
        let (watcher, shared) = (self.watcher.get().cloned(), Arc::clone(&self.shared));
        tokio::spawn(async move {
            let path = location.path().to_path_buf();
            let survey = move |progress: &crate::discover::Progress| {
                survey::survey(&path, &shared.interpreters, watcher.as_deref(), &|| progress.step())
            };
            location.ask(survey).await
        })
    }

    /// Reads the files of every plugin found. A mistake in a manifest is found again, and told, by the
    /// launch.
    async fn read_orders(&self, found: &Discovery) -> HashMap<PathBuf, (Orders, Manifest)> {
        let mut orders = HashMap::new();
        for (index, location) in self.locations.iter().enumerate() {
            let own = found.plugins.iter().zip(&found.location_of).filter(|(_, of)| **of == index);
            let paths: Vec<_> = own.map(|(path, _)| path.clone()).collect();
            if paths.is_empty() {
                continue;
            }
            let bare = self.shared.bare.clone();
            let read = move |progress: &crate::discover::Progress| {
                let one = |path: PathBuf| {
                    progress.step();
                    let orders = orders_of(&path, &bare);
                    (path, orders)
                };
                paths.into_iter().map(one).collect::<Vec<_>>()
            };
            orders.extend(location.ask(read).await.unwrap_or_default());
        }
        orders
    }

    /// Makes what was found what is run.
    fn take(&self, found: Found) -> ReloadReport {
        let Found { surveys, discovery, mut orders, blind } = found;
        let Discovery { plugins, location_of, skipped } = discovery;
        let mut roster = self.roster();
        if *self.stopping.borrow() {
            return ReloadReport::default();
        }
        self.rewatch(&surveys, &plugins);
        mention(&roster, &skipped, &surveys);
        let mut report = ReloadReport::default();
        let mut next = Roster { plugins: Vec::new(), skipped, surveys, blind };
        let wanted: HashSet<&PathBuf> = plugins.iter().collect();
        let (kept, gone): (Vec<_>, Vec<_>) =
            roster.plugins.drain(..).partition(|plugin| wanted.contains(&plugin.path));
        for plugin in gone {
            tracing::info!(target: "larder_supervise", "Runtime plugin {} is gone, stopping it", shown(&plugin.path));
            // Its task stops the plugin when it finds the channel closed.
            report.removed.push(plugin.name.clone());
        }
        // Names of kept plugins stay theirs, whatever comes before them now.
        let mut names: HashSet<String> = kept.iter().map(|plugin| plugin.name.clone()).collect();
        let kept: HashMap<PathBuf, Arc<Handle>> =
            kept.into_iter().map(|plugin| (plugin.path.clone(), plugin)).collect();
        for (path, location) in plugins.into_iter().zip(location_of) {
            let read = orders.remove(&path);
            let plugin =
                match (kept.get(&path), read) {
                    (Some(plugin), read) => {
                        if read.is_some_and(|(orders, _)| update(plugin, orders)) {
                            report.changed.push(plugin.name.clone());
                        }
                        Arc::clone(plugin)
                    }
                    (None, Some(read)) => {
                        let name = free_name(&names, &path);
                        names.insert(name.clone());
                        report.added.push(name.clone());
                        Arc::new(self.add(
                            Origin { name, path, location: Arc::clone(&self.locations[location]) },
                            read,
                        ))
                    }
                    // Found, and silent since: the next look starts it.
                    (None, None) => continue,
                };
            next.plugins.push(plugin);
        }
        *roster = next;
        self.warn_of_stop_budget(&roster.plugins, &[report.added.as_slice(), &report.changed].concat());
        start_order::begin(&roster.plugins, &report.added);
        report
    }

    fn rewatch(&self, surveys: &[Arc<Survey>], plugins: &[PathBuf]) {
        let Some(watcher) = self.watcher.get() else { return };
        let next = Watched::of(surveys, plugins);
        let mut watched = lock(&self.watched);
        watched.forget_but(&next, watcher);
        *watched = next;
    }

    fn add(&self, origin: Origin, (orders, manifest): (Orders, Manifest)) -> Handle {
        let (commands, inbox) = Commands::new();
        // Plugins that fail together do not come back together.
        let seed = orders.fingerprint.number() ^ (u64::from(std::process::id()) << 32);
        let (sender, status) = watch::channel(Published::new(Lifecycle::new(manifest.policy.clone(), seed)));
        let records = Records::default();
        let Origin { name, path, location } = origin.clone();
        let plugin = Plugin::new(origin, Arc::clone(&self.shared), manifest, records.clone(), inbox, sender);
        let task = std::sync::Mutex::new(Some(tokio::spawn(plugin.supervise())));
        Handle {
            name,
            path,
            location,
            orders: std::sync::Mutex::new(orders),
            commands,
            status,
            records,
            task,
        }
    }
}

fn orders_of(path: &Path, bare: &Manifest) -> (Orders, Manifest) {
    let fingerprint = Fingerprint::of(path);
    let manifest = Manifest::load(path, bare).unwrap_or_else(|_| bare.clone());
    let orders = Orders {
        enabled: manifest.enabled,
        after: manifest.after.clone(),
        stop_time: manifest.policy.stop_time(),
        fingerprint,
    };
    (orders, manifest)
}

/// Restarts a plugin if its files changed. `false` if they did not.
fn update(plugin: &Handle, now: Orders) -> bool {
    let before = plugin.orders();
    if now == before {
        return false;
    }
    let phase = plugin.status.borrow().lifecycle.phase();
    let event = match (before.enabled, now.enabled) {
        (false, true) => Some(Event::Enable),
        (true, false) => Some(Event::Disable),
        _ if matches!(phase, Phase::Stopped | Phase::Disabled) => None,
        _ => Some(Event::Restart),
    };
    plugin.set_orders(now);
    if let Some(event) = event {
        // A plugin with so many commands waiting reads its files anew in any case.
        _ = plugin.commands.try_send(event);
    }
    true
}

/// Tells what was not so at the look before.
fn mention(before: &Roster, skipped: &[Skipped], surveys: &[Arc<Survey>]) {
    let known: HashSet<&Skipped> = before.skipped.iter().collect();
    for new in skipped.iter().filter(|skipped| !known.contains(skipped)) {
        mention_skipped(new);
    }
    let now: HashSet<&Skipped> = skipped.iter().collect();
    for over in before.skipped.iter().filter(|skipped| !now.contains(skipped)) {
        if over.reason == SkipReason::Unanswering {
            tracing::info!(target: "larder_supervise", "Runtime plugin location {} answers again", over.path);
        }
    }
    for (index, survey) in surveys.iter().enumerate() {
        let told = before.surveys.get(index).is_some_and(|before| before.unwatched.is_some());
        if let Some(error) = survey.unwatched.as_ref().filter(|_| !told) {
            tracing::warn!(target: "larder_supervise",
                "cannot watch all folders of plugin location {}: {error}; looking through them every {} s", index + 1,
                POLL_EVERY.as_secs());
        }
    }
}

fn mention_skipped(Skipped { path, reason }: &Skipped) {
    match reason {
        SkipReason::Missing => {
            tracing::warn!(target: "larder_supervise", "Runtime plugin location {path} does not exist");
        }
        SkipReason::Unanswering => tracing::warn!(target: "larder_supervise",
            "Runtime plugin location {path} does not answer; what runs goes on, changes are not seen"),
        reason if reason.is_notable() => {
            tracing::info!(target: "larder_supervise", "Skipping {path}: {reason}")
        }
        reason => tracing::debug!(target: "larder_supervise", "Skipping {path}: {reason}"),
    }
}
