//! The policy and what it is told; taking over another one.

use std::cmp::Reverse;

use super::parts::State;
use super::table::Cache;
use crate::eviction::{Arrival, EntryId, PerTenant, Policy};

impl Cache {
    /// The policy that decides what leaves, by its name.
    #[must_use]
    pub fn policy_name(&self) -> &'static str {
        self.policy.name()
    }

    /// Evicts by another policy from now on. It begins with the order of the one before and learns about use
    /// anew.
    ///
    /// Takes time in proportion to the number of objects: a few tenths of a second for a million, in one
    /// hold.
    pub fn replace_policy(&mut self, policy: Box<dyn Policy>) {
        let order = self.cold_to_hot();
        self.policy = match self.quotas().is_unlimited() {
            true => policy,
            false => PerTenant::over(policy, []),
        };
        self.tenants.mark_all_changed();
        self.tell_limits();
        for id in order {
            self.policy.insert(id, self.arrival(id));
        }
    }

    /// Every resident object, the first to leave first. What the policy has no order of comes first, later
    /// chunks before earlier ones.
    pub(super) fn cold_to_hot(&mut self) -> Vec<EntryId> {
        let known = self.policy.cold_to_hot();
        if known.len() == self.policy.len() {
            return known;
        }
        let mut ordered = vec![false; self.entries.bound() as usize];
        known.iter().for_each(|&id| ordered[id as usize] = true);
        let resident = |id: &EntryId| self.entries.at(*id).state == State::Resident;
        let mut all: Vec<EntryId> = (0..self.entries.bound()).filter(resident).collect();
        all.retain(|&id| !ordered[id as usize]);
        all.sort_by_key(|&id| Reverse(self.entries.at(id).position));
        all.extend(known);
        all
    }

    /// What a policy is told about an object.
    pub(super) fn arrival(&self, id: EntryId) -> Arrival {
        let entry = self.entries.at(id);
        Arrival {
            fingerprint: super::table::slot_hash(entry.scope, &entry.hash),
            tenant: self.scopes.tenant(entry.scope),
            bytes: self.held_bytes(entry.scope),
            position: u32::from(entry.position),
        }
    }
}
