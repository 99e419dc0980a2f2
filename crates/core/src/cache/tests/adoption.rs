//! Taking over what an earlier server left in the pool.

use super::*;

#[test]
fn an_adopted_object_is_like_a_stored_one_once_it_is_committed() {
    let (mut cache, a, hashes) = (cache(8), scope("a", 2), prompt(1, 3));
    let entries: Vec<EntryRef> = (0..3)
        .map(|at| cache.adopt(&a, hashes[at], at, 2 * at as u64 * ALIGN, 0).expect("there is room"))
        .collect();
    assert_eq!(hit(&mut cache, &a, &hashes), 0);
    assert!(entries.iter().rev().all(|&entry| cache.commit(entry) == Commit::Stored));
    assert_eq!(hit(&mut cache, &a, &hashes), 3);
    assert_eq!(cache.offset(entries[1]), Some(2 * ALIGN));
    let stats = cache.stats();
    assert_eq!((stats.used_bytes, stats.adopted_total, stats.stored_total), (6 * ALIGN, 3, 3));
    assert_eq!(cache.usage_of_salt("a"), 6 * ALIGN);
    assert_eq!(store(&mut cache, &a, &prompt(2, 2)).reserved.len(), 2);
    assert_eq!(hit(&mut cache, &a, &hashes), 2, "the last chunk gave its place");
}

#[test]
fn what_can_not_be_true_is_not_adopted() {
    let (mut cache, a, hashes) = (cache(8), scope("", 2), prompt(1, 4));
    let entry = cache.adopt(&a, hashes[0], 0, 2 * ALIGN, 0).expect("there is room");
    cache.commit(entry);
    for (at, offset) in
        [(1, ALIGN), (1, 3 * ALIGN), (1, 2 * ALIGN), (1, 7 * ALIGN), (1, 8 * ALIGN), (1, 1), (1, u64::MAX)]
    {
        assert_eq!(cache.adopt(&a, hashes[at], at, offset, 0), None, "{at} at {offset}");
    }
    assert_eq!((cache.stats().used_bytes, cache.stats().resident_objects), (2 * ALIGN, 1));
    assert_eq!(cache.clear_step(false, 0, u32::MAX), None);
    assert_eq!((cache.stats().used_bytes, cache.stats().scopes, cache.usage_by_salt().count()), (0, 0, 0));
}

#[test]
fn adoption_beyond_a_quota_is_evicted_afterwards() {
    let (mut cache, a, hashes) = (cache(8), scope("a", 1), prompt(1, 4));
    cache.set_quota("a", 2 * ALIGN);
    for (at, hash) in hashes.iter().enumerate() {
        let entry = cache.adopt(&a, *hash, at, at as u64 * ALIGN, 0).expect("there is room");
        cache.commit(entry);
    }
    cache.touch(&a, &hashes);
    assert_eq!((cache.evict_over_quota(64), hit(&mut cache, &a, &hashes)), (2, 2));
    let last = cache.adopt(&a, hashes[2], 2, 7 * ALIGN, 0).expect("there is room");
    cache.commit(last);
    assert_eq!(cache.evict_over_quota(64), 1, "one is enough to be over it");
}

#[test]
fn a_seal_stays_with_its_object_and_goes_with_it() {
    let (mut cache, a, hashes) = (cache(1), scope("", 1), prompt(1, 2));
    let entry = cache.reserve(&a, &hashes, 0..1, 0).reserved[0].entry;
    assert_eq!(cache.seal(entry), None);
    assert!(cache.set_seal(entry, 7));
    cache.commit(entry);
    assert_eq!(cache.seal(entry), Some(7));
    assert!(cache.remove_unleased(entry));
    assert_eq!((cache.seal(entry), cache.set_seal(entry, 8)), (None, false));
    let next = cache.reserve(&a, &hashes, 1..2, 0).reserved[0].entry;
    assert_eq!(cache.seal(next), None, "the record was used before");
}

