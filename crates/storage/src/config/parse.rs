//! From JSON text to a configuration, or to everything that is wrong with it.

use serde_json::Value;

use super::credentials::Env;
use super::fields::Fields;
use super::types::{AdapterConfig, Backend, CommonConfig, ConfigError, ConfigProblem};
use super::{backends, common, kinds};

/// Adapters inside adapters; the peer's own rehearsals need one level, and more than this are refused.
const NESTING_MAX: usize = 4;

impl AdapterConfig {
    /// Reads one `--l2-adapter` value. `env` answers for environment variables: some types take credentials
    /// there.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn parse(json: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let value: Value =
            serde_json::from_str(json).map_err(|error| whole(format!("invalid JSON: {error}"), None))?;
        Self::from_value(&value, env)
    }

    /// Reads a configuration that is JSON already.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn from_value(value: &Value, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let Some(object) = value.as_object() else {
            return Err(whole("the value is not an object".to_owned(), Some(example())));
        };
        let mut fields = Fields::new(String::new(), object);
        let config = read(&mut fields, env, 0);
        let (problems, warnings) = fields.finish();
        match config {
            Some(config) if problems.is_empty() => Ok(Self { warnings, ..config }),
            _ => Err(ConfigError { problems }),
        }
    }
}

fn read(fields: &mut Fields<'_>, env: Env<'_>, depth: usize) -> Option<AdapterConfig> {
    let kind = kind(fields)?;
    let common = common::read(fields);
    let backend = match kind.as_str() {
        "fs" | "fs_native" => Backend::Fs(backends::fs(fields, &common)),
        "mock" => Backend::Mock(backends::mock(fields)),
        "resp" => Backend::Resp(backends::resp(fields, env)),
        "s3" => Backend::S3(backends::s3(fields, env)),
        "valkey" => Backend::Resp(backends::valkey(fields, env)),
        _ => fault_inject(fields, env, depth)?,
    };
    warn_of_contradictions(fields, &kind, &common);
    Some(AdapterConfig { kind, common, backend, warnings: Vec::new() })
}

fn kind(fields: &mut Fields<'_>) -> Option<String> {
    let known = || format!("use one of `{}`", kinds::known_kinds().join("`, `"));
    let Some(value) = fields.value("type") else {
        fields.problem("type", "required key is missing", Some(known()));
        return None;
    };
    match value.as_str() {
        Some(kind) if kinds::known_kinds().contains(&kind) => Some(kind.to_owned()),
        Some(kind) => {
            match kinds::refusal(kind) {
                Some(instead) => {
                    fields.problem(
                        "type",
                        format!("adapter `{kind}` is not supported"),
                        Some(instead.to_owned()),
                    );
                }
                None => {
                    let hint = kinds::alias(kind).map_or_else(known, |kind| format!("use `{kind}`"));
                    fields.problem("type", format!("adapter `{kind}` is not known"), Some(hint));
                }
            }
            None
        }
        None => {
            fields.problem("type", format!("value `{value}` is not a string"), Some(known()));
            None
        }
    }
}

fn fault_inject(fields: &mut Fields<'_>, env: Env<'_>, depth: usize) -> Option<Backend> {
    let plan = backends::fault_plan(fields);
    if fields.value("inner").is_none() {
        fields.required("inner", "the configuration of the adapter whose loads shall fail");
        return None;
    }
    if depth + 1 >= NESTING_MAX {
        fields.problem("inner", format!("more than {NESTING_MAX} adapters inside each other"), None);
        return None;
    }
    let mut nested = fields.object("inner")?;
    let inner = read(&mut nested, env, depth + 1);
    fields.absorb(nested);
    Some(Backend::FaultInject { plan, inner: Box::new(inner?) })
}

/// Settings that are read but do nothing: the peer is silent about them.
fn warn_of_contradictions(fields: &mut Fields<'_>, kind: &str, common: &CommonConfig) {
    if !common.persist_enabled {
        let path = fields.path_of("persist_enabled");
        fields.warnings.push(format!("`{path}` has no effect on `{kind}`: objects stay where they are"));
    }
}

fn whole(text: String, hint: Option<String>) -> ConfigError {
    ConfigError { problems: vec![ConfigProblem { path: String::new(), text, hint }] }
}

