//! The policies that can be chosen, by the names operators choose them by.
//!
//! [`KINDS`] is the only list of them: flags, files, adapters and texts are made from it.

use super::policy::Policy;
use super::{Arc, IsolatedLru, Lru, Noop, PrefixArc, S3Fifo};

/// A policy that can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct PolicyKind {
    name: &'static str,
    goal: Goal,
    make: fn() -> Box<dyn Policy>,
}

/// What a policy names victims for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// Room, wherever it can be had at the least loss.
    Room,
    /// Tenants that keep to their quotas.
    Quotas,
    /// Nothing: it names none.
    Nothing,
}

/// Every policy, in the spelling of `--eviction-policy`; the first is the one to recommend.
pub static KINDS: &[PolicyKind] = TABLE;

const TABLE: &[PolicyKind] = &[
    PolicyKind { name: "LRU", goal: Goal::Room, make: || Box::new(Lru::new()) },
    PolicyKind { name: "ARC", goal: Goal::Room, make: || Box::new(Arc::new()) },
    PolicyKind { name: "IsolatedLRU", goal: Goal::Quotas, make: || Box::new(IsolatedLru::new()) },
    PolicyKind { name: "S3FIFO", goal: Goal::Room, make: || Box::new(S3Fifo::new()) },
    PolicyKind { name: "PrefixARC", goal: Goal::Room, make: || Box::new(PrefixArc::new()) },
    PolicyKind { name: "noop", goal: Goal::Nothing, make: || Box::new(Noop::new()) },
];

/// The names of [`KINDS`].
pub const NAMES: &[&str] = &names();

const fn names() -> [&'static str; TABLE.len()] {
    let mut names = [""; TABLE.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = TABLE[index].name;
        index += 1;
    }
    names
}

impl PolicyKind {
    /// The policy of this name; `None` for a name not in [`NAMES`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        KINDS.iter().find(|kind| kind.name == name).copied()
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.name
    }

    /// Whether it names victims for room alone, not by who has how much, nor none at all.
    #[must_use]
    pub fn makes_room(&self) -> bool {
        self.goal == Goal::Room
    }

    /// Whether it chooses between tenants by their limits, and wants to be told of them.
    #[must_use]
    pub fn compares_tenants(&self) -> bool {
        self.goal == Goal::Quotas
    }

    /// Whether it names no victims, ever.
    #[must_use]
    pub fn never_evicts(&self) -> bool {
        self.goal == Goal::Nothing
    }

    /// A new policy of this kind, without objects.
    #[must_use]
    pub fn new_policy(&self) -> Box<dyn Policy> {
        (self.make)()
    }
}

/// The first of [`KINDS`].
impl Default for PolicyKind {
    fn default() -> Self {
        KINDS[0]
    }
}

impl PartialEq for PolicyKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for PolicyKind {}

/// A new policy without objects; `None` for a name not in [`NAMES`].
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Policy>> {
    PolicyKind::parse(name).map(|kind| kind.new_policy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_the_name_of_its_policy() {
        for (kind, name) in KINDS.iter().zip(NAMES) {
            assert_eq!((kind.as_str(), kind.new_policy().name()), (*name, *name));
            assert_eq!(PolicyKind::parse(name), Some(*kind));
        }
        assert!(by_name("lru").is_none(), "names are spelled as the peer's are");
    }
}
