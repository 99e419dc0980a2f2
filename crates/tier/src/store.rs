//! Storing what waits in a lane: batch by batch, each object checked before it goes and put back where the
//! adapter will take it later.

use std::sync::Arc;
use std::time::Duration;

use larder_core::key::ObjectKey;
use larder_storage::{Error, FailureKind, KeyResult, Lent, LentBuffer as _, Op, Seal, StoreItem, Stored};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::buffer::PoolBuffer;
use super::eviction::Evictor;
use super::lane::{BUSY_PAUSE_MIN, Lane, UnderWay, units};
use super::probe::probe;
use super::roster::InUse;
use super::shared::Shared;
use larder_core::modes::{ChecksumMode, StorePolicy};
use larder_engine::{StoreWork, TakenStore, Tiers};
use larder_telemetry::tasks::Task;

/// Longest such pause.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Stores what comes into the lane, for ever.
pub(super) async fn run(shared: Arc<Shared>, lane: Arc<Lane>, task: Arc<Task>) {
    let mut running = JoinSet::new();
    let mut pause = BUSY_PAUSE_MIN;
    let mut is_paused = false;
    let mut room = Box::pin(lane.has_room(pause));
    let mut probing = JoinSet::new();
    probing.spawn_local(probe(Arc::clone(lane.attached())));
    loop {
        tokio::select! {
            (batch, room) = lane.next_batch(), if !is_paused => {
                task.count_run();
                running.spawn_local(store(Arc::clone(&shared), Arc::clone(&lane), lane.begin(), batch, room));
            }
            () = &mut room, if is_paused => is_paused = false,
            Some(stored) = running.join_next() => match stored {
                Ok(Went::Through) => pause = BUSY_PAUSE_MIN,
                Ok(Went::Back) if is_paused => {}
                Ok(Went::Back) => {
                    is_paused = true;
                    room.set(lane.has_room(pause));
                    pause = (pause * 2).min(BUSY_PAUSE_MAX);
                }
                // A failure of the task that stores is the lane's own: it is counted, and the lane restarted.
                Err(failed) => std::panic::resume_unwind(failed.into_panic()),
            }
        }
    }
}

/// What became of a batch.
enum Went {
    /// The adapter took it, or never will.
    Through,
    /// Some of it waits again.
    Back,
}

/// An object on its way to the adapter.
struct Outgoing {
    work: Arc<StoreWork>,
    key: ObjectKey,
    buffer: Arc<PoolBuffer>,
    seal: Option<Seal>,
}

async fn store(
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    _under_way: UnderWay,
    batch: Vec<TakenStore>,
    mut room: OwnedSemaphorePermit,
) -> Went {
    let outgoing = batch.into_iter().map(|taken| {
        let work = Arc::clone(taken.work());
        let key = work.scope.namespace.key(work.hash);
        let length = work.scope.layout.bytes();
        let room = room.split((units(length) as usize).min(room.num_permits()));
        let buffer = PoolBuffer::to_store(&shared.engine, taken, room);
        Outgoing { work, key, buffer, seal: None }
    });
    let outgoing: Vec<Outgoing> = outgoing.collect();
    let Some(adapter) = InUse::take(lane.attached()) else {
        outgoing.iter().for_each(|item| _ = item.work.finish(false));
        return Went::Through;
    };
    let sealed = sealed(&shared.engine, outgoing).await;
    let (admitted, refused) =
        sealed.into_iter().partition::<Vec<_>, _>(|item| match adapter.attached().evictor() {
            Some(evictor) => evictor.admits(item.work.scope.namespace.cache_salt(), item.buffer.len() as u64),
            None => true,
        });
    refused.iter().for_each(|item| _ = item.work.finish(false));
    drop(refused);
    let items = admitted.iter().map(|item| StoreItem {
        key: item.key.clone(),
        buffer: Arc::clone(&item.buffer) as Lent,
        seal: item.seal,
    });
    let items: Vec<StoreItem> = items.collect();
    if items.is_empty() {
        return Went::Through;
    }
    let keys: Vec<ObjectKey> = items.iter().map(|item| item.key.clone()).collect();
    let (passing, begun) = (shared.flow.begin_store(keys.iter()), Instant::now());
    let outcomes = match adapter.attached().evictor() {
        Some(evictor) => store_evicting(&adapter, evictor, items).await,
        None => adapter.adapter().store(items).await,
    };
    drop(passing);
    let stored = || outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_ok()).map(|(at, _)| at);
    let bytes = stored().map(|at| admitted[at].buffer.len() as u64).sum();
    let kind = adapter.adapter().kind();
    shared.flow.end_store(kind, stored().map(|at| &keys[at]), bytes, begun.elapsed());
    refresh(&adapter, &admitted);
    settle(&shared, &lane, admitted, outcomes)
}

