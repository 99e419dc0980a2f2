//! What `/metrics` says. Names and labels are the peer's where it has the number (`spec/http-api.md` 3); the
//! rest begins with `larder_`.

use super::l2;
use super::lifetimes;
use super::plugins::{PluginSample, write_metrics};
use super::process;
use super::routes::Admin;
use super::text::{Kind, Scrape};
use larder_engine::{CheckPoint, Counters, EngineStatus, LookupCounts};

use larder_rpc::{LimitKind, Sockets};

use Kind::{Counter, Gauge};

/// The tag of the one L1 there is.
const L1: (&str, &str) = ("l1_tag", "_default");

/// One scrape.
pub(super) fn scrape(admin: &Admin, plugins: &PluginSample) -> String {
    let mut scrape = Scrape::default();
    let status = admin.engine.status();
    let counters = admin.engine.counters();
    l1(&mut scrape, admin, &status);
    lookups(&mut scrape, counters);
    lifetimes::metrics(&mut scrape, admin.engine.lifetimes().as_ref(), L1);
    events(&mut scrape, &status);
    l2::metrics(&mut scrape, admin);
    larder(&mut scrape, &status, counters);
    checksums(&mut scrape, admin);
    leases(&mut scrape, admin);
    adoption(&mut scrape, admin);
    rpc(&mut scrape, admin);
    node(&mut scrape, admin);
    process::metrics(&mut scrape, admin);
    write_metrics(&mut scrape, plugins);
    hints(&mut scrape, admin);
    scrape.finish()
}

/// What plugins advise, and what came of it.
fn hints(scrape: &mut Scrape, admin: &Admin) {
    let (stats, counters) = (admin.engine.hint_stats(), admin.engine.counters());
    let held = [("protect", stats.kept_chunks), ("evict_first", stats.shed_chunks), ("scopes", stats.scopes)];
    let mut family = scrape.family("larder_hints", Gauge, "Hints of plugins that hold, by what they name.");
    for (what, count) in held {
        family.sample(&[("what", what)], count);
    }
    let counts = [
        ("larder_hints_taken_total", "Chunks, models and salts that hints named.", counters.hints.get()),
        ("larder_hints_refused_total", "Those for which there was no room.", counters.refused_hints.get()),
        ("larder_hinted_evictions_total", "Objects that left because a hint said so.", stats.shed_total),
        (
            "larder_hinted_l2_declines_total",
            "Objects that hints kept out of the second tier.",
            counters.declined_stores.get(),
        ),
    ];
    for (name, help, value) in counts {
        scrape.single(name, Counter, help, value);
    }
}

/// What became of what the server before left in the pool.
fn adoption(scrape: &mut Scrape, admin: &Admin) {
    let status = admin.engine.adoption_status();
    let outcomes = [
        ("verified", status.verified),
        ("mismatched", status.mismatched),
        ("dropped", status.dropped),
        ("waiting", status.waiting),
    ];
    let help = "Objects of the server before, found in the pool at start.";
    let mut family = scrape.family("larder_l1_adopted_objects", Gauge, help);
    for (outcome, objects) in outcomes {
        family.sample(&[("outcome", outcome)], objects);
    }
}

/// Who holds leases; a leak is one nobody owns.
fn leases(scrape: &mut Scrape, admin: &Admin) {
    let totals = admin.engine.lease_totals();
    let owners = [
        ("request", totals.requests),
        ("retrieve", totals.retrieves),
        ("l2_store", totals.l2_stores),
        ("adoption", totals.adoption),
    ];
    let mut family = scrape.family("larder_leases", Gauge, "Leases on objects by owner.");
    for (owner, leases) in owners {
        family.sample(&[("owner", owner)], leases);
    }
    scrape.single("larder_leaked_leases", Gauge, "Leases nobody owns: a defect.", totals.leaked());
}

fn l1(scrape: &mut Scrape, admin: &Admin, status: &EngineStatus) {
    let counters = admin.engine.counters();
    let cache = &status.cache;
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
    scrape
        .family(
            "lmcache_mp_l1_allocation_failure_chunks_total",
            Counter,
            "Chunks for which no room could be made.",
        )
        .sample(&[("during", "l1_store"), L1], counters.refused_chunks.get());
    let ticks = admin
        .tasks
        .list()
        .iter()
        .filter(|task| task.name() == "l1-eviction")
        .map(|task| task.runs())
        .sum::<u64>();
    scrape.single(
        "lmcache_mp_l1_eviction_loop_ticks_total",
        Counter,
        "Times the eviction task looked.",
        ticks,
    );
    let passes = counters.eviction_passes.get();
    scrape.single(
        "lmcache_mp_l1_eviction_loop_triggered_total",
        Counter,
        "Background eviction passes.",
        passes,
    );
}

type LookupValue = fn(&LookupCounts) -> u64;

