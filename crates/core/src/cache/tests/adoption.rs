//! Taking over what an earlier server left in the pool.

use super::*;

#[test]
fn an_adopted_object_is_like_a_stored_one() {
    let (mut cache, a, hashes) = (cache(8), scope("a", 2), prompt(1, 3));
    let entries: Vec<EntryRef> = (0..3)
        .map(|at| cache.adopt(&a, hashes[at], at, 2 * at as u64 * ALIGN).expect("there is room"))
        .collect();
    assert_eq!(hit(&mut cache, &a, &hashes), 3);
    assert_eq!(cache.offset(entries[1]), Some(2 * ALIGN));
    let stats = cache.stats();
    assert_eq!((stats.used_bytes, stats.adopted_total, stats.stored_total), (6 * ALIGN, 3, 0));
    assert_eq!(cache.usage_of_salt("a"), 6 * ALIGN);
    assert_eq!(store(&mut cache, &a, &prompt(2, 2)).reserved.len(), 2);
    assert_eq!(hit(&mut cache, &a, &hashes), 2, "the last chunk gave its place");
}

#[test]
fn what_can_not_be_true_is_not_adopted() {
    let (mut cache, a, hashes) = (cache(8), scope("", 2), prompt(1, 4));
    cache.adopt(&a, hashes[0], 0, 2 * ALIGN).expect("there is room");
    for (at, offset) in [
        (0, 4 * ALIGN),
        (1, ALIGN),
        (1, 3 * ALIGN),
        (1, 2 * ALIGN),
        (1, 7 * ALIGN),
        (1, 8 * ALIGN),
        (1, 1),
        (1, u64::MAX),
    ] {
        assert_eq!(cache.adopt(&a, hashes[at], at, offset), None, "{at} at {offset}");
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
        cache.adopt(&a, *hash, at, at as u64 * ALIGN).expect("there is room");
    }
    cache.touch(&a, &hashes);
    assert_eq!((cache.evict_over_quota(64), hit(&mut cache, &a, &hashes)), (2, 2));
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
