//! Memory that a worker may still touch though its registration is over.
//!
//! A worker that unregisters, registers otherwise or falls silent may have a thread in the middle of a copy: what it was told to write
//! goes to nobody else, and what it was told to read stays in place, until the worker's connections are gone. What a worker
//! has reserved is bounded, by [`RESERVED_SHARE`], so that what is set aside is, too.

use larder_core::cache::EntryRef;

use super::ConnectionId;
use super::instances::Instance;
use super::pending::{Abandoned, Pending, PendingStore, TransferKey};

/// Share of the pool that one worker may have reserved and not committed, what is set aside for it included.
pub(super) const RESERVED_SHARE: u64 = 2;

/// What one registration left behind.
#[derive(Debug)]
struct Leftover {
    instance_id: i64,
    what: Pending,
    connections: Vec<ConnectionId>,
    orphaned_ms: Option<u64>,
}

/// What is set aside for workers whose registration is over.
#[derive(Debug, Default)]
pub(super) struct SetAside {
    leftovers: Vec<Leftover>,
}

impl SetAside {
    /// Sets aside what a worker may still touch. What nobody can touch any more is returned, to be given back at once.
    #[must_use = "what is not set aside is to be given back"]
    pub(super) fn add(&mut self, instance_id: i64, instance: &mut Instance) -> Option<Abandoned> {
        let what = std::mem::take(&mut instance.pending);
        if what.count() == 0 || instance.connections.is_empty() {
            return Some(what.abandon());
        }
        let connections = instance.connections.iter().copied().collect();
        self.leftovers.push(Leftover { instance_id, what, connections, orphaned_ms: None });
        None
    }

    /// Commits of this name that may still come for what a worker prepared under earlier registrations.
    pub(super) fn outstanding(&self, instance_id: i64, key: &TransferKey) -> u32 {
        let its = self.leftovers.iter().filter(|leftover| leftover.instance_id == instance_id);
        its.filter_map(|leftover| leftover.what.stores.get(key)).map(PendingStore::outstanding).sum()
    }

    /// Notes a commit for which there is no prepare of this registration. What is returned the worker has finished with; it is not
    /// published, since its registration is over.
    #[must_use = "it is to be given back"]
    pub(super) fn commit(&mut self, instance_id: i64, key: &TransferKey) -> Vec<EntryRef> {
        let its = self.leftovers.iter_mut().filter(|leftover| leftover.instance_id == instance_id);
        for stores in its.map(|leftover| &mut leftover.what.stores) {
            if let Some(pending) = stores.get_mut(key) {
                pending.committed += 1;
                if pending.outstanding() == 0 {
                    return stores.remove(key).unwrap_or_default().into_entries();
                }
                break;
            }
        }
        Vec::new()
    }

    /// Notes that a connection is gone.
    pub(super) fn disconnected(&mut self, connection: ConnectionId, now_ms: u64) {
        for leftover in &mut self.leftovers {
            leftover.connections.retain(|&other| other != connection);
            if leftover.connections.is_empty() {
                leftover.orphaned_ms.get_or_insert(now_ms);
            }
        }
    }

    /// Takes what nobody can touch any more: its worker has been gone for `grace_ms`.
    #[must_use = "it is to be given back"]
    pub(super) fn take_over(&mut self, now_ms: u64, grace_ms: u64) -> Vec<Abandoned> {
        let gone = |leftover: &mut Leftover| {
            leftover.orphaned_ms.is_some_and(|since| now_ms.saturating_sub(since) > grace_ms)
        };
        self.leftovers.extract_if(.., gone).map(|leftover| leftover.what.abandon()).collect()
    }

    /// Takes everything that is set aside for a worker, because an operator says that it touches nothing any more.
    #[must_use = "it is to be given back"]
    pub(super) fn take_of(&mut self, instance_id: i64) -> Vec<Abandoned> {
        let its = |leftover: &mut Leftover| leftover.instance_id == instance_id;
        self.leftovers.extract_if(.., its).map(|leftover| leftover.what.abandon()).collect()
    }

    /// Bytes that a worker may still write.
    pub(super) fn staged_bytes_of(&self, instance_id: i64) -> u64 {
        let its = self.leftovers.iter().filter(|leftover| leftover.instance_id == instance_id);
        its.map(|leftover| leftover.what.staged_bytes()).sum()
    }

    /// Bytes that workers may still write.
    pub(super) fn staged_bytes(&self) -> u64 {
        self.leftovers.iter().map(|leftover| leftover.what.staged_bytes()).sum()
    }

    /// Leases that workers may still read under.
    pub(super) fn reading(&self) -> u64 {
        self.leftovers.iter().map(|leftover| leftover.what.reading()).sum()
    }

    /// Registrations that left something behind.
    pub(super) fn len(&self) -> usize {
        self.leftovers.len()
    }
}
