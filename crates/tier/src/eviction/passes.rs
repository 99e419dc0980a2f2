//! Choosing victims and deleting them, a bounded step at a time.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder_core::eviction::{EntryId, Removal};
use larder_storage::{DeleteMode, Error};
use larder_telemetry::tasks::Task;

use super::evictor::{Evictor, State, part_of};
use super::ledger::Victim;

/// Objects deleted in one call.
const STEP_OBJECTS: usize = 64;

/// First pause before a pass that could not evict anything is repeated; it doubles each time.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Whose objects are to leave.
#[derive(Clone, Debug)]
enum Aim {
    /// Anybody's.
    All,
    /// One tenant's.
    Tenant(Arc<str>),
}

/// What became of a step's victims.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    evicted: usize,
    bytes: u64,
}

/// Room that is kept for stores under way, as long as it is held.
#[derive(Debug)]
pub(crate) struct Promise<'e> {
    evictor: &'e Evictor,
    bytes: u64,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        let promised_bytes = &mut self.evictor.state().promised_bytes;
        debug_assert!(self.bytes <= *promised_bytes, "only what was promised is taken back");
        *promised_bytes -= self.bytes;
    }
}

/// Victims being deleted. Nobody else chooses them until this is dropped, even if the deletion is abandoned.
struct Leaving<'e> {
    evictor: &'e Evictor,
    victims: Vec<Victim>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut state = self.evictor.state();
        for victim in &self.victims {
            state.leaving.remove(&victim.id);
        }
    }
}

impl Evictor {
    /// Evicts whenever something has to leave, for ever.
    pub(super) async fn evict_when_due(&self, task: &Task) {
        let mut quotas = self.quotas.subscribe();
        let mut pause = RETRY_MIN;
        loop {
            task.count_run();
            if self.pass().await {
                pause = RETRY_MIN;
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = quotas.changed() => {}
                }
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }

    /// Evicts until neither a tenant nor the adapter is filled to its mark. False if nothing more could leave
    /// though it should.
    async fn pass(&self) -> bool {
        let mut aims: Vec<Aim> = {
            let state = self.state();
            let is_over = |salt: &str, bytes: u64| {
                self.quotas.limit_for(salt).is_some_and(|limit| bytes >= self.mark(limit))
            };
            let over = state.ledger.tenants().filter(|(salt, share)| is_over(salt, share.bytes));
            over.map(|(salt, _)| Aim::Tenant(salt)).collect()
        };
        // Tenants first: what they give up is room for all, and may be all that is due.
        aims.push(Aim::All);
        if self.config.eviction_ratio == 0.0 {
            return true;
        }
        let mut is_done = true;
        let mut has_counted = false;
        for aim in aims {
            let mut share = self.config.eviction_ratio;
            while let Some(objects) = self.due_objects(&aim, share) {
                // The share is for the pass; what more it takes to get below the mark is counted.
                share = 0.0;
                if !std::mem::replace(&mut has_counted, true) {
                    count(&self.counts.passes, 1);
                }
                if self.evict(&aim, objects).await == 0 {
                    is_done = false;
                    break;
                }
            }
        }
        is_done
    }

    /// How many objects are to leave now, if any: the configured share of those there are, and enough to get
    /// below the mark.
    fn due_objects(&self, aim: &Aim, share: f64) -> Option<usize> {
        let state = self.state();
        let (objects, bytes, limit) = match aim {
            Aim::All => (state.ledger.len() as u64, state.ledger.bytes(), self.capacity_bytes?),
            Aim::Tenant(salt) => {
                let usage = state.ledger.usage_of(salt);
                (usage.objects, usage.bytes, self.quotas.limit_for(salt)?)
            }
        };
        let mark = self.mark(limit);
        if bytes == 0 || bytes < mark {
            return None;
        }
        let mean = (bytes / objects.max(1)).max(1);
        let due = ((bytes - mark) / mean + 1).max(part_of(objects, share));
        Some(usize::try_from(due).unwrap_or(usize::MAX))
    }

    /// Evicts so many objects, step by step, and returns how many could leave.
    async fn evict(&self, aim: &Aim, objects: usize) -> usize {
        let mut passed_over = HashSet::new();
        let mut evicted = 0;
        while evicted < objects {
            let step = self.step(aim, (objects - evicted).min(STEP_OBJECTS), &mut passed_over).await;
            if step.evicted == 0 {
                break;
            }
            evicted += step.evicted;
            tokio::task::yield_now().await;
        }
        evicted
    }

    /// Keeps room for `bytes` that are about to be stored, evicting for it what can leave.
    pub(crate) async fn make_room(&self, bytes: u64) -> Promise<'_> {
        // Promised before it looks: two stores at a time must not both count on the same room.
        self.state().promised_bytes += bytes;
        let promise = Promise { evictor: self, bytes };
        let Some(capacity) = self.capacity_bytes.filter(|capacity| bytes <= *capacity) else {
            return promise;
        };
        let mut passed_over = HashSet::new();
        loop {
            let (excess, mean) = {
                let state = self.state();
                let taken = state.ledger.bytes().saturating_add(state.promised_bytes);
                (taken.saturating_sub(capacity), state.ledger.bytes() / (state.ledger.len() as u64).max(1))
            };
            if excess == 0 {
                return promise;
            }
            let want = usize::try_from(excess.div_ceil(mean.max(1))).unwrap_or(usize::MAX);
            if self.step(&Aim::All, want.min(STEP_OBJECTS), &mut passed_over).await.evicted == 0 {
                tracing::debug!(
                    "no victim in `{}` for a store that lacks {excess} bytes",
                    self.adapter.kind()
                );
                return promise;
            }
        }
    }

