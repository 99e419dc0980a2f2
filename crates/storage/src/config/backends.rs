//! The keys of each type.

use super::fields::Fields;
use super::types::CommonConfig;
use crate::adapters::fs::{FsOptions, FsyncPolicy, PathShards};
use crate::adapters::mock::MockOptions;
use crate::decorators::FaultPlan;

/// Threads a configuration may ask for.
const WORKERS_MAX: u64 = 1024;

/// `fs` and `fs_native`: the same adapter here; both take the keys of either, and ours.
pub(super) fn fs(fields: &mut Fields<'_>, common: &CommonConfig) -> FsOptions {
    let mut options =
        FsOptions::new(fields.required_string("base_path", "the directory that keeps the objects"));
    options.relative_tmp_dir =
        fields.string("relative_tmp_dir").filter(|dir| !dir.is_empty()).map(Into::into);
    options.workers = workers(fields, 4);
    options.use_odirect = fields.bool("use_odirect", false);
    options.read_ahead_bytes = fields.integer("read_ahead_size", 1, 1 << 40);
    options.capacity_bytes = fields.gib("max_capacity_gb").filter(|bytes| *bytes > 0);
    options.is_shared = common.is_shared;
    options.fsync = match fields.choice("fsync", &["never", "data", "full"]).as_deref() {
        Some("data") => FsyncPolicy::Data,
        Some("full") => FsyncPolicy::Full,
        _ => FsyncPolicy::Never,
    };
    options.path_shards = match fields.integer("path_shard_levels", 0, 2) {
        Some(1) => PathShards::One,
        Some(2) => PathShards::Two,
        _ => PathShards::Off,
    };
    if options.path_shards != PathShards::Off {
        fields
            .warnings
            .push("`path_shard_levels` makes objects unreadable for the peer's adapters".to_owned());
    }
    if common.is_shared && options.capacity_bytes.is_some() {
        fields
            .warnings
            .push("`max_capacity_gb` counts what this server knows, not what others store".to_owned());
    }
    options
}

/// `mock`.
pub(super) fn mock(fields: &mut Fields<'_>) -> MockOptions {
    let mut positive = |key: &str, what: &str| {
        if fields.value(key).is_none() {
            fields.required(key, what);
        }
        let bytes = fields.gib(key);
        if bytes == Some(0) {
            fields.problem(key, "value `0` is not above 0", None);
        }
        bytes.unwrap_or_default()
    };
    MockOptions {
        capacity_bytes: positive("max_size_gb", "the size in GiB"),
        bandwidth_bytes_per_s: positive("mock_bandwidth_gb", "the rate in GiB per second"),
    }
}

/// `fault_inject`, without what it wraps.
pub(super) fn fault_plan(fields: &mut Fields<'_>) -> FaultPlan {
    let seed = match fields.value("seed") {
        None => 0,
        Some(value) => value.as_i64().unwrap_or_else(|| {
            fields.problem("seed", format!("value `{value}` is not an integer"), None);
            0
        }),
    };
    FaultPlan {
        rate: fields.number("rate", 0.0, 1.0).unwrap_or_default(),
        seed,
        gap_indices: fields.list("gap_indices", "a list of integers from 0 on", |value| {
            value.as_u64().and_then(|index| usize::try_from(index).ok())
        }),
        gap_tail_ratios: fields.list("gap_tail_ratios", "a list of numbers within 0..=1", |value| {
            value.as_f64().filter(|ratio| (0.0..=1.0).contains(ratio))
        }),
    }
}

fn workers(fields: &mut Fields<'_>, default: usize) -> usize {
    let workers = fields.integer("num_workers", 1, WORKERS_MAX);
    workers.and_then(|workers| usize::try_from(workers).ok()).unwrap_or(default)
}
