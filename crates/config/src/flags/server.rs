//! Flags of the cache server itself, of transfer, and of runtime plugins.

use crate::flag::{Choice, Flag, Group, Kind, Range};

/// Largest number of tokens in one chunk.
const CHUNK_TOKENS_MAX: i64 = 65_536;
/// Largest size of the KV event log, in records.
const KV_EVENT_LOG_MAX: i64 = 16_777_216;
/// Worker counts are accepted up to here; none of them starts a thread.
const WORKERS_MAX: i64 = 65_536;

const BLEND: &str = "non-prefix reuse (`--engine-type blend`)";
const BLEND_HINT: &str = "leave it out: prefix caching is always on";

const G: Group = Group::Server;

pub(super) const FLAGS: &[Flag] = &[
    Flag::new(
        "instance-id",
        G,
        Kind::Name,
        "Stable identity of this server in fleet membership, metrics and the plugin configuration.",
    )
    .automatic("a random UUID at each start"),
    Flag::new(
        "transport",
        G,
        Kind::Choice(&[
            Choice::works("zmq"),
            Choice::refused("grpc", "the gRPC transport is not part of this build", "use `zmq`, the engines' default"),
        ]),
        "Request transport offered to engines.",
    )
    .default("zmq"),
    Flag::new("host", G, Kind::Name, "Address or name on which engines are served; `0.0.0.0` for every interface.")
        .default("localhost"),
    Flag::new("port", G, Kind::Int { min: 0, max: 65_535 }, "TCP port for engines; 0 takes a free one.").default("5555"),
    Flag::new("chunk-size", G, Kind::Int { min: 1, max: CHUNK_TOKENS_MAX }, "Tokens in one cached chunk.").default("256"),
    Flag::new(
        "null-block-id",
        G,
        Kind::Int { min: i64::MIN, max: i64::MAX },
        "Engine block id that stands for absent KV data.",
    )
    .default("0"),
    Flag::new(
        "hash-algorithm",
        G,
        Kind::Choice(&[
            Choice::works("blake3"),
            Choice::works("sha256_cbor"),
            Choice::works("sha256_cbor_64bit"),
            Choice::refused(
                "builtin",
                "Python's built-in hash differs from process to process, so nothing it names can be shared or found again",
                "use `blake3`",
            ),
        ]),
        "Hash that names chunks. `sha256_cbor` also depends on PYTHONHASHSEED; `sha256_cbor_64bit` is its older spelling.",
    )
    .default("blake3"),
    Flag::new(
        "engine-type",
        G,
        Kind::Choice(&[
            Choice::works("default"),
            Choice::refused("blend", "non-prefix reuse is not part of this build", "use `default`"),
        ]),
        "Kind of reuse: prefixes, or the peer's blending of chunks at any place.",
    )
    .default("default"),
    Flag::new(
        "supported-transfer-mode",
        G,
        Kind::Choice(&[
            Choice::works("auto"),
            Choice::works("engine_driven"),
            Choice::refused(
                "lmcache_driven",
                "server-driven transfer is not available yet",
                "use `engine_driven` or `auto`, and on the engine set lmcache.mp.mp_transfer_mode (or \
                 LMCACHE_MP_TRANSFER_MODE) to `engine_driven`",
            ),
        ]),
        "Who copies KV data: the engine (`engine_driven`), the server (`lmcache_driven`), or whichever the engine asks \
         for (`auto`).",
    )
    .default("auto")
    .peer_default("lmcache_driven"),
    Flag::new(
        "shm-name",
        G,
        Kind::Text,
        "Name of the shared-memory segment through which engines copy KV data; an empty name switches sharing off.",
    )
    .automatic("a name made of the port and the instance id; off with hugepages")
    .peer_default("off"),
    Flag::new(
        "isolated-ipc",
        G,
        Kind::Pair,
        "Engines and server share no IPC namespace; use handles that work across containers.",
    )
    .default("false")
    .missing("transfer across IPC namespaces", "give the containers one IPC namespace, or switch sharing off with `--shm-name \"\"`"),
    Flag::new(
        "separate-object-groups",
        G,
        Kind::Pair,
        "Store the kernel groups of hybrid models as one object group per attention window.",
    )
    .default("false"),
    Flag::new(
        "worker-reap-timeout-seconds",
        G,
        Kind::Float(Range::zero_or_at_least(30.0)),
        "Silence after which an engine worker that has pinged before is unregistered; 0 never does.",
    )
    .default("120")
    .hot(),
    Flag::new(
        "worker-registration-grace-seconds",
        G,
        Kind::Float(Range::at_least(0.0)),
        "Silence allowed to an engine worker that registered and has not pinged yet; at least the reap timeout.",
    )
    .default("3600")
    .hot(),
    Flag::new("session-ttl-seconds", G, Kind::Float(Range::positive(f64::MAX)), "Idle time after which a request session is dropped.")
        .default("600")
        .hot(),
    Flag::new(
        "kv-event-log-size",
        G,
        Kind::Int { min: 0, max: KV_EVENT_LOG_MAX },
        "Store and eviction records kept for subscribers of the KV event stream; 0 switches the stream off.",
    )
    .default("32768"),
    Flag::new("enable-segmented-prefix", G, Kind::Switch, "Keep a prefix with a gap in it when blending.")
        .default("false")
        .missing(BLEND, BLEND_HINT),
    Flag::new("enable-dedup-content", G, Kind::Switch, "Index equal text behind different prefixes once when blending.")
        .default("false")
        .missing(BLEND, BLEND_HINT),
    Flag::new("enable-blend-reorder", G, Kind::Switch, "Answer reorder plans when blending.")
        .default("false")
        .missing(BLEND, BLEND_HINT),
    Flag::new("enable", G, Kind::List, "Experimental modules of the peer; the only one is `transfer_query`.")
        .missing("the experimental transfer query", "leave it out"),
    Flag::new("server-module", G, Kind::Objects, "Python module to load into the peer's process.").missing(
        "loading Python modules into the server",
        "run the extension beside the server as a runtime plugin (`--runtime-plugin-locations`)",
    ),
    Flag::new("run-script-api-enabled", G, Kind::Pair, "Let /run_script execute Python sent by the caller.")
        .default("false")
        .missing("/run_script", "run scripts beside the server as runtime plugins (`--runtime-plugin-locations`)"),
    Flag::new("script-allowed-imports", G, Kind::List, "Python modules that /run_script may import.")
        .no_effect("/run_script is never enabled"),
    Flag::new("max-workers", G, Kind::Int { min: 1, max: WORKERS_MAX }, "Worker threads of the peer's pools.")
        .default("1")
        .no_effect("threads are sized to the machine"),
    Flag::new("max-gpu-workers", G, Kind::Int { min: 1, max: WORKERS_MAX }, "Worker threads of the peer's transfer pool.")
        .automatic("the value of --max-workers")
        .no_effect("threads are sized to the machine"),
    Flag::new("max-cpu-workers", G, Kind::Int { min: 1, max: WORKERS_MAX }, "Worker threads of the peer's request pool.")
        .automatic("the value of --max-workers")
        .no_effect("threads are sized to the machine"),
    Flag::new("grpc-server-workers", G, Kind::Int { min: 1, max: WORKERS_MAX }, "Worker threads of the peer's gRPC transport.")
        .default("32")
        .no_effect("there is no gRPC transport"),
    Flag::new(
        "runtime-plugin-locations",
        Group::Plugins,
        Kind::List,
        "Plugin scripts, or directories searched for them, to run beside the server.",
    ),
    Flag::new(
        "runtime-plugin-config",
        Group::Plugins,
        Kind::Json,
        "Settings handed to every plugin as they are, in LMCACHE_RUNTIME_PLUGIN_EXTRA_CONFIG and inside the \
         configuration document.",
    )
    .default("{}")
    .hot(),
    Flag::new(
        "runtime-plugin-defaults",
        Group::Plugins,
        Kind::Json,
        "Keys of plugin manifests, as a JSON object, that hold for every plugin whose own manifest does not set them: \
         `{\"restart\": \"on-failure\", \"inherit\": [\"PATH\"]}`.",
    )
    .default("{}")
    .ours(),
    Flag::new(
        "runtime-plugin-interpreters",
        Group::Plugins,
        Kind::Json,
        "Programs for plugins without a `#!` line by file extension, tried in order, as a JSON object: \
         `{\"py\": [\"/opt/venv/bin/python\"]}`. Added to `python`, `python3` for `py` and `bash` for `sh`.",
    )
    .default("{}")
    .ours(),
    Flag::new(
        "runtime-plugin-redact-secrets",
        Group::Plugins,
        Kind::Switch,
        "Mask values of secret-looking keys of --runtime-plugin-config for plugins whose manifest does not say \
         `secrets = true`.",
    )
    .default("false")
    .ours(),
    Flag::new(
        "runtime-plugin-writable-by-others",
        Group::Plugins,
        Kind::Choice(&[Choice::works("warn"), Choice::works("refuse"), Choice::works("allow")]),
        "What follows when other users could change a plugin's file, its manifest or its folder.",
    )
    .default("warn")
    .ours(),
    Flag::new(
        "runtime-plugin-stop-budget",
        Group::Plugins,
        Kind::Float(Range::within(0.0, 3600.0)),
        "Seconds that the end of the server waits for its plugins at most; each is waited for as long as its manifest says.",
    )
    .default("30")
    .ours(),
];
