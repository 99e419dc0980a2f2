//! The task that keeps one evictor running for every adapter that has one.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use super::super::shared::Shared;
use super::evictor::Evictor;
use larder_telemetry::tasks::Task;

/// Follows the list of adapters, for ever. A failure of one evictor is the task's own: it is counted, and all
/// are started anew.
pub(crate) async fn evict_all(shared: Arc<Shared>, task: Arc<Task>) {
    let mut running = JoinSet::new();
    let mut handles: HashMap<String, AbortHandle> = HashMap::new();
    loop {
        let attached = shared.roster.list();
        handles.retain(|id, handle| {
            let stays = attached.iter().any(|attached| attached.id() == id);
            if !stays {
                handle.abort();
            }
            stays
        });
        for attached in attached.iter() {
            let Some(evictor) = attached.evictor().filter(|_| !handles.contains_key(attached.id())) else {
                continue;
            };
            let handle = running.spawn_local(run(Arc::clone(evictor), Arc::clone(&task)));
            handles.insert(attached.id().to_owned(), handle);
        }
        tokio::select! {
            () = shared.evictions_changed.notified() => {}
            Some(Err(ended)) = running.join_next() => {
                if ended.is_panic() {
                    std::panic::resume_unwind(ended.into_panic());
                }
            }
        }
    }
}

async fn run(evictor: Arc<Evictor>, task: Arc<Task>) {
    tokio::join!(evictor.evict_when_due(&task), evictor.keep_listed());
}