/// Notes what became of each object, and puts back what the adapter will take later.
fn settle(shared: &Shared, lane: &Lane, items: Vec<Outgoing>, outcomes: Vec<KeyResult<Stored>>) -> Went {
    let asked = outcomes.len();
    let failed = outcomes.iter().filter(|outcome| matches!(outcome, Err(Error::Absent | Error::Failed(_))));
    let failed_count = failed.clone().count();
    if let Some(Err(error)) = failed.clone().next() {
        shared.warnings.tell(lane.attached().id(), Op::Store, failed_count, asked, error);
    }
    let mut back = Vec::new();
    for (Outgoing { work, buffer, .. }, outcome) in items.into_iter().zip(outcomes) {
        match outcome {
            Err(error) if lane.is_put_back(&error) => back.push((work, buffer)),
            outcome => {
                drop(buffer);
                let is_everywhere = work.finish(outcome.is_ok());
                if is_everywhere && shared.store_policy() == StorePolicy::SkipL1 {
                    shared.engine.drop_stored(&work);
                }
            }
        }
    }
    if back.is_empty() {
        return Went::Through;
    }
    // Each under a lease of its own before the buffer gives up the one it was taken with.
    lane.put_back(back.iter().map(|(work, _)| Arc::clone(work)).collect());
    Went::Back
}

/// A chunk is in use when one that follows is stored: without it the other could not be used, so it must not
/// leave before.
fn refresh(adapter: &InUse, items: &[Outgoing]) {
    let Some(evictor) = adapter.attached().evictor() else { return };
    for commit in items.chunk_by(|left, right| Arc::ptr_eq(&left.work.scope, &right.work.scope)) {
        let StoreWork { scope, prompt, prompt_end, .. } = &*commit[0].work;
        evictor.refresh(prompt[..*prompt_end].iter().map(|hash| scope.namespace.key(*hash)));
    }
}

