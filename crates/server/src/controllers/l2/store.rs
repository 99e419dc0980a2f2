//! Write-through: every committed object goes to every adapter that is active.

use std::sync::Arc;

use larder_storage::{Busy, Error, FailureKind, Key, KeyResult, Lent, Seal, StoreItem, Stored};
use tokio::task::JoinSet;

use super::buffer::{PoolBuffer, Purpose};
use super::eviction::Evictor;
use super::roster::InUse;
use super::tier::{Shared, StorePolicy};
use crate::engine::{CheckPoint, Checked, ChecksumMode, Engine, StoreWork};

/// Bytes handed to the adapters at a time.
const BATCH_BYTES: u64 = 16 << 20;

/// Batches under way at once: while one is hashed the next is written, and a slow object holds up only its own batch.
const BATCHES_MAX: usize = 4;

/// Stores batch after batch until the queue is empty and everything taken from it is stored: by whoever took it.
pub(super) async fn drain(shared: &Arc<Shared>) {
    let _turn = shared.storing.lock().await;
    let mut running = JoinSet::new();
    loop {
        while running.len() < BATCHES_MAX {
            let batch = shared.engine.take_stores(BATCH_BYTES);
            if batch.is_empty() {
                break;
            }
            running.spawn_local(store(Arc::clone(shared), batch));
        }
        let stored = tokio::select! {
            stored = running.join_next() => stored,
            () = shared.engine.stores_due(), if (1..BATCHES_MAX).contains(&running.len()) => continue,
        };
        match stored {
            Some(Ok(())) => {}
            // A failure of the task that stores is the controller's own: it is counted, and the controller restarted.
            Some(Err(failed)) => std::panic::resume_unwind(failed.into_panic()),
            None => return,
        }
    }
}

/// An object on its way to the adapters.
struct Outgoing {
    key: Key,
    buffer: Arc<PoolBuffer>,
    seal: Option<Seal>,
}

async fn store(shared: Arc<Shared>, batch: Vec<StoreWork>) {
    let outgoing = batch.iter().map(|work| {
        let length = work.scope.layout.bytes();
        let buffer = PoolBuffer::new(&shared.engine, work.entry, work.offset, length, Purpose::Store);
        (Outgoing { key: shared.key(&work.scope, &work.hash), buffer, seal: None }, work.clone())
    });
    let items = sealed(&shared.engine, outgoing.collect()).await;
    if items.is_empty() {
        return;
    }
    let mut running = JoinSet::new();
    let adapters = shared.roster.in_use();
    let work = Arc::new(batch);
    let mut stored_everywhere = !adapters.is_empty();
    for adapter in adapters {
        let batch = items.iter().map(|item| {
            let buffer: Lent = Arc::clone(&item.buffer) as Lent;
            StoreItem { key: item.key.clone(), buffer, seal: item.seal }
        });
        let (shared, work, batch) = (Arc::clone(&shared), Arc::clone(&work), batch.collect());
        running.spawn_local(async move {
            let is_stored = store_in(&adapter, batch).await;
            refresh(&shared, &adapter, &work);
            is_stored
        });
    }
    while let Some(stored) = running.join_next().await {
        stored_everywhere &= stored.unwrap_or(false);
    }
    let entries: Vec<_> = items.iter().map(|item| item.buffer.entry()).collect();
    drop(items);
    if shared.store_policy() == StorePolicy::SkipL1 && stored_everywhere {
        for entry in entries {
            shared.engine.drop_stored(entry);
        }
    }
}

/// A chunk is in use when one that follows is stored: without it the other could not be used, so it must not leave before.
fn refresh(shared: &Shared, adapter: &InUse, work: &[StoreWork]) {
    let Some(evictor) = adapter.attached().evictor() else { return };
    for commit in work.chunk_by(|left, right| Arc::ptr_eq(&left.scope, &right.scope)) {
        let StoreWork { scope, prompt, prompt_end, .. } = &commit[0];
        evictor.refresh(prompt[..*prompt_end].iter().map(|hash| shared.key(scope, hash)));
    }
}

/// Those objects whose bytes are still what was committed, each with its seal. Hashed here once, for all adapters: not on the tier's
/// own thread, but on one of the runtime's, of which there are never more at it than batches under way.
async fn sealed(engine: &Arc<Engine>, batch: Vec<(Outgoing, StoreWork)>) -> Vec<Outgoing> {
    if engine.checksum_mode() == ChecksumMode::Off {
        return batch.into_iter().map(|(item, _)| item).collect();
    }
    let engine = Arc::clone(engine);
    let hashed = tokio::task::spawn_blocking(move || {
        batch.into_iter().filter_map(|(item, work)| seal(&engine, item, &work)).collect()
    });
    match hashed.await {
        Ok(items) => items,
        // As for a batch: the failure is the controller's own.
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

fn seal(engine: &Engine, item: Outgoing, work: &StoreWork) -> Option<Outgoing> {
    let layout = &work.scope.layout;
    let checksum = match engine.verify_object(work.entry, work.offset, layout.bytes(), CheckPoint::Store) {
        Ok(Checked::Intact(checksum) | Checked::Gone(checksum)) => checksum,
        Ok(Checked::Changed) => return None,
        Err(error) => {
            tracing::warn!("an object was not stored in L2: {error}");
            return None;
        }
    };
    Some(Outgoing { seal: Some(Seal { checksum, layout: layout.fingerprint() }), ..item })
}

/// Whether all of the batch is held by the adapter now.
async fn store_in(adapter: &InUse, batch: Vec<StoreItem>) -> bool {
    let evictor = adapter.attached().evictor();
    let admitted = |item: &StoreItem| {
        evictor.is_none_or(|evictor| evictor.admits(&item.key.cache_salt, item.buffer.len() as u64))
    };
    let wanted = batch.len();
    let batch: Vec<StoreItem> = batch.into_iter().filter(admitted).collect();
    let is_whole = batch.len() == wanted;
    let outcomes = match evictor {
        Some(evictor) => store_evicting(adapter, evictor, batch).await,
        None => adapter.adapter().store(batch).await,
    };
    let (declined, failed): (Vec<_>, Vec<_>) = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err())
        .partition(|error| matches!(error, Error::Busy(Busy::Declined(_))));
    if let Some(first) = failed.first() {
        tracing::warn!(
            "{} of {} objects not stored in `{}`: {first}",
            failed.len(),
            outcomes.len(),
            adapter.attached().id()
        );
    }
    is_whole && failed.is_empty() && declined.is_empty()
}

/// Makes room first. What finds none all the same gets a second try after more was evicted: the adapter knows best.
async fn store_evicting(adapter: &InUse, evictor: &Evictor, batch: Vec<StoreItem>) -> Vec<KeyResult<Stored>> {
    let _room = evictor.make_room(batch.iter().map(|item| item.buffer.len() as u64).sum()).await;
    let mut outcomes = adapter.adapter().store(batch.clone()).await;
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

fn is_full(outcome: &KeyResult<Stored>) -> bool {
    matches!(outcome, Err(Error::Failed(failure)) if failure.kind == FailureKind::Full)
}
