//! Which objects lookups hold, and which are being deleted. Shared by the adapters of this crate.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use larder_core::key::ObjectKey;

use crate::error::Busy;
use crate::mutex::lock;

/// Locks by key. Holding a lock keeps deletes away; a delete under way keeps locks and stores away, a store
/// keeps deletes and other stores away.
#[derive(Debug, Default)]
pub(crate) struct LockTable {
    holds: Mutex<HashMap<ObjectKey, Hold>>,
}

#[derive(Debug)]
enum Hold {
    Locked(u32),
    Storing { locks: u32 },
    Deleting,
}

impl LockTable {
    /// Takes a lock; false when the object is being deleted.
    pub(crate) fn lock(&self, key: &ObjectKey) -> bool {
        match lock(&self.holds).entry(key.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(Hold::Locked(1));
                true
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Hold::Locked(count) | Hold::Storing { locks: count } => {
                    *count = count.saturating_add(1);
                    true
                }
                Hold::Deleting => false,
            },
        }
    }

    /// Releases one lock of each key.
    pub(crate) fn unlock(&self, keys: &[ObjectKey]) {
        let mut holds = lock(&self.holds);
        for key in keys {
            match holds.get_mut(key) {
                Some(Hold::Locked(count)) if *count > 1 => *count -= 1,
                Some(Hold::Locked(_)) => {
                    holds.remove(key);
                }
                Some(Hold::Storing { locks }) => *locks = locks.saturating_sub(1),
                Some(Hold::Deleting) | None => {}
            }
        }
    }

    /// Claims an unlocked object for deletion; it stays invisible to [`lock`](Self::lock) until the claim
    /// drops.
    pub(crate) fn claim_delete(self: &Arc<Self>, key: &ObjectKey) -> Result<DeleteClaim, Busy> {
        match lock(&self.holds).entry(key.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(Hold::Deleting);
                Ok(DeleteClaim { table: Arc::clone(self), key: key.clone() })
            }
            Entry::Occupied(entry) => match entry.get() {
                Hold::Locked(_) | Hold::Storing { locks: 1.. } => Err(Busy::Locked),
                Hold::Storing { locks: 0 } => Err(Busy::Storing),
                Hold::Deleting => Err(Busy::Deleting),
            },
        }
    }

    /// Claims an object for storing. None when a lookup holds it: it is there already, and no delete can
    /// come.
    pub(crate) fn claim_store(self: &Arc<Self>, key: &ObjectKey) -> Result<Option<StoreClaim>, Busy> {
        match lock(&self.holds).entry(key.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(Hold::Storing { locks: 0 });
                Ok(Some(StoreClaim { table: Arc::clone(self), key: key.clone() }))
            }
            Entry::Occupied(entry) => match entry.get() {
                Hold::Locked(_) => Ok(None),
                Hold::Storing { .. } => Err(Busy::Storing),
                Hold::Deleting => Err(Busy::Deleting),
            },
        }
    }

    /// Objects locked now.
    pub(crate) fn locked(&self) -> u64 {
        lock(&self.holds)
            .values()
            .filter(|hold| matches!(hold, Hold::Locked(_) | Hold::Storing { locks: 1.. }))
            .count() as u64
    }
}

/// The right to delete one object.
#[derive(Debug)]
pub(crate) struct DeleteClaim {
    table: Arc<LockTable>,
    key: ObjectKey,
}

impl Drop for DeleteClaim {
    fn drop(&mut self) {
        lock(&self.table.holds).remove(&self.key);
    }
}

/// The duty to finish storing one object.
#[derive(Debug)]
pub(crate) struct StoreClaim {
    table: Arc<LockTable>,
    key: ObjectKey,
}

impl Drop for StoreClaim {
    fn drop(&mut self) {
        let mut holds = lock(&self.table.holds);
        match holds.get(&self.key) {
            Some(Hold::Storing { locks: 0 }) => {
                holds.remove(&self.key);
            }
            Some(Hold::Storing { locks }) => {
                let locks = *locks;
                holds.insert(self.key.clone(), Hold::Locked(locks));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_count_and_exclude_deletes() {
        let table = Arc::new(LockTable::default());
        let key = ObjectKey::new([1; 32], "m", 0, 0, "").unwrap();
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

    #[test]
    fn a_store_excludes_deletes_and_other_stores_but_not_locks() {
        let table = Arc::new(LockTable::default());
        let key = ObjectKey::new([1; 32], "m", 0, 0, "").unwrap();
        let storing = table.claim_store(&key).unwrap().unwrap();
        assert_eq!(table.claim_store(&key).unwrap_err(), Busy::Storing);
        assert_eq!(table.claim_delete(&key).unwrap_err(), Busy::Storing);
        assert!(table.lock(&key));
        assert_eq!((table.locked(), table.claim_delete(&key).unwrap_err()), (1, Busy::Locked));
        drop(storing);
        assert!(table.claim_store(&key).unwrap().is_none(), "locked, so it is there");
        assert_eq!(table.claim_delete(&key).unwrap_err(), Busy::Locked);
        table.unlock(std::slice::from_ref(&key));
        let deleting = table.claim_delete(&key).unwrap();
        assert_eq!(table.claim_store(&key).unwrap_err(), Busy::Deleting);
        drop(deleting);
        drop(table.claim_store(&key).unwrap());
        assert_eq!(table.locked(), 0);
    }
}