fn lookups(scrape: &mut Scrape, counters: &Counters) {
    let counts = counters.lookups();
    let families: [(&'static str, &str, LookupValue); 8] = [
        ("lmcache_mp_lookups_requests_total", "Lookups.", |c| c.lookups),
        ("lmcache_mp_lookup_requested_tokens_total", "Tokens in whole chunks looked up.", |c| {
            c.requested_tokens
        }),
        ("lmcache_mp_lookup_hit_tokens_total", "Tokens found.", |c| c.hit_tokens),
        ("larder_lookup_missed_tokens_total", "Tokens looked up and not found.", |c| {
            c.requested_tokens.saturating_sub(c.hit_tokens)
        }),
        ("lmcache_mp_lookup_hit_l1_tokens_total", "Tokens found in L1.", |c| c.hit_tokens - c.hit_l2_tokens),
        ("lmcache_mp_lookup_hit_l1_keys_total", "Objects found in L1.", |c| c.hit_l1_keys),
        ("lmcache_mp_lookup_hit_l2_tokens_total", "Tokens found in L2.", |c| c.hit_l2_tokens),
        ("lmcache_mp_lookup_hit_l2_keys_total", "Objects found in L2.", |c| c.hit_l2_keys),
    ];
    for (name, help, value) in families {
        let mut family = scrape.family(name, Counter, help);
        for (labels, counts) in &counts {
            let labels = [("cache_salt", &*labels.cache_salt), ("model_name", &*labels.model_name)];
            family.sample(&labels, value(counts));
        }
    }
    let mut family = scrape.family(
        "lmcache_mp_lookup_early_exit_requests_total",
        Counter,
        "Lookups that ended before the index was asked.",
    );
    let reasons: [(&str, LookupValue); 2] =
        [("no_gpu_context", |c| c.no_layout), ("empty_chunk_hashes", |c| c.no_chunk)];
    for (reason, value) in reasons {
        for (labels, counts) in counts.iter().filter(|(_, counts)| value(counts) > 0) {
            let labels = [
                ("cache_salt", &*labels.cache_salt),
                ("model_name", &*labels.model_name),
                ("reason", reason),
            ];
            family.sample(&labels, value(counts));
        }
    }
}

fn events(scrape: &mut Scrape, status: &EngineStatus) {
    scrape.single(
        "lmcache_mp_kv_events_log_depth",
        Gauge,
        "Records in the KV event log.",
        status.event_log_depth,
    );
    scrape.single("lmcache_mp_active_prefetch_jobs", Gauge, "Lookups that wait for L2.", status.prefetching);
    scrape.single("lmcache_mp_active_p2p_lookup_jobs", Gauge, "Lookups of other nodes in progress.", 0);
}

fn larder(scrape: &mut Scrape, status: &EngineStatus, counters: &Counters) {
    let cache = &status.cache;
    let pending: usize = status.instances.iter().map(|instance| instance.pending_transfers).sum();
    let gauges = [
        ("larder_l1_capacity_bytes", "Bytes of L1 that may be handed out now.", cache.capacity_bytes),
        (
            "larder_l1_largest_free_bytes",
            "Longest allocation possible without eviction.",
            cache.largest_free_bytes,
        ),
        ("larder_l1_objects", "Objects that can be read.", cache.resident_objects),
        ("larder_l1_staging_objects", "Objects being written.", cache.staging_objects),
        (
            "larder_l1_condemned_objects",
            "Objects cleared by force and still in use.",
            cache.condemned_objects,
        ),
        (
            "larder_session_leases",
            "Leases held by requests that have not retrieved yet.",
            status.session_leases,
        ),
        ("larder_sessions", "Requests in flight.", status.sessions as u64),
        ("larder_session_bytes", "Memory that requests in flight take.", status.session_bytes as u64),
        (
            "larder_set_aside_bytes",
            "Bytes of the pool that workers may still write though their registration is over.",
            status.set_aside.reserved_bytes,
        ),
        ("larder_instances", "Registered workers.", status.instances.len() as u64),
        ("larder_pending_transfers", "Transfers between prepare and commit.", pending as u64),
    ];
    for (name, help, value) in gauges {
        scrape.single(name, Gauge, help, value);
    }
    let counts = [
        (
            "larder_l1_evicted_for_store_total",
            "Chunks a store had to evict itself.",
            cache.evicted_for_store_total,
        ),
        (
            "larder_l1_duplicate_commits_total",
            "Commits of chunks another writer had committed.",
            cache.duplicates_total,
        ),
        ("larder_l1_aborted_stores_total", "Reservations taken back without a commit.", cache.aborted_total),
        (
            "larder_expired_leases_total",
            "Leases whose holder was gone or silent.",
            counters.expired_leases.get(),
        ),
        ("larder_forced_leases_total", "Leases an operator took back.", counters.forced_leases.get()),
        ("larder_expired_stores_total", "Reservations whose writer was gone.", counters.expired_stores.get()),
        (
            "larder_refused_transfers_total",
            "Transfers of workers that have too many between prepare and commit.",
            counters.refused_transfers.get(),
        ),
        (
            "larder_misled_lookups_total",
            "Lookups that found nothing because their engine may know another chunk size.",
            counters.misled_lookups.get(),
        ),
        (
            "larder_reaped_instances_total",
            "Workers dropped for their silence.",
            counters.reaped_instances.get(),
        ),
        (
            "larder_evicted_sessions_total",
            "Requests given up because of too many.",
            counters.evicted_sessions.get(),
        ),
        (
            "larder_unknown_instance_stores_total",
            "Stores of workers this server does not know.",
            counters.unknown_instance_stores.get(),
        ),
        (
            "larder_reported_blocks_total",
            "Blocks engines reported as allocated.",
            counters.reported_blocks.get(),
        ),
    ];
    for (name, help, value) in counts {
        scrape.single(name, Counter, help, value);
    }
}

fn checksums(scrape: &mut Scrape, admin: &Admin) {
    let counts = &admin.engine.counters().checksum;
    let singles = [
        ("larder_checksum_sealed_total", "Objects whose checksum was taken.", counts.sealed.get()),
        (
            "larder_checksum_shed_total",
            "Objects not sealed at their commit because too many waited.",
            counts.shed.get(),
        ),
        (
            "larder_checksum_unverified_total",
            "Objects served that nobody had sealed.",
            counts.unverified.get(),
        ),
    ];
    for (name, help, value) in singles {
        scrape.single(name, Counter, help, value);
    }
    scrape.single(
        "larder_checksum_waiting",
        Gauge,
        "Objects that wait to be sealed.",
        admin.engine.seal_backlog(),
    );
    let mut family = scrape.family("larder_checksum_verified_total", Counter, "Objects that were right.");
    for at in CheckPoint::ALL {
        family.sample(&[("where", at.label())], counts.verified(at).get());
    }
    let help = "Objects whose bytes or layout were wrong; none was served.";
    let mut family = scrape.family("larder_checksum_mismatches_total", Counter, help);
    for at in CheckPoint::ALL {
        family.sample(&[("where", at.label())], counts.mismatches(at).get());
    }
}

fn rpc(scrape: &mut Scrape, admin: &Admin) {
    let stats = &admin.rpc;
    scrape.single("larder_rpc_requests_total", Counter, "Requests answered.", stats.requests());
    scrape.single("larder_rpc_refused_total", Counter, "Requests refused.", stats.refused());
    scrape.single("larder_rpc_malformed_total", Counter, "Messages that are no requests.", stats.malformed());
    scrape.single(
        "larder_rpc_panics_total",
        Counter,
        "Requests that failed by a defect of the server.",
        stats.panics(),
    );
    scrape.single(
        "larder_rpc_jobs",
        Gauge,
        "Copies, long prompts and clears that wait for a thread or run.",
        stats.jobs_waiting(),
    );
    scrape.single("larder_rpc_cut_total", Counter, "Requests too large to be kept.", stats.cut());
    scrape.single(
        "larder_rpc_round_trip_seconds",
        Gauge,
        "Time the RPC thread last took to answer this server itself.",
        stats.last_round_trip().as_secs_f64(),
    );
    scrape.single(
        "larder_rpc_round_trips_late_total",
        Counter,
        "Times the RPC thread did not answer this server in time.",
        stats.late_round_trips(),
    );
    if let Some(handle) = stats.sockets() {
        sockets(scrape, handle);
    }
}

/// What clients hold of the server, and how often a limit was met.
fn sockets(scrape: &mut Scrape, handle: &Sockets) {
    let stats = handle.stats().snapshot();
    let gauges = [
        ("larder_rpc_connections", "Connections open.", stats.connections_open),
        (
            "larder_rpc_received_unanswered_bytes",
            "Bytes received and not yet answered.",
            handle.charged_bytes() as u64,
        ),
        ("larder_rpc_outgoing_bytes", "Bytes of answers not yet taken.", handle.outgoing_bytes() as u64),
    ];
    for (name, help, value) in gauges {
        scrape.single(name, Gauge, help, value);
    }
    let counts = [
        ("larder_rpc_connections_total", "Connections accepted.", stats.connections_accepted),
        ("larder_rpc_handshakes_failed_total", "Connections that never became one.", stats.handshakes_failed),
        (
            "larder_rpc_protocol_violations_total",
            "Connections ended for bytes that are not ZMTP.",
            stats.protocol_violations,
        ),
        (
            "larder_rpc_budget_waits_total",
            "Times a connection was not read for what it, or all, held.",
            stats.budget_waits,
        ),
    ];
    for (name, help, value) in counts {
        scrape.single(name, Counter, help, value);
    }
    let help = "Connections ended or refused, by the limit they met.";
    let mut family = scrape.family("larder_rpc_limit_violations_total", Counter, help);
    for limit in LimitKind::ALL {
        family.sample(&[("limit", limit.name())], stats.violations(limit));
    }
}

fn node(scrape: &mut Scrape, admin: &Admin) {
    let mut family = scrape.family("larder_task_up", Gauge, "Whether a background task runs.");
    let tasks = admin.tasks.list();
    for task in &tasks {
        family.sample(&[("task", task.name())], u8::from(task.is_alive()));
    }
    let mut family = scrape.family("larder_task_failures_total", Counter, "Times a background task stopped.");
    for task in &tasks {
        family.sample(&[("task", task.name())], task.failures());
    }
}
