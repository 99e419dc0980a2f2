//! The pool's memory: made new, or taken over from the server before this one.

use std::sync::Arc;
use std::thread;

use larder_pool::{
    Contents, Directory, DirectoryOptions, MemoryRoom, PoolError, Segment, SegmentOptions, Size,
};
use xxhash_rust::xxh3::xxh3_64;

use super::error::StartError;
use larder_config::{Notice, ServerConfig, SharedMemory};
use larder_engine::upkeep::{self, Preparation};
use larder_engine::{Upkeep, records_max};

/// The pool, and what it is to be remembered by after this process.
pub(super) struct Pool {
    pub(super) segment: Segment,
    pub(super) memory: Option<Memory>,
}

/// A slot directory to write, and what the server before this one wrote in its own.
pub(super) struct Memory {
    directory: Directory,
    contents: Contents,
}

/// The pool as configured. A shared segment nobody asked for by name gives way to private memory if it can't
/// be had.
pub(super) fn open(config: &ServerConfig) -> Result<Pool, PoolError> {
    for stale in larder_pool::reclaim_stale() {
        tracing::info!("removed {} of a dead server, {}", stale.name, Size(stale.bytes));
    }
    if let Some(tight) = check_memory(config)? {
        tracing::warn!("{}", tight_memory(config, tight));
    }
    let options = |share| segment_options(config, share);
    let pool = match &config.l1.shared_memory {
        SharedMemory::Named(name) if config.l1.warm_restart => open_lasting(config, options(Some(name)))?,
        SharedMemory::Named(name) => forgetful(Segment::create(options(Some(name)))?),
        SharedMemory::Automatic(name) => {
            let shared = Segment::create(options(Some(name))).or_else(|error| {
                let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                tracing::warn!("no shared memory, engines will send their data in messages: {error}{hint}");
                Segment::create(options(None))
            });
            forgetful(shared?)
        }
        SharedMemory::Off => forgetful(Segment::create(options(None))?),
    };
    match pool.segment.name() {
        Some(name) => tracing::info!("L1: {} in /dev/shm/{name}", Size(pool.segment.len_bytes())),
        None => tracing::info!("L1: {} of private memory", Size(pool.segment.len_bytes())),
    }
    Ok(pool)
}

pub(super) fn segment_options(config: &ServerConfig, share: Option<&str>) -> SegmentOptions {
    SegmentOptions {
        share: share.map(str::to_owned),
        bytes: config.l1.size_bytes,
        hugepages: config.l1.use_hugepages,
    }
}

/// Whether there is memory for the pool, unless the operator doesn't want to know. `Some` if it takes nearly
/// all there is.
pub(super) fn check_memory(config: &ServerConfig) -> Result<Option<MemoryRoom>, PoolError> {
    if config.l1.overcommit {
        return Ok(None);
    }
    larder_pool::check_memory(&segment_options(config, config.l1.shared_memory.name()))
}

/// The remark on a pool that takes nearly all the memory there is.
pub(super) fn tight_memory(config: &ServerConfig, room: MemoryRoom) -> Notice {
    let MemoryRoom { free_bytes, bound } = room;
    let (pool, free) = (Size(config.l1.size_bytes), Size(free_bytes));
    Notice::new(format!(
        "the pool of {pool} will take nearly all the memory there is: {free} are free {bound}"
    ))
}

fn forgetful(segment: Segment) -> Pool {
    Pool { segment, memory: None }
}

/// The pool of the server before this one with all that is in it; a new one if there is none that fits.
fn open_lasting(config: &ServerConfig, options: SegmentOptions) -> Result<Pool, PoolError> {
    let stamp = stamp(config);
    let (segment, contents) = Segment::adopt_or_create(options, stamp)?;
    if contents.is_none() {
        tracing::info!("warm restart: starting cold, no pool of this configuration was left behind");
    }
    let records_max = records_max(config.l1.size_bytes, config.l1.align_bytes);
    let directory = Directory::create(&segment, DirectoryOptions { stamp, records_max })?;
    Ok(Pool { segment, memory: Some(Memory { directory, contents: contents.unwrap_or_default() }) })
}

/// What must be the same for objects of one server to mean the same to the next.
fn stamp(config: &ServerConfig) -> u64 {
    let same = (
        config.l1.size_bytes,
        config.l1.align_bytes,
        config.mp.chunk_size,
        config.mp.hash_algorithm.as_str(),
        &config.mp.python_hash_seed,
    );
    xxh3_64(format!("slots 1 {same:?}").as_bytes())
}

/// Begins to write down what is in the pool, and to look at what was in it before, on a thread of its own.
pub(super) fn remember(
    engine: &Upkeep,
    memory: Option<Memory>,
) -> Result<Option<thread::JoinHandle<()>>, StartError> {
    let Some(Memory { directory, contents }) = memory else { return Ok(None) };
    engine.remember(directory, contents)?;
    let status = engine.adoption_status();
    tracing::info!("warm restart: {} objects taken over, {} records dropped", status.adopted, status.dropped);
    let engine = engine.clone();
    let thread = thread::Builder::new().name("larder-adopt".into()).spawn(move || {
        engine.verify_adopted();
        let status = engine.adoption_status();
        if status.adopted > 0 {
            tracing::info!(
                "warm restart: {} objects verified, {} changed, {} left",
                status.verified,
                status.mismatched,
                status.waiting
            );
        }
    });
    thread.map(Some).map_err(|source| StartError::System { what: "adoption thread", source })
}

/// The orderly end: removes the pool's name, unless the pool is for the next server.
pub(super) fn close(engine: &Upkeep, adopting: Option<thread::JoinHandle<()>>) {
    let Some(adopting) = adopting else {
        engine.pool().unlink();
        return;
    };
    engine.stop_verifying();
    if adopting.join().is_err() {
        tracing::error!("the adoption thread failed");
    }
    tracing::info!("warm restart: left the pool behind for the next server of this name");
}

/// The name as operators give it.
pub(super) fn short_name(name: &str) -> &str {
    name.strip_prefix(larder_pool::NAME_PREFIX).unwrap_or(name)
}

/// Starts preparing the pool's pages on a thread of its own.
pub(super) fn prepare(
    config: &ServerConfig,
    engine: &Upkeep,
    preparation: &Arc<Preparation>,
) -> Result<thread::JoinHandle<()>, StartError> {
    let eager_bytes = if config.l1.use_lazy { config.l1.init_size_bytes } else { config.l1.size_bytes };
    let (engine, preparation) = (engine.clone(), Arc::clone(preparation));
    thread::Builder::new()
        .name("larder-pool".into())
        .spawn(move || upkeep::prepare(&engine, &preparation, eager_bytes))
        .map_err(|source| StartError::System { what: "pool thread", source })
}
