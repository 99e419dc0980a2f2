//! The RPC front and its sockets.

use larder_rpc::{LimitKind, RpcStats, Sockets};

use super::text::Kind::{Counter, Gauge};
use super::text::Scrape;

/// Requests, and what clients hold of the server.
pub(super) fn metrics(scrape: &mut Scrape, stats: &RpcStats) {
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
    scrape.singles(&[
        ("larder_rpc_connections", Gauge, "Connections open.", stats.connections_open),
        (
            "larder_rpc_received_unanswered_bytes",
            Gauge,
            "Bytes received and not yet answered.",
            handle.charged_bytes() as u64,
        ),
        (
            "larder_rpc_outgoing_bytes",
            Gauge,
            "Bytes of answers not yet taken.",
            handle.outgoing_bytes() as u64,
        ),
        ("larder_rpc_connections_total", Counter, "Connections accepted.", stats.connections_accepted),
        (
            "larder_rpc_handshakes_failed_total",
            Counter,
            "Connections that never became one.",
            stats.handshakes_failed,
        ),
        (
            "larder_rpc_protocol_violations_total",
            Counter,
            "Connections ended for bytes that are not ZMTP.",
            stats.protocol_violations,
        ),
        (
            "larder_rpc_budget_waits_total",
            Counter,
            "Times a connection was not read for what it, or all, held.",
            stats.budget_waits,
        ),
    ]);
    let help = "Connections ended or refused, by the limit they met.";
    let mut family = scrape.family("larder_rpc_limit_violations_total", Counter, help);
    for limit in LimitKind::ALL {
        family.sample(&[("limit", limit.name())], stats.violations(limit));
    }
}
