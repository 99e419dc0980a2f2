//! Replays of traces small enough to follow by hand, and against the object table itself.

use std::sync::Arc;

use larder_core::cache::{Cache, CacheConfig, Row};
use larder_core::dtype::Dtype;
use larder_core::eviction;
use larder_core::hash::ChunkHash;
use larder_core::key::{Namespace, Scope, kv_rank};
use larder_core::layout::{EngineGeometry, ObjectLayout};

use super::background::Background;
use super::offline::offline;
use super::peer::peer;
use super::replay::replay;
use super::score::Score;
use super::synthetic::Workload;
use super::trace::{Prompt, Trace, TraceBuilder};

fn trace(prompts: &[(u64, &[u64])]) -> Trace {
    let mut builder = TraceBuilder::new("t", 256, 256);
    for (time_ms, blocks) in prompts {
        builder.add(&Prompt { time_ms: *time_ms, owner: "", blocks: blocks.to_vec(), chunk_bytes: 1 });
    }
    builder.build()
}

fn by_policy(trace: &Trace, capacity: u64, name: &str) -> Score {
    replay(trace, capacity, eviction::by_name(name).unwrap(), None)
}

#[test]
fn lru_keeps_the_beginning_of_what_was_used_last() {
    // Room for four: the second prompt pushes out the end of the first, the third finds one chunk of it.
    let trace = trace(&[(0, &[1, 2, 3]), (1, &[7, 8]), (2, &[1, 2, 3]), (3, &[7, 8])]);
    let score = by_policy(&trace, 4, "LRU");
    assert_eq!((score.chunks, score.chunks_hit, score.requests_hit), (10, 2 + 1, 2));
    // 3 left for 8; 8 left for 3; 3 left for 8.
    assert_eq!((score.evicted, score.refused), (3, 0));
}

#[test]
fn the_offline_cache_keeps_what_comes_back_soonest() {
    // Room for three. LRU has lost (1, 2) when it comes back; the future says that (5, 6) never does.
    let trace = trace(&[(0, &[1, 2]), (1, &[5, 6]), (2, &[7, 8]), (3, &[1, 2]), (4, &[7, 8])]);
    let best = offline(&trace, 3);
    assert_eq!(best.chunks_hit, 2 + 1, "both of the first, and the beginning of the other");
    assert_eq!(by_policy(&trace, 3, "LRU").chunks_hit, 1);
    assert_eq!(offline(&trace, 6).chunks_hit, 4);
}

#[test]
fn a_prompt_larger_than_the_cache_keeps_its_beginning() {
    let trace = trace(&[(0, &[1, 2, 3, 4, 5]), (1, &[1, 2, 3, 4, 5])]);
    for name in ["LRU", "ARC", "S3FIFO"] {
        let score = by_policy(&trace, 3, name);
        assert_eq!((score.chunks_hit, score.evicted, score.refused), (3, 0, 4), "{name}");
    }
    assert_eq!(offline(&trace, 3).chunks_hit, 3);
    let peer = peer(&trace, 3, eviction::by_name("LRU").unwrap(), Background::new(0.8, 0.2));
    assert_eq!((peer.chunks_hit, peer.refused), (0, 10), "all or nothing");
}

#[test]
fn the_peer_evicts_a_fifth_once_a_second_above_its_watermark() {
    let first: Vec<u64> = (0..10).collect();
    let trace = trace(&[(500, &first), (600, &[90]), (1_500, &first), (5_000, &first)]);
    let score = peer(&trace, 10, eviction::by_name("LRU").unwrap(), Background::new(0.8, 0.2));
    // At 600 ms the pool is full, and nothing is evicted before the next second, when the last two of ten go.
    // The prompt at 1500 ms finds the other eight and stores those two again. Two seconds later two and then
    // one of eight have gone; seven are below the watermark.
    assert_eq!(score.evicted, 2 + 2 + 1);
    assert_eq!(score.chunks_hit, 8 + 7);
    assert_eq!(score.refused, 1);
}