/// A copy of the table made from its changes is the table.
#[test]
fn changes_tell_what_a_copy_must_remember() {
    let (mut cache, a, hashes) = (cache(3), scope("a", 1), prompt(1, 4));
    cache.record_changes(true);
    let mut copy: HashMap<u32, (ChunkHash, u64, Option<u64>)> = HashMap::new();
    let follow = |cache: &mut Cache, copy: &mut HashMap<u32, (ChunkHash, u64, Option<u64>)>| {
        for id in cache.take_changes() {
            match cache.slot(id) {
                Some(slot) => copy.insert(id, (slot.hash, slot.offset, slot.seal)),
                None => copy.remove(&id),
            };
        }
        let mut held: Vec<_> = copy.values().copied().collect();
        held.sort_by_key(|&(_, offset, _)| offset);
        held
    };
    let reserved = cache.reserve(&a, &hashes[..2], 0..2, 0).reserved;
    assert_eq!(follow(&mut cache, &mut copy), [(hashes[0], 0, None), (hashes[1], ALIGN, None)]);
    cache.commit(reserved[0].entry);
    cache.set_seal(reserved[0].entry, 5);
    cache.abort(reserved[1].entry);
    assert_eq!(follow(&mut cache, &mut copy), [(hashes[0], 0, Some(5))]);
    let held = cache.lookup(&row(&a), &hashes[..1], 1);
    assert_eq!(cache.clear_step(true, 0, 10), None);
    assert_eq!(follow(&mut cache, &mut copy), [(hashes[0], 0, None)], "cleared, but somebody reads it");
    assert!(!cache.set_seal(reserved[0].entry, 5));
    cache.release_all(held.leases);
    assert_eq!(follow(&mut cache, &mut copy), []);
    store(&mut cache, &a, &hashes[..3]);
    store(&mut cache, &a, &prompt(2, 1));
    assert_eq!(follow(&mut cache, &mut copy).len(), 3, "one was evicted for the last");
}

#[test]
fn an_adopted_object_under_a_lease_keeps_its_memory_whatever_becomes_of_it() {
    let (mut cache, a, hashes) = (cache(8), scope("a", 1), prompt(1, 5));
    let entries: Vec<EntryRef> = (0..4)
        .map(|at| cache.adopt(&a, hashes[at], at, at as u64 * ALIGN, 0).expect("there is room"))
        .collect();
    for &entry in &entries {
        assert!(cache.set_seal(entry, 7) && cache.lease(entry, 1));
    }
    let other = cache.adopt(&a, hashes[1], 1, 7 * ALIGN, 0).expect("there is room");
    assert_eq!([entries[0], other].map(|entry| cache.commit(entry)), [Commit::Stored; 2]);
    assert_eq!((cache.commit(entries[1]), hit(&mut cache, &a, &hashes)), (Commit::Duplicate, 2));
    cache.abort(entries[2]);
    assert_eq!(cache.clear_step(true, 0, u32::MAX), None);
    assert_eq!((cache.commit(entries[3]), cache.commit(entries[2])), (Commit::Gone, Commit::Gone));
    for &entry in &entries {
        assert!(!cache.lease(entry, 1), "nobody new may read it");
        assert!(cache.offset(entry).is_some() && cache.seal(entry).is_none());
    }
    let stats = cache.stats();
    assert_eq!((stats.used_bytes, stats.condemned_objects, stats.leased_objects), (4 * ALIGN, 4, 4));
    entries.iter().for_each(|&entry| cache.release(entry, 1));
    let stats = cache.stats();
    assert_eq!((stats.used_bytes, stats.condemned_objects, stats.leases, stats.scopes), (0, 0, 0, 0));
}

#[test]
fn an_object_is_discarded_unless_others_have_leases_on_it() {
    let (mut cache, a, hashes) = (cache(2), scope("a", 1), prompt(1, 1));
    let entry = store(&mut cache, &a, &hashes).reserved[0].entry;
    assert!(cache.lease(entry, 2));
    assert!(!cache.discard_unshared(entry, 1) && cache.is_resident(entry));
    cache.release(entry, 1);
    assert!(cache.discard_unshared(entry, 1) && !cache.discard_unshared(entry, 1));
    assert_eq!(cache.stats().used_bytes, ALIGN);
    cache.release(entry, 1);
    assert_eq!(cache.stats().used_bytes, 0);
}
