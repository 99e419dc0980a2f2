//! The table object by object, for operators: listing, and removal by name.

use std::sync::Arc;

use super::parts::State;
use super::table::Cache;
use crate::eviction::Removal;
use crate::hash::ChunkHash;
use crate::key::{ObjectKey, Scope};

/// A resident object, as listings show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it is.
    pub scope: Arc<Scope>,
    /// Its chunk.
    pub hash: ChunkHash,
    /// Leases on it.
    pub leases: u32,
}

/// What became of a request to remove an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedRemoval {
    /// It left the index.
    Yes,
    /// Somebody reads or writes it, and force was not asked for.
    InUse,
    /// There is no such object.
    Absent,
}

impl Cache {
    /// The resident objects among at most `step` records from record `from` on, and where to go on. Objects
    /// that come and go between two steps may be missed or seen twice; others are seen once.
    #[must_use]
    pub fn list_step(&self, from: u32, step: u32) -> (Vec<Listed>, Option<u32>) {
        let until = from.saturating_add(step).min(self.entries.bound());
        let resident = (from..until).map(|id| self.entries.at(id)).filter(|e| e.state == State::Resident);
        let listed = resident.map(|entry| Listed {
            scope: Arc::clone(self.scopes.get(entry.scope)),
            hash: entry.hash,
            leases: entry.leases,
        });
        (listed.collect(), (until < self.entries.bound()).then_some(until))
    }

    /// Removes the resident object of this name, in whatever layouts there are of it. With `force` also one
    /// under lease, whose memory is then kept until the last reader lets go.
    pub fn remove_named(&mut self, key: &ObjectKey, force: bool) -> NamedRemoval {
        let mut outcome = NamedRemoval::Absent;
        for scope in self.scopes.of(&key.namespace) {
            let Some(id) = self.find_resident(scope, &key.chunk_hash) else { continue };
            match self.entries.at(id).leases {
                0 => self.remove_resident(id, Removal::Dropped),
                _ if force => self.condemn(id),
                _ => {
                    outcome = NamedRemoval::InUse;
                    continue;
                }
            }
            if outcome == NamedRemoval::Absent {
                outcome = NamedRemoval::Yes;
            }
        }
        outcome
    }
}
