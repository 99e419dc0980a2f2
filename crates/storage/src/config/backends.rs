//! The keys of each type.

use super::credentials::{self, Env};
use super::fields::Fields;
use super::types::CommonConfig;
use crate::adapters::TlsOptions;
use crate::adapters::fs::{FsOptions, FsyncPolicy, PathShards};
use crate::adapters::mock::MockOptions;
use crate::adapters::resp::{Node, RespOptions};
use crate::adapters::s3::{Credentials, S3Options};
use crate::decorators::FaultPlan;
use crate::secret::Secret;

/// Threads a configuration may ask for; more are refused.
const WORKERS_MAX: u64 = 1024;

/// `fs` and `fs_native`: the same adapter here; both take the keys of either, and ours.
pub(super) fn fs(fields: &mut Fields<'_>, common: &CommonConfig) -> FsOptions {
    let base_path = fields.required_string("base_path", "the directory that keeps the objects");
    if !base_path.is_empty() && !base_path.starts_with('/') {
        let path = fields.path_of("base_path");
        fields.warnings.push(format!(
            "`{path}` `{base_path}` is relative: it is looked for below the directory that the server is started in"
        ));
    }
    let mut options = FsOptions::new(base_path);
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

/// `resp`: one server. Keys win over the environment, as in the peer.
pub(super) fn resp(fields: &mut Fields<'_>, env: Env<'_>) -> RespOptions {
    let host = fields.string("host").filter(|host| !host.is_empty()).or_else(|| env("LMCACHE_RESP_HOST"));
    match &host {
        None => fields.required("host", "the server's name or address, here or as `LMCACHE_RESP_HOST`"),
        Some(host) if host.contains(['@', '/', ' ']) => {
            let hint = "give the port, `username` and `password_file` as keys of their own".to_owned();
            fields.problem("host", "the value is no name or address", Some(hint));
        }
        Some(_) => {}
    }
    let port = fields.integer("port", 1, u16::MAX.into()).or_else(|| env("LMCACHE_RESP_PORT")?.parse().ok());
    let port = port.and_then(|port| u16::try_from(port).ok());
    if port.is_none() && !fields.problems.iter().any(|problem| problem.path.ends_with("port")) {
        fields.required("port", "the server's port, here or as `LMCACHE_RESP_PORT`");
    }
    let mut options = RespOptions::new(Node { host: host.unwrap_or_default(), port: port.unwrap_or(1) });
    credentials(fields, env, &mut options);
    if options.username.is_empty() {
        options.username = env("LMCACHE_RESP_USERNAME").unwrap_or_default();
    }
    if options.password.is_empty() {
        options.password = Secret::new(env("LMCACHE_RESP_PASSWORD").unwrap_or_default());
    }
    options.workers = workers(fields, 8);
    options.capacity_bytes = fields.gib("max_capacity_gb").filter(|bytes| *bytes > 0);
    options
}

/// `valkey`: one server or a cluster.
pub(super) fn valkey(fields: &mut Fields<'_>, env: Env<'_>) -> RespOptions {
    let text = fields.required_string("startup_nodes", "servers as `host:port`, separated by commas");
    let mut options = RespOptions::new(Node { host: String::new(), port: 1 });
    options.kind = "valkey";
    options.nodes = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        match Node::parse(part) {
            Some(node) => options.nodes.push(node),
            None if part.contains('@') => {
                let hint = "give `username` and `password_file`".to_owned();
                fields.problem("startup_nodes", "a server's address holds a login", Some(hint));
            }
            None => fields.problem("startup_nodes", format!("server `{part}` is not `host:port`"), None),
        }
    }
    options.is_cluster = fields.bool("cluster_mode", false);
    credentials(fields, env, &mut options);
    options.key_prefix = fields.string("key_prefix").unwrap_or_default();
    if options.key_prefix.contains('@') {
        let text = format!(
            "value `{}` contains `@`, which separates the fields of stored names",
            options.key_prefix
        );
        fields.problem("key_prefix", text, None);
    }
    options.workers = workers(fields, 8);
    let ca_file = fields.string("tls_ca_file").map(Into::into);
    options.tls = fields.bool("tls_enable", false).then_some(TlsOptions { ca_file });
    options.database = fields
        .integer("database_id", 0, u32::MAX.into())
        .and_then(|database| u32::try_from(database).ok())
        .unwrap_or_default();
    options.request_timeout_ms = seconds(fields, "request_timeout", 5.0);
    options.connect_timeout_ms = seconds(fields, "connection_timeout", 10.0);
    options.ttl_s = fields.integer("ttl_seconds", 1, u64::MAX >> 11);
    options.capacity_bytes = fields.gib("max_capacity_gb").filter(|bytes| *bytes > 0);
    if !options.is_cluster && options.nodes.len() > 1 {
        fields
            .warnings
            .push("`startup_nodes` after the first have no effect without `cluster_mode`".to_owned());
    }
    if options.is_cluster && options.database != 0 {
        fields.warnings.push("`database_id` has no effect with `cluster_mode`".to_owned());
        options.database = 0;
    }
    if options.ttl_s.is_some() && options.capacity_bytes.is_some() {
        fields.warnings.push("`max_capacity_gb` does not see what `ttl_seconds` lets expire".to_owned());
    }
    options
}

