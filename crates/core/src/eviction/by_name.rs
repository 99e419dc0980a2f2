//! Policies by the names operators choose them by.

use super::{Arc, IsolatedLru, Lru, Noop, Policy, PrefixArc, S3Fifo};

/// Every name [`by_name`] knows, in the spelling of `--eviction-policy`.
pub const NAMES: &[&str] = &["LRU", "ARC", "IsolatedLRU", "S3FIFO", "PrefixARC", "noop"];

/// A new policy without objects; `None` for a name not in [`NAMES`].
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Policy>> {
    Some(match name {
        "LRU" => Box::new(Lru::new()),
        "ARC" => Box::new(Arc::new()),
        "IsolatedLRU" => Box::new(IsolatedLru::new()),
        "S3FIFO" => Box::new(S3Fifo::new()),
        "PrefixARC" => Box::new(PrefixArc::new()),
        "noop" => Box::new(Noop::new()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_the_name_of_its_policy() {
        for name in NAMES {
            assert_eq!(by_name(name).map(|policy| policy.name()), Some(*name));
        }
        assert!(by_name("lru").is_none(), "names are spelled as the peer's are");
    }
}
