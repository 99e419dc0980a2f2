//! Memory that a worker may still touch though its registration is over.
//!
//! A worker that unregisters, registers otherwise or falls silent may have a thread in the middle of a copy:
//! what it was told to write goes to nobody else, and what it was told to read stays in place, until its
//! process has ended, or its connections are gone where that is not known. What a client has reserved is
//! bounded, by [`RESERVED_SHARE`], so that what is set aside is, too.

use larder_core::cache::EntryRef;

use super::connections::ConnectionId;
use super::instances::Instance;
use super::pending::{Abandoned, Pending, PendingStore, TransferKey};
use super::processes::{Orphaned, Process, is_over};

/// One client may have reserved and not committed this part, one in so many, of what others have left of the
/// pool; what is set aside for it counts as its own.
pub(crate) const RESERVED_SHARE: u64 = 2;

/// Most registrations that leave something behind, and most of one connection; beyond it, that connection
/// registers nothing more.
const LEFTOVERS_MAX: usize = 16_384;
const LEFTOVERS_PER_CONNECTION_MAX: usize = 256;

/// What one registration left behind.
#[derive(Debug)]
struct Leftover {
    instance_id: i64,
    what: Pending,
    staged_bytes: u64,
    connections: Vec<ConnectionId>,
    orphaned: Option<Orphaned>,
    process: Option<Process>,
}

/// What is set aside for workers whose registration is over.
#[derive(Debug, Default)]
pub(crate) struct SetAside {
    leftovers: Vec<Leftover>,
}

impl SetAside {
    /// Whether a connection may leave one more registration behind.
    pub(crate) fn has_room(&self, connection: ConnectionId) -> bool {
        let its = |leftover: &&Leftover| leftover.connections.contains(&connection);
        let own = self.leftovers.iter().filter(its).count();
        own < LEFTOVERS_PER_CONNECTION_MAX && (own == 0 || self.leftovers.len() < LEFTOVERS_MAX)
    }

    /// Sets aside what a worker may still touch, until it is gone.
    pub(crate) fn add(&mut self, instance_id: i64, instance: &mut Instance) {
        let what = std::mem::take(&mut instance.pending);
        if what.count() > 0 {
            let connections = instance.connections.iter().copied().collect();
            let (staged_bytes, orphaned) = (what.staged_bytes(), instance.orphaned);
            let process = instance.process.clone();
            self.leftovers.push(Leftover { instance_id, what, staged_bytes, connections, orphaned, process });
        }
    }

    /// Commits of this name that may still come for what a worker prepared under earlier registrations.
    pub(crate) fn outstanding(&self, instance_id: i64, key: &TransferKey) -> u32 {
        let its = self.leftovers.iter().filter(|leftover| leftover.instance_id == instance_id);
        its.filter_map(|leftover| leftover.what.stores.get(key)).map(PendingStore::outstanding).sum()
    }

    /// Notes a commit for which there is no prepare of this registration. What is returned the worker has
    /// finished with; it is not published, since its registration is over.
    #[must_use = "it is to be given back"]
    pub(crate) fn commit(&mut self, instance_id: i64, key: &TransferKey) -> Vec<EntryRef> {
        let its = self.leftovers.iter_mut().filter(|leftover| leftover.instance_id == instance_id);
        for Leftover { what: Pending { stores, .. }, staged_bytes, .. } in its {
            if let Some(pending) = stores.get_mut(key) {
                pending.committed += 1;
                if pending.outstanding() == 0 {
                    let written = stores.remove(key).unwrap_or_default();
                    *staged_bytes -= written.staged_bytes;
                    debug_assert_eq!(
                        *staged_bytes,
                        stores.values().map(|pending| pending.staged_bytes).sum::<u64>(),
                        "what is set aside is what is not written yet"
                    );
                    return written.into_entries();
                }
                break;
            }
        }
        Vec::new()
    }

    /// Notes that a connection is gone.
    pub(crate) fn disconnected(&mut self, connection: ConnectionId, orphaned: Orphaned) {
        for leftover in &mut self.leftovers {
            leftover.connections.retain(|&other| other != connection);
            if leftover.connections.is_empty() {
                leftover.orphaned.get_or_insert(orphaned);
            }
        }
    }

    /// Takes what nobody can touch any more.
    #[must_use = "it is to be given back"]
    pub(crate) fn take_over(&mut self, now_ms: u64) -> Vec<Abandoned> {
        let gone = |leftover: &mut Leftover| is_over(leftover.process.as_ref(), leftover.orphaned, now_ms);
        self.leftovers.extract_if(.., gone).map(|leftover| leftover.what.abandon()).collect()
    }

    /// Takes everything that is set aside for a worker, because an operator says that it touches nothing any
    /// more.
    #[must_use = "it is to be given back"]
    pub(crate) fn take_of(&mut self, instance_id: i64) -> Vec<Abandoned> {
        let its = |leftover: &mut Leftover| leftover.instance_id == instance_id;
        self.leftovers.extract_if(.., its).map(|leftover| leftover.what.abandon()).collect()
    }

    /// Bytes that a worker may still write.
    pub(crate) fn staged_bytes_of(&self, instance_id: i64) -> u64 {
        let its = self.leftovers.iter().filter(|leftover| leftover.instance_id == instance_id);
        its.map(|leftover| leftover.staged_bytes).sum()
    }

    /// What each registration left to be written, in bytes, and whether it was one of this client's: of this
    /// worker or this connection.
    pub(crate) fn reserved(
        &self,
        instance_id: i64,
        connection: ConnectionId,
    ) -> impl Iterator<Item = (bool, u64)> {
        self.leftovers.iter().map(move |leftover| {
            let is_own = leftover.instance_id == instance_id || leftover.connections.contains(&connection);
            (is_own, leftover.staged_bytes)
        })
    }

    /// Bytes that workers may still write.
    pub(crate) fn staged_bytes(&self) -> u64 {
        self.leftovers.iter().map(|leftover| leftover.staged_bytes).sum()
    }

    /// Leases that workers may still read under.
    pub(crate) fn reading(&self) -> u64 {
        self.leftovers.iter().map(|leftover| leftover.what.reading()).sum()
    }

    /// Registrations that left something behind.
    pub(crate) fn len(&self) -> usize {
        self.leftovers.len()
    }
}
