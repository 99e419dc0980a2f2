//! The type names: those built here, and those of the peer that are not.

/// Types that can be configured.
const BUILT: [&str; 7] = ["fault_inject", "fs", "fs_native", "mock", "resp", "s3", "valkey"];

/// Types of the peer that are not built, with what to use instead (`spec/config-and-cli.md` 6).
const REFUSED: [(&str, &str); 14] = [
    ("aerospike", "use `valkey` or `resp` for a shared in-memory store, or `s3`"),
    ("bigtable", "use `s3` with the provider's S3 interface"),
    ("dax", "use `fs` on a DAX-mounted file system"),
    ("hf3fs", "use `fs` on the mounted file system, with `\"shared\": true`"),
    ("hfbucket", "use `s3` with an S3-compatible bucket"),
    ("mooncake_store", "use `valkey`, `resp` or `s3`; a Mooncake store is not spoken to"),
    ("native_plugin", "use a built-in type; code is not loaded into the server"),
    ("nixl_native", "use `fs` or `s3`; NIXL is not spoken to"),
    ("nixl_store", "use `fs` or `s3`; NIXL is not spoken to"),
    ("nixl_store_dynamic", "use `fs` or `s3`; NIXL is not spoken to"),
    ("p2p", "use a tier every node reaches: `valkey`, `s3`, or `fs` with `\"shared\": true`"),
    ("plugin", "use a built-in type; Python is not run inside the server"),
    ("raw_block", "use `fs` on a file system on that device, with `\"use_odirect\": true`"),
    ("sagemaker-hyperpod", "use `s3`, or `fs` with `\"shared\": true`"),
];

/// Types that can be configured, in alphabetical order.
#[must_use]
pub fn known_kinds() -> &'static [&'static str] {
    &BUILT
}

/// The type that goes by another name elsewhere.
pub(super) fn alias(kind: &str) -> Option<&'static str> {
    match kind.to_ascii_lowercase().as_str() {
        "redis" => Some("resp"),
        "disk" | "file" | "filesystem" | "local" => Some("fs"),
        _ => known_kinds().iter().copied().find(|known| known.eq_ignore_ascii_case(kind)),
    }
}

/// What to use instead of a type of the peer that is not built.
pub(super) fn refusal(kind: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(name, _)| *name == kind).map(|(_, hint)| *hint)
}
