//! Changing the list of adapters while the tier runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_storage::decorators::{Observer, Observing};
use larder_storage::{
    AdapterConfig, Backend, Built, ConfigError, ConfigProblem, EvictionConfig, build, within,
};
use serde_json::Value as Json;

use super::eviction::Evictor;
use super::roster::{Attached, PendingAdapter, Phase, RosterError};
use super::tier::{CLOSE_PATIENCE, Tier, TierError};
use larder_core::modes::ChecksumMode;
use larder_telemetry::events::Event;
use larder_telemetry::redaction::{REDACTED, is_redacted, redact};

/// Longest wait for the name of a directory.
const DIRECTORY_PATIENCE: Duration = Duration::from_secs(1);

/// How a detachment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detachment {
    /// Whether everything that used the adapter came to its end in time.
    pub is_drained: bool,
    /// Stores and prefetches that still used it when it was closed.
    pub users_left: usize,
    /// Whether it closed in time; if not, it goes on closing by itself.
    pub is_closed: bool,
}

impl Tier {
    /// Builds an adapter and adds it in a place of the list, or as the last one. May block while it builds.
    ///
    /// # Errors
    /// [`TierError`] if the configuration is wrong, the adapter can't work or there is no such place. Nothing
    /// has changed then.
    pub fn attach(&self, config: &Json, index: Option<usize>) -> Result<Arc<Attached>, TierError> {
        let _place = self.changes.try_acquire().map_err(|_| TierError::Busy)?;
        let roster = &self.shared.roster;
        roster.check_place(index)?;
        if is_redacted(config) {
            return Err(what_is_shown_is_no_credential().into());
        }
        let mut parsed = AdapterConfig::from_value(config, &|name| std::env::var(name).ok())?;
        parsed.common.checksum &= self.shared.engine.checksum_mode() != ChecksumMode::Off;
        self.check_eviction(&parsed)?;
        let known = directory(&parsed.backend);
        roster.check_directory(known.as_deref())?;
        let built = build(&parsed)?;
        for warning in &parsed.warnings {
            tracing::warn!("adapter `{}`: {warning}", parsed.kind);
        }
        let mut shown = config.clone();
        redact(&mut shown);
        let directory = known.or_else(|| directory(&parsed.backend));
        self.add(self.with_eviction(built, parsed.common.eviction, shown, directory), index)
    }

    /// As [`attach`](Self::attach), for an adapter that is built already; `shown` is what status pages say of
    /// its configuration.
    ///
    /// # Errors
    /// [`TierError`] if there is no such place or the server is stopping.
    pub fn attach_built(
        &self,
        built: Built,
        eviction: Option<EvictionConfig>,
        shown: Json,
        index: Option<usize>,
    ) -> Result<Arc<Attached>, TierError> {
        self.add(self.with_eviction(built, eviction, shown, None), index)
    }

    fn add(&self, adapter: PendingAdapter, index: Option<usize>) -> Result<Arc<Attached>, TierError> {
        self.ensure_running()?;
        let attached = self.shared.roster.add(adapter, index)?;
        self.note(&attached, "attached");
        Ok(attached)
    }

    /// Eviction that could never find anything to do is a mistake, not a wish.
    fn check_eviction(&self, config: &AdapterConfig) -> Result<(), TierError> {
        match config.evicts_without_limit() && self.shared.quotas.is_unlimited() {
            true => Err(TierError::EvictionWithoutLimit),
            false => Ok(()),
        }
    }

    fn with_eviction(
        &self,
        built: Built,
        eviction: Option<EvictionConfig>,
        config: Json,
        directory: Option<PathBuf>,
    ) -> PendingAdapter {
        let Some(settings) = eviction.clone().filter(|eviction| !eviction.policy.never_evicts()) else {
            return PendingAdapter { built, config, eviction, evictor: None, directory };
        };
        let quotas = Arc::clone(&self.shared.quotas);
        let evictor = Arc::new(Evictor::new(Arc::clone(&built.adapter), settings, quotas));
        let observer = Arc::clone(&evictor) as Arc<dyn Observer>;
        let adapter = Arc::new(Observing::new(Arc::clone(&built.adapter), observer));
        PendingAdapter {
            built: Built { adapter, ..built },
            config,
            eviction,
            evictor: Some(evictor),
            directory,
        }
    }

