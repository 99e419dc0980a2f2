//! Who may have how much, in both tiers: one table for the server, changed by operators.

use std::sync::{Mutex, MutexGuard, PoisonError};

use larder_core::quota::Quotas;
use tokio::sync::watch;

/// Salts with a quota of their own.
pub const QUOTAS_MAX: usize = 100_000;

/// Quotas by salt. Watchers hear of every change.
#[derive(Debug)]
pub struct QuotaTable {
    quotas: Mutex<Quotas>,
    changes: watch::Sender<u64>,
}

/// No further salt can have a quota of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{QUOTAS_MAX} salts have a quota already")]
pub struct TooManyQuotas;

/// Wakes when quotas change.
#[derive(Debug)]
pub struct QuotaChanges(watch::Receiver<u64>);

impl QuotaChanges {
    /// Resolves when something has changed since the last time.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Default for QuotaTable {
    fn default() -> Self {
        Self::new(Quotas::default())
    }
}

impl QuotaTable {
    /// A table that begins with these quotas.
    #[must_use]
    pub fn new(quotas: Quotas) -> Self {
        Self { quotas: Mutex::new(quotas), changes: watch::Sender::new(0) }
    }

    /// Limits a salt to so many bytes.
    ///
    /// # Errors
    /// [`TooManyQuotas`] if the salt is one too many.
    pub fn set(&self, cache_salt: &str, limit_bytes: u64) -> Result<(), TooManyQuotas> {
        let mut quotas = self.lock();
        if quotas.get(cache_salt).is_none() && quotas.iter().count() >= QUOTAS_MAX {
            return Err(TooManyQuotas);
        }
        quotas.set(cache_salt, limit_bytes);
        drop(quotas);
        self.tell();
        Ok(())
    }

    /// Takes a salt's own limit away; the default holds from then on. False if it had none.
    pub fn remove(&self, cache_salt: &str) -> bool {
        let had_one = self.lock().remove(cache_salt).is_some();
        if had_one {
            self.tell();
        }
        had_one
    }

    /// A salt's own limit in bytes.
    pub fn get(&self, cache_salt: &str) -> Option<u64> {
        self.lock().get(cache_salt)
    }

    /// The limit that holds for a salt, in bytes; `None` is no limit.
    pub fn limit_for(&self, cache_salt: &str) -> Option<u64> {
        self.lock().limit_for(cache_salt)
    }

    /// Whether nobody has a limit.
    pub fn is_unlimited(&self) -> bool {
        self.lock().is_unlimited()
    }

    /// All quotas as they are now.
    pub fn snapshot(&self) -> Quotas {
        self.lock().clone()
    }

    /// Hears of changes from now on.
    pub fn subscribe(&self) -> QuotaChanges {
        QuotaChanges(self.changes.subscribe())
    }

    fn tell(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Quotas> {
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn watchers_hear_of_changes_and_of_nothing_else() {
        let table = QuotaTable::default();
        let mut changes = table.subscribe();
        let mut is_told = async || {
            let changed = changes.changed();
            tokio::time::timeout(std::time::Duration::ZERO, changed).await.is_ok()
        };
        assert!(!is_told().await);
        table.set("a", 5).unwrap();
        assert!(is_told().await && table.limit_for("a") == Some(5));
        assert!(!table.remove("b") && !is_told().await);
        assert!(table.remove("a") && is_told().await && table.is_unlimited());
    }
}
