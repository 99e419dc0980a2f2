//! Advice about what should leave first, stay longest, or stay out of the second tier, from somebody who
//! knows more than the policy.
//!
//! Advice orders, it never forbids: an object that should stay still leaves when nothing else can, so no
//! advice keeps a store from its room. It is bounded in number, and every piece of it ends at a time that its
//! giver names.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::hash::ChunkHash;
use crate::key::Scope;

/// Most chunks that advice names, in all; advice on more is not taken, and its giver is told.
pub const ADVISED_CHUNKS_MAX: usize = 4_096;

/// Most pieces of advice about models and salts; more are not taken, and their giver is told.
pub const ADVISED_SCOPES_MAX: usize = 64;

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
        self.model_name.as_deref().is_none_or(|name| name == &**scope.namespace.model_name())
            && self.cache_salt.as_deref().is_none_or(|salt| salt == &**scope.namespace.cache_salt())
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
pub(crate) struct Advice {
    kept: HashMap<ChunkHash, Given>,
    shed: HashMap<ChunkHash, Given>,
    shed_all: HashMap<Selector, Given>,
    out_of_l2: HashMap<Selector, Given>,
    /// Where the walk goes on.
    cursor: u32,
    shed_total: u64,
}

impl Advice {
    /// Takes advice that holds until `until_ms`; `false` if there is too much of it.
    pub(crate) fn take(&mut self, by: &Arc<str>, wish: Wish, until_ms: u64) -> bool {
        let given = Given { by: Arc::clone(by), until_ms };
        let chunks_full = self.kept.len() + self.shed.len() >= ADVISED_CHUNKS_MAX;
        let scopes_full = self.scopes() >= ADVISED_SCOPES_MAX;
        match wish {
            Wish::Keep(hash) => put(&mut self.kept, hash, given, chunks_full),
            Wish::Shed(hash) => put(&mut self.shed, hash, given, chunks_full),
            Wish::ShedAll(selector) => put(&mut self.shed_all, selector, given, scopes_full),
            Wish::StayOutOfL2(selector) => put(&mut self.out_of_l2, selector, given, scopes_full),
        }
    }

    /// Forgets the advice of one giver.
    pub(crate) fn withdraw(&mut self, by: &str) {
        self.retain(|given| &*given.by != by);
    }

    /// Forgets advice whose time is over. True while there is any left.
    pub(crate) fn expire(&mut self, now_ms: u64) -> bool {
        self.retain(|given| given.until_ms > now_ms);
        self.kept.len() + self.shed.len() + self.scopes() > 0
    }

    fn retain(&mut self, holds: impl Fn(&Given) -> bool) {
        self.kept.retain(|_, given| holds(given));
        self.shed.retain(|_, given| holds(given));
        self.shed_all.retain(|_, given| holds(given));
        self.out_of_l2.retain(|_, given| holds(given));
    }

    /// Whether an object should leave last.
    pub(crate) fn keeps(&self, hash: &ChunkHash) -> bool {
        !self.kept.is_empty() && self.kept.contains_key(hash)
    }

    /// Whether anything should leave last.
    pub(crate) fn keeps_any(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Whether an object should leave first.
    pub(crate) fn sheds(&self, scope: &Scope, hash: &ChunkHash) -> bool {
        !self.keeps(hash)
            && (self.shed.contains_key(hash) || self.shed_all.keys().any(|selector| selector.matches(scope)))
    }

    /// Whether anything should leave first.
    pub(crate) fn sheds_any(&self) -> bool {
        !self.shed.is_empty() || !self.shed_all.is_empty()
    }

    /// Whether objects of this scope should not be written to the second tier.
    pub(crate) fn stays_out_of_l2(&self, scope: &Scope) -> bool {
        self.out_of_l2.keys().any(|selector| selector.matches(scope))
    }

    /// The next of `bound` records to look at, round and round.
    pub(crate) fn walk(&mut self, bound: u32) -> u32 {
        let id = if self.cursor < bound { self.cursor } else { 0 };
        self.cursor = id + 1;
        id
    }

    /// Counts objects that left because advice said so.
    pub(crate) fn count_shed(&mut self, objects: u64) {
        self.shed_total += objects;
    }

    /// How much advice there is, and what came of it.
    pub(crate) fn stats(&self) -> AdviceStats {
        AdviceStats {
            kept_chunks: self.kept.len() as u64,
            shed_chunks: self.shed.len() as u64,
            scopes: self.scopes() as u64,
            shed_total: self.shed_total,
        }
    }

    fn scopes(&self) -> usize {
        self.shed_all.len() + self.out_of_l2.len()
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