    /// Evicts as much as `bytes` that the adapter refused, whatever the ledger says about room. False if
    /// nothing could leave, or if it would be in vain: when the adapter is within its own capacity, others
    /// fill its disk, and would fill what the cache gave up.
    pub(crate) async fn free(&self, bytes: u64) -> bool {
        let usage = self.adapter.usage();
        if usage.bytes_capacity.is_some_and(|capacity| usage.bytes_used.saturating_add(bytes) <= capacity) {
            return false;
        }
        let mut passed_over = HashSet::new();
        let mut freed = 0;
        while freed < bytes {
            let mean = {
                let ledger = &self.state().ledger;
                (ledger.bytes() / (ledger.len() as u64).max(1)).max(1)
            };
            let want = usize::try_from((bytes - freed).div_ceil(mean)).unwrap_or(usize::MAX);
            let step = self.step(&Aim::All, want.min(STEP_OBJECTS), &mut passed_over).await;
            if step.evicted == 0 {
                break;
            }
            freed += step.bytes;
        }
        freed > 0
    }

    /// Deletes up to `want` objects, at most [`STEP_OBJECTS`]. Those that can't go now are added to
    /// `passed_over`; as long as there are others it looks further.
    async fn step(&self, aim: &Aim, want: usize, passed_over: &mut HashSet<EntryId>) -> Step {
        loop {
            let leaving = self.choose(aim, want, passed_over);
            if leaving.victims.is_empty() {
                return Step::default();
            }
            // Chosen and barred under the lock, deleted without it: meanwhile others choose other victims,
            // and who stores one of these again takes it off the list, so that it is not forgotten below.
            let keys = leaving.victims.iter().map(|victim| victim.key.clone()).collect();
            let outcomes = self.adapter.delete(keys, DeleteMode::IfUnlocked).await;
            let mut step = Step::default();
            let mut failed = 0;
            for (victim, outcome) in leaving.victims.iter().zip(outcomes) {
                match outcome {
                    Ok(_) => {
                        self.note_evicted(victim);
                        step.evicted += 1;
                        step.bytes += victim.bytes;
                    }
                    // Somebody else was faster: the room is there all the same.
                    Err(Error::Absent) => {
                        Self::forget(&mut self.state(), victim, Removal::Dropped);
                        step.evicted += 1;
                        step.bytes += victim.bytes;
                    }
                    Err(Error::Busy(_)) => {
                        count(&self.counts.locked_objects, 1);
                        passed_over.insert(victim.id);
                    }
                    Err(Error::Failed(failure)) => {
                        if failed == 0
                            && let Some(more) = self.warnings.pass(&failure.kind)
                        {
                            tracing::warn!("eviction from `{}`: {failure}{more}", self.adapter.kind());
                        }
                        failed += 1;
                        passed_over.insert(victim.id);
                    }
                }
            }
            count(&self.counts.failed_objects, failed);
            // Failures end the step, lest a sick adapter be asked to delete all it has; locked objects do
            // not.
            if step.evicted > 0 || failed > 0 {
                return step;
            }
        }
    }

    fn choose(&self, aim: &Aim, want: usize, passed_over: &HashSet<EntryId>) -> Leaving<'_> {
        let mut state = self.state();
        let state = &mut *state;
        if self.config.policy.compares_tenants() {
            state.ledger.tell_limits(&|salt| self.quotas.limit_for(salt));
        }
        let leaving = &state.leaving;
        let barred = |id: EntryId| passed_over.contains(&id) || leaving.contains(&id);
        let victims = match aim {
            Aim::All => state.ledger.victims(None, &barred, want),
            Aim::Tenant(salt) => match state.ledger.tenant(salt) {
                Some(tenant) => state.ledger.victims(Some(tenant), &barred, want),
                None => Vec::new(),
            },
        };
        state.leaving.extend(victims.iter().map(|victim| victim.id));
        Leaving { evictor: self, victims }
    }

    /// Takes a victim off the ledger, unless it was stored again since it was chosen.
    fn forget(state: &mut State, victim: &Victim, removal: Removal) {
        if state.leaving.contains(&victim.id) {
            state.ledger.remove(&victim.key, removal);
        }
    }

    fn note_evicted(&self, victim: &Victim) {
        let mut state = self.state();
        Self::forget(&mut state, victim, Removal::Evicted);
        state.count_evicted(victim.key.namespace.cache_salt());
        count(&self.counts.evicted_objects, 1);
        count(&self.counts.evicted_bytes, victim.bytes);
    }
}

fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
