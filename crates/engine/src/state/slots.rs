//! The engine's slot directory: every change of the object table that concerns memory, written down beside
//! the pool.
//!
//! The table notes which records changed; they are written when the lock is let go of, before anybody can be
//! told of the change. So the directory never lags behind what a client was promised, and a client is never
//! given memory that the directory still calls another object's.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use larder_core::cache::{Cache, Slot};
use larder_core::key::{Namespace, Scope};
use larder_core::layout::ObjectLayout;
use larder_pool::{Directory, SCOPES_MAX, SlotRecord};
use serde::{Deserialize, Serialize};

/// A scope without a number: there were too many, or its names are too long. Of its objects only the memory
/// is of use to a successor: somebody may be touching it.
const UNWRITTEN: u32 = u32::MAX;

/// Most records that the object table of a pool ever has: one more than objects fit, since the record of a
/// new object is there before the one that makes room for it is gone.
#[must_use]
pub fn records_max(pool_bytes: u64, align_bytes: u64) -> u64 {
    pool_bytes / align_bytes + 1
}

/// Follows the object table.
#[derive(Debug)]
pub(crate) struct SlotKeeper {
    directory: Directory,
    sequence: u64,
    numbers: HashMap<Arc<Scope>, Number>,
    free_numbers: Vec<u32>,
    /// The scope of each record that is written down.
    scopes: Vec<Option<Arc<Scope>>>,
    /// Memory that clients of a dead server may be touching, by offset: when that server was found dead, in
    /// seconds since the boot.
    left_at_s: HashMap<u64, u64>,
    /// Memory that somebody may be writing and that could not be written down.
    unwritten_writers: HashSet<u32>,
    /// Records that could not be written down.
    pub(crate) unwritten: u64,
}

#[derive(Debug)]
struct Number {
    scope: u32,
    records: u32,
}

impl SlotKeeper {
    /// Writes to an empty directory; records get sequence numbers after `sequence`.
    pub(crate) fn new(directory: Directory, sequence: u64) -> Self {
        Self {
            directory,
            sequence,
            numbers: HashMap::new(),
            free_numbers: (0..SCOPES_MAX).rev().collect(),
            scopes: Vec::new(),
            left_at_s: HashMap::new(),
            unwritten_writers: HashSet::new(),
            unwritten: 0,
        }
    }

    /// The directory.
    pub(crate) fn directory(&mut self) -> &mut Directory {
        &mut self.directory
    }

    /// Notes that the memory at `offset` is held for a client of a server that was found dead at `left_at_s`.
    pub(crate) fn note_left(&mut self, offset: u64, left_at_s: u64) {
        self.left_at_s.insert(offset, left_at_s);
    }

    /// Takes back [`Self::note_left`].
    pub(crate) fn forget_left(&mut self, offset: u64) {
        self.left_at_s.remove(&offset);
    }

    /// Writes down what changed in the table.
    pub(crate) fn follow(&mut self, cache: &mut Cache) {
        for id in cache.take_changes() {
            match cache.slot(id) {
                Some(slot) => self.write(id, &slot),
                None => {
                    self.forget(id);
                    self.note_unwritten(id, false);
                }
            }
        }
    }

