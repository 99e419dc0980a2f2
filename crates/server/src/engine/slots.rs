//! The engine's slot directory: every change of the object table that concerns memory, written down beside the pool.
//!
//! The table notes which records changed; they are written when the lock is let go of, before anybody can be told of the change. So the
//! directory never lags behind what a client was promised, and a client is never given memory that the directory still calls another object's.

use std::sync::Arc;

use hashbrown::HashMap;
use larder_core::cache::Cache;
use larder_core::key::{Scope, check_key};
use larder_core::layout::ObjectLayout;
use larder_pool::{Directory, SCOPES_MAX, SlotRecord};
use serde::{Deserialize, Serialize};

/// A scope without a number: there were too many, or its names are too long. Its objects are not written down.
const UNWRITTEN: u32 = u32::MAX;

/// Follows the object table.
#[derive(Debug)]
pub(super) struct SlotKeeper {
    directory: Directory,
    sequence: u64,
    numbers: HashMap<Arc<Scope>, Number>,
    free_numbers: Vec<u32>,
    /// The scope of each record that is written down.
    scopes: Vec<Option<Arc<Scope>>>,
    /// Records that could not be written down.
    pub(super) unwritten: u64,
}

#[derive(Debug)]
struct Number {
    scope: u32,
    records: u32,
}

impl SlotKeeper {
    /// Writes to an empty directory; records get sequence numbers after `sequence`.
    pub(super) fn new(directory: Directory, sequence: u64) -> Self {
        Self {
            directory,
            sequence,
            numbers: HashMap::new(),
            free_numbers: (0..SCOPES_MAX).rev().collect(),
            scopes: Vec::new(),
            unwritten: 0,
        }
    }

    /// The directory.
    pub(super) fn directory(&mut self) -> &mut Directory {
        &mut self.directory
    }

    /// Writes down what changed in the table.
    pub(super) fn follow(&mut self, cache: &mut Cache) {
        for id in cache.take_changes() {
            match cache.slot(id) {
                Some(slot) => {
                    let scope = self.number(id, slot.scope);
                    self.sequence += 1;
                    let record = SlotRecord {
                        sequence: self.sequence,
                        offset: slot.offset,
                        bytes: slot.scope.layout.bytes(),
                        hash: slot.hash.0,
                        scope,
                        position: slot.position,
                        seal: slot.seal,
                    };
                    if scope == UNWRITTEN || !self.directory.put(id, &record) {
                        self.directory.clear(id);
                        self.unwritten += 1;
                    }
                }
                None => {
                    self.directory.clear(id);
                    self.forget(id);
                }
            }
        }
    }

    /// The number of a record's scope, which is written down if it is new.
    fn number(&mut self, id: u32, scope: &Arc<Scope>) -> u32 {
        let index = id as usize;
        if self.scopes.len() <= index {
            self.scopes.resize(index + 1, None);
        }
        if let Some(known) = &self.scopes[index] {
            if Arc::ptr_eq(known, scope) {
                return self.numbers.get(scope).map_or(UNWRITTEN, |number| number.scope);
            }
            self.forget(id);
        }
        self.scopes[index] = Some(Arc::clone(scope));
        if let Some(number) = self.numbers.get_mut(scope) {
            number.records += 1;
            return number.scope;
        }
        let written = self.free_numbers.pop().and_then(|number| {
            let written = self.directory.put_scope(number, &encode(scope));
            if !written {
                self.free_numbers.push(number);
            }
            written.then_some(number)
        });
        let number = Number { scope: written.unwrap_or(UNWRITTEN), records: 1 };
        let scope_number = number.scope;
        self.numbers.insert(Arc::clone(scope), number);
        scope_number
    }

    fn forget(&mut self, id: u32) {
        let Some(scope) = self.scopes.get_mut(id as usize).and_then(Option::take) else { return };
        let Some(number) = self.numbers.get_mut(&scope) else { return };
        number.records -= 1;
        if number.records == 0 {
            let number = number.scope;
            self.numbers.remove(&scope);
            if number != UNWRITTEN {
                self.free_numbers.push(number);
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
struct EncodedScope<'a> {
    model_name: std::borrow::Cow<'a, str>,
    kv_rank: u64,
    object_group_id: u32,
    cache_salt: std::borrow::Cow<'a, str>,
    dtype: std::borrow::Cow<'a, str>,
    shape: Vec<u64>,
}

fn encode(scope: &Scope) -> Vec<u8> {
    let encoded = EncodedScope {
        model_name: (&*scope.model_name).into(),
        kv_rank: scope.kv_rank,
        object_group_id: scope.object_group_id,
        cache_salt: (&*scope.cache_salt).into(),
        dtype: scope.layout.dtype().name().into(),
        shape: scope.layout.shape().to_vec(),
    };
    // Nothing in it can fail to be JSON; an empty scope would be refused by the reader.
    serde_json::to_vec(&encoded).unwrap_or_default()
}

/// Reads what [`SlotKeeper`] wrote; none for what can't be a scope.
pub(super) fn decode(bytes: &[u8]) -> Option<Scope> {
    let encoded: EncodedScope<'_> = serde_json::from_slice(bytes).ok()?;
    check_key(&encoded.model_name, 1, None).ok()?;
    let layout = ObjectLayout::contiguous(encoded.shape, encoded.dtype.parse().ok()?).ok()?;
    Some(Scope {
        model_name: encoded.model_name.into(),
        kv_rank: encoded.kv_rank,
        object_group_id: encoded.object_group_id,
        cache_salt: encoded.cache_salt.into(),
        layout: Arc::new(layout),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_come_back_and_nonsense_does_not() {
        let layout = ObjectLayout::contiguous(vec![2, 3, 16, 24], "half".parse().unwrap()).unwrap();
        let scope = Scope {
            model_name: "org/mo\"del".into(),
            kv_rank: 1 << 40,
            object_group_id: 2,
            cache_salt: "s\u{e9}l".into(),
            layout: Arc::new(layout),
        };
        assert_eq!(decode(&encode(&scope)), Some(scope));
        for text in ["", "{}", "null", r#"{"model_name":"m","kv_rank":-1}"#] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
        let zero = r#"{"model_name":"m","kv_rank":1,"object_group_id":0,"cache_salt":"","dtype":"half","shape":[0]}"#;
        assert_eq!(decode(zero.as_bytes()), None);
    }
}
