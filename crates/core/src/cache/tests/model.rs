//! The table against a few lines that do the same, under any sequence of operations.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::eviction;

#[derive(Clone, Debug)]
enum Step {
    Reserve { salt: bool, seed: u8, chunks: usize, pages: u64 },
    Finish { pick: usize, commit: bool },
    Lookup { salt: bool, seed: u8, chunks: usize, pages: u64 },
    Release { pick: usize },
    Evict { count: usize },
    Clear { force: bool },
    Quota { salt: bool, pages: Option<u64> },
    EvictOverQuota,
    Policy { name: &'static str },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let prompt = || (any::<bool>(), 0..4u8, 1..5usize, 1..4u64);
    let step = prop_oneof![
        4 => prompt().prop_map(|(salt, seed, chunks, pages)| Step::Reserve { salt, seed, chunks, pages }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(pick, commit)| Step::Finish { pick, commit }),
        3 => prompt().prop_map(|(salt, seed, chunks, pages)| Step::Lookup { salt, seed, chunks, pages }),
        3 => any::<usize>().prop_map(|pick| Step::Release { pick }),
        1 => (1..4usize).prop_map(|count| Step::Evict { count }),
        1 => any::<bool>().prop_map(|force| Step::Clear { force }),
        1 => (any::<bool>(), prop::option::of(0..10u64)).prop_map(|(salt, pages)| Step::Quota { salt, pages }),
        1 => Just(Step::EvictOverQuota),
        1 => prop::sample::select(eviction::NAMES).prop_map(|name| Step::Policy { name }),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Whatever happens in whatever order: nobody shares memory, leased memory does not move, what was
    /// evicted or cleared is not found, what is counted is what happened, and when everybody has let go
    /// nothing is left.
    #[test]
    fn memory_has_one_owner_and_accounts_balance(steps in steps()) {
        let mut cache = cache(16);
        cache.record_removed(true);
        // With the bytes, and whether it was cleared meanwhile.
        let mut writing: Vec<(Reserved, u64, bool)> = Vec::new();
        let (mut told, mut left) = (CacheStats::default(), 0);
        let mut reading: Vec<(crate::lease::LeaseSet, Vec<(EntryRef, u64)>)> = Vec::new();
        for step in steps {
            match step {
                Step::Reserve { salt, seed, chunks, pages } => {
                    let salt = if salt { "s" } else { "" };
                    let scope = scope(salt, pages);
                    let before = cache.usage_of_salt(salt);
                    let answer = cache.reserve(&scope, &prompt(seed, chunks), 0..chunks, 0);
                    if let Some(limit) = cache.quotas().limit_for(salt) {
                        prop_assert!(cache.usage_of_salt(salt) <= limit.max(before));
                        prop_assert!(answer.reserved.is_empty() || cache.usage_of_salt(salt) <= limit);
                    }
                    prop_assert_eq!(
                        answer.reserved.len() + answer.resident + answer.busy + answer.refused, chunks
                    );
                    told.refused_total += answer.refused as u64;
                    told.refused_by_quota_total += answer.refused_by_quota as u64;
                    writing.extend(answer.reserved.into_iter().map(|r| (r, pages * ALIGN, false)));
                }
                Step::Finish { pick, commit } if !writing.is_empty() => {
                    let (reserved, _, cleared) = writing.swap_remove(pick % writing.len());
                    if commit {
                        let committed = cache.commit(reserved.entry);
                        prop_assert_eq!(committed == Commit::Gone, cleared);
                        told.stored_total += u64::from(committed == Commit::Stored);
                        told.duplicates_total += u64::from(committed == Commit::Duplicate);
                    } else {
                        cache.abort(reserved.entry);
                        told.aborted_total += 1;
                    }
                    prop_assert_eq!(cache.commit(reserved.entry), Commit::Gone);
                }
                Step::Lookup { salt, seed, chunks, pages } => {
                    let scope = scope(if salt { "s" } else { "" }, pages);
                    let hashes = prompt(seed, chunks);
                    let found = cache.lookup(&row(&scope), &hashes, 1);
                    let held: Vec<(EntryRef, u64)> = hashes[..found.hit_chunks]
                        .iter()
                        .map(|hash| cache.find(&scope, hash).expect("leased"))
                        .map(|entry| (entry, cache.offset(entry).expect("resident")))
                        .collect();
                    reading.push((found.leases, held));
                }
                Step::Release { pick } if !reading.is_empty() => {
                    let (leases, _) = reading.swap_remove(pick % reading.len());
                    cache.release_all(leases);
                }
                Step::Evict { count } => told.evicted_total += cache.evict(count) as u64,
                Step::Clear { force } => {
                    prop_assert_eq!(cache.clear_step(force, 0, u32::MAX), None);
                    writing.iter_mut().for_each(|(.., cleared)| *cleared |= force);
                }
                Step::Quota { salt: true, pages: None } => { cache.remove_quota("s"); }
                Step::Quota { salt: true, pages: Some(pages) } => { cache.set_quota("s", pages * ALIGN); }
                Step::Quota { salt: false, pages } => cache.set_default_quota(pages.map(|pages| pages * ALIGN)),
                Step::EvictOverQuota => {
                    while cache.evict_over_quota(2) > 0 {}
                    let leased = reading.iter().any(|(_, held)| !held.is_empty());
                    for (salt, bytes) in cache.usage_by_salt() {
                        let over = cache.quotas().limit_for(salt).is_some_and(|limit| bytes > limit);
                        prop_assert!(!over || leased || !writing.is_empty() || cache.policy_name() == "noop");
                    }
                }
                Step::Policy { name } => {
                    let resident = cache.stats().resident_objects;
                    cache.replace_policy(eviction::by_name(name).expect("a known name"));
                    prop_assert_eq!((cache.policy_name(), cache.stats().resident_objects), (name, resident));
                }
                Step::Finish { .. } | Step::Release { .. } => {}
            }
            for (leases, held) in &reading {
                prop_assert_eq!(leases.held(), held.len() as u64);
                for &(entry, offset) in held {
                    prop_assert_eq!(cache.offset(entry), Some(offset));
                }
            }
            let stats = cache.stats();
            left += cache.take_removed().0.len() as u64;
            prop_assert_eq!(stats.stored_total, stats.resident_objects + left);
            let staging = || writing.iter().filter(|(.., cleared)| !cleared);
            prop_assert_eq!(
                stats,
                CacheStats {
                    capacity_bytes: 16 * ALIGN,
                    staging_objects: staging().count() as u64,
                    staging_bytes: staging().map(|(_, bytes, _)| bytes).sum(),
                    stored_total: told.stored_total,
                    duplicates_total: told.duplicates_total,
                    aborted_total: told.aborted_total,
                    refused_total: told.refused_total,
                    refused_by_quota_total: told.refused_by_quota_total,
                    evicted_total: told.evicted_total
                        + stats.evicted_for_store_total
                        + stats.evicted_for_quota_total,
                    ..stats
                }
            );
            let mut spans: Vec<(u64, u64)> = writing.iter().map(|(r, bytes, _)| (r.offset, *bytes)).collect();
            spans.sort_unstable();
            prop_assert!(spans.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
            let held: u64 = reading.iter().map(|(leases, _)| leases.held()).sum();
            prop_assert_eq!(cache.stats().leases, held);
            let by_salt: u64 = cache.usage_by_salt().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(by_salt, cache.stats().used_bytes);
        }
        for (reserved, ..) in writing {
            cache.abort(reserved.entry);
        }
        for (leases, _) in reading {
            cache.release_all(leases);
        }
        prop_assert_eq!(cache.clear_step(false, 0, u32::MAX), None);
        let stats = cache.stats();
        prop_assert_eq!(
            (stats.used_bytes, stats.staging_bytes, stats.resident_objects, stats.condemned_objects, stats.leased_objects, stats.scopes),
            (0, 0, 0, 0, 0, 0)
        );
    }

    /// Without shortage the table answers as a map does.
    #[test]
    fn hits_are_those_of_a_map(stores in prop::collection::vec((0..6u8, 1..6usize), 1..40)) {
        let mut cache = cache(4096);
        let mut model: HashMap<u8, usize> = HashMap::new();
        let scope = scope("", 1);
        for (seed, chunks) in stores {
            store(&mut cache, &scope, &prompt(seed, chunks));
            let known = model.entry(seed).or_default();
            *known = (*known).max(chunks);
            prop_assert_eq!(hit(&mut cache, &scope, &prompt(seed, 8)), *known);
        }
    }
}
