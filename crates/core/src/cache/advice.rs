//! What advice there is, and eviction of what it says should leave first.

use std::sync::Arc;

use super::parts::{AdviceStats, State, Wish};
use super::table::Cache;
use crate::eviction::Removal;
use crate::key::Scope;

/// Object records walked in one eviction step in search of what should leave first. Each is compared with all
/// advice about scopes, under the lock of whoever calls.
const WALK: u32 = 512;

impl Cache {
    /// Takes advice that holds until `until_ms`; `false` if there is too much of it. The same advice given
    /// again holds until the later time.
    pub fn advise(&mut self, by: &Arc<str>, wish: Wish, until_ms: u64) -> bool {
        self.advice.take(by, wish, until_ms)
    }

    /// Forgets the advice of one giver.
    pub fn withdraw_advice(&mut self, by: &str) {
        self.advice.withdraw(by);
    }

    /// Forgets advice whose time is over. True while there is any left.
    pub fn expire_advice(&mut self, now_ms: u64) -> bool {
        self.advice.expire(now_ms)
    }

    /// Whether advice says that objects of this scope should not be written to the second tier.
    #[must_use]
    pub fn stays_out_of_l2(&self, scope: &Scope) -> bool {
        self.advice.stays_out_of_l2(scope)
    }

    /// How much advice there is, and what came of it.
    #[must_use]
    pub fn advice_stats(&self) -> AdviceStats {
        self.advice.stats()
    }

    /// Evicts up to `count` objects that should leave first, among a bounded number of records; the walk goes
    /// on where the last one ended.
    pub(super) fn evict_advised(&mut self, count: usize) -> usize {
        if !self.advice.sheds_any() {
            return 0;
        }
        let bound = self.entries.bound();
        let mut gone = 0;
        for _ in 0..WALK.min(bound) {
            if gone == count {
                break;
            }
            let id = self.advice.walk(bound);
            let entry = self.entries.at(id);
            let may_go = entry.state == State::Resident && entry.leases == 0;
            if may_go && self.advice.sheds(self.scopes.get(entry.scope), &entry.hash) {
                self.remove_resident(id, Removal::Evicted);
                gone += 1;
            }
        }
        self.advice.count_shed(gone as u64);
        self.stats.evicted_total += gone as u64;
        gone
    }
}
