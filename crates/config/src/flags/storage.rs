//! Flags of L1 memory, eviction and L2 storage.

use larder_core::eviction;
use larder_core::modes::{ChecksumMode, PrefetchPolicy, StorePolicy};

use crate::flag::{Choice, Flag, Group, Kind, Range};

/// Largest pool, in GiB: one PiB, far beyond any host and safely inside 64-bit byte counts.
const POOL_GIB_MAX: f64 = 1_048_576.0;
/// The same for its first part; more is out of the flag's range and refused.
const INIT_GIB_MAX: i64 = 1_048_576;
/// Largest slot alignment, in bytes; more is refused.
const ALIGN_BYTES_MAX: i64 = 1 << 30;
/// Longest time to live, a year; more is refused.
const TTL_SECONDS_MAX: i64 = 31_536_000;

const DRAM_HINT: &str = "use a DRAM pool with `--l1-size-gb`";

const POLICIES: &[Choice] = &Choice::all::<{ eviction::NAMES.len() }>(eviction::NAMES);
const CHECKSUMS: &[Choice] = &Choice::all::<{ ChecksumMode::WORDS.len() }>(ChecksumMode::WORDS);
const STORE_POLICIES: &[Choice] = &Choice::all::<{ StorePolicy::WORDS.len() }>(StorePolicy::WORDS);
const PREFETCH_POLICIES: &[Choice] = &Choice::all::<{ PrefetchPolicy::WORDS.len() }>(PrefetchPolicy::WORDS);

const L1: Group = Group::L1;
const L2: Group = Group::L2;

