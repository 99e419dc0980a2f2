//! Adaptive replacement over the tree of prefixes: recency against how often a prefix was shared.
//!
//! What a turn of a conversation uses again says little about the turn after the next; what prompts of
//! different continuations have in common is asked for by others as well. So a use that only continues the
//! prompt's own last chunk counts a quarter of one that branches off. Objects that were shared more often may
//! stay idle longer, and how much longer is learned as in ARC: from what is missed after its eviction.

use super::list::{Links, List};
use super::policy::{Arrival, EntryId, Policy, Removal};
use super::prefix_ghosts::{BRANCH_POINTS, Ghost, PrefixGhosts, RANKS, rank};

/// How many times as long as the rank below a rank may stay idle, at most; patience is cut to it.
const PATIENCE_MAX: f64 = 16.0;
const PATIENCE_START: f64 = 2.0;

/// An object that was idle while the cache was filled this many times over is as cold as any of its age: its
/// rank counts no more.
const TURNOVERS_MAX: usize = 16;

/// Recency and sharing, balanced by what is missed. A chunk never leaves before its continuation.
///
/// Sharing is learned from the order in which prompts are applied, last chunk first: an object that follows
/// its continuation is its parent in the tree, has at least its points, and is at least as recent. Time is
/// counted in insertions. Twenty-four bytes per object, and up to sixteen for what is remembered of evicted
/// ones.
#[derive(Debug)]
pub struct PrefixArc {
    links: Links,
    ranks: [List; RANKS],
    members: Vec<Member>,
    ghosts: PrefixGhosts,
    len: usize,
    clock: u32,
    last: Last,
    /// How many times as long as the rank below a rank may stay idle.
    patience: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Member {
    fingerprint: u32,
    used_at: u32,
    points: u16,
    position: u16,
    rank: u8,
    /// Something was stored after it in a prompt.
    continued: bool,
    /// It came with the prompt that is being stored.
    fresh: bool,
}

/// What was applied last, to recognise what comes before it in the same prompt.
#[derive(Clone, Copy, Debug)]
struct Last {
    act: Act,
    position: u16,
    points: u16,
    /// The prompt being stored continues an earlier one: its use does not count as a branch.
    continues: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Insert,
    Touch,
    Refresh,
}

impl Default for PrefixArc {
    fn default() -> Self {
        Self {
            links: Links::default(),
            ranks: std::array::from_fn(|_| List::default()),
            members: Vec::new(),
            ghosts: PrefixGhosts::default(),
            len: 0,
            clock: 0,
            last: Last { act: Act::Touch, position: 0, points: 0, continues: false },
            patience: PATIENCE_START,
        }
    }
}

impl PrefixArc {
    /// A policy without objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies what is known from the order of the prompt, and makes the object the most recent of its rank.
    fn apply(&mut self, id: EntryId, act: Act) {
        let member = &mut self.members[id as usize];
        let follows = self.last.act == act && self.last.position == member.position.saturating_add(1);
        let mut continues = follows && self.last.continues;
        if follows {
            continues |= act == Act::Refresh && !member.continued && !member.fresh;
            // A store inserts first and refreshes then: that pass is to see what was there before.
            member.continued |= act != Act::Insert;
        }
        if continues {
            let counted = member.points.saturating_sub(BRANCH_POINTS - 1);
            member.points = counted.max(BRANCH_POINTS);
        }
        if follows {
            member.points = member.points.max(self.last.points);
        }
        if act == Act::Refresh {
            member.fresh = false;
        }
        member.used_at = self.clock;
        self.last = Last { act, position: member.position, points: member.points, continues };
        let rank = rank(member.points);
        let from = std::mem::replace(&mut member.rank, rank);
        if from == rank {
            self.ranks[usize::from(rank)].touch(&mut self.links, id);
        } else {
            self.ranks[usize::from(from)].remove(&mut self.links, id);
            self.ranks[usize::from(rank)].insert(&mut self.links, id);
        }
    }

    /// Learns from an object that is stored again after its eviction.
    fn learn(&mut self, missed: Ghost) {
        let (once, shared) = (self.ghosts.once() as f64, self.ghosts.shared() as f64);
        let step = |other: f64, own: f64| (other / own.max(1.0)).max(1.0) / self.len.max(1) as f64;
        let factor = match rank(missed.points) {
            0 => 1.0 - step(shared, once).min(0.5),
            _ => 1.0 + step(once, shared).min(0.5),
        };
        self.patience = (self.patience * factor).clamp(1.0, PATIENCE_MAX);
    }

