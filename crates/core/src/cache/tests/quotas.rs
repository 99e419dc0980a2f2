//! Tenants within their quotas, and what a change of quota or policy does.

use super::*;

fn tenants(limits: &[(&str, u64)]) -> Cache {
    let mut cache = cache(16);
    for (salt, pages) in limits {
        cache.set_quota(salt, pages * ALIGN);
    }
    cache
}

#[test]
fn a_salt_at_its_quota_makes_room_of_its_own_coldest_objects() {
    let mut cache = tenants(&[("a", 4)]);
    let (a, b) = (scope("a", 1), scope("b", 1));
    store(&mut cache, &b, &prompt(9, 2));
    store(&mut cache, &a, &prompt(1, 2));
    store(&mut cache, &a, &prompt(2, 2));
    assert_eq!(store(&mut cache, &a, &prompt(3, 3)).reserved.len(), 3);
    assert_eq!(hit(&mut cache, &a, &prompt(1, 2)), 0, "the oldest went");
    assert_eq!(hit(&mut cache, &a, &prompt(2, 2)), 1, "of the next the last chunk");
    assert_eq!(hit(&mut cache, &b, &prompt(9, 2)), 2, "others keep theirs, though they were used before");
    assert_eq!(cache.usage_of_salt("a"), 4 * ALIGN);
    let stats = cache.stats();
    assert_eq!((stats.evicted_for_quota_total, stats.evicted_for_store_total), (3, 0));
}

#[test]
fn what_a_quota_does_not_allow_is_refused_and_counted() {
    let mut cache = tenants(&[("a", 3), ("none", 0)]);
    let (a, none) = (scope("a", 1), scope("none", 1));
    store(&mut cache, &a, &prompt(1, 2));
    let leases = cache.lookup(&row(&a), &prompt(1, 2), 1).leases;
    let answer = cache.reserve(&a, &prompt(2, 3), 0..3, 0);
    assert_eq!((answer.reserved.len(), answer.refused, answer.refused_by_quota), (1, 2, 2));
    assert_eq!(cache.reserve(&none, &prompt(1, 2), 0..2, 0).refused_by_quota, 2);
    assert_eq!(cache.reserve(&scope("a", 4), &prompt(5, 1), 0..1, 0).refused_by_quota, 1, "one is too large");
    let stats = cache.stats();
    assert_eq!((stats.refused_total, stats.refused_by_quota_total, stats.scopes), (5, 5, 1));
    cache.release_all(leases);
}

#[test]
fn a_full_pool_is_no_matter_of_quota() {
    let mut cache = tenants(&[("a", 12)]);
    let (a, b) = (scope("a", 1), scope("b", 1));
    store(&mut cache, &b, &prompt(1, 16));
    let leases = cache.lookup(&row(&b), &prompt(1, 15), 1).leases;
    let answer = cache.reserve(&a, &prompt(2, 3), 0..3, 0);
    assert_eq!((answer.reserved.len(), answer.refused, answer.refused_by_quota), (1, 2, 0));
    cache.release_all(leases);
}

#[test]
fn a_lowered_quota_is_reached_in_steps() {
    let mut cache = tenants(&[]);
    let (a, b) = (scope("a", 1), scope("b", 1));
    for seed in 0..3 {
        store(&mut cache, &a, &prompt(seed, 3));
    }
    store(&mut cache, &b, &prompt(1, 3));
    cache.set_default_quota(Some(4 * ALIGN));
    assert_eq!((cache.evict_over_quota(2), cache.usage_of_salt("a")), (2, 7 * ALIGN));
    let leases = cache.lookup(&row(&a), &prompt(2, 3), 1).leases;
    assert_eq!(cache.evict_over_quota(64), 3);
    assert_eq!((cache.usage_of_salt("a"), cache.usage_of_salt("b")), (4 * ALIGN, 3 * ALIGN));
    cache.set_quota("a", ALIGN);
    assert_eq!(cache.evict_over_quota(64), 1, "three are leased");
    assert_eq!(cache.evict_over_quota(64), 0);
    cache.release_all(leases);
    assert_eq!(cache.evict_over_quota(64), 2);
    assert_eq!(hit(&mut cache, &a, &prompt(2, 3)), 1);
    cache.remove_quota("a");
    assert_eq!((store(&mut cache, &a, &prompt(2, 4)).reserved.len(), cache.evict_over_quota(64)), (3, 0));
}

#[test]
fn a_quota_set_late_knows_the_order_so_far() {
    let (mut cache, a) = (cache(16), scope("a", 1));
    for seed in 0..4 {
        store(&mut cache, &a, &prompt(seed, 2));
    }
    cache.touch(&a, &prompt(0, 2));
    cache.set_quota("a", 6 * ALIGN);
    assert_eq!(cache.evict_over_quota(64), 2);
    assert_eq!(hit(&mut cache, &a, &prompt(1, 2)), 0);
    assert_eq!(hit(&mut cache, &a, &prompt(0, 2)), 2);
}

#[test]
fn without_room_the_isolated_policy_takes_from_who_is_furthest_over_its_share() {
    let mut cache = tenants(&[("a", 8)]);
    cache.replace_policy(eviction::by_name("IsolatedLRU").unwrap());
    let [a, b, c] = ["a", "b", "c"].map(|salt| scope(salt, 1));
    for seed in 0..4 {
        store(&mut cache, &a, &prompt(seed, 2));
        store(&mut cache, &b, &prompt(seed, 2));
    }
    assert_eq!(store(&mut cache, &c, &prompt(9, 4)).reserved.len(), 4);
    let bytes = ["a", "b", "c"].map(|salt| cache.usage_of_salt(salt) / ALIGN);
    assert_eq!(bytes, [8, 4, 4], "a is within its quota; b had the most of the others");
}

#[test]
fn another_policy_goes_on_in_the_order_of_the_one_before() {
    for name in eviction::NAMES.iter().filter(|name| **name != "noop") {
        let (mut cache, a) = (cache(16), scope("a", 1));
        for seed in 0..4 {
            store(&mut cache, &a, &prompt(seed, 3));
        }
        cache.touch(&a, &prompt(0, 3));
        cache.replace_policy(eviction::by_name(name).unwrap());
        cache.evict(2);
        let left = [0, 1, 2, 3].map(|seed| hit(&mut cache, &a, &prompt(seed, 3)));
        assert_eq!(left, [3, 1, 3, 3], "{name}");
    }
}

#[test]
fn after_a_policy_without_order_later_chunks_leave_first() {
    let (mut cache, a) = (cache(16), scope("a", 1));
    cache.replace_policy(eviction::by_name("noop").unwrap());
    for seed in 0..4 {
        store(&mut cache, &a, &prompt(seed, 3));
    }
    cache.replace_policy(Box::new(Lru::new()));
    assert_eq!(cache.evict(4), 4);
    assert_eq!([0, 1, 2, 3].map(|seed| hit(&mut cache, &a, &prompt(seed, 3))), [2; 4]);
}