    fn write(&mut self, id: u32, slot: &Slot<'_>) {
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
            is_being_written: slot.is_being_written,
            left_at_s: self.left_at_s.get(&slot.offset).copied(),
        };
        let is_written = self.directory.put(id, &record);
        if !is_written {
            self.directory.clear(id);
        }
        self.unwritten += u64::from(!is_written || (scope == UNWRITTEN && !slot.is_being_written));
        self.note_unwritten(id, slot.is_being_written && !is_written);
    }

    /// A directory that lacks memory which somebody may be writing is of no use to a successor for as long as
    /// it does.
    fn note_unwritten(&mut self, id: u32, is_unwritten_writer: bool) {
        let before = self.unwritten_writers.is_empty();
        match is_unwritten_writer {
            true => _ = self.unwritten_writers.insert(id),
            false => _ = self.unwritten_writers.remove(&id),
        }
        if self.unwritten_writers.is_empty() != before {
            self.directory.set_incomplete(before);
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

    /// Empties a record. Only then may its scope's number be another's: the server may die between any two
    /// steps.
    fn forget(&mut self, id: u32) {
        self.directory.clear(id);
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
    let namespace = &scope.namespace;
    let encoded = EncodedScope {
        model_name: (&**namespace.model_name()).into(),
        kv_rank: namespace.kv_rank(),
        object_group_id: namespace.object_group_id(),
        cache_salt: (&**namespace.cache_salt()).into(),
        dtype: scope.layout.dtype().name().into(),
        shape: scope.layout.shape().to_vec(),
    };
    // Nothing in it can fail to be JSON; an empty scope would be refused by the reader.
    serde_json::to_vec(&encoded).unwrap_or_default()
}

/// Reads what [`SlotKeeper`] wrote; none for what can't be a scope.
pub(crate) fn decode(bytes: &[u8]) -> Option<Scope> {
    let encoded: EncodedScope<'_> = serde_json::from_slice(bytes).ok()?;
    let EncodedScope { model_name, kv_rank, object_group_id, cache_salt, dtype, shape } = encoded;
    let namespace = Namespace::new(model_name, kv_rank, object_group_id, cache_salt).ok()?;
    let layout = ObjectLayout::contiguous(shape, dtype.parse().ok()?).ok()?;
    Some(Scope { namespace, layout: Arc::new(layout) })
}

#[cfg(test)]
mod tests {
    use larder_core::cache::CacheConfig;
    use larder_core::eviction::Lru;
    use larder_core::hash::ChunkHash;
    use larder_pool::{Contents, DirectoryOptions, Segment, SegmentOptions};

    use super::*;

    fn scope(model_name: &str) -> Scope {
        let layout = ObjectLayout::contiguous(vec![4096], "uint8".parse().unwrap()).unwrap();
        Scope { namespace: Namespace::new(model_name, 0, 0, "").unwrap(), layout: Arc::new(layout) }
    }

    /// The server may die between any two steps: a record that is still there must never name a scope that is
    /// another's by now.
    #[test]
    fn a_scopes_number_is_free_only_when_no_record_names_it() {
        let share = Some(format!("engine-slots-{}", std::process::id()));
        let segment = Segment::create(SegmentOptions { share, bytes: 8192, hugepages: false }).unwrap();
        let options = DirectoryOptions { stamp: 1, records_max: 2 };
        let mut keeper = SlotKeeper::new(Directory::create(&segment, options).unwrap(), 0);
        keeper.directory().publish().unwrap();
        let config = CacheConfig { capacity_bytes: 8192, align_bytes: 4096, staging_fresh_ms: 1 };
        let mut cache = Cache::new(config, Box::new(Lru::new()));
        cache.record_changes(true);
        cache.reserve(&scope("a"), &[ChunkHash([1; 32])], 0..1, 0);
        keeper.follow(&mut cache);
        let records = || Contents::read(&segment, 1).unwrap().unwrap().records;
        assert_eq!(records().len(), 1);
        let before = keeper.free_numbers.len();
        keeper.forget(0);
        assert_eq!((keeper.free_numbers.len(), records().len()), (before + 1, 0));
    }

    #[test]
    fn scopes_come_back_and_nonsense_does_not() {
        let layout = ObjectLayout::contiguous(vec![2, 3, 16, 24], "half".parse().unwrap()).unwrap();
        let namespace = Namespace::new("org/mo\"del", 1 << 40, 2, "s\u{e9}l").unwrap();
        let scope = Scope { namespace, layout: Arc::new(layout) };
        assert_eq!(decode(&encode(&scope)), Some(scope));
        for text in ["", "{}", "null", r#"{"model_name":"m","kv_rank":-1}"#] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
        let zero = r#"{"model_name":"m","kv_rank":1,"object_group_id":0,"cache_salt":"","dtype":"half","shape":[0]}"#;
        assert_eq!(decode(zero.as_bytes()), None);
    }
}
