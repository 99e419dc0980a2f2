//! What a worker is copying: transfers between prepare and commit, by name.

use std::collections::VecDeque;

use hashbrown::HashMap;
use larder_core::cache::EntryRef;
use larder_core::hash::ChunkHash;
use larder_core::key::Scope;

/// Names a transfer between its prepare and its commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TransferKey {
    /// The request: two of them may copy the same chunks at the same time, each into memory of its own.
    pub request_id: Box<str>,
    /// Where the objects are.
    pub scope: Scope,
    /// Hash of the last chunk, which names every token before it as well.
    pub last: ChunkHash,
    /// First chunk.
    pub start: usize,
    /// One past the last chunk.
    pub end: usize,
}

/// Memory a worker is writing for one transfer.
///
/// A request may prepare a transfer again before it has committed it, and is then given what is absent by
/// now. Nothing on the wire says which of them a commit belongs to: what was reserved is published, or given
/// back, when all of them are committed.
#[derive(Debug, Default)]
pub(crate) struct PendingStore {
    /// The staging objects by their position in the range.
    pub entries: Vec<(usize, EntryRef)>,
    /// Bytes of the pool they take.
    pub staged_bytes: u64,
    /// Commits that were or are to come: one for each prepare that was given memory.
    pub prepared: u32,
    /// Commits that came.
    pub committed: u32,
    /// When memory was last handed out.
    pub since_ms: u64,
    /// Whether the write TTL is over: nothing of it will be published, and the memory is free when it is
    /// committed or the worker is gone.
    pub expired: bool,
}

impl PendingStore {
    /// Commits that are still to come.
    pub(crate) fn outstanding(&self) -> u32 {
        self.prepared.saturating_sub(self.committed)
    }

    /// The staging objects, in the order of their chunks.
    pub(crate) fn into_entries(mut self) -> Vec<EntryRef> {
        self.entries.sort_by_key(|&(index, _)| index);
        self.entries.into_iter().map(|(_, entry)| entry).collect()
    }
}

/// Objects a worker is reading for one transfer.
#[derive(Debug)]
pub(crate) struct PendingRetrieve {
    /// One lease on each.
    pub entries: Vec<EntryRef>,
    /// When they were handed out.
    pub since_ms: u64,
}

/// Everything a worker is copying.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Stores between prepare and commit.
    pub stores: HashMap<TransferKey, PendingStore>,
    retrieves: HashMap<TransferKey, VecDeque<PendingRetrieve>>,
}

impl Pending {
    /// Transfers.
    pub(crate) fn count(&self) -> usize {
        let stores: u32 = self.stores.values().map(PendingStore::outstanding).sum();
        stores as usize + self.retrieves.values().map(VecDeque::len).sum::<usize>()
    }

    /// Bytes of the pool that are being written.
    pub(crate) fn staged_bytes(&self) -> u64 {
        self.stores.values().map(|pending| pending.staged_bytes).sum()
    }

    /// Leases that are being read under.
    pub(crate) fn reading(&self) -> u64 {
        self.retrieves.values().flatten().map(|pending| pending.entries.len() as u64).sum()
    }

    /// Notes that objects were handed out to be read.
    pub(crate) fn add_retrieve(&mut self, key: TransferKey, entries: Vec<EntryRef>, since_ms: u64) {
        self.retrieves.entry(key).or_default().push_back(PendingRetrieve { entries, since_ms });
    }

    /// Takes the oldest retrieve of this name that is `wanted`.
    pub(crate) fn take_retrieve(
        &mut self,
        key: &TransferKey,
        wanted: impl Fn(&PendingRetrieve) -> bool,
    ) -> Option<Vec<EntryRef>> {
        let batches = self.retrieves.get_mut(key)?;
        let taken = batches.iter().position(wanted).and_then(|index| batches.remove(index));
        if batches.is_empty() {
            self.retrieves.remove(key);
        }
        taken.map(|pending| pending.entries)
    }

    /// Takes the retrieves that are `over`.
    pub(crate) fn take_retrieves(&mut self, over: impl Fn(&PendingRetrieve) -> bool) -> Vec<EntryRef> {
        let mut taken = Vec::new();
        self.retrieves.retain(|_, batches| {
            batches.retain_mut(|pending| {
                let over = over(pending);
                if over {
                    taken.append(&mut pending.entries);
                }
                !over
            });
            !batches.is_empty()
        });
        taken
    }

    /// What is left when nobody copies any more.
    pub(crate) fn abandon(self) -> Abandoned {
        let staging = self.stores.into_values().flat_map(|pending| pending.entries);
        let leases = self.retrieves.into_values().flatten().flat_map(|pending| pending.entries);
        Abandoned { staging: staging.map(|(_, entry)| entry).collect(), leases: leases.collect() }
    }
}

/// What a worker left behind; staging is to be aborted, leases are to be released.
#[derive(Debug, Default)]
#[must_use = "what a worker leaves behind pins memory"]
pub(crate) struct Abandoned {
    /// Memory that was being written.
    pub staging: Vec<EntryRef>,
    /// One lease on each object that was being read.
    pub leases: Vec<EntryRef>,
}
