//! Advice orders what leaves, and forbids nothing.

use super::*;

fn by(name: &str) -> Arc<str> {
    name.into()
}

fn resident(cache: &Cache, scope: &Scope, hashes: &[ChunkHash]) -> Vec<bool> {
    hashes.iter().map(|hash| cache.find(scope, hash).is_some()).collect()
}

#[test]
fn what_should_stay_leaves_last_and_still_makes_room_for_a_store() {
    let mut cache = cache(4);
    let gold = scope("gold", 1);
    let old = prompt(1, 2);
    store(&mut cache, &gold, &old);
    let new = prompt(2, 2);
    store(&mut cache, &gold, &new);
    for hash in &old {
        assert!(cache.advise(&by("p"), Wish::Keep(*hash), 10));
    }
    assert_eq!(cache.evict(2), 2);
    assert_eq!(
        (resident(&cache, &gold, &old), resident(&cache, &gold, &new)),
        (vec![true; 2], vec![false; 2])
    );
    // Nothing else is left, and a store needs it all.
    assert_eq!(store(&mut cache, &gold, &prompt(3, 4)).reserved.len(), 4);
    assert_eq!(resident(&cache, &gold, &old), [false; 2]);
}

#[test]
fn what_should_go_leaves_first_whatever_the_policy_thinks() {
    let mut cache = cache(8);
    let (gold, bulk) = (scope("gold", 1), scope("bulk", 1));
    let (kept, shed) = (prompt(1, 3), prompt(2, 3));
    store(&mut cache, &gold, &kept);
    store(&mut cache, &bulk, &shed);
    let selector = Selector { cache_salt: Some("bulk".into()), ..Selector::default() };
    assert!(cache.advise(&by("p"), Wish::ShedAll(selector), 10));
    assert!(cache.advise(&by("p"), Wish::Keep(shed[0]), 10));
    assert_eq!(cache.evict(2), 2);
    assert_eq!(resident(&cache, &gold, &kept), [true; 3]);
    assert_eq!(resident(&cache, &bulk, &shed), [true, false, false]);
    assert_eq!((cache.advice_stats().shed_total, cache.stats().evicted_total), (2, 2));
    // Advice says no more; the policy goes on.
    assert_eq!(cache.evict(1), 1);
    assert_eq!(resident(&cache, &gold, &kept).iter().filter(|there| **there).count(), 2);
}

#[test]
fn what_is_in_use_is_not_touched() {
    let mut cache = cache(8);
    let gold = scope("gold", 1);
    let hashes = prompt(1, 2);
    store(&mut cache, &gold, &hashes);
    let entry = cache.find(&gold, &hashes[0]).unwrap();
    assert!(cache.lease(entry, 1));
    for hash in &hashes {
        assert!(cache.advise(&by("p"), Wish::Shed(*hash), 10));
    }
    assert_eq!(cache.evict(2), 1);
    assert_eq!(resident(&cache, &gold, &hashes), [true, false]);
}

#[test]
fn advice_ends_by_time_and_with_its_giver_and_has_a_limit() {
    let mut cache = cache(4);
    let hashes = prompt(1, ADVISED_CHUNKS_MAX + 1);
    for (index, hash) in hashes.iter().enumerate() {
        assert_eq!(cache.advise(&by("p"), Wish::Keep(*hash), 10), index < ADVISED_CHUNKS_MAX);
    }
    assert!(cache.advise(&by("p"), Wish::Keep(hashes[0]), 20), "what is there is only prolonged");
    let selector = |salt: usize| Selector { cache_salt: Some(salt.to_string().into()), model_name: None };
    for salt in 0..=ADVISED_SCOPES_MAX {
        assert_eq!(cache.advise(&by("q"), Wish::StayOutOfL2(selector(salt)), 30), salt < ADVISED_SCOPES_MAX);
    }
    assert!(cache.stays_out_of_l2(&scope("3", 1)) && !cache.stays_out_of_l2(&scope("x", 1)));
    assert!(cache.expire_advice(10));
    assert_eq!(cache.advice_stats().kept_chunks, 1);
    cache.withdraw_advice("q");
    assert!(!cache.stays_out_of_l2(&scope("3", 1)));
    assert!(!cache.expire_advice(20));
}
