//! Memory.

use larder_engine::{EngineStatus, Operator};
use larder_telemetry::tasks::Tasks;

use super::text::Kind::{Counter, Gauge};
use super::text::Scrape;

/// The tag of the one L1 there is.
pub(super) const L1: (&str, &str) = ("l1_tag", "_default");

/// The peer's families for L1.
pub(super) fn metrics(scrape: &mut Scrape, engine: &Operator, status: &EngineStatus, tasks: &Tasks) {
    let (cache, counters) = (&status.cache, engine.counters());
    let ratio = cache.used_bytes as f64 / cache.capacity_bytes.max(1) as f64;
    let dram = [("backend", "dram"), L1];
    scrape
        .family("lmcache_mp_l1_memory_usage_bytes", Gauge, "Bytes of L1 handed out.")
        .sample(&dram, cache.used_bytes);
    scrape.family("lmcache_mp_l1_usage_ratio", Gauge, "Share of L1 handed out.").sample(&dram, ratio);
    scrape
        .family("lmcache_mp_l1_staging_bytes", Gauge, "Bytes of L1 being written.")
        .sample(&dram, cache.staging_bytes);
    let chunks = [
        ("lmcache_mp_l1_write_chunks_total", "Chunks committed to L1.", counters.written_chunks.get()),
        ("lmcache_mp_l1_read_chunks_total", "Chunks read from L1.", counters.read_chunks.get()),
        (
            "lmcache_mp_l1_read_failure_chunks_total",
            "Chunks that could not be read.",
            counters.read_failed_chunks.get(),
        ),
        ("lmcache_mp_l1_evicted_chunks_total", "Chunks evicted from L1.", cache.evicted_total),
    ];
    for (name, help, value) in chunks {
        scrape.family(name, Counter, help).sample(&[L1], value);
    }
    let name = "lmcache_mp_l1_allocation_failure_chunks_total";
    scrape
        .family(name, Counter, "Chunks for which no room could be made.")
        .sample(&[("during", "l1_store"), L1], counters.refused_chunks.get());
    let tasks = tasks.list();
    let ticks: u64 = tasks.iter().filter(|task| task.name() == "l1-eviction").map(|task| task.runs()).sum();
    let passes = counters.eviction_passes.get();
    scrape.singles(&[
        ("lmcache_mp_l1_eviction_loop_ticks_total", Counter, "Times the eviction task looked.", ticks),
        ("lmcache_mp_l1_eviction_loop_triggered_total", Counter, "Background eviction passes.", passes),
    ]);
}
