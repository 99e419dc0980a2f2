//! What an adapter holds, in memory: presence, size, room by tenant, and pages of it.
//!
//! Built for a million objects: the strings of a key are kept once per namespace (model, rank, group, salt),
//! an entry is the hash, a namespace number and a size. The tree keeps pages stable while objects come and
//! go.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use larder_core::hash::ChunkHash;
use larder_core::interner::Interner;
use larder_core::key::{Namespace, ObjectKey};

use crate::adapter::{ListPage, ListRequest, Listed};
use crate::error::{Failure, FailureKind};
use crate::names::parse_hash;

/// Entries one page looks at, so that a filter that matches little can't hold the index for long; the rest
/// comes with the next page.
const SCANNED_PER_PAGE_MAX: usize = 16_384;

/// Objects by key. Not synchronised; `T` is what an adapter notes about each besides its size.
#[derive(Debug)]
pub(crate) struct Index<T> {
    /// Objects are counted of each, and their bytes are noted.
    namespaces: Interner<Namespace, u64>,
    entries: BTreeMap<EntryKey, Entry<T>>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EntryKey {
    chunk_hash: ChunkHash,
    namespace: u32,
}

/// Size and note of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<T> {
    pub(crate) bytes: u64,
    pub(crate) note: T,
}

impl<T: Copy> Index<T> {
    pub(crate) fn new() -> Self {
        Self { namespaces: Interner::default(), entries: BTreeMap::new(), bytes: 0 }
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<Entry<T>> {
        self.entries.get(&self.entry_key(key)?).copied()
    }

    /// Adds or replaces; returns what was there.
    pub(crate) fn insert(&mut self, key: &ObjectKey, bytes: u64, note: T) -> Option<Entry<T>> {
        let namespace = self.namespaces.acquire(&key.namespace, || (key.namespace.clone(), 0));
        self.namespaces[namespace] += bytes;
        let entry_key = EntryKey { chunk_hash: key.chunk_hash, namespace };
        let old = self.entries.insert(entry_key, Entry { bytes, note });
        self.bytes += bytes;
        if let Some(old) = old {
            self.forget(namespace, old.bytes);
        }
        old
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) -> Option<Entry<T>> {
        let entry_key = self.entry_key(key)?;
        let old = self.entries.remove(&entry_key)?;
        self.forget(entry_key.namespace, old.bytes);
        Some(old)
    }

    /// Takes out one object, whichever it is.
    pub(crate) fn forget_one(&mut self) {
        if let Some((key, old)) = self.entries.pop_last() {
            self.forget(key.namespace, old.bytes);
        }
    }

    /// Takes an object of a namespace, which is in no entry any more, off what is counted.
    fn forget(&mut self, namespace: u32, bytes: u64) {
        debug_assert!(bytes <= self.namespaces[namespace] && self.namespaces[namespace] <= self.bytes);
        self.bytes -= bytes;
        self.namespaces[namespace] -= bytes;
        let left = self.namespaces.release(namespace);
        debug_assert!(left.is_none_or(|bytes| bytes == 0), "a namespace without objects has no bytes");
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn objects(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn bytes_by_salt(&self) -> BTreeMap<Arc<str>, u64> {
        let mut by_salt = BTreeMap::new();
        for (_, namespace, bytes) in self.namespaces.iter() {
            *by_salt.entry(Arc::clone(namespace.cache_salt())).or_default() += bytes;
        }
        by_salt
    }

    /// One page, in hash order.
    pub(crate) fn page(&self, request: &ListRequest) -> Result<ListPage, Failure> {
        let start = match &request.page_token {
            None => Bound::Unbounded,
            Some(token) => Bound::Excluded(parse_token(token)?),
        };
        let mut entries = Vec::new();
        let mut last = None;
        let mut range = self.entries.range((start, Bound::Unbounded));
        for (entry_key, entry) in range.by_ref().take(SCANNED_PER_PAGE_MAX) {
            last = Some(*entry_key);
            let namespace = self.namespaces.name(entry_key.namespace);
            if request.model_name.as_deref().is_some_and(|model| model != &**namespace.model_name()) {
                continue;
            }
            entries.push(Listed { key: namespace.key(entry_key.chunk_hash), bytes: entry.bytes });
            if entries.len() >= request.entries_max.max(1) {
                break;
            }
        }
        let next_page_token =
            if range.next().is_some() { last.map(|last| format_token(&last)) } else { None };
        Ok(ListPage { entries, next_page_token })
    }

    fn entry_key(&self, key: &ObjectKey) -> Option<EntryKey> {
        let namespace = self.namespaces.find(&key.namespace)?;
        Some(EntryKey { chunk_hash: key.chunk_hash, namespace })
    }
}

fn format_token(key: &EntryKey) -> String {
    format!("{}.{}", key.chunk_hash, key.namespace)
}

fn parse_token(token: &str) -> Result<EntryKey, Failure> {
    let parsed = token.split_once('.').and_then(|(hash, namespace)| {
        Some(EntryKey { chunk_hash: parse_hash(hash)?, namespace: namespace.parse().ok()? })
    });
    parsed.ok_or_else(|| {
        Failure::permanent(FailureKind::Invalid, format!("page token `{token}` is not one of ours"))
    })
}

/// An index that is filled from a backend's own listing, again and again, while it already serves.
///
/// What a listing reports may be out of date by the time it arrives: what happened meanwhile counts for more.
/// An object deleted while a listing runs does not come back by it, and one that was stored meanwhile is not
/// missed if the listing lacks it.
#[derive(Debug)]
pub(crate) struct ListedIndex<T> {
    index: Index<Seen<T>>,
    /// The listing that runs, or ran last.
    listing: u32,
    deleted_meanwhile: Option<HashSet<ObjectKey>>,
    is_complete: bool,
}

/// A note, and the last listing that showed its object, or during which it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen<T> {
    note: T,
    listing: u32,
}

impl<T: Copy + PartialEq> ListedIndex<T> {
    pub(crate) fn new() -> Self {
        Self { index: Index::new(), listing: 0, deleted_meanwhile: None, is_complete: false }
    }

    /// Whether a listing came to its end yet.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<Entry<T>> {
        self.index.get(key).map(|entry| Entry { bytes: entry.bytes, note: entry.note.note })
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) -> Option<Entry<T>> {
        if let Some(deleted) = &mut self.deleted_meanwhile {
            deleted.insert(key.clone());
        }
        self.index.remove(key).map(|entry| Entry { bytes: entry.bytes, note: entry.note.note })
    }

    pub(crate) fn insert(&mut self, key: &ObjectKey, bytes: u64, note: T) -> Option<Entry<T>> {
        if let Some(deleted) = &mut self.deleted_meanwhile {
            deleted.remove(key);
        }
        let old = self.index.insert(key, bytes, Seen { note, listing: self.listing });
        old.map(|entry| Entry { bytes: entry.bytes, note: entry.note.note })
    }

    pub(crate) fn begin_listing(&mut self) {
        self.listing = self.listing.wrapping_add(1);
        self.deleted_meanwhile = Some(HashSet::new());
    }

    /// Notes that the listing saw an object; false if its size is to be looked at, for
    /// [`discover`](Self::discover).
    pub(crate) fn see(&mut self, key: &ObjectKey, note: T) -> bool {
        match self.index.get(key) {
            Some(known) if known.note.note == note => {
                self.index.insert(key, known.bytes, Seen { note, listing: self.listing });
                true
            }
            // Something newer is known than a listing can tell.
            Some(known) => known.note.listing == self.listing,
            None => false,
        }
    }

    /// Notes an object that was seen, unless newer knowledge exists.
    pub(crate) fn discover(&mut self, key: &ObjectKey, bytes: u64, note: T) {
        let is_deleted = self.deleted_meanwhile.as_ref().is_some_and(|deleted| deleted.contains(key));
        if !is_deleted && self.index.get(key).is_none_or(|known| known.note.listing != self.listing) {
            self.index.insert(key, bytes, Seen { note, listing: self.listing });
        }
    }

    /// Up to `max` objects after the one called `after` that the listing did not show; the last one looked
    /// at; none at the end.
    pub(crate) fn unseen(&self, after: Option<String>, max: usize) -> (Vec<ObjectKey>, Option<String>) {
        let request = ListRequest { model_name: None, page_token: after, entries_max: max };
        let Ok(page) = self.index.page(&request) else { return (Vec::new(), None) };
        let is_unseen =
            |key: &ObjectKey| self.index.get(key).is_some_and(|entry| entry.note.listing != self.listing);
        let unseen = page.entries.into_iter().map(|entry| entry.key).filter(is_unseen).collect();
        (unseen, page.next_page_token)
    }

    /// Ends a listing; one that was cut short shows nothing of what it lacks.
    pub(crate) fn end_listing(&mut self, is_whole: bool) {
        self.deleted_meanwhile = None;
        self.is_complete |= is_whole;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    pub(crate) fn objects(&self) -> u64 {
        self.index.objects()
    }

    pub(crate) fn bytes_by_salt(&self) -> BTreeMap<Arc<str>, u64> {
        self.index.bytes_by_salt()
    }

    pub(crate) fn page(&self, request: &ListRequest) -> Result<ListPage, Failure> {
        self.index.page(request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(hash: u8, salt: u8) -> ObjectKey {
        let salt = if salt == 0 { String::new() } else { format!("s{salt}") };
        ObjectKey::new([hash; 32], format!("m{}", hash % 2), 0, 0, salt).unwrap()
    }

    fn pages(index: &Index<()>, entries_max: usize, model: Option<&str>) -> Vec<Listed> {
        let mut request = ListRequest { model_name: model.map(str::to_owned), page_token: None, entries_max };
        let mut all = Vec::new();
        loop {
            let page = index.page(&request).unwrap();
            assert!(page.entries.len() <= entries_max);
            all.extend(page.entries);
            request.page_token = page.next_page_token;
            if request.page_token.is_none() {
                return all;
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(steps in prop::collection::vec((any::<bool>(), 0u8..20, 0u8..3, 1u64..100), 0..200)) {
            let mut index = Index::new();
            let mut model: BTreeMap<ObjectKey, u64> = BTreeMap::new();
            for (is_insert, hash, salt, bytes) in steps {
                let key = key(hash, salt);
                let (old, expected) = if is_insert {
                    (index.insert(&key, bytes, ()), model.insert(key.clone(), bytes))
                } else {
                    (index.remove(&key), model.remove(&key))
                };
                prop_assert_eq!(old.map(|entry| entry.bytes), expected);
                prop_assert_eq!(index.get(&key).map(|entry| entry.bytes), model.get(&key).copied());
            }
            prop_assert_eq!(index.bytes(), model.values().sum::<u64>());
            prop_assert_eq!(index.objects(), model.len() as u64);
            let mut by_salt: BTreeMap<Arc<str>, u64> = BTreeMap::new();
            for (key, bytes) in &model {
                *by_salt.entry(Arc::clone(key.namespace.cache_salt())).or_default() += bytes;
            }
            prop_assert_eq!(index.bytes_by_salt(), by_salt);
            let listed: BTreeMap<_, _> = pages(&index, 3, None).into_iter().map(|e| (e.key, e.bytes)).collect();
            prop_assert_eq!(&listed, &model);
            let of_m1 = pages(&index, 2, Some("m1"));
            prop_assert_eq!(of_m1.len(), model.keys().filter(|key| &**key.namespace.model_name() == "m1").count());
        }
    }

    #[test]
    fn foreign_page_tokens_are_refused() {
        let index = Index::<()>::new();
        for token in ["", "x", "00.1", &format!("{}.x", "00".repeat(32))] {
            let request = ListRequest { page_token: Some(token.to_owned()), ..ListRequest::default() };
            assert_eq!(index.page(&request).unwrap_err().kind, FailureKind::Invalid, "{token}");
        }
    }

    #[test]
    fn a_listing_does_not_undo_what_happened_meanwhile() {
        let mut index = ListedIndex::new();
        index.begin_listing();
        let (kept, deleted, rewritten, back) = (key(1, 0), key(2, 0), key(3, 0), key(4, 0));
        index.remove(&deleted);
        index.insert(&rewritten, 20, ());
        index.remove(&back);
        index.insert(&back, 30, ());
        for key in [&kept, &deleted, &rewritten, &back] {
            index.discover(key, 10, ());
        }
        assert!(!index.is_complete());
        index.end_listing(true);
        assert!(index.is_complete());
        assert_eq!(index.get(&deleted), None);
        assert_eq!(index.bytes(), 10 + 20 + 30);
    }

    #[test]
    fn a_later_listing_shows_what_came_and_what_went() {
        let mut index = ListedIndex::new();
        index.begin_listing();
        for hash in 0..4 {
            index.discover(&key(hash, 0), 10, 'a');
        }
        index.end_listing(true);
        index.begin_listing();
        assert!(index.see(&key(0, 0), 'a'));
        assert!(!index.see(&key(1, 0), 'b'), "it moved, so its size is asked for");
        index.discover(&key(1, 0), 11, 'b');
        assert!(!index.see(&key(9, 0), 'a'));
        index.discover(&key(9, 0), 90, 'a');
        index.insert(&key(2, 0), 12, 'a');
        index.insert(&key(7, 0), 70, 'a');
        let mut unseen = Vec::new();
        let mut after = None;
        loop {
            let (some, next) = index.unseen(after, 2);
            unseen.extend(some);
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(unseen, [key(3, 0)], "stored meanwhile is not missed");
        index.end_listing(true);
        assert_eq!(index.bytes(), 10 + 11 + 12 + 10 + 90 + 70, "a listing by itself takes nothing out");
    }
}
