//! What adapters hold of a prompt, and the locks that keep it there.

use std::sync::Arc;
use std::time::Duration;

use larder_core::key::ObjectKey;
use larder_storage::{Error, Found, KeyResult, Op};

use super::pulse::Answer;
use super::roster::InUse;
use super::shared::Shared;
use larder_engine::PrefetchWork;

/// Longest an answer of an adapter is waited for, even by nobody. Its own timeouts and retries end before;
/// this is for one that has none.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(60);

/// The objects a prefetch is about, row by row, from the first missing chunk on.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) work: Arc<PrefetchWork>,
    pub(super) keys: Vec<ObjectKey>,
}

impl Wanted {
    /// The key of every object that may be missing.
    pub(super) fn new(work: &Arc<PrefetchWork>) -> Self {
        let missing = &work.hashes[work.from..];
        let mut keys = Vec::with_capacity(work.rows.len() * missing.len());
        for row in work.rows.iter() {
            keys.extend(missing.iter().map(|hash| row.scope.namespace.key(*hash)));
        }
        Self { work: Arc::clone(work), keys }
    }

    /// Chunks that may be missing.
    pub(super) fn chunks(&self) -> usize {
        self.work.hashes.len() - self.work.from
    }

    /// The place in `keys` of one chunk, counted from the first that may be missing.
    pub(super) fn at(&self, row: usize, chunk: usize) -> usize {
        row * self.chunks() + chunk
    }

    /// Bytes an object has.
    pub(super) fn bytes(&self, at: usize) -> u64 {
        self.work.rows[at / self.chunks().max(1)].scope.layout.bytes()
    }
}

/// What an adapter said that it holds. The locks go back when this is dropped, whatever happened to whoever
/// asked.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) adapter: InUse,
    /// Its place in the list of adapters: the lower, the sooner it is asked for an object.
    pub(super) priority: usize,
    wanted: Arc<Wanted>,
    locked: Vec<usize>,
    held: Vec<bool>,
    is_well: bool,
}

impl Holding {
    /// Asks an adapter.
    pub(super) async fn ask(
        shared: Arc<Shared>,
        adapter: InUse,
        priority: usize,
        wanted: Arc<Wanted>,
    ) -> Self {
        let asked = adapter.adapter().lookup_and_lock(wanted.keys.clone());
        let found = tokio::time::timeout(LOOKUP_PATIENCE, asked).await.unwrap_or_default();
        let mut holding = Self {
            adapter: adapter.clone(),
            priority,
            held: vec![false; wanted.keys.len()],
            locked: Vec::new(),
            is_well: !found.is_empty() || wanted.keys.is_empty(),
            wanted,
        };
        holding.take_in(&shared, &found);
        holding
    }

    fn take_in(&mut self, shared: &Shared, found: &[KeyResult<Found>]) {
        let mut misfits = 0;
        for (at, outcome) in found.iter().enumerate() {
            let Ok(found) = outcome else { continue };
            self.locked.push(at);
            let fits = found.fits(self.wanted.bytes(at));
            self.held[at] = fits;
            misfits += usize::from(!fits);
        }
        let failures = found.iter().filter_map(|outcome| outcome.as_ref().err());
        let failures: Vec<&Error> = failures.filter(|error| **error != Error::Absent).collect();
        if let Some(error) = failures.first() {
            shared.warnings.tell(
                self.adapter.attached().id(),
                Op::Lookup,
                failures.len(),
                found.len(),
                error,
            );
        }
        self.is_well &= !failures
            .iter()
            .any(|error| matches!(error, Error::Failed(failure) if failure.kind.blames_backend()));
        if misfits > 0 {
            shared.engine.counters().l2_misfit_objects.add(misfits as u64);
            let id = self.adapter.attached().id();
            tracing::debug!(
                "{misfits} objects in `{id}` have another size than the model's and are passed over"
            );
        }
    }

    /// Whether it holds an object and has not failed to bring it.
    pub(super) fn has(&self, at: usize) -> bool {
        self.held[at]
    }

    /// Notes that it can't bring an object.
    pub(super) fn lose(&mut self, at: usize) {
        self.held[at] = false;
    }
}

impl Answer for Holding {
    fn is_well(&self) -> bool {
        self.is_well
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let locked: Vec<ObjectKey> = self.locked.iter().map(|&at| self.wanted.keys[at].clone()).collect();
        if !locked.is_empty() {
            self.adapter.adapter().unlock(&locked);
        }
    }
}
