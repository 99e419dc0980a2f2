//! Turns a plugin file and its manifest into a running process with its pipes attached.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Zoned;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::records::{Origin, Records};
use crate::contract::{ConfigForm, ConfigPublisher, Feed, environment, names};
use crate::control::{API_VERSION, Channel, ControlHost, Grants, Session};
use crate::discover::{Interpreters, Invocation, WritableByOthers, interpreter, trust};
use crate::error::SuperviseError;
use crate::health::{HealthChecks, Stamp, probe};
use crate::manifest::{Account, Manifest, Readiness};
use crate::metrics::{MetricLines, folder};
use crate::os::{
    Cgroups, ChildStdio, EVENTS_MAX, FIRST_EXTRA_FD, LaunchId, LaunchSpec, ProcessEvent, RunGroup, Spawner,
};
use crate::output::{Output, Shares};
use crate::text::{escaped, shown};
use larder_telemetry::events::{EventLog, Listener};

/// How long the guardian may take to start a program.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of the plugin's own keys that are passed in a variable.
const SETTINGS_MAX_BYTES: usize = 64 * 1024;

/// What all plugins of a supervisor share.
#[derive(Debug)]
pub(crate) struct Shared<S> {
    pub(crate) spawner: S,
    /// What plugins are told of the configuration.
    pub(crate) config: ConfigPublisher,
    pub(crate) interpreters: Interpreters,
    /// What a plugin without a manifest gets.
    pub(crate) bare: Manifest,
    /// What happens in the server.
    pub(crate) log: EventLog,
    /// Fixed point of all times given to lifecycles.
    pub(crate) epoch: Instant,
    pub(crate) launches: AtomicU64,
    /// Control groups for plugins that ask.
    pub(crate) cgroups: Cgroups,
    pub(crate) redact_secrets: bool,
    pub(crate) writable_by_others: WritableByOthers,
    /// Who answers on control channels.
    pub(crate) control: Option<Arc<dyn ControlHost>>,
    /// How much of the thread plugins' input may take.
    pub(crate) shares: Shares,
    /// Local time, by the time since `epoch`.
    pub(crate) local_time: fn(Duration) -> Zoned,
}