fn example() -> String {
    r#"give an object such as {"type": "fs", "base_path": "/var/cache/larder"}"#.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::fs::{FsOptions, FsyncPolicy, PathShards};
    use crate::decorators::{FrequencyPolicy, WritePolicy};

    fn parse(json: &str) -> Result<AdapterConfig, ConfigError> {
        AdapterConfig::parse(json, &|_| None)
    }

    fn problems(json: &str) -> Vec<String> {
        parse(json).unwrap_err().problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_minimal_configuration_has_the_peers_defaults() {
        let config = parse(r#"{"type": "fs", "base_path": "/x"}"#).unwrap();
        assert_eq!(config.backend, Backend::Fs(FsOptions::new("/x")));
        assert_eq!(config.common.affinity_tag, "_default");
        assert!(
            !config.common.is_shared && config.common.persist_enabled && config.common.eviction.is_none()
        );
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }

    #[test]
    fn every_key_arrives() {
        let config = parse(
            r#"{"type": "fs_native", "base_path": "/x", "num_workers": 2, "relative_tmp_dir": "t", "use_odirect": true,
                "read_ahead_size": 4096, "max_capacity_gb": 0.5, "fsync": "data", "path_shard_levels": 1,
                "affinity_tag": "a", "shared": true, "persist_enabled": true, "checksum": false,
                "eviction": {"eviction_policy": "ARC", "trigger_watermark": 0.5},
                "retry": {"attempts_max": 5}, "timeout": false, "breaker": {"failures_max": 9},
                "limits": {"in_flight_bytes_max": 1000, "store_bytes_per_s": 77},
                "admission": {"write_bytes_per_s": 10, "write_burst_bytes": 50, "write_bytes_per_day": 90, "stores_min": 3,
                    "remembered_objects": 1000}}"#,
        )
        .unwrap();
        let expected = FsOptions {
            workers: 2,
            relative_tmp_dir: Some("t".into()),
            use_odirect: true,
            read_ahead_bytes: Some(4096),
            capacity_bytes: Some(1 << 29),
            fsync: FsyncPolicy::Data,
            path_shards: PathShards::One,
            is_shared: true,
            ..FsOptions::new("/x")
        };
        assert_eq!(config.backend, Backend::Fs(expected));
        let common = config.common;
        let eviction = common.eviction.unwrap();
        assert_eq!(
            (eviction.policy.as_str(), eviction.trigger_watermark, eviction.eviction_ratio),
            ("ARC", 0.5, 0.2)
        );
        assert_eq!((common.retry.unwrap().attempts_max, common.timeout), (5, None));
        assert_eq!(common.breaker.unwrap().failures_max, 9);
        assert_eq!(common.limits.concurrency.in_flight_bytes_max, 1000);
        assert_eq!(common.limits.bandwidth.unwrap().store_bytes_per_s, Some(77));
        assert!(!common.checksum);
        let write = WritePolicy { bytes_per_s: Some(10), burst_bytes: 50, bytes_per_day: Some(90) };
        assert_eq!(common.admission.write, Some(write));
        let frequency = FrequencyPolicy { stores_min: 3, remembered_objects: 1000 };
        assert_eq!(common.admission.frequency, Some(frequency));
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let found = problems(
            r#"{"type": "fs", "use_odirect": "yes", "num_workers": 0, "serde": {"type": "fp8"},
                "eviction": {"eviction_policy": "MRU"}, "retry": {"attempts_max": 99}}"#,
        );
        let starts =
            ["`serde`", "`eviction.eviction_policy`", "`retry.attempts_max`", "`base_path`", "`num_workers`"];
        assert_eq!(found.len(), starts.len() + 1, "{found:#?}");
        for start in starts {
            assert!(found.iter().any(|problem| problem.starts_with(start)), "{start}: {found:#?}");
        }
        let policy = found.iter().find(|problem| problem.contains("MRU")).unwrap();
        assert!(
            larder_core::eviction::NAMES.iter().all(|name| policy.contains(&format!("`{name}`"))),
            "{policy}"
        );
    }

    #[test]
    fn unknown_and_ineffective_keys_are_warned_of() {
        let json = r#"{"type": "fs", "base_path": "/x", "use_odirct": true, "zzz": 1,
                       "persist_enabled": false}"#;
        let warnings = parse(json).unwrap().warnings;
        assert_eq!(warnings.len(), 3, "{warnings:#?}");
        assert!(
            warnings.iter().any(|warning| warning.ends_with("did you mean `use_odirect`?")),
            "{warnings:#?}"
        );
        assert!(
            warnings.iter().any(|warning| warning == "key `zzz` is not known and ignored"),
            "{warnings:#?}"
        );
        assert!(warnings.iter().any(|warning| warning.contains("has no effect")), "{warnings:#?}");
    }

    #[test]
    fn a_misspelt_key_is_named_where_the_key_it_stands_for_is_missing() {
        let found = problems(r#"{"type": "fs", "base_pth": "/x"}"#);
        assert!(found[0].contains("`base_pth` is not known: did you mean `base_path`?"), "{found:?}");
        let json = r#"{"type": "fs", "base_path": "/x", "max_capacity_gb": 1,
                       "eviction": {"eviction_policy": "LRU", "trigger": 0.5}}"#;
        let warnings = parse(json).unwrap().warnings;
        let told = "key `eviction.trigger` is not known and ignored: did you mean `trigger_watermark`?";
        assert_eq!(warnings, [told]);
    }

    #[test]
    fn a_directory_that_depends_on_where_the_server_is_started_is_warned_of() {
        let warnings = parse(r#"{"type": "fs", "base_path": "kv"}"#).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("`kv` is relative"), "{warnings:?}");
    }

    #[test]
    fn types_of_the_peer_that_are_not_built_name_an_alternative() {
        for kind in ["nixl_store", "dax", "plugin", "sagemaker-hyperpod", "p2p"] {
            let found = problems(&format!(r#"{{"type": "{kind}"}}"#));
            assert!(found[0].contains("is not supported") && found[0].contains("hint: use"), "{found:?}");
        }
        let found = problems(r#"{"type": "disk", "path": "/x"}"#);
        assert!(found[0].contains("`disk` is not known") && found[0].contains("use `fs`"), "{found:?}");
        let found = problems(r#"{"type": "redis", "host": "h"}"#);
        assert!(found[0].contains("`redis` is not known") && found[0].contains("use `resp`"), "{found:?}");
        for json in ["", "[]", "1", "{}", r#"{"type": 1}"#] {
            assert_eq!(problems(json).len(), 1, "{json}");
        }
    }

    #[test]
    fn servers_are_read_and_secrets_are_not_shown() {
        let env = |name: &str| (name == "LMCACHE_RESP_PASSWORD").then(|| "hunter2".to_owned());
        let json = r#"{"type": "resp", "host": "h", "port": 6379, "num_workers": 3}"#;
        let config = AdapterConfig::parse(json, &env).unwrap();
        let Backend::Resp(options) = &config.backend else { panic!("{config:?}") };
        assert_eq!((options.nodes[0].to_string().as_str(), options.workers), ("h:6379", 3));
        assert_eq!(options.password.expose(), "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));

        let config = parse(
            r#"{"type": "valkey", "startup_nodes": "a:1, b:2", "cluster_mode": true, "key_prefix": "p",
                "request_timeout": 0.5, "ttl_seconds": 60, "database_id": 3, "username": "u", "password": "w"}"#,
        )
        .unwrap();
        let Backend::Resp(options) = &config.backend else { panic!("{config:?}") };
        assert_eq!((options.nodes.len(), options.request_timeout_ms, options.ttl_s), (2, 500, Some(60)));
        assert_eq!((options.kind, options.is_cluster, options.database), ("valkey", true, 0));
        assert_eq!(config.warnings, ["`database_id` has no effect with `cluster_mode`"]);

        assert_eq!(problems(r#"{"type": "resp"}"#).len(), 2);
        assert_eq!(problems(r#"{"type": "resp", "host": "h", "port": 70000}"#).len(), 1);
        let json = r#"{"type": "valkey", "startup_nodes": "a", "key_prefix": "a@b", "tls_enable": 1}"#;
        assert_eq!(problems(json).len(), 3);
    }

    #[test]
    fn buckets_are_read_with_credentials_of_the_environment() {
        let env = |name: &str| {
            let known = [
                ("AWS_ACCESS_KEY_ID", "id"),
                ("AWS_SECRET_ACCESS_KEY", "hunter2"),
                ("AWS_SESSION_TOKEN", "t"),
            ];
            known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let json = r#"{"type": "s3", "s3_endpoint": "s3://b.host:9000", "s3_region": "r", "disable_tls": true,
                       "s3_bucket": "path", "part_size_mb": 8, "prefix_by_salt": true, "key_prefix": "a/b"}"#;
        let config = AdapterConfig::parse(json, &env).unwrap();
        let Backend::S3(options) = &config.backend else { panic!("{config:?}") };
        assert_eq!((options.host.as_str(), options.port, options.tls.is_none()), ("b.host", 9000, true));
        assert_eq!((options.bucket.as_deref(), options.part_bytes), (Some("path"), 8 << 20));
        assert_eq!(options.credentials.session_token.expose(), "t");
        assert!(!format!("{config:?}").contains("hunter2"));
        let json = r#"{"type": "s3", "s3_endpoint": "b.host", "s3_region": "r", "aws_access_key_id": "own",
                       "aws_secret_access_key": "s"}"#;
        let config = AdapterConfig::parse(json, &env).unwrap();
        let Backend::S3(options) = &config.backend else { panic!("{config:?}") };
        assert_eq!((options.port, options.credentials.access_key_id.as_str()), (443, "own"));
        assert!(options.credentials.session_token.is_empty(), "a token belongs to its own key");
        let found = problems(r#"{"type": "s3", "s3_endpoint": "https://x", "s3_enable_s3express": true}"#);
        assert_eq!(found.len(), 4, "{found:#?}");
    }

    #[test]
    fn a_password_comes_from_a_file_or_the_environment_but_from_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2\r\n").unwrap();
        let env = |name: &str| (name == "VALKEY_PW").then(|| "hunter3".to_owned());
        let with = |key: &str, value: &str| {
            let json = format!(r#"{{"type": "valkey", "startup_nodes": "h:1", "{key}": "{value}"}}"#);
            AdapterConfig::parse(&json, &env).map(|config| match config.backend {
                Backend::Resp(options) => options.password.expose().to_owned(),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(with("password_file", file.to_str().unwrap()).unwrap(), "hunter2");
        assert_eq!(with("password_env", "VALKEY_PW").unwrap(), "hunter3");
        assert_eq!(with("password", "hunter4").unwrap(), "hunter4");
        assert!(with("password_env", "ABSENT").is_err());
        assert!(with("password_file", "/dev/null").is_err(), "a device is no file");
        assert!(with("password_file", "/absent").is_err());
        let twice =
            problems(r#"{"type": "resp", "host": "h", "port": 1, "password": "a", "password_env": "b"}"#);
        assert!(twice[0].contains("is given twice"), "{twice:?}");
    }

    #[test]
    fn no_mistake_repeats_a_credential() {
        for json in [
            r#"{"type": "resp", "host": "h", "port": 1, "password": 4711}"#,
            r#"{"type": "s3", "s3_endpoint": "https://me:4711@h", "s3_region": "r", "aws_access_key_id": "a", "aws_secret_access_key": [4711]}"#,
            r#"{"type": "valkey", "startup_nodes": "me:4711@h:1"}"#,
            r#"{"type": "resp", "host": "me:4711@h", "port": 1}"#,
            r#""password=4711""#,
        ] {
            let told = parse(json).unwrap_err().to_string();
            assert!(!told.contains("4711"), "{told}");
        }
    }

    #[test]
    fn adapters_nest_within_reason() {
        let config = parse(
            r#"{"type": "fault_inject", "rate": 0.5, "seed": -3, "gap_indices": [1], "gap_tail_ratios": [0, 0.5],
                "inner": {"type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 2.5, "whatever": 1}}"#,
        )
        .unwrap();
        let Backend::FaultInject { plan, inner } = &config.backend else { panic!("{config:?}") };
        assert_eq!((plan.rate, plan.seed, plan.gap_tail_ratios.as_slice()), (0.5, -3, [0.0, 0.5].as_slice()));
        assert!(matches!(&inner.backend, Backend::Mock(mock) if mock.capacity_bytes == 1 << 30));
        assert_eq!(config.warnings, ["key `inner.whatever` is not known and ignored"]);

        let mut json = r#"{"type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 1}"#.to_owned();
        for _ in 0..5 {
            json = format!(r#"{{"type": "fault_inject", "inner": {json}}}"#);
        }
        assert!(problems(&json)[0].contains("inside each other"));
        let found = problems(r#"{"type": "fault_inject", "inner": {"type": "fs"}}"#);
        assert!(found[0].starts_with("`inner.base_path`"), "{found:?}");
    }
}
