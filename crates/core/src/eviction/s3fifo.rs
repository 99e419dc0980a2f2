//! Three queues, first in first out: a small one for what is new, a main one for what was used there, and a
//! memory of what left the small one (Yang et al., "FIFO queues are all you need for cache eviction", 2023).

use super::ghosts::Ghosts;
use super::list::{Links, List};
use super::policy::{Arrival, EntryId, Policy, Removal};

/// The small queue's share of all objects is one in this many.
const SMALL_SHARE: usize = 10;

/// Uses counted per object, at most: further ones tell nothing more.
const USES_MAX: u8 = 3;

/// Objects moved between the queues in one search for a victim, at most; then the search ends, and the next
/// one goes on.
const MOVES_MAX: usize = 1 << 16;

/// Most chunks are never asked for again: they pass through the small queue and are gone, and what is used
/// stays.
#[derive(Debug, Default)]
pub struct S3Fifo {
    links: Links,
    small: List,
    main: List,
    left_small: Ghosts,
    members: Vec<Member>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Member {
    fingerprint: u64,
    uses: u8,
    in_main: bool,
}

impl S3Fifo {
    /// A policy without objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next object to leave, after moving those before it that have earned to stay.
    fn next_victim(&mut self, evictable: &mut dyn FnMut(EntryId) -> bool) -> Option<EntryId> {
        for _ in 0..MOVES_MAX {
            let from_small = self.small.len() * SMALL_SHARE >= self.len() || self.main.is_empty();
            let (first, second) = match from_small {
                true => (&mut self.small, &mut self.main),
                false => (&mut self.main, &mut self.small),
            };
            let oldest = first
                .victims(&self.links, evictable, 1)
                .pop()
                .or_else(|| second.victims(&self.links, evictable, 1).pop())?;
            let member = &mut self.members[oldest as usize];
            match (member.in_main, member.uses) {
                (false, 0 | 1) | (true, 0) => return Some(oldest),
                (false, _) => {
                    (member.uses, member.in_main) = (0, true);
                    self.small.remove(&mut self.links, oldest);
                    self.main.insert(&mut self.links, oldest);
                }
                (true, _) => {
                    member.uses -= 1;
                    self.main.touch(&mut self.links, oldest);
                }
            }
        }
        None
    }
}

impl Policy for S3Fifo {
    fn name(&self) -> &'static str {
        "S3FIFO"
    }

    fn insert(&mut self, id: EntryId, Arrival { fingerprint, .. }: Arrival) {
        let in_main = self.left_small.take(fingerprint);
        if self.members.len() <= id as usize {
            self.members.resize(id as usize + 1, Member::default());
        }
        self.members[id as usize] = Member { fingerprint, uses: 0, in_main };
        let queue = if in_main { &mut self.main } else { &mut self.small };
        queue.insert(&mut self.links, id);
    }

    fn touch(&mut self, id: EntryId) {
        let member = &mut self.members[id as usize];
        member.uses = (member.uses + 1).min(USES_MAX);
    }

    fn refresh(&mut self, _id: EntryId) {}

    fn remove(&mut self, id: EntryId, removal: Removal) {
        let Member { fingerprint, in_main, .. } = self.members[id as usize];
        let queue = if in_main { &mut self.main } else { &mut self.small };
        queue.remove(&mut self.links, id);
        if removal == Removal::Evicted && !in_main {
            self.left_small.remember(fingerprint, self.len());
        }
    }

    fn victims(&mut self, evictable: &mut dyn FnMut(EntryId) -> bool, want: usize) -> Vec<EntryId> {
        let mut victims: Vec<EntryId> = Vec::with_capacity(want.min(self.len()));
        while victims.len() < want {
            let next = self.next_victim(&mut |id| !victims.contains(&id) && evictable(id));
            let Some(victim) = next else { break };
            victims.push(victim);
        }
        victims
    }

    fn cold_to_hot(&mut self) -> Vec<EntryId> {
        self.small.iter(&self.links).chain(self.main.iter(&self.links)).collect()
    }

    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(fingerprint: u64) -> Arrival {
        Arrival { fingerprint, ..Arrival::default() }
    }

    fn evict(policy: &mut S3Fifo) -> EntryId {
        let victim = policy.victims(&mut |_| true, 1)[0];
        policy.remove(victim, Removal::Evicted);
        victim
    }

    #[test]
    fn what_nobody_uses_passes_through_and_what_is_used_stays() {
        let mut policy = S3Fifo::new();
        for id in 0..10 {
            policy.insert(id, arrival(u64::from(id)));
        }
        for _ in 0..2 {
            policy.touch(3);
        }
        for round in 0..50 {
            let freed = evict(&mut policy);
            assert_ne!(freed, 3, "round {round}");
            policy.insert(freed, arrival(100 + round));
            policy.touch(3);
        }
    }

    #[test]
    fn what_is_missed_soon_after_goes_to_the_main_queue() {
        let mut policy = S3Fifo::new();
        for id in 0..10 {
            policy.insert(id, arrival(u64::from(id)));
        }
        let freed = evict(&mut policy);
        policy.insert(freed, arrival(u64::from(freed)));
        assert!(policy.members[freed as usize].in_main);
    }

    #[test]
    fn only_what_may_leave_is_named_and_nothing_twice() {
        let mut policy = S3Fifo::new();
        for id in 0..20 {
            policy.insert(id, arrival(u64::from(id)));
            if id % 3 == 0 {
                policy.touch(id);
                policy.touch(id);
            }
        }
        let mut victims = policy.victims(&mut |id| id % 2 == 0, 64);
        victims.sort_unstable();
        assert_eq!(victims, (0..20).filter(|id| id % 2 == 0).collect::<Vec<_>>());
    }
}
