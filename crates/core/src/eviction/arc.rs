//! Adaptive replacement: what was used once against what was used again, balanced by what is missed
//! (Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache", 2003).

use super::ghosts::Ghosts;
use super::list::{Links, List};
use super::policy::{Arrival, EntryId, Policy, Removal};

/// Two lists by recency, used once and used again, and the fingerprints of what left each of them lately.
///
/// A miss on what left the first list asks for more room there, a miss on what left the second for less. The
/// capacity is the most objects there ever were, since the pool is measured in bytes.
#[derive(Debug, Default)]
pub struct Arc {
    links: Links,
    once: List,
    again: List,
    left_once: Ghosts,
    left_again: Ghosts,
    /// Objects the first list should have.
    target: usize,
    capacity: usize,
    members: Vec<Member>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Member {
    fingerprint: u64,
    used_again: bool,
}

impl Arc {
    /// A policy without objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn adapt(&mut self, fingerprint: u64) -> bool {
        let (once, again) = (self.left_once.len().max(1), self.left_again.len().max(1));
        if self.left_once.take(fingerprint) {
            self.target = (self.target + (again / once).max(1)).min(self.capacity);
            return true;
        }
        if self.left_again.take(fingerprint) {
            self.target = self.target.saturating_sub((once / again).max(1));
            return true;
        }
        false
    }
}

impl Policy for Arc {
    fn name(&self) -> &'static str {
        "ARC"
    }

    fn insert(&mut self, id: EntryId, Arrival { fingerprint, .. }: Arrival) {
        let used_again = self.adapt(fingerprint);
        if self.members.len() <= id as usize {
            self.members.resize(id as usize + 1, Member::default());
        }
        self.members[id as usize] = Member { fingerprint, used_again };
        let list = if used_again { &mut self.again } else { &mut self.once };
        list.insert(&mut self.links, id);
        self.capacity = self.capacity.max(self.len());
    }

    fn touch(&mut self, id: EntryId) {
        let member = &mut self.members[id as usize];
        if member.used_again {
            self.again.touch(&mut self.links, id);
        } else {
            self.once.remove(&mut self.links, id);
            self.again.insert(&mut self.links, id);
            member.used_again = true;
        }
    }

    fn refresh(&mut self, id: EntryId) {
        let list = if self.members[id as usize].used_again { &mut self.again } else { &mut self.once };
        list.touch(&mut self.links, id);
    }

    fn remove(&mut self, id: EntryId, removal: Removal) {
        let Member { fingerprint, used_again } = self.members[id as usize];
        let (list, left) = match used_again {
            true => (&mut self.again, &mut self.left_again),
            false => (&mut self.once, &mut self.left_once),
        };
        list.remove(&mut self.links, id);
        if removal == Removal::Evicted {
            left.remember(fingerprint, self.capacity);
        }
    }

    fn victims(&mut self, evictable: &mut dyn FnMut(EntryId) -> bool, want: usize) -> Vec<EntryId> {
        let mut once = self.once.victims(&self.links, evictable, want).into_iter().peekable();
        let mut again = self.again.victims(&self.links, evictable, want).into_iter().peekable();
        let mut once_left = self.once.len();
        let mut victims = Vec::with_capacity(want.min(self.len()));
        while victims.len() < want {
            let from_once =
                once_left >= self.target.max(1) && once.peek().is_some() || again.peek().is_none();
            let Some(victim) = (if from_once { once.next() } else { again.next() }) else { break };
            once_left -= usize::from(from_once);
            victims.push(victim);
        }
        victims
    }

    fn cold_to_hot(&mut self) -> Vec<EntryId> {
        self.once.iter(&self.links).chain(self.again.iter(&self.links)).collect()
    }

    fn len(&self) -> usize {
        self.once.len() + self.again.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(fingerprint: u64) -> Arrival {
        Arrival { fingerprint, ..Arrival::default() }
    }

    fn evict(arc: &mut Arc) -> EntryId {
        let victim = arc.victims(&mut |_| true, 1)[0];
        arc.remove(victim, Removal::Evicted);
        victim
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_used_again() {
        let mut arc = Arc::new();
        for id in 0..4 {
            arc.insert(id, arrival(u64::from(id)));
        }
        arc.touch(0);
        arc.touch(1);
        for round in 0..20u32 {
            let freed = evict(&mut arc);
            assert!(freed > 1, "round {round}");
            arc.insert(freed, arrival(100 + u64::from(round)));
        }
    }

    #[test]
    fn what_is_missed_after_its_first_use_gets_more_room() {
        let mut arc = Arc::new();
        for id in 0..4 {
            arc.insert(id, arrival(u64::from(id)));
            arc.touch(id);
        }
        let freed = evict(&mut arc);
        arc.insert(freed, arrival(50));
        let freed = evict(&mut arc);
        assert_eq!(arc.target, 0);
        arc.insert(freed, arrival(50));
        assert_eq!(arc.target, 1, "50 left the first list and was missed");
    }

    #[test]
    fn a_request_that_goes_on_is_one_use() {
        let mut arc = Arc::new();
        arc.insert(0, arrival(0));
        arc.insert(1, arrival(1));
        arc.refresh(0);
        assert_eq!(arc.victims(&mut |_| true, 2), [1, 0]);
        assert!(arc.again.is_empty());
    }
}
