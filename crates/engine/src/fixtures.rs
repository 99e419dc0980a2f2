//! An engine over memory of its own, and one worker with its prompts.
#![expect(clippy::unwrap_used, reason = "a test may stop at a failed step")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::eviction::Lru;
use larder_core::hash::{ChunkHasher, HashAlgorithm, Sample};
use larder_core::key::{Scope, TokenRange};
use larder_core::layout::EngineGeometry;
use larder_core::modes::ChecksumMode;
use larder_pool::{Segment, SegmentOptions};

use crate::*;

pub const CHUNK: u32 = 16;
pub const PAGE: u64 = 4096;
pub const WORKER: i64 = 7;

/// An engine's configuration with the defaults of the flags.
#[must_use]
pub fn config() -> EngineConfig {
    EngineConfig {
        chunk_size: CHUNK,
        hash_algorithm: HashAlgorithm::Blake3,
        align_bytes: PAGE,
        checksum: ChecksumMode::Tiers,
        limits: Limits {
            eviction_watermark: 0.8,
            eviction_ratio: 0.2,
            write_ttl_ms: 600_000,
            read_ttl_ms: 300_000,
            session_ttl_ms: 600_000,
            reap_timeout_ms: 120_000,
            registration_grace_ms: 3_600_000,
        },
        kv_event_log_size: 100,
        incarnation_ns: 1,
        sample: Sample::default(),
    }
}

/// An engine of whose `pages` pages none is prepared and that nobody is connected to.
#[must_use]
pub fn unprepared_engine(pages: u64, config: EngineConfig) -> Arc<Engine> {
    engine_over(SegmentOptions { share: None, bytes: pages * PAGE, hugepages: false }, config)
}

/// An engine over `pages` prepared pages that nobody is connected to.
#[must_use]
pub fn bare_engine(pages: u64, config: EngineConfig) -> Arc<Engine> {
    prepared(unprepared_engine(pages, config))
}

/// An engine over a pool that workers map, without any of them.
pub fn shared_engine(pages: u64) -> Arc<Engine> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let share =
        Some(format!("engine-shared-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    prepared(engine_over(SegmentOptions { share, bytes: pages * PAGE, hugepages: false }, config()))
}

/// An engine over `pages` pages with one connection (1) and one registered worker whose chunks take a page.
#[must_use]
pub fn engine(pages: u64) -> Arc<Engine> {
    engine_with(pages, config())
}

/// The same, configured otherwise.
#[must_use]
pub fn engine_with(pages: u64, config: EngineConfig) -> Arc<Engine> {
    let engine = bare_engine(pages, config);
    register(&engine, geometry(1));
    engine
}

/// Connects the worker and has it register.
pub fn register(engine: &Arc<Engine>, geometry: Geometry<'_>) {
    engine.requests().connected(1);
    engine.requests().register(WORKER, "m", 1, geometry, 1).unwrap();
}

fn engine_over(options: SegmentOptions, config: EngineConfig) -> Arc<Engine> {
    Arc::new(Engine::new(config, Arc::new(Segment::create(options).unwrap()), Box::new(Lru::new())))
}

fn prepared(engine: Arc<Engine>) -> Arc<Engine> {
    engine.upkeep().grow(engine.pool().len_bytes());
    engine.upkeep().stop_growing();
    engine
}

#[must_use]
pub fn geometry(layers: u32) -> Geometry<'static> {
    let chunk = EngineGeometry { layers: layers.into(), slots: CHUNK.into(), hidden: 256, mla: true };
    Geometry { block_size: 16, dtype: "uint8", chunk }
}

#[must_use]
pub fn prompt(seed: u32, chunks: u32) -> Vec<u32> {
    (0..chunks * CHUNK).map(|position| seed * 1000 + position).collect()
}

#[must_use]
pub fn key<'a>(request_id: &'a str, tokens: &[u32], worker_id: Option<u32>) -> PromptKey<'a> {
    let hasher = ChunkHasher::new(HashAlgorithm::Blake3, CHUNK as usize).unwrap();
    let mut hashes = Vec::new();
    hasher.extend(None, tokens, &mut hashes);
    PromptKey {
        model_name: "m",
        world_size: 1,
        worker_id,
        tokens: tokens.len() as u64,
        hashes: hashes.into(),
        token_ids: None,
        range: TokenRange { start: 0, end: tokens.len() as u64 },
        request_id,
        cache_salt: "",
        readers: 1,
    }
}

/// Stores a prompt, as much of it at a time as the worker may reserve, and returns the number of chunks
/// written.
pub fn store(engine: &Arc<Engine>, request_id: &str, tokens: &[u32]) -> usize {
    let key = key(request_id, tokens, Some(0));
    let mut stored = 0;
    loop {
        let plan = engine.requests().prepare_store(&key, WORKER, 1).unwrap();
        if plan.slots.is_empty() {
            return stored;
        }
        assert!(engine.requests().commit_store(&key, WORKER, 1, None).unwrap());
        stored += plan.slots.len();
    }
}

pub fn look_up(engine: &Arc<Engine>, request_id: &str, tokens: &[u32]) -> usize {
    engine.requests().lookup(&key(request_id, tokens, None), 1).unwrap();
    engine.requests().collect(request_id, 1).unwrap()
}

pub fn retrieve(engine: &Arc<Engine>, request_id: &str, tokens: &[u32]) -> Option<usize> {
    let key = key(request_id, tokens, Some(0));
    let plan = engine.requests().prepare_retrieve(&key, WORKER, 1).unwrap()?;
    engine.requests().commit_retrieve(&key, WORKER, 1).unwrap();
    Some(plan.slots.len())
}

/// Where that worker's objects are.
#[must_use]
pub fn scope() -> Arc<Scope> {
    let engine = engine(2);
    engine.state().cache.record_removed(true);
    store(&engine, "s", &prompt(1, 1));
    let mut state = engine.state();
    state.cache.clear_step(false, 0, u32::MAX);
    let (mut removed, _) = state.cache.take_removed();
    removed.pop_front().unwrap().scope
}