#[test]
fn with_passes_in_the_background_a_store_still_makes_its_own_room() {
    let first: Vec<u64> = (0..10).collect();
    let trace = trace(&[(500, &first), (600, &[90]), (1_500, &first)]);
    let score = replay(&trace, 10, eviction::by_name("LRU").unwrap(), Some(Background::new(0.8, 0.2)));
    // 90 takes the place of the last chunk; a pass takes two more; storing three again takes one, which is
    // 90.
    assert_eq!((score.evicted, score.chunks_hit, score.refused), (1 + 2 + 1, 7, 0));
}

#[test]
fn sizes_count_in_bytes() {
    let mut builder = TraceBuilder::new("t", 256, 256);
    for (time_ms, block, chunk_bytes) in [(0, 1, 30), (1, 2, 10), (2, 1, 30), (3, 3, 70), (4, 1, 30)] {
        builder.add(&Prompt { time_ms, owner: "", blocks: vec![block], chunk_bytes });
    }
    let score = by_policy(&builder.build(), 80, "LRU");
    assert_eq!((score.chunks_hit, score.bytes_hit, score.bytes, score.evicted), (1, 30, 170, 3));
}

/// The same trace through the object table.
fn by_table(trace: &Trace, capacity: u64, name: &str) -> Score {
    const BYTES: u64 = 4096;
    let geometry = EngineGeometry { layers: 1, slots: 16, hidden: 256, mla: true };
    let scope = Scope {
        namespace: Namespace::new("m", kv_rank(1, 0), 0, "").unwrap(),
        layout: Arc::new(ObjectLayout::engine_driven(geometry, Dtype::Uint8).unwrap()),
    };
    let config = CacheConfig { capacity_bytes: capacity * BYTES, align_bytes: BYTES, staging_fresh_ms: 1 };
    let mut cache = Cache::new(config, eviction::by_name(name).unwrap());
    let rows = [Row { scope: scope.clone(), rank: 0, window: None }];
    let mut score = Score::default();
    for request in &trace.requests {
        let hash = |chunk: &u32| {
            let mut bytes = [0; ChunkHash::LEN];
            bytes[..8].copy_from_slice(&u64::from(*chunk).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
            ChunkHash(bytes)
        };
        let prompt: Vec<ChunkHash> = request.chunks.iter().map(hash).collect();
        let found = cache.lookup(&rows, &prompt, 1);
        score.count(trace, request, found.hit_chunks);
        let reserved = cache.reserve(&scope, &prompt, found.hit_chunks..prompt.len(), 0);
        for reserved in reserved.reserved.iter().rev() {
            cache.commit(reserved.entry);
        }
        cache.release_all(found.leases);
        cache.refresh(&scope, &prompt);
    }
    (score.evicted, score.refused) = (cache.stats().evicted_total, cache.stats().refused_total);
    score
}

#[test]
fn a_replay_scores_as_the_object_table_does() {
    for workload in [Workload::Zipf, Workload::Conversations] {
        let trace = workload.trace(1_500, 5);
        for name in eviction::NAMES {
            for share in [20, 4] {
                let capacity = (trace.distinct() / share) as u64;
                assert_eq!(
                    by_policy(&trace, capacity, name),
                    by_table(&trace, capacity, name),
                    "{name} {workload:?}"
                );
            }
        }
    }
}

#[test]
fn nothing_beats_the_offline_cache() {
    for workload in [Workload::Zipf, Workload::Conversations] {
        let trace = workload.trace(2_000, 9);
        let capacity = trace.distinct() as u64 / 4;
        let best = offline(&trace, capacity);
        for name in eviction::NAMES {
            let score = by_policy(&trace, capacity, name);
            assert!(score.chunks_hit <= best.chunks_hit, "{name}");
        }
        let everything = offline(&trace, trace.distinct() as u64);
        assert_eq!(everything.chunks - everything.chunks_hit, trace.distinct() as u64);
    }
}