    /// Takes an adapter away: no new work for it from now on, then a wait of at most `patience` for what uses
    /// it, then it is closed.
    ///
    /// To be run to its end: a call that is dropped leaves the adapter draining.
    ///
    /// # Errors
    /// [`TierError::Roster`] if there is no such adapter or somebody else is detaching it.
    pub async fn detach(&self, id_or_index: &str, patience: Duration) -> Result<Detachment, TierError> {
        let _place = self.changes.try_acquire().map_err(|_| TierError::Busy)?;
        let roster = &self.shared.roster;
        let attached = roster.find(id_or_index)?;
        roster.enter(&attached, Phase::Draining)?;
        self.note(&attached, "draining");
        let is_drained = attached.drained(patience).await;
        let users_left = attached.users();
        roster.remove(&attached);
        if let Some(report) = attached.eviction_report() {
            let evicted = report.evicted_by_salt.iter();
            self.shared.flow.retire(evicted.map(|(salt, objects)| (&**salt, *objects)));
        }
        let closing = tokio::time::timeout(CLOSE_PATIENCE, attached.built().adapter.close());
        let is_closed = closing.await.is_ok();
        self.note(&attached, "detached");
        Ok(Detachment { is_drained, users_left, is_closed })
    }

    /// Keeps new work from an adapter, or lets it have some again.
    ///
    /// # Errors
    /// [`TierError::Roster`] if there is no such adapter or it is being detached.
    pub fn set_paused(&self, id_or_index: &str, is_paused: bool) -> Result<Arc<Attached>, TierError> {
        let attached = self.shared.roster.find(id_or_index)?;
        let phase = if is_paused { Phase::Paused } else { Phase::Active };
        self.shared.roster.enter(&attached, phase)?;
        self.note(&attached, if is_paused { "paused" } else { "resumed" });
        Ok(attached)
    }

    /// Closes an adapter's circuit breaker, so that the next call is tried.
    ///
    /// # Errors
    /// [`TierError`] if there is no such adapter or it has no breaker.
    pub fn reset_breaker(&self, id_or_index: &str) -> Result<Arc<Attached>, TierError> {
        let attached = self.find(id_or_index)?;
        let Some(breaker) = &attached.built().breaker else {
            return Err(TierError::NoBreaker(attached.id().to_owned()));
        };
        breaker.reset();
        self.note(&attached, "breaker_reset");
        Ok(attached)
    }

    /// The adapter of this id, or else in this place of the list.
    ///
    /// # Errors
    /// [`TierError::Roster`] if there is none.
    pub fn find(&self, id_or_index: &str) -> Result<Arc<Attached>, TierError> {
        Ok(self.shared.roster.find(id_or_index)?)
    }

    /// Tells the log, the event stream and the engine, which has no second tier while nothing is active.
    fn note(&self, attached: &Attached, change: &str) {
        tracing::info!("adapter `{}`: {change}", attached.id());
        let engine = &self.shared.engine;
        engine.bus().publish(|| Event::Adapter { adapter: attached.id(), change });
        self.shared.note_roster_change();
    }
}

/// Where a backend keeps its objects, if that is a directory that exists, by the one name that it has. One
/// that does not answer is known by the name it was given.
fn directory(backend: &Backend) -> Option<PathBuf> {
    match backend {
        Backend::Fs(options) => {
            let path = options.base_path.clone();
            let real = within(DIRECTORY_PATIENCE, "l2-open", move || path.canonicalize());
            real.map_or_else(|| Some(options.base_path.clone()), Result::ok)
        }
        Backend::FaultInject { inner, .. } => directory(&inner.backend),
        Backend::Mock(_) | Backend::Resp(_) | Backend::S3(_) => None,
    }
}

impl From<RosterError> for TierError {
    fn from(error: RosterError) -> Self {
        Self::Roster(error)
    }
}

fn what_is_shown_is_no_credential() -> ConfigError {
    let text = format!("`{REDACTED}` stands for a credential that was left out");
    let hint = Some("write the credential itself, or name a file with `password_file`".to_owned());
    ConfigError { problems: vec![ConfigProblem { path: String::new(), text, hint }] }
}
