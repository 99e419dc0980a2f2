//! Which objects lookups hold, and which are being deleted. Shared by the adapters of this crate.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Busy;
use crate::key::Key;

/// Locks by key. Holding a lock keeps deletes away; a delete under way keeps locks away.
#[derive(Debug, Default)]
pub(crate) struct LockTable {
    holds: Mutex<HashMap<Key, Hold>>,
}

#[derive(Debug)]
enum Hold {
    Locked(u32),
    Deleting,
}

impl LockTable {
    /// Takes a lock; false when the object is being deleted.
    pub(crate) fn lock(&self, key: &Key) -> bool {
        match self.holds().entry(key.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(Hold::Locked(1));
                true
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Hold::Locked(count) => {
                    *count = count.saturating_add(1);
                    true
                }
                Hold::Deleting => false,
            },
        }
    }

    /// Releases one lock of each key.
    pub(crate) fn unlock(&self, keys: &[Key]) {
        let mut holds = self.holds();
        for key in keys {
            match holds.get_mut(key) {
                Some(Hold::Locked(count)) if *count > 1 => *count -= 1,
                Some(Hold::Locked(_)) => {
                    holds.remove(key);
                }
                Some(Hold::Deleting) | None => {}
            }
        }
    }

    /// Claims an unlocked object for deletion; it stays invisible to [`lock`](Self::lock) until the claim drops.
    pub(crate) fn claim_delete(&self, key: &Key) -> Result<DeleteClaim<'_>, Busy> {
        match self.holds().entry(key.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(Hold::Deleting);
                Ok(DeleteClaim { table: self, key: key.clone() })
            }
            Entry::Occupied(entry) => match entry.get() {
                Hold::Locked(_) => Err(Busy::Locked),
                Hold::Deleting => Err(Busy::Deleting),
            },
        }
    }

    /// Objects locked now.
    pub(crate) fn locked(&self) -> u64 {
        self.holds().values().filter(|hold| matches!(hold, Hold::Locked(_))).count() as u64
    }

    fn holds(&self) -> MutexGuard<'_, HashMap<Key, Hold>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to delete one object.
#[derive(Debug)]
pub(crate) struct DeleteClaim<'a> {
    table: &'a LockTable,
    key: Key,
}

impl Drop for DeleteClaim<'_> {
    fn drop(&mut self) {
        self.table.holds().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_count_and_exclude_deletes() {
        let table = LockTable::default();
        let key = Key::new([1; 32], "m", 0, 0, "").unwrap();
        assert!(table.lock(&key) && table.lock(&key));
        assert_eq!(table.locked(), 1);
        assert_eq!(table.claim_delete(&key).unwrap_err(), Busy::Locked);
        table.unlock(std::slice::from_ref(&key));
        assert_eq!(table.claim_delete(&key).unwrap_err(), Busy::Locked);
        table.unlock(std::slice::from_ref(&key));
        let claim = table.claim_delete(&key).unwrap();
        assert!(!table.lock(&key));
        assert_eq!(table.claim_delete(&key).unwrap_err(), Busy::Deleting);
        table.unlock(std::slice::from_ref(&key));
        assert!(!table.lock(&key), "unlocking does not end a delete");
        drop(claim);
        assert!(table.lock(&key));
    }
}
