//! Flags of peer-to-peer transfer and of the fleet coordinator.

use crate::flag::{Choice, Flag, Group, Kind, Range};

const P: Group = Group::P2p;
const C: Group = Group::Coordinator;
const P2P: &str = "peer-to-peer transfer";
const ALONE: &str = "leave it out: this server works alone";
const NO_P2P: &str = "there is no peer-to-peer transfer";
const COORDINATOR: &str = "the fleet coordinator";
const NO_COORDINATOR: &str = "there is no fleet coordinator";
const SECONDS: Kind = Kind::Float(Range::positive(f64::MAX));

pub(super) const FLAGS: &[Flag] = &[
    Flag::new(
        "p2p-advertise-url",
        P,
        Kind::Text,
        "host:port at which other servers fetch from this one; setting it switches P2P on.",
    )
    .default("")
    .missing(P2P, ALONE),
    Flag::new("p2p-listen-url", P, Kind::Text, "host:port to bind for other servers.")
        .default("")
        .missing(P2P, ALONE),
    Flag::new("p2p-lookup-timeout", P, SECONDS, "Seconds until another server's lookup counts as a miss.")
        .default("30")
        .no_effect(NO_P2P),
    Flag::new("p2p-load-timeout", P, SECONDS, "Seconds until a load from another server counts as failed.")
        .default("30")
        .no_effect(NO_P2P),
    Flag::new("p2p-transfer-engine", P, Kind::Name, "Transfer library between servers.")
        .default("nixl")
        .no_effect(NO_P2P),
    Flag::new("coordinator-url", C, Kind::Text, "Fleet coordinator to join.")
        .peer_environment(&["LMCACHE_COORDINATOR_URL"])
        .missing(COORDINATOR, ALONE),
    Flag::new("coordinator-advertise-ip", C, Kind::Text, "Address under which this server joins the fleet.")
        .peer_environment(&["LMCACHE_COORDINATOR_ADVERTISE_IP"])
        .no_effect(NO_COORDINATOR),
    Flag::new("coordinator-heartbeat-interval", C, SECONDS, "Seconds between two heartbeats.")
        .automatic("5")
        .peer_environment(&["LMCACHE_COORDINATOR_HEARTBEAT_INTERVAL"])
        .no_effect(NO_COORDINATOR),
    Flag::new("coordinator-event-reporting", C, Kind::Switch, "Report cache events to the coordinator.")
        .automatic("false")
        .peer_environment(&["LMCACHE_COORDINATOR_EVENT_REPORTING"])
        .missing(COORDINATOR, ALONE),
    Flag::new("coordinator-event-flush-interval", C, SECONDS, "Seconds between two event reports.")
        .automatic("1")
        .peer_environment(&["LMCACHE_COORDINATOR_EVENT_FLUSH_INTERVAL"])
        .no_effect(NO_COORDINATOR),
    Flag::new(
        "coordinator-event-transport",
        C,
        Kind::Choice(&[
            Choice::works("http"),
            Choice::refused("kafka", "event reports over Kafka are not part of this build", "leave it out"),
        ]),
        "How events are reported.",
    )
    .default("http"),
    Flag::new("coordinator-kafka-bootstrap-servers", C, Kind::Text, "Kafka brokers for event reports.")
        .default("")
        .no_effect(NO_COORDINATOR),
    Flag::new("coordinator-kafka-topic", C, Kind::Text, "Kafka topic for event reports.")
        .default("lmcache-cache-events")
        .no_effect(NO_COORDINATOR),
    Flag::new(
        "coordinator-kafka-delivery-timeout",
        C,
        SECONDS,
        "Seconds until a Kafka delivery counts as failed.",
    )
    .default("300")
    .no_effect(NO_COORDINATOR),
    Flag::new("coordinator-blend-timeout", C, SECONDS, "Seconds until a fleet-wide match counts as a miss.")
        .default("1")
        .no_effect(NO_COORDINATOR),
    Flag::new(
        "coordinator-blend-match-concurrency",
        C,
        Kind::Int { min: 1, max: i64::MAX },
        "Fleet-wide matches at the same time.",
    )
    .default("8")
    .no_effect(NO_COORDINATOR),
    Flag::new(
        "coordinator-l2-event-reporting",
        C,
        Kind::Switch,
        "Older name of --coordinator-event-reporting.",
    )
    .automatic("false")
    .missing(COORDINATOR, ALONE)
    .hidden(),
    Flag::new(
        "coordinator-l2-event-flush-interval",
        C,
        SECONDS,
        "Older name of --coordinator-event-flush-interval.",
    )
    .no_effect(NO_COORDINATOR)
    .hidden(),
];