pub(super) const FLAGS: &[Flag] = &[
    Flag::new(
        "l1-size-gb",
        L1,
        Kind::Float(Range::positive(POOL_GIB_MAX)),
        "Size of the L1 pool in GiB. Required.",
    ),
    Flag::new(
        "l1-use-lazy",
        L1,
        Kind::Pair,
        "Answer at once and prepare the pool's pages in the background.",
    )
    .default("true"),
    Flag::new(
        "l1-init-size-gb",
        L1,
        Kind::Int { min: 0, max: INIT_GIB_MAX },
        "GiB of the pool prepared before the rest when preparation is lazy.",
    )
    .default("20"),
    Flag::new(
        "l1-align-bytes",
        L1,
        Kind::Int { min: 1, max: ALIGN_BYTES_MAX },
        "Alignment of every object in the pool in bytes, a power of two.",
    )
    .default("4096"),
    Flag::new(
        "l1-use-hugepages",
        L1,
        Kind::Pair,
        "Take the pool from the host's reserved 2 MiB pages. Excludes shared memory.",
    )
    .default("false"),
    Flag::new(
        "l1-overcommit",
        L1,
        Kind::Switch,
        "Start with a pool that is larger than the memory the machine or its control group has free. The kernel may then kill a process.",
    )
    .default("false")
    .ours(),
    Flag::new(
        "checksum",
        L1,
        Kind::Choice(CHECKSUMS),
        "Where the bytes of objects are checked: nowhere, whenever they go to storage or come from it, or also before an engine reads them.",
    )
    .default("tiers")
    .ours(),
    Flag::new(
        "l1-warm-restart",
        L1,
        Kind::Switch,
        "Leave the pool behind when the server stops or dies, and take over what the one before left. Needs --shm-name.",
    )
    .default("false")
    .ours(),
    Flag::new(
        "l1-write-ttl-seconds",
        L1,
        Kind::Int { min: 1, max: TTL_SECONDS_MAX },
        "Longest time a writer may hold a reserved slot.",
    )
    .default("600")
    .hot(),
    Flag::new(
        "l1-read-ttl-seconds",
        L1,
        Kind::Int { min: 1, max: TTL_SECONDS_MAX },
        "Longest time a silent reader keeps an object from eviction.",
    )
    .default("300")
    .hot(),
    Flag::new(
        "l1-manager",
        L1,
        Kind::Objects,
        "One of several L1 tiers as a JSON object with type, tag and size.",
    )
    .missing("more than one L1 tier", DRAM_HINT),
    Flag::new("l1-devdax-path", L1, Kind::Text, "DAX device or file to map as the pool.")
        .missing("an L1 pool on a DAX device", DRAM_HINT),
    Flag::new(
        "gds-l1-path",
        L1,
        Kind::Text,
        "NVMe directory or device for an L1 pool reached by GPUDirect Storage.",
    )
    .missing("an L1 pool on GPUDirect Storage", DRAM_HINT),
    Flag::new("gds-l1-use-direct-io", L1, Kind::Pair, "Open the GPUDirect slab with O_DIRECT.")
        .default("true")
        .no_effect("there is no GPUDirect Storage tier"),
    Flag::new(
        "gds-l1-backend",
        L1,
        Kind::Choice(&[
            Choice::works("auto"),
            Choice::works("cufile"),
            Choice::works("hipfile"),
            Choice::works("mufile"),
            Choice::works("phx"),
            Choice::works("ugds"),
        ]),
        "Library behind GPUDirect Storage.",
    )
    .default("auto")
    .no_effect("there is no GPUDirect Storage tier"),
    Flag::new(
        "eviction-policy",
        Group::Eviction,
        Kind::Choice(POLICIES),
        "Which objects leave the pool first; `noop` never evicts. Required.",
    )
    .hot(),
    Flag::new(
        "eviction-trigger-watermark",
        Group::Eviction,
        Kind::Float(Range::within(0.0, 1.0)),
        "Share of the pool in use at which eviction starts.",
    )
    .default("0.8")
    .hot(),
    Flag::new(
        "eviction-ratio",
        Group::Eviction,
        Kind::Float(Range::within(0.0, 1.0)),
        "Share of the pool freed by one round of eviction.",
    )
    .default("0.2")
    .hot(),
    Flag::new(
        "quota",
        Group::Eviction,
        Kind::List,
        "Most GiB that a `cache_salt` may have in the pool and in each storage adapter that evicts, as `SALT=GB`, several apart; `_default` is the empty salt. Operators change it with PUT /quota.",
    )
    .ours(),
    Flag::new(
        "quota-default-gb",
        Group::Eviction,
        Kind::Float(Range::within(0.0, POOL_GIB_MAX)),
        "The same for every salt without a quota of its own; 0 lets only those with one have anything.",
    )
    .automatic("no limit")
    .ours(),
    Flag::new(
        "l2-adapter",
        L2,
        Kind::Objects,
        "Storage behind L1 as a JSON object with a `type` (fs, mock, resp, ...) and the keys of that type. Repeatable; listed order is lookup priority.",
    ),
    Flag::new(
        "l2-store-policy",
        L2,
        Kind::Choice(STORE_POLICIES),
        "Whether an object stays in L1 after it was written to L2.",
    )
    .default("default")
    .hot(),
    Flag::new(
        "l2-prefetch-policy",
        L2,
        Kind::Choice(PREFETCH_POLICIES),
        "Whether objects read from L2 stay in L1 after use.",
    )
    .default("default"),
    Flag::new(
        "l2-prefetch-max-in-flight",
        L2,
        Kind::Int { min: 1, max: 65_536 },
        "Prefetches from L2 that run at the same time.",
    )
    .default("8")
    .hot(),
    Flag::new(
        "l2-prefetch-max-gb",
        L2,
        Kind::Float(Range::positive(POOL_GIB_MAX)),
        "GiB of the pool that objects being read from L2 may take at the same time. A request that would need more, or that waits for it too long, gets a shorter prefix.",
    )
    .automatic("half the pool")
    .ours(),
    Flag::new(
        "l2-patience-seconds",
        L2,
        Kind::Float(Range::positive(3_600.0)),
        "Seconds that a lookup waits for an adapter that is silent. Then it is answered with what memory and the other adapters have, and none waits for that adapter until it answers in time again; what it brings late is there for the next lookup.",
    )
    .default("2")
    .ours(),
    Flag::new(
        "periodic-notifier-interval-ms",
        L2,
        Kind::Int { min: 1, max: 3_600_000 },
        "Polling interval of the peer's completion notifier.",
    )
    .default("5")
    .no_effect("completions wake their waiters directly"),
];
