//! Flags of the admin HTTP server, metrics, traces and extra logs.

use crate::flag::{Choice, Flag, Group, Kind, Range};

const O: Group = Group::Observability;
const TRACING: &str = "exporting traces and metrics by OTLP";
const SCRAPE_HINT: &str = "scrape /metrics on the admin HTTP port";
const RECORDING: &str = "trace recording";
const LOOKUP_LOG: &str = "nothing is written without --lookup-hash-log-dir";
const NO_GC: &str = "there is no garbage collector";

pub(super) const FLAGS: &[Flag] = &[
    Flag::new(
        "http-host",
        Group::Http,
        Kind::Name,
        "Address of the admin HTTP server. It has no authentication: keep it on loopback or a trusted network.",
    )
    .default("127.0.0.1"),
    Flag::new("http-port", Group::Http, Kind::Int { min: 0, max: 65_535 }, "Port of the admin HTTP server; 0 takes a free one.")
        .default("8080"),
    Flag::new(
        "http-allowed-hosts",
        Group::Http,
        Kind::List,
        "Names under which the admin HTTP server may be addressed, beside addresses, `localhost`, --http-host and the machine's name; `*` is any. What a request calls it otherwise is refused, so that a web page cannot make a name of its own mean this server.",
    )
    .ours(),
    Flag::new("disable-observability", O, Kind::Switch, "Switch off metrics and everything else under this heading.").default("false"),
    Flag::new("disable-metrics", O, Kind::Switch, "Switch off the cache's metrics.").default("false"),
    Flag::new("disable-grpc-metrics", O, Kind::Switch, "Switch off metrics of the peer's gRPC runtime.")
        .default("false")
        .no_effect("there is no gRPC transport"),
    Flag::new("disable-logging", O, Kind::Switch, "Switch off the log lines about single cache events.").default("false"),
    Flag::new("metrics-sample-rate", O, Kind::Float(Range::positive(1.0)), "Share of chunks followed for the life-cycle histograms.")
        .default("0.01"),
    Flag::new("prometheus-port", O, Kind::Int { min: 0, max: 65_535 }, "Port of the peer's stand-alone metrics listener.")
        .default("9090")
        .no_effect("metrics are served at /metrics on the admin HTTP port, as in `lmcache server`"),
    Flag::new("event-bus-queue-size", O, Kind::Int { min: 1, max: i64::MAX }, "Length of the peer's internal event queue.")
        .default("10000")
        .no_effect("metrics are counted where they happen"),
    Flag::new("enable-tracing", O, Kind::Switch, "Export a span per request.").default("false").missing(TRACING, SCRAPE_HINT),
    Flag::new("otlp-endpoint", O, Kind::Text, "OTLP collector to which metrics and traces are pushed.").missing(TRACING, SCRAPE_HINT),
    Flag::new("lookup-hash-log-dir", O, Kind::Text, "Directory for a log of looked-up chunk hashes; empty for none.")
        .default("")
        .missing("the lookup hash log", "subscribe to the KV event stream, or leave it out"),
    Flag::new("lookup-hash-log-rotation-interval", O, Kind::Int { min: 1, max: i64::MAX }, "Seconds before the lookup hash log rotates.")
        .default("21600")
        .no_effect(LOOKUP_LOG),
    Flag::new("lookup-hash-log-rotation-max-size", O, Kind::Int { min: 1, max: i64::MAX }, "Bytes before the lookup hash log rotates.")
        .default("104857600")
        .no_effect(LOOKUP_LOG),
    Flag::new("lookup-hash-log-max-files", O, Kind::Int { min: 1, max: i64::MAX }, "Lookup hash logs kept.")
        .default("100")
        .no_effect(LOOKUP_LOG),
    Flag::new("enable-gc-monitor", O, Kind::Switch, "Log slow garbage collections.").default("false").no_effect(NO_GC),
    Flag::new("gc-monitor-min-pause-ms", O, Kind::Float(Range::at_least(0.0)), "Shortest garbage collection that is logged.")
        .default("1")
        .no_effect(NO_GC),
    Flag::new("gc-monitor-top-objects", O, Kind::Int { min: 0, max: i64::MAX }, "Object types listed per garbage collection.")
        .default("0")
        .no_effect(NO_GC),
    Flag::new("enable-extra-logging", O, Kind::Switch, "Log a summary of the cache at an interval.")
        .default("false")
        .no_effect("the same numbers are in /metrics and /status"),
    Flag::new("extra-logging-interval", O, Kind::Float(Range::positive(f64::MAX)), "Seconds between two extra log lines.")
        .default("10")
        .no_effect("the same numbers are in /metrics and /status"),
    Flag::new(
        "trace-level",
        O,
        Kind::Choice(&[
            Choice::refused("storage", "trace recording is not part of this build", "leave it out"),
            Choice::refused("events", "trace recording is not part of this build", "leave it out"),
        ]),
        "What a recorded trace holds.",
    ),
    Flag::new("trace-output", O, Kind::Text, "File into which a trace is recorded.").missing(RECORDING, "leave it out"),
];
