//! What `/metrics` says of the process, its build and its HTTP connections.

use super::routes::Admin;
use super::serve::{LOCAL_CONNECTIONS_MAX, REMOTE_CONNECTIONS_MAX};
use super::text::{Kind, Scrape};
use larder_telemetry::ProcessUsage;

use Kind::{Counter, Gauge};

/// All of it.
pub(super) fn metrics(scrape: &mut Scrape, admin: &Admin) {
    build(scrape, admin);
    usage(scrape);
    connections(scrape, admin);
}

fn build(scrape: &mut Scrape, admin: &Admin) {
    scrape
        .family("larder_build_info", Gauge, "The version that runs, and its commit.")
        .sample(&[("version", admin.build.version), ("commit", admin.build.commit)], 1);
    scrape
        .family("target_info", Gauge, "Target metadata")
        .sample(&[("service_instance_id", &*admin.config().mp.instance_id), ("service_name", "larder")], 1);
}

fn usage(scrape: &mut Scrape) {
    let usage = ProcessUsage::now();
    let seconds = [
        ("process_cpu_seconds_total", Counter, "Processor time taken, in seconds.", usage.cpu_seconds),
        (
            "process_start_time_seconds",
            Gauge,
            "Start of the process, in seconds since 1970.",
            usage.start_time_seconds,
        ),
    ];
    for (name, kind, help, value) in seconds {
        let mut family = scrape.family(name, kind, help);
        if let Some(value) = value {
            family.sample(&[], value);
        }
    }
    let gauges = [
        (
            "process_resident_memory_bytes",
            "Bytes of memory, the part of the pool that was touched included.",
            usage.resident_bytes,
        ),
        ("process_virtual_memory_bytes", "Bytes of address space.", usage.virtual_bytes),
        ("process_threads", "Threads.", usage.threads),
        ("process_open_fds", "Open descriptors.", usage.open_fds),
        ("process_max_fds", "Descriptors that may be open.", usage.max_fds),
    ];
    for (name, help, value) in gauges {
        let mut family = scrape.family(name, Gauge, help);
        if let Some(value) = value {
            family.sample(&[], value);
        }
    }
}

fn connections(scrape: &mut Scrape, admin: &Admin) {
    let (local, remote) = admin.http.connections();
    let from = |place| [("from", place)];
    scrape
        .family("larder_http_connections", Gauge, "Connections to the admin API.")
        .sample(&from("here"), local)
        .sample(&from("elsewhere"), remote);
    scrape
        .family("larder_http_connections_max", Gauge, "Connections that may be open.")
        .sample(&from("here"), LOCAL_CONNECTIONS_MAX)
        .sample(&from("elsewhere"), REMOTE_CONNECTIONS_MAX);
    let counts = [
        (
            "larder_http_displaced_connections_total",
            "Connections that made way for newer ones because there were too many.",
            admin.http.displaced(),
        ),
        (
            "larder_http_timed_out_connections_total",
            "Connections closed because no request came.",
            admin.http.timed_out(),
        ),
    ];
    for (name, help, value) in counts {
        scrape.single(name, Counter, help, value);
    }
}
