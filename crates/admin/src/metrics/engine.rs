//! What only this server counts of its cache.

use larder_core::cache::CacheStats;
use larder_engine::{CheckPoint, Counters, EngineStatus, Operator};

use super::text::Kind::{Counter, Gauge};
use super::text::{Scrape, Table};

const NOW: &Table<EngineStatus> = &[
    ("larder_l1_capacity_bytes", Gauge, "Bytes of L1 that may be handed out now.", |it| {
        it.cache.capacity_bytes
    }),
    ("larder_l1_largest_free_bytes", Gauge, "Longest allocation possible without eviction.", |it| {
        it.cache.largest_free_bytes
    }),
    ("larder_l1_objects", Gauge, "Objects that can be read.", |it| it.cache.resident_objects),
    ("larder_l1_staging_objects", Gauge, "Objects being written.", |it| it.cache.staging_objects),
    ("larder_l1_condemned_objects", Gauge, "Objects cleared by force and still in use.", |it| {
        it.cache.condemned_objects
    }),
    ("larder_session_leases", Gauge, "Leases held by requests that have not retrieved yet.", |it| {
        it.session_leases
    }),
    ("larder_sessions", Gauge, "Requests in flight.", |it| it.sessions as u64),
    ("larder_session_bytes", Gauge, "Memory that requests in flight take.", |it| it.session_bytes as u64),
    (
        "larder_set_aside_bytes",
        Gauge,
        "Bytes of the pool that workers may still write though their registration is over.",
        |it| it.set_aside.reserved_bytes,
    ),
    ("larder_instances", Gauge, "Registered workers.", |it| it.instances.len() as u64),
    ("larder_pending_transfers", Gauge, "Transfers between prepare and commit.", |it| {
        it.instances.iter().map(|instance| instance.pending_transfers as u64).sum()
    }),
];

const OBJECTS_SO_FAR: &Table<CacheStats> = &[
    ("larder_l1_evicted_for_store_total", Counter, "Chunks a store had to evict itself.", |it| {
        it.evicted_for_store_total
    }),
    ("larder_l1_duplicate_commits_total", Counter, "Commits of chunks another writer had committed.", |it| {
        it.duplicates_total
    }),
    ("larder_l1_aborted_stores_total", Counter, "Reservations taken back without a commit.", |it| {
        it.aborted_total
    }),
];

const REQUESTS_SO_FAR: &Table<Counters> = &[
    ("larder_expired_leases_total", Counter, "Leases whose holder was gone or silent.", |it| {
        it.expired_leases.get()
    }),
    ("larder_forced_leases_total", Counter, "Leases an operator took back.", |it| it.forced_leases.get()),
    ("larder_expired_stores_total", Counter, "Reservations whose writer was gone.", |it| {
        it.expired_stores.get()
    }),
    (
        "larder_refused_transfers_total",
        Counter,
        "Transfers of workers that have too many between prepare and commit.",
        |it| it.refused_transfers.get(),
    ),
    (
        "larder_misled_lookups_total",
        Counter,
        "Lookups that found nothing because their engine may know another chunk size.",
        |it| it.misled_lookups.get(),
    ),
    ("larder_reaped_instances_total", Counter, "Workers dropped for their silence.", |it| {
        it.reaped_instances.get()
    }),
    ("larder_evicted_sessions_total", Counter, "Requests given up because of too many.", |it| {
        it.evicted_sessions.get()
    }),
    ("larder_unknown_instance_stores_total", Counter, "Stores of workers this server does not know.", |it| {
        it.unknown_instance_stores.get()
    }),
    ("larder_reported_blocks_total", Counter, "Blocks engines reported as allocated.", |it| {
        it.reported_blocks.get()
    }),
];

/// The KV event log, and lookups that wait; the peer's names.
pub(super) fn log_and_jobs(scrape: &mut Scrape, status: &EngineStatus) {
    scrape.singles(&[
        ("lmcache_mp_kv_events_log_depth", Gauge, "Records in the KV event log.", status.event_log_depth),
        ("lmcache_mp_active_prefetch_jobs", Gauge, "Lookups that wait for L2.", status.prefetching),
        ("lmcache_mp_active_p2p_lookup_jobs", Gauge, "Lookups of other nodes in progress.", 0),
    ]);
}

/// The cache's own families.
pub(super) fn metrics(scrape: &mut Scrape, engine: &Operator, status: &EngineStatus) {
    scrape.all(NOW, status);
    scrape.all(OBJECTS_SO_FAR, &status.cache);
    scrape.all(REQUESTS_SO_FAR, engine.counters());
    checksums(scrape, engine);
    leases(scrape, engine);
    adoption(scrape, engine);
}

fn checksums(scrape: &mut Scrape, engine: &Operator) {
    let counts = &engine.counters().checksum;
    scrape.singles(&[
        ("larder_checksum_sealed_total", Counter, "Objects whose checksum was taken.", counts.sealed.get()),
        (
            "larder_checksum_shed_total",
            Counter,
            "Objects not sealed at their commit because too many waited.",
            counts.shed.get(),
        ),
        (
            "larder_checksum_unverified_total",
            Counter,
            "Objects served that nobody had sealed.",
            counts.unverified.get(),
        ),
    ]);
    let waiting = engine.seal_backlog();
    scrape.single("larder_checksum_waiting", Gauge, "Objects that wait to be sealed.", waiting);
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

/// Who holds leases; a leak is one nobody owns.
fn leases(scrape: &mut Scrape, engine: &Operator) {
    let totals = engine.lease_totals();
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

/// What became of what the server before left in the pool.
fn adoption(scrape: &mut Scrape, engine: &Operator) {
    let status = engine.adoption_status();
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

/// What plugins advise, and what came of it.
pub(super) fn hints(scrape: &mut Scrape, engine: &Operator) {
    let (stats, counters) = (engine.hint_stats(), engine.counters());
    let held = [("protect", stats.kept_chunks), ("evict_first", stats.shed_chunks), ("scopes", stats.scopes)];
    let mut family = scrape.family("larder_hints", Gauge, "Hints of plugins that hold, by what they name.");
    for (what, count) in held {
        family.sample(&[("what", what)], count);
    }
    scrape.singles(&[
        (
            "larder_hints_taken_total",
            Counter,
            "Chunks, models and salts that hints named.",
            counters.hints.get(),
        ),
        (
            "larder_hints_refused_total",
            Counter,
            "Those for which there was no room.",
            counters.refused_hints.get(),
        ),
        (
            "larder_hinted_evictions_total",
            Counter,
            "Objects that left because a hint said so.",
            stats.shed_total,
        ),
        (
            "larder_hinted_l2_declines_total",
            Counter,
            "Objects that hints kept out of the second tier.",
            counters.declined_stores.get(),
        ),
    ]);
}
