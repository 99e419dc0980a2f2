//! How many bytes each tenant may have in a tier: a table of limits, without any usage.
//!
//! A tenant is a `cache_salt`; the empty one stands for requests without. In the reference server a salt
//! without a quota of its own may have nothing as soon as its tier counts per salt (`spec/cache-semantics.md`
//! 11.4); here the default says, and at first it is no limit.

use std::sync::Arc;

use hashbrown::HashMap;

/// The word for the empty salt where an empty one can't be said (`spec/http-api.md` 2).
pub const EMPTY_SALT: &str = "_default";

/// Limits in bytes by salt, and one for all other salts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    limits: HashMap<Arc<str>, u64>,
    default: Option<u64>,
}

impl Quotas {
    /// Limits a salt to `limit_bytes`, which may be 0, and returns its limit before, if it had one of its
    /// own.
    pub fn set(&mut self, salt: &str, limit_bytes: u64) -> Option<u64> {
        self.limits.insert(salt.into(), limit_bytes)
    }

    /// Takes a salt's own limit away and returns it; the default holds from then on.
    pub fn remove(&mut self, salt: &str) -> Option<u64> {
        self.limits.remove(salt)
    }

    /// A salt's own limit.
    #[must_use]
    pub fn get(&self, salt: &str) -> Option<u64> {
        self.limits.get(salt).copied()
    }

    /// Every salt with a limit of its own, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.limits.iter().map(|(salt, limit)| (&**salt, *limit))
    }

    /// Sets the limit of salts without their own; `None` is no limit.
    pub fn set_default(&mut self, limit_bytes: Option<u64>) {
        self.default = limit_bytes;
    }

    /// The limit of salts without their own.
    #[must_use]
    pub fn default_limit(&self) -> Option<u64> {
        self.default
    }

    /// The limit that holds for a salt; `None` is no limit.
    #[must_use]
    pub fn limit_for(&self, salt: &str) -> Option<u64> {
        self.get(salt).or(self.default)
    }

    /// Whether nobody has a limit.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.limits.is_empty() && self.default.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salt_has_its_own_limit_or_the_default() {
        let mut quotas = Quotas::default();
        assert!(quotas.is_unlimited());
        assert_eq!((quotas.limit_for("a"), quotas.default_limit()), (None, None));
        quotas.set_default(Some(10));
        assert_eq!(quotas.default_limit(), Some(10));
        assert_eq!((quotas.set("a", 0), quotas.set("a", 7)), (None, Some(0)));
        assert_eq!((quotas.limit_for("a"), quotas.limit_for(""), quotas.get("")), (Some(7), Some(10), None));
        assert_eq!(quotas.iter().collect::<Vec<_>>(), [("a", 7)]);
        assert_eq!(quotas.remove("a"), Some(7));
        assert_eq!((quotas.remove("a"), quotas.limit_for("a")), (None, Some(10)));
        assert!(!quotas.is_unlimited());
    }
}
