//! The process, its build, its tasks and its HTTP connections.

use larder_telemetry::tasks::Tasks;
use larder_telemetry::{BuildInfo, ProcessUsage};

use super::text::Kind::{Counter, Gauge};
use super::text::{Scrape, Table};
use crate::serve::{HttpStats, LOCAL_CONNECTIONS_MAX, REMOTE_CONNECTIONS_MAX};

const SECONDS: &Table<ProcessUsage, Option<f64>> = &[
    ("process_cpu_seconds_total", Counter, "Processor time taken, in seconds.", |usage| usage.cpu_seconds),
    ("process_start_time_seconds", Gauge, "Start of the process, in seconds since 1970.", |usage| {
        usage.start_time_seconds
    }),
];

const COUNTS: &Table<ProcessUsage, Option<u64>> = &[
    (
        "process_resident_memory_bytes",
        Gauge,
        "Bytes of memory, the part of the pool that was touched included.",
        |usage| usage.resident_bytes,
    ),
    ("process_virtual_memory_bytes", Gauge, "Bytes of address space.", |usage| usage.virtual_bytes),
    ("process_threads", Gauge, "Threads.", |usage| usage.threads),
    ("process_open_fds", Gauge, "Open descriptors.", |usage| usage.open_fds),
    ("process_max_fds", Gauge, "Descriptors that may be open.", |usage| usage.max_fds),
];

/// Background work.
pub(super) fn tasks(scrape: &mut Scrape, tasks: &Tasks) {
    let mut family = scrape.family("larder_task_up", Gauge, "Whether a background task runs.");
    let tasks = tasks.list();
    for task in &tasks {
        family.sample(&[("task", task.name())], u8::from(task.is_alive()));
    }
    let mut family = scrape.family("larder_task_failures_total", Counter, "Times a background task stopped.");
    for task in &tasks {
        family.sample(&[("task", task.name())], task.failures());
    }
}

/// The build, what the process uses, and the connections to the admin API.
pub(super) fn metrics(scrape: &mut Scrape, build: &BuildInfo, instance_id: &str, http: &HttpStats) {
    scrape
        .family("larder_build_info", Gauge, "The version that runs, and its commit.")
        .sample(&[("version", build.version), ("commit", build.commit)], 1);
    scrape
        .family("target_info", Gauge, "Target metadata")
        .sample(&[("service_instance_id", instance_id), ("service_name", "larder")], 1);
    let usage = ProcessUsage::now();
    known(scrape, SECONDS, &usage);
    known(scrape, COUNTS, &usage);
    connections(scrape, http);
}

/// What the system does not tell has no sample.
fn known<V: std::fmt::Display>(
    scrape: &mut Scrape,
    rows: &Table<ProcessUsage, Option<V>>,
    usage: &ProcessUsage,
) {
    for (name, kind, help, value) in rows {
        let mut family = scrape.family(name, *kind, help);
        if let Some(value) = value(usage) {
            family.sample(&[], value);
        }
    }
}

fn connections(scrape: &mut Scrape, http: &HttpStats) {
    let (local, remote) = http.connections();
    let from = |place| [("from", place)];
    scrape
        .family("larder_http_connections", Gauge, "Connections to the admin API.")
        .sample(&from("here"), local)
        .sample(&from("elsewhere"), remote);
    scrape
        .family("larder_http_connections_max", Gauge, "Connections that may be open.")
        .sample(&from("here"), LOCAL_CONNECTIONS_MAX)
        .sample(&from("elsewhere"), REMOTE_CONNECTIONS_MAX);
    scrape.singles(&[
        (
            "larder_http_displaced_connections_total",
            Counter,
            "Connections that made way for newer ones because there were too many.",
            http.displaced(),
        ),
        (
            "larder_http_timed_out_connections_total",
            Counter,
            "Connections closed because no request came.",
            http.timed_out(),
        ),
    ]);
}