impl<S> Shared<S> {
    fn form(&self, manifest: &Manifest) -> ConfigForm {
        let now = self.config.now();
        if manifest.secrets { now.whole.clone() } else { now.masked.clone() }
    }

    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// A program that has just been started.
pub(crate) struct Launched {
    pub(crate) id: LaunchId,
    pub(crate) pid: u32,
    pub(crate) interpreter: String,
    pub(crate) feed: Feed,
    pub(crate) output: Output,
    pub(crate) health: HealthChecks,
    pub(crate) metrics: Option<MetricLines>,
    pub(crate) control: Option<Channel>,
    pub(crate) group: Option<RunGroup>,
    pub(crate) notices: Vec<String>,
    pub(crate) events: mpsc::Receiver<ProcessEvent>,
}

/// How a program is run, and the environment it is found in.
pub(crate) struct Program {
    chosen: Invocation,
    environment: Vec<(OsString, OsString)>,
    /// Another user that it becomes.
    account: Option<Account>,
    /// When the file that tells that it is ready was last changed.
    ready_file: Option<Stamp>,
    /// What is not as it should be, and does not keep it from being run.
    notices: Vec<String>,
}

/// Everything that a start reads from files: the manifest, then what the file is run with. Blocks.
pub(crate) fn read_files<S>(
    origin: &Origin,
    shared: &Shared<S>,
) -> Result<(Manifest, Result<Program, SuperviseError>), SuperviseError> {
    let manifest = Manifest::load(&origin.path, &shared.bare)?;
    let program = read_program(origin, shared, &manifest);
    Ok((manifest, program))
}

fn read_program<S>(
    origin: &Origin,
    shared: &Shared<S>,
    manifest: &Manifest,
) -> Result<Program, SuperviseError> {
    let Origin { name, path, .. } = origin;
    shared.config.restore()?;
    let mut environment = environment_for(shared, manifest);
    if let Some(settings) = settings(shared, name, manifest)? {
        set(&mut environment, names::SETTINGS, &settings);
    }
    let search_path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let search_path = search_path.as_deref().unwrap_or(OsStr::new("/usr/bin:/bin"));
    let chosen = interpreter::choose(path, &shared.interpreters, search_path)?;
    let notices = notices(shared, path, manifest)?;
    let account = manifest.confinement.account();
    if let Some(account) = account {
        let file = shared.config.file_for(account, manifest.secrets || !shared.redact_secrets)?;
        set(&mut environment, names::CONFIG_FILE, file.to_string_lossy().as_ref());
    }
    if manifest.metrics {
        let own = shared.config.scratch_for(account)?;
        for scratch in shared.config.scratches() {
            // Of a run as another user; that of this one is made anew below, and failures show there.
            _ = folder::discard(&folder::folder(scratch.path(), name));
        }
        let folder = folder::folder(own.path(), name);
        let given = |Account { user, group }| chown(&folder, Some(user), Some(group));
        let prepared = folder::prepare(&folder).and_then(|()| account.map_or(Ok(()), given));
        prepared.map_err(|source| SuperviseError::RuntimeDir { path: folder.clone(), source })?;
        set(&mut environment, names::METRICS_DIR, folder.to_string_lossy().as_ref());
    }
    let ready_file = match &manifest.readiness {
        Readiness::File(file) => probe::stamp(file),
        _ => None,
    };
    Ok(Program { chosen, environment, account, ready_file, notices })
}

/// What about a plugin is not as it should be, or why it is not run because of that.
fn notices<S>(shared: &Shared<S>, path: &Path, manifest: &Manifest) -> Result<Vec<String>, SuperviseError> {
    let mut notices = Vec::new();
    if manifest.confinement.restricts_files() && !crate::os::has_landlock() {
        notices
            .push("`read_paths` and `write_paths` are not in force: this kernel has no Landlock".to_owned());
    }
    match shared.writable_by_others {
        WritableByOthers::Allow => {}
        WritableByOthers::Warn => notices.extend(trust::doubts(path)),
        WritableByOthers::Refuse => {
            let doubts = trust::doubts(path);
            if !doubts.is_empty() {
                return Err(SuperviseError::Untrusted(doubts.join("; ")));
            }
        }
    }
    Ok(notices)
}

fn failed(chosen: &Invocation, source: std::io::Error) -> SuperviseError {
    SuperviseError::Launch { program: chosen.program.clone(), source }
}

/// Starts a plugin as `manifest` has it.
pub(crate) async fn launch<S: Spawner>(
    shared: &Shared<S>,
    origin: &Origin,
    program: Program,
    manifest: &Manifest,
    records: &Records,
) -> Result<Launched, SuperviseError> {
    let Origin { name, path, .. } = origin;
    let Program { chosen, mut environment, account, ready_file, notices } = program;
    mention_fallback(path, &chosen);
    let failed = |source: std::io::Error| failed(&chosen, source);

    let id = LaunchId(shared.launches.fetch_add(1, Ordering::Relaxed));
    let socket = shared.config.scratch_for(account)?.path().join(format!("{}.notify", id.0));
    let probe = probe::of(&manifest.readiness, &origin.location, ready_file);
    let unbound = |source| SuperviseError::RuntimeDir { path: socket.clone(), source };
    let health =
        HealthChecks::new(&manifest.readiness, &manifest.watchdog, probe, socket.clone()).map_err(unbound)?;
    if let Some(account) = account {
        health.give_to(account).map_err(failed)?;
    }
    for (name, value) in &chosen.environment {
        set(&mut environment, name, value);
    }
    for (name, value) in health.environment() {
        set(&mut environment, name, &value);
    }
    let (mut stdio, stdin, stdout, stderr) = pipes().map_err(failed)?;
    let offers = offers(shared, name, manifest, records).map_err(failed)?;
    for (name, value) in offers.variables {
        set(&mut environment, name, &value);
    }
    stdio.extra = offers.descriptors;
    let fed = (!manifest.control && !manifest.events.is_empty())
        .then(|| Listener::new(records.bookmark.begin(&shared.log), manifest.events.clone()));
    let feed = Feed::new(stdin, fed).map_err(failed)?;
    let output = Output::new(stdout, stderr, &manifest.output).map_err(failed)?;
    let group = shared.cgroups.group(id.0, manifest.confinement.cgroup);
    let mut confinement = manifest.confinement.clone();
    confinement.cgroup_procs = group.as_ref().and_then(RunGroup::procs);
    let spec =
        LaunchSpec { program: chosen.program.clone(), argv: chosen.argv.clone(), environment, confinement };
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let launching = shared.spawner.launch(id, spec, stdio, sender);
    let pid = timeout(LAUNCH_TIMEOUT, launching).await.unwrap_or_else(|_| {
        Err(SuperviseError::Stalled { program: chosen.program.clone(), limit: LAUNCH_TIMEOUT })
    })?;
    Ok(Launched {
        id,
        pid,
        interpreter: shown(&chosen.program),
        feed,
        output,
        health,
        metrics: offers.metrics,
        control: offers.control,
        group,
        notices,
        events,
    })
}

fn environment_for<S>(shared: &Shared<S>, manifest: &Manifest) -> Vec<(OsString, OsString)> {
    let is_named =
        |names: &[String], name: &OsString| names.iter().any(|named| named == "*" || name == named.as_str());
    let allowed = |name: &OsString, value: &OsString| match &manifest.inherit {
        _ if environment::is_contract(name) => true,
        Some(names) if is_named(names, name) => true,
        inherit => {
            inherit.is_none() && !environment::is_withheld(name, value)
                || is_named(&manifest.inherit_secrets, name)
        }
    };
    let given = shared.form(manifest).environment.into_iter();
    let kept = given.filter(|(name, value)| allowed(name, value));
    let mut environment: Vec<_> = kept.collect();
    for (name, value) in &manifest.environment {
        set(&mut environment, name, value);
    }
    environment
}

/// Descriptors besides the standard streams, and how the plugin finds them.
#[derive(Default)]
struct Offers {
    metrics: Option<MetricLines>,
    control: Option<Channel>,
    descriptors: Vec<OwnedFd>,
    variables: Vec<(&'static str, String)>,
}

impl Offers {
    fn add(&mut self, variable: &'static str, descriptor: OwnedFd) {
        let number = FIRST_EXTRA_FD as usize + self.descriptors.len();
        self.variables.push((variable, number.to_string()));
        self.descriptors.push(descriptor);
    }
}

/// What the manifest asks for of these.
fn offers<S>(
    shared: &Shared<S>,
    name: &str,
    manifest: &Manifest,
    records: &Records,
) -> std::io::Result<Offers> {
    let mut offers = Offers::default();
    if manifest.metrics_fd {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        offers.metrics = Some(MetricLines::new(ours, Arc::clone(&records.latest_metrics))?);
        offers.add(names::METRICS_FD, theirs);
    }
    if manifest.control {
        let session = Session::new(grants(shared, name, manifest));
        let place = (!manifest.events.is_empty()).then(|| records.bookmark.begin(&shared.log));
        let (channel, theirs) = Channel::new(session, place, Arc::clone(&records.control))?;
        offers.control = Some(channel);
        offers.add(names::CONTROL_FD, theirs);
        offers.variables.push((names::API_VERSION, API_VERSION.to_string()));
    }
    Ok(offers)
}

fn grants<S>(shared: &Shared<S>, name: &str, manifest: &Manifest) -> Grants {
    Grants {
        plugin: name.to_owned(),
        events: manifest.events.clone(),
        hooks: manifest.hooks.clone(),
        config: shared.config.text(manifest.secrets),
        host: shared.control.clone(),
    }
}

/// The plugin's own keys, if its manifest has rules for them and they fit.
fn settings<S>(
    shared: &Shared<S>,
    name: &str,
    manifest: &Manifest,
) -> Result<Option<String>, SuperviseError> {
    let Some(schema) = &manifest.config else { return Ok(None) };
    let now = shared.config.now();
    let checked = schema.settings(name, &now.whole.extra).map_err(SuperviseError::Settings)?;
    let text = if manifest.secrets {
        serde_json::Value::Object(checked).to_string()
    } else {
        // A mask need not fit where a number was.
        let masked = |(key, value): (String, serde_json::Value)| {
            let whole = format!("plugin.{name}.{key}");
            let value = now.masked.extra.get(whole).cloned().unwrap_or(value);
            (key, value)
        };
        serde_json::Value::Object(checked.into_iter().map(masked).collect()).to_string()
    };
    if text.len() > SETTINGS_MAX_BYTES {
        tracing::warn!(target: "larder_supervise",
            "Runtime plugin {name}: `{}` left out, its {} bytes are too many", names::SETTINGS, text.len());
        return Ok(None);
    }
    Ok(Some(text))
}

fn set(environment: &mut Vec<(OsString, OsString)>, name: &str, value: &str) {
    environment.retain(|(known, _)| known != name);
    environment.push((name.into(), value.into()));
}

fn mention_fallback(path: &Path, chosen: &Invocation) {
    if let Some(wanted) = &chosen.passed_over {
        let (label, wanted, program) = (shown(path), escaped(wanted), shown(&chosen.program));
        tracing::warn!(target: "larder_supervise",
            "Runtime plugin {label}: interpreter `{wanted}` not found, using `{program}`");
    }
}

/// The plugin's ends, then ours of stdin, stdout and stderr.
fn pipes() -> std::io::Result<(ChildStdio, OwnedFd, OwnedFd, OwnedFd)> {
    let (child_in, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stdout, child_out) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, child_err) = pipe_with(PipeFlags::CLOEXEC)?;
    // Only our ends: a plugin does not expect its own to refuse to wait.
    for ours in [&stdin, &stdout, &stderr] {
        rustix::io::ioctl_fionbio(ours, true)?;
    }
    Ok((
        ChildStdio { stdin: child_in, stdout: child_out, stderr: child_err, extra: Vec::new() },
        stdin,
        stdout,
        stderr,
    ))
}