/// Those objects whose bytes are still what was committed, each with its seal. Hashed not on the tier's own
/// thread, but on one of the runtime's, of which there are never more at it than batches under way.
async fn sealed(engine: &Tiers, batch: Vec<Outgoing>) -> Vec<Outgoing> {
    if engine.checksum_mode() == ChecksumMode::Off {
        return batch;
    }
    let engine = engine.clone();
    let seal = move |item: Outgoing| {
        let Some(checksum) = engine.checksum_of(&item.work) else {
            item.work.finish(false);
            return None;
        };
        let seal = Some(Seal { checksum, layout: item.work.scope.layout.fingerprint() });
        Some(Outgoing { seal, ..item })
    };
    match tokio::task::spawn_blocking(move || batch.into_iter().filter_map(seal).collect()).await {
        Ok(items) => items,
        // As for a batch: the failure is the lane's own.
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

/// Makes room first. What finds none all the same gets a second try after more was evicted: the adapter knows
/// best.
async fn store_evicting(adapter: &InUse, evictor: &Evictor, batch: Vec<StoreItem>) -> Vec<KeyResult<Stored>> {
    let _room = evictor.make_room(batch.iter().map(|item| item.buffer.len() as u64).sum()).await;
    let mut outcomes = adapter.adapter().store(batch.clone()).await;
    if outcomes.iter().any(is_given_up) {
        evictor.note_unsure();
    }
    let refused: Vec<usize> = (0..outcomes.len()).filter(|&item| is_full(&outcomes[item])).collect();
    let bytes = refused.iter().map(|&item| batch[item].buffer.len() as u64).sum();
    if let Some(&first) = refused.first() {
        tracing::debug!(
            "`{}` has no room for {} objects: {:?}",
            adapter.attached().id(),
            refused.len(),
            outcomes[first]
        );
    }
    if !refused.is_empty() && evictor.free(bytes).await {
        let again = refused.iter().map(|&item| batch[item].clone()).collect();
        for (item, outcome) in refused.iter().zip(adapter.adapter().store(again).await) {
            outcomes[*item] = outcome;
        }
    }
    outcomes
}

fn is_given_up(outcome: &KeyResult<Stored>) -> bool {
    matches!(outcome, Err(Error::Failed(failure)) if failure.kind == FailureKind::Timeout)
}

fn is_full(outcome: &KeyResult<Stored>) -> bool {
    matches!(outcome, Err(Error::Failed(failure)) if failure.kind == FailureKind::Full)
}

#[cfg(test)]
mod tests {
    use larder_core::eviction::PolicyKind;
    use larder_storage::adapters::mock::{MockAdapter, MockOptions};
    use larder_storage::conformance::{FailingAdapter, store_items};
    use larder_storage::decorators::{Observer, Observing};
    use larder_storage::{Adapter, Built, EvictionConfig, Failure};
    use serde_json::Value as Json;

    use super::super::roster::{PendingAdapter, Roster};
    use super::*;

    fn evicting(adapter: Arc<dyn Adapter>) -> (InUse, Arc<Evictor>) {
        let policy = PolicyKind::parse("LRU").unwrap();
        let config = EvictionConfig { policy, trigger_watermark: 0.8, eviction_ratio: 0.2 };
        let evictor = Arc::new(Evictor::new(Arc::clone(&adapter), config, Arc::default()));
        let adapter = Arc::new(Observing::new(adapter, Arc::clone(&evictor) as Arc<dyn Observer>));
        let built =
            Built { adapter, is_shared: false, counters: Arc::default(), breaker: None, checksum: None };
        let new = PendingAdapter {
            built,
            config: Json::Null,
            eviction: None,
            evictor: Some(Arc::clone(&evictor)),
            directory: None,
        };
        let attached = Roster::default().add(new, None).unwrap();
        (InUse::take(&attached).unwrap(), evictor)
    }

    #[tokio::test]
    async fn what_finds_no_room_is_stored_when_as_much_has_left() {
        let mock = Arc::new(MockAdapter::new(MockOptions { capacity_bytes: 500, bandwidth_bytes_per_s: 0 }));
        let (adapter, evictor) = evicting(Arc::<MockAdapter>::clone(&mock));
        // Others put these there, so that more is held than the ledger knows.
        mock.store(store_items(0..3, 100)).await;
        let evicted = || evictor.report().evicted_objects;
        assert!(store_evicting(&adapter, &evictor, store_items(3..5, 100)).await.iter().all(Result::is_ok));
        assert_eq!((mock.usage().objects, evicted()), (5, 0), "there was room");
        assert!(store_evicting(&adapter, &evictor, store_items(5..7, 100)).await.iter().all(Result::is_ok));
        assert_eq!((mock.usage().objects, evicted()), (5, 2));
    }

    #[tokio::test]
    async fn only_a_store_that_was_given_up_may_still_come_to_its_end() {
        let double = FailingAdapter::new();
        let (adapter, evictor) = evicting(Arc::<FailingAdapter>::clone(&double));
        for (kind, expected) in [(FailureKind::Io, false), (FailureKind::Timeout, true)] {
            double.fail_next(Op::Store, 1, Failure::retryable(kind, "no").into());
            assert!(store_evicting(&adapter, &evictor, store_items(0..1, 100)).await[0].is_err());
            let unsure = tokio::time::timeout(Duration::ZERO, evictor.is_unsure.notified()).await;
            assert_eq!(unsure.is_ok(), expected, "{kind:?}");
        }
    }
}