/// `s3`: a bucket by virtual-hosted address as in the peer, or by path with `s3_bucket`.
pub(super) fn s3(fields: &mut Fields<'_>, env: Env<'_>) -> S3Options {
    let endpoint =
        fields.required_string("s3_endpoint", "the bucket's host, such as `bucket.s3.amazonaws.com`");
    let region = fields.required_string("s3_region", "the region, such as `us-east-1`");
    let mut options = S3Options::new(String::new(), region, s3_credentials(fields, env));
    let ca_file = fields.string("tls_ca_file").map(Into::into);
    options.tls = (!fields.bool("disable_tls", false)).then_some(TlsOptions { ca_file });
    let authority = endpoint.strip_prefix("s3://").unwrap_or(&endpoint).trim_end_matches('/');
    match Node::parse(authority) {
        Some(node) => (options.host, options.port) = (node.host, node.port),
        None => {
            options.host = authority.to_owned();
            options.port = if options.tls.is_some() { 443 } else { 80 };
        }
    }
    if !endpoint.is_empty() && (options.host.is_empty() || options.host.contains(['/', ':', '@', ' '])) {
        let hint = "give `[s3://]<bucket>.<host>[:<port>]`; `disable_tls` chooses the scheme".to_owned();
        let text = match endpoint.contains('@') {
            true => "a host takes no login".to_owned(),
            false => format!("value `{endpoint}` is no host"),
        };
        fields.problem("s3_endpoint", text, Some(hint));
    }
    options.bucket = fields.string("s3_bucket").filter(|bucket| !bucket.is_empty());
    options.key_prefix = fields.string("key_prefix").unwrap_or_default();
    options.is_prefixed_by_salt = fields.bool("prefix_by_salt", false);
    let part_mib = fields.integer("part_size_mb", 5, 1024).and_then(|part| usize::try_from(part).ok());
    options.part_bytes = part_mib.map_or(options.part_bytes, |part| part << 20);
    let threads = fields.integer("s3_num_io_threads", 1, WORKERS_MAX);
    options.workers = threads.and_then(|threads| usize::try_from(threads).ok()).unwrap_or(options.workers);
    options.capacity_bytes = fields.gib("max_capacity_gb").filter(|bytes| *bytes > 0);
    if fields.value("s3_prefer_http2").is_some() && fields.bool("s3_prefer_http2", false) {
        fields
            .warnings
            .push("`s3_prefer_http2` has no effect: requests use HTTP/1.1 on many connections".to_owned());
    }
    if fields.bool("s3_enable_s3express", false) {
        let hint = "use a general purpose bucket".to_owned();
        fields.problem("s3_enable_s3express", "directory buckets are not supported", Some(hint));
    }
    options
}

/// Keys of the configuration, or all of the environment's.
fn s3_credentials(fields: &mut Fields<'_>, env: Env<'_>) -> Credentials {
    let own = (fields.string("aws_access_key_id"), fields.string("aws_secret_access_key"));
    let (access_key_id, secret, token) = match own {
        (Some(id), Some(secret)) => (Some(id), Some(secret), None),
        _ => (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"), env("AWS_SESSION_TOKEN")),
    };
    if access_key_id.is_none() || secret.is_none() {
        let what = "it and `aws_secret_access_key`, or set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`";
        fields.required("aws_access_key_id", what);
    }
    Credentials {
        access_key_id: access_key_id.unwrap_or_default(),
        secret_access_key: Secret::new(secret.unwrap_or_default()),
        session_token: Secret::new(token.unwrap_or_default()),
    }
}

fn credentials(fields: &mut Fields<'_>, env: Env<'_>, options: &mut RespOptions) {
    options.username = fields.string("username").unwrap_or_default();
    options.password = credentials::password(fields, env);
}

fn seconds(fields: &mut Fields<'_>, key: &str, default: f64) -> u64 {
    let seconds = fields.number(key, 0.001, 86_400.0).unwrap_or(default);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded to a day, positive")]
    let milliseconds = (seconds * 1000.0) as u64;
    milliseconds
}

fn workers(fields: &mut Fields<'_>, default: usize) -> usize {
    let workers = fields.integer("num_workers", 1, WORKERS_MAX);
    workers.and_then(|workers| usize::try_from(workers).ok()).unwrap_or(default)
}