    /// How cold an object is: how long it was idle, as its rank counts it.
    fn coldness(&self, id: EntryId) -> f64 {
        let Member { used_at, rank, .. } = self.members[id as usize];
        let idle = self.clock.wrapping_sub(used_at);
        if idle as usize > TURNOVERS_MAX * self.len {
            return f64::from(idle);
        }
        (f64::from(idle) + 1.0) / self.patience.powi(i32::from(rank))
    }
}

/// Both halves of a fingerprint in one.
#[expect(clippy::cast_possible_truncation, reason = "the upper half is folded into the lower one")]
fn folded(fingerprint: u64) -> u32 {
    (fingerprint ^ fingerprint >> 32) as u32
}

impl Policy for PrefixArc {
    fn name(&self) -> &'static str {
        "PrefixARC"
    }

    fn insert(&mut self, id: EntryId, arrival: Arrival) {
        let fingerprint = folded(arrival.fingerprint);
        self.len += 1;
        self.clock = self.clock.wrapping_add(1);
        self.ghosts.reserve(self.len);
        let missed = self.ghosts.take(fingerprint);
        missed.into_iter().for_each(|missed| self.learn(missed));
        let known = missed.unwrap_or_default();
        let points = known.points.saturating_add(BRANCH_POINTS);
        if self.members.len() <= id as usize {
            self.members.resize(id as usize + 1, Member::default());
        }
        self.members[id as usize] = Member {
            fingerprint,
            used_at: self.clock,
            points,
            position: u16::try_from(arrival.position).unwrap_or(u16::MAX),
            rank: rank(points),
            continued: known.continued,
            fresh: missed.is_none(),
        };
        self.ranks[usize::from(rank(points))].insert(&mut self.links, id);
        self.apply(id, Act::Insert);
    }

    fn touch(&mut self, id: EntryId) {
        let member = &mut self.members[id as usize];
        member.points = member.points.saturating_add(BRANCH_POINTS);
        self.apply(id, Act::Touch);
    }

    fn refresh(&mut self, id: EntryId) {
        self.apply(id, Act::Refresh);
    }

    fn remove(&mut self, id: EntryId, removal: Removal) {
        let Member { fingerprint, points, rank, continued, .. } = self.members[id as usize];
        self.ranks[usize::from(rank)].remove(&mut self.links, id);
        self.len -= 1;
        if removal == Removal::Evicted {
            self.ghosts.remember(Ghost { fingerprint, points, continued });
        }
    }

    fn victims(&mut self, evictable: &mut dyn FnMut(EntryId) -> bool, want: usize) -> Vec<EntryId> {
        let links = &self.links;
        let mut ranks =
            self.ranks.each_mut().map(|list| list.victims(links, evictable, want).into_iter().peekable());
        let mut victims = Vec::with_capacity(want.min(self.len));
        while victims.len() < want {
            let mut coldest: Option<(f64, usize)> = None;
            for (rank, ids) in ranks.iter_mut().enumerate() {
                let Some(&id) = ids.peek() else { continue };
                let coldness = self.coldness(id);
                // Of equals the one shared less: it may be the continuation of the other.
                if coldest.is_none_or(|(most, _)| coldness > most) {
                    coldest = Some((coldness, rank));
                }
            }
            let Some((_, rank)) = coldest else { break };
            victims.extend(ranks[rank].next());
        }
        victims
    }

    fn cold_to_hot(&mut self) -> Vec<EntryId> {
        self.victims(&mut |_| true, usize::MAX)
    }

    fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;

    use super::*;

    /// A cache of chunks, each named by the path that leads to it, which applies prompts as the object table
    /// does.
    struct Tree {
        policy: PrefixArc,
        ids: BTreeMap<Vec<u8>, EntryId>,
        free: Vec<EntryId>,
        names: HashMap<EntryId, Vec<u8>>,
    }

    impl Tree {
        fn new(capacity: u32) -> Self {
            let free = (0..capacity).rev().collect();
            Self { policy: PrefixArc::new(), ids: BTreeMap::new(), free, names: HashMap::new() }
        }

        fn serve(&mut self, prompt: &[u8]) -> usize {
            let names: Vec<Vec<u8>> = (1..=prompt.len()).map(|end| prompt[..end].to_vec()).collect();
            let hit = names.iter().take_while(|name| self.ids.contains_key(*name)).count();
            names[..hit].iter().rev().for_each(|name| self.policy.touch(self.ids[name]));
            let mut stored = Vec::new();
            for name in &names[hit..] {
                if self.ids.contains_key(name) {
                    continue;
                }
                let Some(id) = self.free.pop().or_else(|| self.evict(prompt)) else { break };
                stored.push((id, name.clone()));
            }
            for (id, name) in stored.into_iter().rev() {
                let fingerprint =
                    name.iter().fold(7, |hash: u64, byte| hash.wrapping_mul(31) + u64::from(*byte));
                let position = name.len() as u32 - 1;
                self.policy.insert(id, Arrival { fingerprint, position, ..Arrival::default() });
                self.ids.insert(name.clone(), id);
                self.names.insert(id, name);
            }
            for name in names.iter().rev() {
                if let Some(&id) = self.ids.get(name) {
                    self.policy.refresh(id);
                }
            }
            hit
        }

