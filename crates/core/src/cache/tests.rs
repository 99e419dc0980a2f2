//! The rules of the table, by single cases; `model` has them all at once.

use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::dtype::Dtype;
use crate::eviction::{self, Lru};
use crate::hash::{ChunkHash, Sample};
use crate::key::{Namespace, Scope, kv_rank};
use crate::layout::{EngineGeometry, ObjectLayout};

mod abandoned;
mod adoption;
mod advice;
mod model;
mod quotas;

const ALIGN: u64 = 4096;

fn layout(pages: u64) -> Arc<ObjectLayout> {
    let geometry = EngineGeometry { layers: 1, slots: pages * 16, hidden: 256, mla: true };
    Arc::new(ObjectLayout::engine_driven(geometry, Dtype::Uint8).unwrap())
}

fn scope(salt: &str, pages: u64) -> Scope {
    let namespace = Namespace::new("m", kv_rank(1, 0), 0, salt).unwrap();
    Scope { namespace, layout: layout(pages) }
}

fn prompt(seed: u8, chunks: usize) -> Vec<ChunkHash> {
    (0..chunks)
        .map(|chunk| {
            let mut bytes = [seed; ChunkHash::LEN];
            // Spread as hashes are: the index goes by the first eight bytes.
            let head = (chunk as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(seed);
            bytes[..8].copy_from_slice(&head.to_le_bytes());
            ChunkHash(bytes)
        })
        .collect()
}

fn cache(pages: u64) -> Cache {
    let config = CacheConfig { capacity_bytes: pages * ALIGN, align_bytes: ALIGN, staging_fresh_ms: 30_000 };
    Cache::new(config, Box::new(Lru::new()))
}

fn store(cache: &mut Cache, scope: &Scope, hashes: &[ChunkHash]) -> Reservation {
    let reservation = cache.reserve(scope, hashes, 0..hashes.len(), 0);
    for reserved in reservation.reserved.iter().rev() {
        assert_eq!(cache.commit(reserved.entry), Commit::Stored);
    }
    cache.touch(scope, hashes);
    reservation
}

fn row(scope: &Scope) -> Vec<Row> {
    vec![Row { scope: scope.clone(), rank: 0, window: None }]
}

fn hit(cache: &mut Cache, scope: &Scope, hashes: &[ChunkHash]) -> usize {
    let found = cache.lookup(&row(scope), hashes, 1);
    cache.release_all(found.leases);
    found.hit_chunks
}

#[test]
fn nothing_is_readable_before_its_commit() {
    let (mut cache, scope, hashes) = (cache(8), scope("", 1), prompt(1, 2));
    let reservation = cache.reserve(&scope, &hashes, 0..2, 0);
    assert_eq!(hit(&mut cache, &scope, &hashes), 0);
    assert_eq!(cache.commit(reservation.reserved[0].entry), Commit::Stored);
    assert_eq!(hit(&mut cache, &scope, &hashes), 1);
    cache.abort(reservation.reserved[1].entry);
    assert_eq!(cache.commit(reservation.reserved[1].entry), Commit::Gone);
    assert_eq!(hit(&mut cache, &scope, &hashes), 1);
    assert_eq!(cache.stats().used_bytes, ALIGN);
}

#[test]
fn a_fresh_writer_keeps_others_away_and_a_stale_one_does_not() {
    let (mut cache, scope, hashes) = (cache(8), scope("", 1), prompt(1, 1));
    let first = cache.reserve(&scope, &hashes, 0..1, 0).reserved[0];
    assert_eq!(cache.reserve(&scope, &hashes, 0..1, 29_999).busy, 1);
    let second = cache.reserve(&scope, &hashes, 0..1, 30_000).reserved[0];
    assert_ne!(first.offset, second.offset, "the stale writer may still be writing");
    assert_eq!(cache.commit(second.entry), Commit::Stored);
    assert_eq!(cache.commit(first.entry), Commit::Duplicate);
    assert_eq!(cache.stats().used_bytes, ALIGN);
}

#[test]
fn a_pool_grows_and_never_shrinks() {
    let (mut cache, scope, hashes) = (cache(1), scope("", 1), prompt(1, 3));
    assert_eq!(cache.reserve(&scope, &hashes, 0..3, 0).reserved.len(), 1);
    cache.grow(2 * ALIGN);
    cache.grow(ALIGN);
    assert_eq!(cache.usage(), (ALIGN, 2 * ALIGN));
    assert_eq!(cache.reserve(&scope, &hashes, 1..3, 0).reserved.len(), 1);
}

#[test]
fn who_writes_a_chunk_can_be_asked_while_it_is_fresh() {
    let (mut cache, scope, hashes) = (cache(2), scope("", 1), prompt(1, 2));
    let entry = cache.reserve(&scope, &hashes, 0..1, 5).reserved[0].entry;
    assert_eq!((cache.chunk(entry), cache.writer(&scope, &hashes[0], 5)), (Some(hashes[0]), Some(entry)));
    assert_eq!(cache.writer(&scope, &hashes[1], 5), None);
    assert_eq!(cache.writer(&scope, &hashes[0], 30_005), None, "nobody waits for it any more");
    cache.commit(entry);
    assert_eq!((cache.chunk(entry), cache.writer(&scope, &hashes[0], 5)), (Some(hashes[0]), None));
    assert!(cache.remove_unleased(entry));
    assert_eq!(cache.chunk(entry), None);
}

#[test]
fn a_full_pool_evicts_for_a_store_but_never_what_is_leased() {
    let (mut cache, scope) = (cache(4), scope("", 1));
    let (kept, old, new) = (prompt(1, 2), prompt(2, 2), prompt(3, 2));
    store(&mut cache, &scope, &kept);
    let leases = cache.lookup(&row(&scope), &kept, 1).leases;
    store(&mut cache, &scope, &old);
    assert_eq!(store(&mut cache, &scope, &new).reserved.len(), 2);
    assert_eq!(hit(&mut cache, &scope, &old), 0);
    assert_eq!(hit(&mut cache, &scope, &kept), 2);
    assert_eq!(cache.stats().evicted_for_store_total, 2);
    cache.release_all(leases);
    assert_eq!(cache.stats().leases, 0);
}

#[test]
fn a_prompt_larger_than_the_pool_keeps_its_beginning() {
    let (mut cache, scope, hashes) = (cache(4), scope("", 1), prompt(1, 6));
    assert_eq!(store(&mut cache, &scope, &hashes[..3]).reserved.len(), 3);
    let rest = cache.reserve(&scope, &hashes, 3..6, 0);
    assert_eq!((rest.reserved.len(), rest.refused), (1, 2));
    assert_eq!(hit(&mut cache, &scope, &hashes), 3);
}

#[test]
fn room_for_the_end_of_a_range_is_not_made_of_its_beginning() {
    let (mut cache, scope, hashes) = (cache(2), scope("", 1), prompt(1, 3));
    store(&mut cache, &scope, &hashes[..2]);
    let again = cache.reserve(&scope, &hashes, 0..3, 0);
    assert_eq!((again.resident, again.reserved.len(), again.refused), (2, 0, 1));
    assert_eq!((hit(&mut cache, &scope, &hashes), cache.stats().leases), (2, 0));
}

#[test]
fn eviction_shortens_a_prompt_from_its_end() {
    let (mut cache, scope, hashes) = (cache(8), scope("", 1), prompt(1, 6));
    store(&mut cache, &scope, &hashes[..3]);
    let rest = cache.reserve(&scope, &hashes, 3..6, 0);
    for reserved in rest.reserved.iter().rev() {
        cache.commit(reserved.entry);
    }
    cache.touch(&scope, &hashes);
    assert_eq!(cache.evict(2), 2);
    assert_eq!(hit(&mut cache, &scope, &hashes), 4);
}

#[test]
fn a_large_object_finds_room_among_small_ones() {
    let (mut cache, small, large) = (cache(64), scope("", 1), scope("", 16));
    for seed in 0..64 {
        store(&mut cache, &small, &prompt(seed, 1));
    }
    assert_eq!(store(&mut cache, &large, &prompt(200, 1)).reserved.len(), 1);
    let evicted = cache.stats().evicted_total;
    assert!((16..=24).contains(&evicted), "evicted {evicted} pages for 16");
}

#[test]
fn forced_clear_hides_at_once_and_frees_when_the_last_user_lets_go() {
    let (mut cache, scope) = (cache(8), scope("", 1));
    let (read, written) = (prompt(1, 1), prompt(2, 1));
    store(&mut cache, &scope, &read);
    let leases = cache.lookup(&row(&scope), &read, 2).leases;
    let staged = cache.reserve(&scope, &written, 0..1, 0).reserved[0];
    assert_eq!(cache.clear_step(false, 0, u32::MAX), None);
    assert_eq!(cache.stats().resident_objects, 1);
    assert_eq!(cache.clear_step(true, 0, u32::MAX), None);
    assert_eq!(hit(&mut cache, &scope, &read), 0);
    assert_eq!((cache.stats().used_bytes, cache.stats().condemned_objects), (2 * ALIGN, 2));
    assert_eq!(cache.commit(staged.entry), Commit::Gone);
    cache.release_all(leases);
    assert_eq!((cache.stats().used_bytes, cache.stats().condemned_objects), (0, 0));
    assert_eq!(cache.stats().scopes, 0);
}

#[test]
fn salts_and_layouts_do_not_share_objects() {
    let (mut cache, hashes) = (cache(8), prompt(1, 1));
    store(&mut cache, &scope("a", 1), &hashes);
    assert_eq!(hit(&mut cache, &scope("b", 1), &hashes), 0);
    assert_eq!(hit(&mut cache, &scope("a", 2), &hashes), 0);
    assert_eq!(hit(&mut cache, &scope("a", 1), &hashes), 1);
}

#[test]
fn all_ranks_must_have_a_chunk() {
    let mut cache = cache(8);
    let hashes = prompt(1, 3);
    let ranks: Vec<Row> = (0..2)
        .map(|rank| {
            let namespace = scope("", 1).namespace.with_kv_rank(kv_rank(2, rank));
            Row { scope: Scope { namespace, layout: layout(1) }, rank, window: None }
        })
        .collect();
    store(&mut cache, &ranks[0].scope, &hashes);
    store(&mut cache, &ranks[1].scope, &hashes[..2]);
    let found = cache.lookup(&ranks, &hashes, 1);
    assert_eq!((found.hit_chunks, cache.stats().leases), (2, 4));
    cache.release_all(found.leases);
}

#[test]
fn a_windowed_group_is_leased_as_far_as_its_attention_looks() {
    let mut cache = cache(16);
    let hashes = prompt(1, 4);
    let windowed = Scope { namespace: Namespace::new("m", kv_rank(1, 0), 1, "").unwrap(), ..scope("", 1) };
    store(&mut cache, &scope("", 1), &hashes);
    store(&mut cache, &windowed, &hashes);
    let rows = [
        Row { scope: scope("", 1), rank: 0, window: None },
        Row { scope: windowed.clone(), rank: 0, window: Some(2) },
    ];
    let mut found = cache.lookup(&rows, &hashes, 1);
    assert_eq!((found.hit_chunks, found.leases.held(), cache.stats().leases), (4, 6, 6));
    assert_eq!(found.leases.take(1, 1..2), None, "the window begins behind it");
    let last = [2, 3].map(|chunk: usize| cache.find(&windowed, &hashes[chunk]).unwrap());
    assert_eq!(found.leases.take(1, 2..4), Some(last.to_vec()));
    last.iter().for_each(|&entry| cache.release(entry, 1));
    cache.release_all(found.leases);
    let first = cache.find(&windowed, &hashes[0]).unwrap();
    assert!(cache.remove_unleased(first));
    assert_eq!(cache.lookup(&rows, &hashes, 0).hit_chunks, 4, "nobody looks at the first one any more");
}

#[test]
fn of_a_sample_every_removal_is_remembered_and_whether_it_made_room() {
    let (mut cache, scope, hashes) = (cache(4), scope("", 1), prompt(1, 3));
    store(&mut cache, &scope, &hashes);
    assert_eq!((cache.evict(1), cache.take_followed()), (1, Vec::new()), "nobody asked");
    cache.follow(Sample::of(1.0));
    assert_eq!((cache.evict(1), cache.clear_step(false, 0, u32::MAX)), (1, None));
    let followed: Vec<_> = cache.take_followed().into_iter().map(|gone| (gone.hash, gone.evicted)).collect();
    assert_eq!(followed, [(hashes[1], true), (hashes[0], false)]);
    assert!(cache.take_followed().is_empty() && !cache.has_removed());
}

#[test]
fn what_left_the_index_is_told_once_and_what_was_too_much_is_counted() {
    let most = 65_536;
    let (mut cache, scope, hashes) = (cache(most as u64 + 2), scope("", 1), prompt(1, most + 2));
    store(&mut cache, &scope, &hashes[..1]);
    assert_eq!((cache.evict(1), cache.has_removed()), (1, false), "nobody asked");
    cache.record_removed(true);
    store(&mut cache, &scope, &hashes);
    assert_eq!(cache.evict(2), 2);
    assert!(cache.has_removed());
    let (removed, lost) = cache.take_removed();
    let hashes_of: Vec<ChunkHash> = removed.iter().map(|removed| removed.hash).collect();
    assert_eq!((hashes_of, lost), (vec![hashes[most + 1], hashes[most]], 0));
    assert!(!cache.has_removed());
    store(&mut cache, &scope, &hashes);
    assert_eq!(cache.clear_step(false, 0, u32::MAX), None);
    let (removed, lost) = cache.take_removed();
    assert_eq!((removed.len(), lost), (most, 2));
    assert_eq!((cache.take_removed().1, cache.has_removed()), (0, false));
}

#[test]
fn a_writer_that_gives_up_frees_nothing_that_is_read() {
    let (mut cache, scope, hashes) = (cache(2), scope("", 1), prompt(1, 1));
    let entry = store(&mut cache, &scope, &hashes).reserved[0].entry;
    cache.abort(entry);
    assert_eq!(hit(&mut cache, &scope, &hashes), 1, "it was committed");
    assert!(cache.lease(entry, 1));
    assert_eq!(cache.clear_step(true, 0, u32::MAX), None);
    cache.abort(entry);
    assert_eq!((cache.stats().used_bytes, cache.stats().aborted_total), (ALIGN, 0), "it is being read");
    cache.release(entry, 1);
    assert_eq!(cache.stats().used_bytes, 0);
}

#[test]
fn a_copy_of_the_table_knows_where_somebody_may_be_writing() {
    let (mut cache, scope) = (cache(4), scope("", 1));
    cache.record_changes(true);
    let read = store(&mut cache, &scope, &prompt(1, 1)).reserved[0];
    let written = cache.reserve(&scope, &prompt(2, 1), 0..1, 0).reserved[0];
    let being_written = |cache: &Cache, of: Reserved| {
        let slots = (0..2).filter_map(|id| cache.slot(id));
        let own: Vec<bool> =
            slots.filter(|slot| slot.offset == of.offset).map(|slot| slot.is_being_written).collect();
        assert_eq!(own.len(), 1);
        own[0]
    };
    assert_eq!([read, written].map(|of| being_written(&cache, of)), [false, true]);
    assert!(cache.lease(read.entry, 1));
    assert_eq!(cache.clear_step(true, 0, u32::MAX), None);
    assert_eq!([read, written].map(|of| being_written(&cache, of)), [false, true], "cleared under both");
    assert!(cache.has_changes() && !cache.take_changes().is_empty() && !cache.has_changes());
    cache.abort(written.entry);
    assert!(cache.has_changes());
    assert!(cache.slot(2).is_none() && cache.slot(u32::MAX).is_none());
}

#[test]
fn objects_are_listed_once_and_removed_by_name() {
    let (mut cache, plain, other) = (cache(16), scope("", 1), scope("", 2));
    let hashes = prompt(1, 3);
    store(&mut cache, &plain, &hashes);
    store(&mut cache, &other, &hashes[..1]);
    let mut listed = Vec::new();
    let mut next = Some(0);
    while let Some(from) = next {
        let (page, after) = cache.list_step(from, 1);
        listed.extend(page.into_iter().map(|object| (object.scope.layout.bytes(), object.hash)));
        next = after;
    }
    let expected = [(ALIGN, hashes[0]), (ALIGN, hashes[1]), (ALIGN, hashes[2]), (2 * ALIGN, hashes[0])];
    assert_eq!(listed.len(), 4);
    assert!(expected.iter().all(|object| listed.contains(object)), "{listed:?}");

    let name = |hash| plain.namespace.key(hash);
    let held = cache.lookup(&row(&plain), &hashes, 1);
    assert_eq!(cache.remove_named(&name(hashes[0]), false), NamedRemoval::InUse);
    assert_eq!(hit(&mut cache, &other, &hashes), 0, "the same name in another layout is gone");
    assert_eq!(cache.remove_named(&name(hashes[0]), true), NamedRemoval::Yes);
    assert_eq!(cache.remove_named(&name(hashes[0]), true), NamedRemoval::Absent);
    assert_eq!((cache.stats().condemned_objects, cache.stats().used_bytes), (1, 3 * ALIGN));
    cache.release_all(held.leases);
    assert_eq!(cache.stats().used_bytes, 2 * ALIGN);
    let stranger = scope("s", 1).namespace.key(hashes[1]);
    assert_eq!(cache.remove_named(&stranger, true), NamedRemoval::Absent);
}

#[test]
fn a_discarded_object_misses_at_once_and_its_memory_stays_for_who_holds_it() {
    let (mut cache, a, hashes) = (cache(8), scope("", 1), prompt(1, 2));
    let stored = store(&mut cache, &a, &hashes);
    let [held, free] = [stored.reserved[0].entry, stored.reserved[1].entry];
    assert_eq!(cache.scope(held), Some(&a));
    assert!(cache.lease(held, 1) && cache.discard(held) && cache.discard(free));
    assert_eq!(hit(&mut cache, &a, &hashes), 0);
    assert_eq!((cache.stats().used_bytes, cache.stats().condemned_objects), (ALIGN, 1));
    assert!(!cache.discard(held) && !cache.discard(free), "they are gone");
    cache.release(held, 1);
    assert_eq!((cache.stats().used_bytes, cache.stats().condemned_objects), (0, 0));
}
