//! Write-through: every committed object goes to every adapter that is active.

use std::sync::Arc;

use larder_storage::{Key, Lent, StoreItem};
use tokio::task::JoinSet;

use super::buffer::{PoolBuffer, Purpose};
use super::roster::InUse;
use super::tier::{Shared, StorePolicy};
use crate::engine::StoreWork;

/// Bytes handed to the adapters at a time.
const BATCH_BYTES: u64 = 64 << 20;

/// Stores batch after batch until the queue is empty and everything taken from it is stored: by whoever took it.
pub(super) async fn drain(shared: &Arc<Shared>) {
    let _turn = shared.storing.lock().await;
    loop {
        let batch = shared.engine.take_stores(BATCH_BYTES);
        if batch.is_empty() {
            return;
        }
        store(shared, batch).await;
    }
}

async fn store(shared: &Arc<Shared>, batch: Vec<StoreWork>) {
    let items: Vec<(Key, Arc<PoolBuffer>)> = batch
        .iter()
        .map(|work| {
            let length = work.scope.layout.bytes();
            let buffer = PoolBuffer::new(&shared.engine, work.entry, work.offset, length, Purpose::Store);
            (shared.key(&work.scope, &work.hash), buffer)
        })
        .collect();
    let mut running = JoinSet::new();
    let adapters = shared.roster.in_use();
    let mut stored_everywhere = !adapters.is_empty();
    for adapter in adapters {
        let batch = items.iter().map(|(key, buffer)| {
            let buffer: Lent = Arc::clone(buffer) as Lent;
            StoreItem { key: key.clone(), buffer, seal: None }
        });
        running.spawn_local(store_in(adapter, batch.collect()));
    }
    while let Some(stored) = running.join_next().await {
        stored_everywhere &= stored.unwrap_or(false);
    }
    let entries: Vec<_> = items.iter().map(|(_, buffer)| buffer.entry()).collect();
    drop(items);
    if shared.store_policy == StorePolicy::SkipL1 && stored_everywhere {
        for entry in entries {
            shared.engine.drop_stored(entry);
        }
    }
}

/// Whether all of the batch is held by the adapter now.
async fn store_in(adapter: InUse, batch: Vec<StoreItem>) -> bool {
    let outcomes = adapter.adapter().store(batch).await;
    let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    if let Some(first) = failed.first() {
        tracing::warn!(
            "{} of {} objects not stored in `{}`: {first}",
            failed.len(),
            outcomes.len(),
            adapter.attached().id()
        );
    }
    failed.is_empty()
}