        fn evict(&mut self, spared: &[u8]) -> Option<EntryId> {
            let names = &self.names;
            let victim = *self.policy.victims(&mut |id| !spared.starts_with(&names[&id]), 1).first()?;
            self.policy.remove(victim, Removal::Evicted);
            self.ids.remove(&self.names.remove(&victim)?);
            Some(victim)
        }

        fn points(&self, name: &[u8]) -> u16 {
            self.policy.members[self.ids[name] as usize].points
        }
    }

    proptest! {
        /// Whatever the prompts: what is left of each is its beginning.
        #[test]
        fn no_chunk_leaves_before_its_continuation(
            prompts in prop::collection::vec(prop::collection::vec(0..3u8, 1..7), 1..150),
            capacity in 3..30u32,
        ) {
            let mut tree = Tree::new(capacity);
            for prompt in &prompts {
                tree.serve(prompt);
                for name in tree.ids.keys().filter(|name| name.len() > 1) {
                    prop_assert!(tree.ids.contains_key(&name[..name.len() - 1]), "{name:?} hangs in the air");
                }
                prop_assert_eq!(tree.policy.len(), tree.ids.len());
            }
        }
    }

    #[test]
    fn a_turn_is_worth_less_than_a_branch() {
        let mut tree = Tree::new(64);
        for prompt in [&[1, 2][..], &[1, 2, 3], &[1, 2, 3, 4]] {
            tree.serve(prompt);
        }
        assert_eq!(
            (tree.points(&[1]), tree.points(&[1, 2, 3])),
            (4 + 1 + 1, 4 + 1),
            "each turn continues the one before"
        );
        tree.serve(&[1, 2, 9]);
        assert_eq!(
            (tree.points(&[1, 2]), tree.points(&[1, 2, 3])),
            (6 + 4, 5),
            "another prompt branches off"
        );
        tree.serve(&[1, 2, 9]);
        assert_eq!(tree.points(&[1, 2, 9]), 4 + 4, "the same prompt again is a use like any other");
    }

    #[test]
    fn objects_that_differ_only_in_the_upper_half_of_their_fingerprints_are_not_taken_for_each_other() {
        let mut policy = PrefixArc::new();
        for (id, fingerprint) in [(0, 1 << 32), (1, 2 << 32), (2, 2 << 32)] {
            policy.insert(id, Arrival { fingerprint, ..Arrival::default() });
            policy.remove(id, Removal::Evicted);
        }
        let points = policy.members.iter().map(|member| member.points);
        assert_eq!(points.collect::<Vec<_>>(), [BRANCH_POINTS, BRANCH_POINTS, 2 * BRANCH_POINTS]);
    }

    #[test]
    fn a_conversation_that_returns_after_its_eviction_is_still_one() {
        let mut tree = Tree::new(40);
        tree.serve(&[1, 2, 3]);
        for other in 10..25 {
            tree.serve(&[other, other, other]);
        }
        assert!(!tree.ids.contains_key(&[1][..]));
        tree.serve(&[1, 2, 3, 4]);
        assert_eq!(tree.points(&[1]), 4 + 1);
    }

    #[test]
    fn what_prompts_share_outlives_what_is_newer() {
        let mut tree = Tree::new(12);
        for question in 0..6 {
            tree.serve(&[1, 2, 100 + question]);
        }
        for other in 10..20 {
            tree.serve(&[other, other]);
        }
        assert_eq!(tree.serve(&[1, 2, 3]), 2, "an LRU list would have lost it");
        for other in 0..=255 {
            for round in 0..3 {
                tree.serve(&[200, other, round]);
            }
        }
        assert_eq!(tree.serve(&[1, 2, 3]), 0, "idle for too long");
    }

    #[test]
    fn patience_follows_what_is_missed() {
        let ghost = |fingerprint, points| Ghost { fingerprint, points, continued: true };
        let mut policy = PrefixArc::new();
        (0..8).for_each(|id| policy.insert(id, Arrival { fingerprint: u64::from(id), ..Arrival::default() }));
        policy.learn(ghost(1, 4 * BRANCH_POINTS));
        assert!(policy.patience > PATIENCE_START);
        (0..100).for_each(|_| policy.learn(ghost(1, 4 * BRANCH_POINTS)));
        assert_eq!(policy.patience, PATIENCE_MAX);
        (0..100).for_each(|_| policy.learn(ghost(1, BRANCH_POINTS)));
        assert_eq!(policy.patience, 1.0, "then it is LRU");
    }
}
