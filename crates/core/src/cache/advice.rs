//! Advice about what should leave first, stay longest, or stay out of the second tier, from somebody who
//! knows more than the policy.
//!
//! Advice orders, it never forbids: an object that should stay still leaves when nothing else can, so no
//! advice keeps a store from its room. It is bounded in number, and every piece of it ends at a time that its
//! giver names.

use std::sync::Arc;

use hashbrown::HashMap;

use super::entry::State;
use super::table::Cache;
use crate::eviction::Removal;
use crate::hash::ChunkHash;
use crate::key::Scope;

/// Most chunks that advice names, in all.
pub const ADVISED_CHUNKS_MAX: usize = 4_096;

/// Most pieces of advice about models and salts.
pub const ADVISED_SCOPES_MAX: usize = 64;

/// Object records walked in one eviction step in search of what should leave first. Each is compared with all
/// advice about scopes, under the lock of whoever calls.
const WALK: u32 = 512;

/// Objects of a model, of a salt, or of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The model; any without it.
    pub model_name: Option<Box<str>>,
    /// The salt; any without it.
    pub cache_salt: Option<Box<str>>,
}

impl Selector {
    fn matches(&self, scope: &Scope) -> bool {
        self.model_name.as_deref().is_none_or(|name| name == &*scope.model_name)
            && self.cache_salt.as_deref().is_none_or(|salt| salt == &*scope.cache_salt)
    }
}

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// This chunk should leave last.
    Keep(ChunkHash),
    /// This chunk should leave first.
    Shed(ChunkHash),
    /// These objects should leave first.
    ShedAll(Selector),
    /// These objects should not be written to the second tier.
    StayOutOfL2(Selector),
}

/// How much advice there is, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdviceStats {
    /// Chunks that should leave last.
    pub kept_chunks: u64,
    /// Chunks that should leave first.
    pub shed_chunks: u64,
    /// Pieces of advice about models and salts.
    pub scopes: u64,
    /// Objects that left because advice said so.
    pub shed_total: u64,
}

#[derive(Clone, Debug)]
struct Given {
    by: Arc<str>,
    until_ms: u64,
}

/// All advice that holds.
#[derive(Debug, Default)]
pub(super) struct Advice {
    kept: HashMap<ChunkHash, Given>,
    shed: HashMap<ChunkHash, Given>,
    shed_all: HashMap<Selector, Given>,
    out_of_l2: HashMap<Selector, Given>,
    /// Where the walk goes on.
    cursor: u32,
    shed_total: u64,
}

impl Advice {
    fn chunks(&self) -> usize {
        self.kept.len() + self.shed.len()
    }

    fn scopes(&self) -> usize {
        self.shed_all.len() + self.out_of_l2.len()
    }

    fn retain(&mut self, holds: impl Fn(&Given) -> bool) {
        self.kept.retain(|_, given| holds(given));
        self.shed.retain(|_, given| holds(given));
        self.shed_all.retain(|_, given| holds(given));
        self.out_of_l2.retain(|_, given| holds(given));
    }

    /// Whether an object should leave last.
    pub(super) fn keeps(&self, hash: &ChunkHash) -> bool {
        !self.kept.is_empty() && self.kept.contains_key(hash)
    }

    /// Whether anything should leave last.
    pub(super) fn keeps_any(&self) -> bool {
        !self.kept.is_empty()
    }

    fn sheds(&self, scope: &Scope, hash: &ChunkHash) -> bool {
        !self.keeps(hash)
            && (self.shed.contains_key(hash) || self.shed_all.keys().any(|selector| selector.matches(scope)))
    }
}

impl Cache {
    /// Takes advice that holds until `until_ms`; `false` if there is too much of it. The same advice given
    /// again holds until the later time.
    pub fn advise(&mut self, by: &Arc<str>, wish: Wish, until_ms: u64) -> bool {
        let given = Given { by: Arc::clone(by), until_ms };
        let advice = &mut self.advice;
        let (chunks_full, scopes_full) =
            (advice.chunks() >= ADVISED_CHUNKS_MAX, advice.scopes() >= ADVISED_SCOPES_MAX);
        match wish {
            Wish::Keep(hash) => put(&mut advice.kept, hash, given, chunks_full),
            Wish::Shed(hash) => put(&mut advice.shed, hash, given, chunks_full),
            Wish::ShedAll(selector) => put(&mut advice.shed_all, selector, given, scopes_full),
            Wish::StayOutOfL2(selector) => put(&mut advice.out_of_l2, selector, given, scopes_full),
        }
    }

    /// Forgets the advice of one giver.
    pub fn withdraw_advice(&mut self, by: &str) {
        self.advice.retain(|given| &*given.by != by);
    }

    /// Forgets advice whose time is over. True while there is any left.
    pub fn expire_advice(&mut self, now_ms: u64) -> bool {
        self.advice.retain(|given| given.until_ms > now_ms);
        self.advice.chunks() + self.advice.scopes() > 0
    }

    /// Whether advice says that objects of this scope should not be written to the second tier.
    #[must_use]
    pub fn stays_out_of_l2(&self, scope: &Scope) -> bool {
        self.advice.out_of_l2.keys().any(|selector| selector.matches(scope))
    }

    /// How much advice there is, and what came of it.
    #[must_use]
    pub fn advice_stats(&self) -> AdviceStats {
        AdviceStats {
            kept_chunks: self.advice.kept.len() as u64,
            shed_chunks: self.advice.shed.len() as u64,
            scopes: self.advice.scopes() as u64,
            shed_total: self.advice.shed_total,
        }
    }

    /// Evicts up to `count` objects that should leave first, among a bounded number of records; the walk goes
    /// on where the last one ended.
    pub(super) fn evict_advised(&mut self, count: usize) -> usize {
        if self.advice.shed.is_empty() && self.advice.shed_all.is_empty() {
            return 0;
        }
        let bound = self.entries.bound();
        let mut gone = 0;
        for _ in 0..WALK.min(bound) {
            if gone == count {
                break;
            }
            let id = if self.advice.cursor < bound { self.advice.cursor } else { 0 };
            self.advice.cursor = id + 1;
            let entry = self.entries.at(id);
            let may_go = entry.state == State::Resident && entry.leases == 0;
            if may_go && self.advice.sheds(self.scopes.get(entry.scope), &entry.hash) {
                self.remove_resident(id, Removal::Evicted);
                gone += 1;
            }
        }
        self.advice.shed_total += gone as u64;
        self.stats.evicted_total += gone as u64;
        gone
    }
}

fn put<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Given>, key: K, given: Given, is_full: bool) -> bool {
    match map.get_mut(&key) {
        Some(known) => known.until_ms = known.until_ms.max(given.until_ms),
        None if is_full => return false,
        None => _ = map.insert(key, given),
    }
    true
}
